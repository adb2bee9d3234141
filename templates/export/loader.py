"""The model of train.py, which is run as far as its first batch.

What train.py, and files next to it, import of autoresearch is answered by this file. It needs torch and whatever else
train.py imports. train.py was written by an agent: read it before you run this.
"""

HERE = Path(__file__).resolve().parent
NAMES = (
    "autoresearch",
    "autoresearch.trial",
    "autoresearch.trial.child",
    "autoresearch.trial.child.compat",
)
compat = trial = child = sys.modules[__name__]


def attach(script):
    """Be called by prepare.py: there is no trial to join."""


def make_dataloader(*_, **__):
    """Give no batch: the model is there."""
    raise BuiltError(variables_seen())
    yield


def evaluate_bpb(*_, **__):
    """Measure nothing: the model is there."""
    raise BuiltError(variables_seen())


class Trial:
    """Stands for the trial, which there is none of."""

    @staticmethod
    def join():
        raise BuiltError(variables_seen())


def build_model(vocab_size, max_seq_len, device):
    """Return the model with its first weights."""
    file = HERE / "train.py"
    kept = {name: sys.modules.get(name) for name in NAMES}
    sys.modules.update(dict.fromkeys(NAMES, compat))
    sys.path.insert(0, str(HERE))
    try:
        with contextlib.chdir(HERE):
            if "def build_model(" in file.read_text(encoding="utf-8"):
                return run_to_first_batch(file)["build_model"](vocab_size, max_seq_len, device)
            return builder(file)(vocab_size, max_seq_len, device)
    finally:
        sys.path.remove(str(HERE))
        for name, module in kept.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
