"""Writes an experiment to a folder that needs no autoresearch: code, configuration, tokenizer, weights, numbers."""

import json
from dataclasses import dataclass
from pathlib import Path

from autoresearch.config import TrialConfig
from autoresearch.errors import UsageError
from autoresearch.record.record import Record
from autoresearch.rundir.storage import weights_lost, weights_path
from autoresearch.types import Experiment, Session
from autoresearch.util.files import write_file
from autoresearch.util.text import clean_json

_SKIPPED = (".gitignore", ".gitattributes")
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
    written, missing = [], []
    for path, content in record.files(experiment.commit).items():
        if path in _SKIPPED:
            continue
        write_file(folder / path, content)
        written.append(path)
    tokenizer = _tokenizer(record)
    if tokenizer is not None:
        write_file(folder / TOKENIZER_NAME, tokenizer)
        written.append(TOKENIZER_NAME)
    else:
        missing.append("the tokenizer: the data is not prepared here, `autoresearch prepare`")
    weights = weights_path(record.run_directory, record.tag, experiment.number)
    if weights.is_file():
        write_file(folder / WEIGHTS_NAME, weights)
        written.append(WEIGHTS_NAME)
    else:
        missing.append(f"the weights: {_why_missing(session, experiment)}")
    facts = json.dumps(clean_json(describe(session, experiment)), indent=2)
    write_file(folder / "experiment.json", f"{facts}\n".encode())
    written.append("experiment.json")
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


def describe(session: Session, experiment: Experiment) -> dict[str, object]:
    """Return what must be known to use or to reproduce an experiment, as JSON values."""
    setup = session.setups.get(experiment.setup)
    return {
        "session": session.tag,
        "experiment": experiment.number,
        "commit": experiment.commit,
        "description": experiment.description,
        "hypothesis": experiment.hypothesis,
        "val_bpb": experiment.val_bpb,
        "seeds": [t.result.seed for t in experiment.trials if t.result.ok and not t.confirmation],
        "num_params": next(
            (t.result.num_params for t in experiment.trials if t.result.num_params), None
        ),
        "setup": vars(setup) if setup else None,
        "config": dict(session.config),
        "data": dict(session.data),
        "versions": dict(session.versions),
    }


def _tokenizer(record: Record) -> Path | None:
    """Return the file of the tokenizer the session was run with, if the data is here."""
    from autoresearch.config import load_config
    from autoresearch.data.prepare import open_dataset
    from autoresearch.errors import AutoresearchError

    try:
        path = open_dataset(load_config(record.run_directory).config).path / TOKENIZER_NAME
    except AutoresearchError:
        return None
    return path if path.is_file() else None
