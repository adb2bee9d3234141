"""An export is sampled where autoresearch is not installed, and gives the logits that the judge would get."""

import ast
import json
import os
import re
import subprocess
import sys
import sysconfig
import types
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
sys.path.append(str(Path(__file__).parent.parent / "record"))

from record_support import SETUP  # noqa: E402

from autoresearch.bootstrap import presets  # noqa: E402
from autoresearch.events import SessionStarted  # noqa: E402
from autoresearch.paths import RunDirectory  # noqa: E402
from autoresearch.record.record import Record  # noqa: E402
from autoresearch.report.export import export  # noqa: E402
from autoresearch.report.standalone import cut, loader_source, model_source  # noqa: E402
from autoresearch.rundir.storage import weights_path  # noqa: E402
from autoresearch.tasks.gpt import METRIC  # noqa: E402
from autoresearch.trial.child import compat  # noqa: E402
from autoresearch.trial.child.attention import attend  # noqa: E402
from autoresearch.trial.child.weights import encode_weights  # noqa: E402
from autoresearch.types import (  # noqa: E402
    Decision,
    Outcome,
    Proposal,
    Setup,
    TrialResult,
    Verdict,
)

GPT = presets.set_constants(
    presets.render("gpt", "demo")["train.py"],
    {"TIED_HEAD": True, "SHORT_WINDOW": 16, "LONG_EVERY": 3, "CONTEXT": 64},
)
FLASH = """
from kernels import get_kernel


def flash(q, k, v):
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    return get_kernel("x").flash_attn_func(q, k, v, window_size=(8, 0)).transpose(1, 2)


"""
LOOK = """
import importlib, importlib.util, json, sys, torch
assert importlib.util.find_spec("autoresearch") is None
for argument in sys.argv[1:]:
    folder, _, name = argument.rpartition("/")
    sys.path.insert(0, folder)
    sample = importlib.import_module(name)
    with torch.inference_mode():
        print(json.dumps(sample.load()(torch.arange(120).view(2, 60)).tolist()))
    sys.argv[1:] = ["--prompt", "gradi", "--tokens", "9", "--seed", "1"]
    sample.main()
    print("END")
    for module in ("model", "sample", "prepare", "kernels", "parts"):
        sys.modules.pop(module, None)
    sys.path.pop(0)
"""


@pytest.fixture(scope="session")
def without_lab(tmp_path_factory):
    """Return a folder with every installed package but this one."""
    site = tmp_path_factory.mktemp("site")
    for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(folder).iterdir():
            if "autoresearch" not in entry.name:
                (site / entry.name).symlink_to(entry)
    return site


@pytest.fixture
def exported(prepared, tmp_path, monkeypatch):
    """Return a function: files of a run directory, and a model -> the folder of its export."""
    settings, dataset = prepared
    monkeypatch.setenv("AUTORESEARCH_CACHE_DIR", str(dataset.path.parent.parent))

    def go(name, files, model, data=dataset.key):
        root = tmp_path / name
        root.mkdir()
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        files = {**files, "autoresearch.toml": "\n".join(lines) + "\n"}
        for file, text in files.items():
            (root / file).write_text(text, encoding="utf-8")
        setup = {**vars(SETUP), "data": data, "max_seq_len": 64}
        with Record.create(RunDirectory(root), "t", list(files)) as record:
            event = SessionStarted(
                metric=METRIC, tag="t", tip=record.tip(), setup=setup, data=dataset.manifest
            )
            record.append(event)
            idea = {"train.py": files["train.py"] + "# kept\n"}
            proposal = Proposal(
                description="a *new* idea", files=idea, parent=record.tip(), proposer="llm"
            )
            record.propose(proposal, 0, b"")
            header, tensors = encode_weights(model.state_dict())
            path = weights_path(record.run_directory, "t", 0)
            path.parent.mkdir(parents=True)
            parts = [t.detach().contiguous().view(-1).view(torch.uint8).numpy() for t in tensors]
            path.write_bytes(b"".join([header, *(part.tobytes() for part in parts)]))
            result = TrialResult(seed=7, outcome=Outcome.OK, score=1.5, num_params=1234)
            key = Setup(**setup).key
            record.record_trial(0, result, setup=key, started_at="2026-03-01T22:00:00Z")
            record.judge(0, Verdict.KEEP, "baseline", Decision("keep", "baseline"), key)
            return export(record, "0", tmp_path / f"{name}-out")

    return go


def gpt_model(text):
    """Return the model that the lab builds of a train.py with `build_model`, with random weights."""
    module = types.ModuleType("train")
    exec(compile(text, "train.py", "exec"), module.__dict__)
    model = module.build_model(300, 64, "cpu")
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return model.eval()


def look(site, *samples):
    """Return the logits and the text that exports give where there is no autoresearch; takes `FOLDER/sample`."""
    done = subprocess.run(
        [sys.executable, "-S", "-W", "ignore", "-c", LOOK, *map(str, samples)],
        cwd=site.parent,  # it finds its files from anywhere
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for part in done.stdout.split("\nEND\n")[:-1]:
        logits, text = part.split("\n", 1)
        yield torch.tensor(json.loads(logits)), text


def test_exports_are_sampled_without_the_lab(exported, without_lab, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    models, done = {}, {}

    models["cut"] = gpt_model(GPT)
    done["cut"] = exported("cut", {"train.py": GPT, "program.md": ""}, models["cut"])
    (done["cut"].folder / "train.py").unlink()  # model.py stands alone

    # A module of the folder needs the lab, and a file has a name of ours.
    line = "from autoresearch.trial import Trial, attend, is_out_of_memory\n"
    text = GPT.replace(line, line.replace("attend, ", "") + "from parts import attend\n")
    assert text != GPT
    parts = "from autoresearch.trial import attend\n"
    (tmp_path / "parts.py").write_text(parts)
    models["parts"] = gpt_model(text)
    files = {"train.py": text, "parts.py": parts, "sample.py": ""}
    done["parts"] = exported("parts", files, models["parts"])

    # A script of upstream's shape, which takes its attention from the package `kernels`.
    rendered = presets.render("compat", "cpu")
    files = {name: text for name, text in rendered.items() if name.endswith(".py")}
    text = files["train.py"].replace("\nDEPTH = 4", FLASH + "\nDEPTH = 1")
    text = text.replace("F.scaled_dot_product_attention(q, k, v, is_causal=True)", "flash(q, k, v)")
    files |= {"train.py": text, "README.md": "theirs\n"}
    for name in files:
        (tmp_path / name).write_text(files[name], encoding="utf-8")
    for name in ("prepare", "kernels"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    models["flat"] = compat.builder(tmp_path / "train.py")(300, 64, "cpu").eval()
    done["flat"] = exported("flat", files, models["flat"])

    assert not any(d.missing for d in done.values())
    places = {"cut": "sample", "parts": "export_sample", "flat": "sample"}
    found = look(without_lab, *(done[name].folder / sample for name, sample in places.items()))
    for (logits, text), model in zip(found, models.values(), strict=True):
        with torch.inference_mode():
            expected = model(torch.arange(120).view(2, 60)).float()
        torch.testing.assert_close(logits, expected)
        assert text.startswith("gradi")
        assert len(text) > len("gradi")

    readme = (done["cut"].folder / "README.md").read_text(encoding="utf-8")
    for words in (
        "a \\*new\\* idea",
        "python sample.py --prompt",
        "stands alone",
        "with your rights",
        "1.23k",
    ):
        assert words in readme
    cut_out = (done["cut"].folder / "model.py").read_text(encoding="utf-8")
    assert "DEPTH = 2  # blocks" in cut_out
    assert not re.search("MATRIX_LR|Muon|Trial", cut_out)
    readme = (done["parts"].folder / "README.md").read_text(encoding="utf-8")
    assert "it imports parts" in readme
    assert "python export_sample.py --prompt" in readme
    assert (done["flat"].folder / "README.md").read_text(encoding="utf-8") == "theirs\n"
    readme = (done["flat"].folder / "export_README.md").read_text(encoding="utf-8")
    assert "it runs the train.py of this folder as far as its first batch" in readme


def test_without_the_data_it_was_trained_on_there_is_no_sample(exported):
    done = exported("lab", {"train.py": GPT}, gpt_model(GPT), data="other")
    assert "sample.py" not in done.files
    assert "the data prepared here is not what it was trained on" in done.missing[0]
    readme = (done.folder / "README.md").read_text(encoding="utf-8")
    assert "There is no `sample.py`" in readme
    assert done.missing[0] in readme


@pytest.mark.parametrize("window", [0, 1, 5, 30, 31, 99])
def test_the_attention_of_an_export_is_the_labs(window):
    scope = {}
    exec(cut("from autoresearch.trial import attend as a\n", {"a"}), scope)
    q, k, v = torch.randn(3, 2, 31, 2, 8)
    torch.testing.assert_close(scope["a"](q, k, v, window), attend(q, k, v, window))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("A = 1\nB = A\nC = 2\nx = B\n", "A = 1\nB = A\nx = B\n"),
        ("import os, sys\nimport re\nx = sys.argv\n", "import os, sys\nx = sys.argv\n"),
        ("A = 1; x = 2\nB = 3\n", "A = 1; x = 2\n"),
        ("# of a\nA = 1\n# of x\n@f\ndef x(): pass\ndef f(g): return g\n",
         "# of x\n@f\ndef x(): pass\ndef f(g): return g\n"),
        ("N = 3\ndef x(): return globals()['N']\n", "N = 3\ndef x(): return globals()['N']\n"),
        ("import torch\ntorch.flag = 1\nx = 2\n", "import torch\ntorch.flag = 1\nx = 2\n"),
        ("x = 2\nprint(x)\nif __name__ == '__main__':\n    y\n", "x = 2\nprint(x)\n"),
        ("'Doc.'\nfrom __future__ import annotations\nx: int = 2\n",
         "from __future__ import annotations\nx: int = 2\n"),
        ("x = 1\nx += 1\nif x: y = x\n", "x = 1\nx += 1\nif x: y = x\n"),
        ("try:\n    import a\nexcept ImportError:\n    a = None\nx = a\r\n",
         "try:\n    import a\nexcept ImportError:\n    a = None\nx = a\n"),
        ("from autoresearch.trial import Trial\ndef main(): Trial.join()\nx = 1\n", "x = 1\n"),
    ],
)  # fmt: skip
def test_what_a_name_needs_is_cut_out(text, kept):
    assert cut(text, {"x"}) == kept


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("def y(: pass", "not Python"),
        ("x = 1\0", "not Python"),
        ("y = 1\n", "does not define x"),
        ("from autoresearch.trial import Trial\nx = Trial\n", "needs `Trial` of autoresearch"),
        ("import autoresearch.trial as t\nx = t\n", "needs autoresearch"),
        ("def x():\n    from autoresearch.trial import attend\n", "needs autoresearch"),
    ],
)
def test_what_cannot_be_cut_out_is_named(text, why):
    with pytest.raises(ValueError, match=why):
        cut(text, {"x"})


@pytest.mark.parametrize("source", [model_source(GPT), loader_source("train.py")], ids=len)
def test_what_is_made_imports_nothing_of_the_lab(source):
    nodes = list(ast.walk(ast.parse(source)))
    modules = [n.module for n in nodes if isinstance(n, ast.ImportFrom)]
    modules += [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
    assert not [name for name in modules if name.startswith("autoresearch")]
