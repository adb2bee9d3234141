"""The start of every process of a trial: `train`, `claim` and `audit` come up the same way.

    python -P -c "...; main(MODE, FILE)"

Runs inside the sandbox. A train child executes train.py as `__main__`; a judge child imports torch, says `warm` and
waits. The host gets the type of whatever ended train.py.
"""

import contextlib
import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from autoresearch.trial import channel as wire
from autoresearch.trial.child.script import describe, is_out_of_memory, run_file

CACHES_VARIABLE = "AUTORESEARCH_CACHES"
CACHE_VARIABLES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
GROUP_PREFIX = "__grp__"
"""Of Triton's lists of the files that make up a kernel."""
_MAX_GROUP_BYTES = 1 << 16
EXIT_OOM = 77
EXIT_EXCEPTION = 78


def main(mode: str, file: str) -> NoReturn:
    """Be a child; never returns.

    Args:
        mode: `train`, `claim` or `audit`; `check`, which a script of upstream's shape starts itself.
        file: Of the snapshot, relative to the working directory.
    """
    sys.argv = [file]
    copy_caches()
    if mode in ("train", "check"):
        sys.path.insert(0, str(Path.cwd()))
        (_train if mode == "train" else _check)(file)
    else:
        _judge(mode, file)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def copy_caches() -> None:
    """Copy the compile caches this process may read to where it will write its own."""
    shared = os.environ.pop(CACHES_VARIABLE, "")
    if not shared:
        return
    import shutil

    target = Path(os.environ[CACHE_VARIABLES[0]]).parent
    for folder in shared.split(os.pathsep):
        # Without a cache it only takes longer.
        with contextlib.suppress(OSError):
            shutil.copytree(folder, target, dirs_exist_ok=True)
    for path in Path(os.environ[CACHE_VARIABLES[1]]).glob(f"*/{GROUP_PREFIX}*.json"):
        with contextlib.suppress(OSError):
            _renew_group(path)


def _renew_group(path: Path) -> None:
    """Make one of Triton's lists of files name the copies in its folder.

    It names files of the home it was written in, and where those are gone Triton compiles again. A list that is odd,
    or of which a file is missing, is removed. A candidate may have written it.
    """
    import json

    state = path.stat()
    try:
        data = path.read_bytes() if state.st_size <= _MAX_GROUP_BYTES else b""
        files = {str(name): path.parent / name for name in json.loads(data)["child_paths"]}
        is_whole = all(file.parent == path.parent and file.is_file() for file in files.values())
    except (ValueError, TypeError, KeyError, RecursionError):
        is_whole = False
    if not is_whole:
        path.unlink()
        return
    path.write_text(json.dumps({"child_paths": {name: str(file) for name, file in files.items()}}))
    # As old as it was, so that it is not taken for new.
    os.utime(path, (state.st_atime, state.st_mtime))


def _train(file: str) -> None:
    try:
        try:
            run_file(file, "__main__")
        except SystemExit as exc:
            if exc.code not in (None, 0):
                if not isinstance(exc.code, int):
                    sys.stderr.write(f"{exc.code}\n")
                raise
        _finish()
    except BaseException as exc:  # noqa: BLE001 - whatever it is, the lab wants to know
        if not isinstance(exc, SystemExit):
            traceback.print_exc()
        with contextlib.suppress(Exception):
            _finish(has_failed=True)
        _tell(describe(exc, file))
        _exit(1)


def _finish(**how: bool) -> None:
    """Let a script of upstream's shape submit: it does not do so itself."""
    compat = sys.modules.get("autoresearch.trial.child.compat")
    if compat is not None:
        compat.finish(**how)


def _check(file: str) -> None:
    from autoresearch.trial.child import compat

    try:
        compat.check(file)
    except BaseException as exc:  # noqa: BLE001 - told to the trial that asks, in one line
        told = describe(exc, file)
        line = f" ({file} line {told['line']})" if told["line"] else ""
        words = " ".join(told["message"].split())
        sys.stderr.write(f"\n{told['exception']}: {words}{line}\n")
        # Judging itself is alone on the device.
        _exit(int(told["kind"] != "oom" and "busy or unavailable" not in told["message"]))


def _tell(error: dict[str, Any]) -> None:
    """Send an error, over the channel train.py joined with or, before that, a new one."""
    client = sys.modules.get("autoresearch.trial.child.client")
    with contextlib.suppress(wire.ProtocolError):
        if client is not None:
            channel = client.connection()
        else:
            sock = wire.inherited()
            channel = None if sock is None else wire.Channel(sock)
        if channel is not None:
            channel.send("error", timeout=5.0, **error)


def _judge(mode: str, file: str) -> None:
    # This is all that may be loaded while the trainer lives, and all of it is ours: nothing of the snapshot.
    from autoresearch.trial.child import judge_worker

    # By itself, as the keeper runs: its package would bring the lab with it.
    sys.path.insert(0, str(Path(__file__).parents[2] / "sandbox"))
    importlib.import_module("launcher.seal").enter_seal()
    del sys.path[0]
    sys.path.insert(0, str(Path.cwd()))
    sock = wire.inherited()
    if sock is None:
        raise SystemExit("this process is started by the lab only")
    channel = wire.Channel(sock, takes_fds=True)
    channel.send("warm")
    has_seen_rows = False
    try:
        load = channel.expect("load")
        (weights,) = channel.take_fds(1)
        channel.take_no_fds()
        server = judge_worker.Server(mode, file, load, weights)
        channel.send("ready", batch_rows=server.batch_rows)
        num_rows = int(channel.expect("rows")["num_rows"])
        has_seen_rows = True
        server.answer(channel, num_rows)
    except BaseException as exc:  # noqa: BLE001 - told by type, or by exit code alone
        if has_seen_rows:
            # Validation text was here: not one word may leave but this number.
            _exit(EXIT_OOM if is_out_of_memory(exc) else EXIT_EXCEPTION)
        with contextlib.suppress(wire.ProtocolError):
            channel.send("error", timeout=5.0, **describe(exc, file))
        _exit(1)
    _exit(0)


def _exit(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
