"""Writes an experiment to a folder that needs no autoresearch: code, numbers, of a model tokenizer and weights too."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoresearch.config import Config, TrialConfig, load_config
from autoresearch.decision.scores import comparable, find
from autoresearch.errors import AutoresearchError, PrerequisiteError, UsageError
from autoresearch.paths import templates_directory
from autoresearch.proposer.edits import imported
from autoresearch.record.record import Record
from autoresearch.report.markdown import escape
from autoresearch.report.standalone import loader_source, model_source, sample_source
from autoresearch.rundir.storage import weights_lost, weights_path
from autoresearch.tasks.gpt.data.prepare import open_dataset
from autoresearch.tasks.gpt.data.tokenizer import PATTERN
from autoresearch.types import Experiment, Session, Setup
from autoresearch.ui import text as f
from autoresearch.ui.summary import summarize
from autoresearch.util.files import write_file
from autoresearch.util.text import clean_json

_SKIPPED = (".gitignore", ".gitattributes")
_OURS = ("README.md", "model.py", "sample.py")
WEIGHTS_NAME = "model.safetensors"
TOKENIZER_NAME = "tokenizer.tiktoken"


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    folder: Path
    number: int
    files: tuple[str, ...]
    missing: tuple[str, ...]
    """What could not be written, with the reason, one sentence each."""


def export(record: Record, name: str = "best", folder: Path | None = None) -> Exported:
    """Write an experiment to a folder, by default `export-<tag>-<number>` in the run directory.

    Raises:
        UsageError: no such experiment, or the folder is not empty.
        WorkError: the folder cannot be written (kind `disk`).
    """
    experiment = record.with_commit(name)
    session = record.session()
    folder = folder or record.run_directory.root / f"export-{record.tag}-{experiment.number}"
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise UsageError(
            f"`{folder}` is a link, or exists and is not empty",
            hint="name another folder with `-o DIR`",
        )
    return _write(record, session, experiment, folder)


def _write(record: Record, session: Session, experiment: Experiment, folder: Path) -> Exported:
    files = {p: c for p, c in record.files(experiment.commit).items() if p not in _SKIPPED}
    taken = {path.split("/")[0] for path in files}
    names = {name: f"export_{name}" if name in taken else name for name in _OURS}
    written, missing = dict[str, bytes | Path](files), []
    code, why_loader, setup = "train.py", "", session.setups.get(experiment.setup)
    is_model = setup is None or setup.max_seq_len > 0
    try:
        config = load_config(record.run_directory).config
        code = config.task.editable[0]
        if is_model:
            written[TOKENIZER_NAME] = _tokenizer(config, setup)
    except AutoresearchError as exc:
        why = "; ".join(filter(None, (exc.message, exc.hint)))
        missing.append(f"the tokenizer: {why}")
    if is_model:
        weights = weights_path(record.run_directory, record.tag, experiment.number)
        if weights.is_file():
            written[WEIGHTS_NAME] = weights
        else:
            missing.append(f"the weights: {_why_missing(session, experiment)}")
        model, why_loader = _model(files, code)
        written[names["model.py"]] = model.encode()
        if not missing:
            module = names["model.py"].removesuffix(".py")
            written[names["sample.py"]] = sample_source(module).encode()
    else:
        names["model.py"], missing = "", []
    facts = describe(session, experiment)
    written["experiment.json"] = f"{json.dumps(clean_json(facts), indent=2)}\n".encode()
    readme = _readme(session, experiment, code, names, missing, why_loader)
    written[names["README.md"]] = readme.encode()
    for path, content in written.items():
        write_file(folder / path, content)
    return Exported(folder, experiment.number, tuple(sorted(written)), tuple(missing))


def _why_missing(session: Session, experiment: Experiment) -> str:
    policy = session.config.get("trial.save_weights", TrialConfig().save_weights)
    is_best = experiment.number == session.best
    is_kept = any(e.number == experiment.number for e in session.kept)
    if not (is_best or (is_kept and policy == "kept")) or policy == "none":
        return f'they were not kept: `[trial] save_weights` is "{policy}"'
    if lost := weights_lost(experiment):
        return f"they could not be saved: {lost}"
    return "they are not here: of another machine, or deleted since"


def _model(files: Mapping[str, bytes], code: str) -> tuple[str, str]:
    """Return a model.py, and why it runs the program; empty where the model could be cut out of it."""
    text = files.get(code, b"").decode("utf-8", "replace")
    others = {
        path.removesuffix(".py")
        for path, content in files.items()
        if path.endswith(".py") and path != code and "autoresearch" in imported(content)
    }
    try:
        if others & imported(text):
            raise ValueError(f"it imports {', '.join(sorted(others & imported(text)))}")
        return model_source(text), ""
    except ValueError as exc:
        return loader_source(code), str(exc)


def _readme(
    session: Session,
    experiment: Experiment,
    code: str,
    names: Mapping[str, str],
    missing: Sequence[str],
    why_loader: str,
) -> str:
    """Return the README.md of an export: what it is, its numbers, how to sample and to load it."""
    import jinja2

    number, setup = experiment.number, session.setups.get(experiment.setup)
    facts = describe(session, experiment)
    metric = session.metric
    rows = [(metric.name, f"{f.score(experiment.score)} {metric.unit}, {metric.better} is better")]
    baseline = find(session, 0)
    if baseline and number and (pair := comparable(baseline, experiment, session)):
        rows.append(
            ("baseline", f"{f.score(pair[0])}, a difference of {f.delta(pair[1] - pair[0])}")
        )
    if number and number == session.best:
        rows.append(("verdict", str(summarize(session).conclusion)))
    elif number:
        rows.append(("confirmed", f"not measured: `autoresearch confirm baseline {number}`"))
    if names["model.py"]:
        rows.append(("parameters", f.count(_num_params(experiment))))
    if setup and setup.max_seq_len:
        rows.append(("context", f"{setup.max_seq_len} tokens at most"))
        rows.append(("trained", f"{setup.budget_seconds:g} s, {setup.gpu}, torch {setup.torch}"))
    elif setup:
        rows.append(("measured", f"at most {setup.budget_seconds:g} s a trial, {setup.gpu}"))
    if facts["vocab_size"]:
        rows.append(
            ("text", f"{session.data['source']}, {facts['vocab_size']:,} tokens in the vocabulary")
        )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates_directory() / "export"),
        autoescape=False,  # noqa: S701 - `md` escapes what the record holds
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = escape
    return environment.get_template("README.md.j2").render(
        number=number,
        tag=session.tag,
        description=experiment.description,
        rows=rows,
        code=code,
        model=names["model.py"],
        sample=names["sample.py"],
        missing=missing,
        why_loader=why_loader,
    )


def describe(session: Session, experiment: Experiment) -> dict[str, object]:
    """Return what must be known to use or to reproduce an experiment, as JSON values."""
    setup = session.setups.get(experiment.setup)
    is_same_data = setup is not None and session.data.get("key") == setup.data
    return {
        "session": session.tag,
        "experiment": experiment.number,
        "commit": experiment.commit,
        "description": experiment.description,
        "hypothesis": experiment.hypothesis,
        session.metric.name: experiment.score,
        "seeds": [t.result.seed for t in experiment.trials if t.result.ok and not t.confirmation],
        "num_params": _num_params(experiment),
        "vocab_size": session.data.get("vocab_size") if is_same_data else None,
        "max_seq_len": setup.max_seq_len if setup else None,
        "tokenizer_pattern": PATTERN,
        "setup": vars(setup) if setup else None,
        "config": dict(session.config),
        "data": dict(session.data),
        "versions": dict(session.versions),
    }


def _tokenizer(config: Config, setup: Setup | None) -> Path:
    """Return the file of the tokenizer that an experiment was trained with.

    Raises:
        AutoresearchError: the data is not prepared here, or other data is.
    """
    dataset = open_dataset(config)
    if setup is not None and dataset.key != setup.data:
        raise PrerequisiteError(
            "the data prepared here is not what it was trained on",
            hint="experiment.json has the settings of the session; `autoresearch prepare` with these",
        )
    return dataset.path / TOKENIZER_NAME


def _num_params(experiment: Experiment) -> int | None:
    return next((t.result.num_params for t in experiment.trials if t.result.num_params), None)
