"""Full logs and weights, which are kept outside git and pruned to a size.

Nothing here is needed to read the record. Logs go oldest first; weights of experiments that do not stand go first, then
the oldest, those of the best last.
"""

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path

from autoresearch.errors import WorkError
from autoresearch.paths import RunDirectory
from autoresearch.types import MB, WEIGHTS_LOST, Experiment, Session
from autoresearch.util.files import make_folder

MAX_LOGS_BYTES, MAX_WEIGHTS_BYTES = 500 * MB, 20_000 * MB
"""Sizes to which .autoresearch/logs and .autoresearch/weights are pruned."""
_NUMBER = re.compile(r"(\d+)")


def weights_path(run_directory: RunDirectory, tag: str, number: int) -> Path:
    """Return where the weights of an experiment are kept."""
    return run_directory.weights / tag / f"{number}.safetensors"


def weights_lost(experiment: Experiment) -> str:
    """Return why the weights of the last good trial could not be saved, empty where they could."""
    good = [t.result for t in experiment.trials if t.result.ok and not t.confirmation]
    return str(good[-1].extra.get(WEIGHTS_LOST, "")) if good else ""


def keep_weights(run_directory: RunDirectory, tag: str, number: int, written: Path) -> Path:
    """Move a file of weights to where it is kept, and return that place.

    Raises:
        WorkError: there is no room (kind `disk`).
    """
    target = weights_path(run_directory, tag, number)
    try:
        make_folder(target.parent)
        try:
            written.replace(target)
        except OSError:  # another file system
            import shutil

            part = target.with_suffix(".part")
            shutil.copyfile(written, part)
            part.replace(target)
            written.unlink()
    except OSError as exc:
        with contextlib.suppress(OSError):
            target.with_suffix(".part").unlink(missing_ok=True)
        raise WorkError(
            f"cannot keep the weights of experiment {number}: {exc.strerror}",
            hint="free some space, or set `[trial] save_weights`",
            kind="disk",
        ) from exc
    return target


def prune(run_directory: RunDirectory, session: Session) -> int:
    """Delete what is over the limits and return how many bytes that freed."""
    logs = sorted(_files(run_directory.logs), key=_modified)
    freed = _shrink(logs, MAX_LOGS_BYTES)
    weights = [p for p in _files(run_directory.weights) if p.suffix in (".safetensors", ".part")]
    weights.sort(key=lambda path: _rank(path, session))
    return freed + _shrink(weights, MAX_WEIGHTS_BYTES)


def drop_weights(run_directory: RunDirectory, session: Session, policy: str) -> None:
    """Delete weights that `[trial] save_weights` does not ask for.

    Args:
        run_directory: Where.
        session: Whose weights; those of other sessions stay.
        policy: `none`, `best` or `kept`.
    """
    wanted: set[int] = set()
    if policy == "best":
        wanted = {session.best}
    elif policy == "kept":
        wanted = {session.best, *(e.number for e in session.kept)}
    for path in _files(run_directory.weights / session.tag):
        if _number(path) not in wanted:
            with contextlib.suppress(OSError):
                path.unlink()


def _rank(path: Path, session: Session) -> tuple[int, float]:
    """Return what orders files from the least to the most worth keeping."""
    worth = 0
    if path.parent.name == session.tag and path.suffix == ".safetensors":
        number = _number(path)
        if number == session.best:
            worth = 2
        elif any(e.number == number for e in session.kept):
            worth = 1
    return worth, _modified(path)


def _number(path: Path) -> int | None:
    found = _NUMBER.match(path.name)
    return int(found.group(1)) if found else None


def _files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _shrink(paths: Iterable[Path], limit: int) -> int:
    sizes = {path: _size(path) for path in paths}
    total, freed = sum(sizes.values()), 0
    for path, size in sizes.items():
        if total - freed <= limit:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            freed += size
    return freed
