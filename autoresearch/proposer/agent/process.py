"""Runs one agent command to its end, with bounded output, a time limit, and the usage it reports."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from autoresearch.paths import home
from autoresearch.sandbox import Command
from autoresearch.types import MB, Usage

MAX_OUTPUT_MB = 64
"""An agent that writes more is killed."""
_TAIL_BYTES = 1 << 20
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class AgentRun:
    """How one call of the command went."""

    code: int | None
    """None: it was killed."""
    output: str
    """The end of it, as of `errors`."""
    errors: str
    seconds: float
    ended: Literal["exit", "time", "output", "stop"] = "exit"
    """By itself, or killed: at the time limit, for too much output, because the session ended."""


def run_agent(
    command: Command, prompt: str, stop: threading.Event, limit_seconds: float
) -> AgentRun:
    """Run a command with a prompt on its standard input.

    Args:
        command: What to start, as the sandbox wrapped it.
        prompt: Text for its standard input.
        stop: Set when the session ends; the command is killed.
        limit_seconds: The command is killed after this time, or once it wrote more than `MAX_OUTPUT_MB`.
    """
    began = time.monotonic()
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        given.write(prompt.encode("utf-8", "replace"))
        given.seek(0)
        try:
            process = subprocess.Popen(
                command.argv,
                env=dict(command.env),
                cwd=command.cwd,
                pass_fds=command.pass_fds,
                stdin=given,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
        except OSError as exc:
            return AgentRun(127, "", str(exc), 0.0)
        ended: Literal["exit", "time", "output", "stop"] = "exit"
        while process.poll() is None and ended == "exit":
            size = os.fstat(output.fileno()).st_size + os.fstat(errors.fileno()).st_size
            if stop.is_set():
                ended = "stop"
            elif time.monotonic() - began > limit_seconds:
                ended = "time"
            elif size > MAX_OUTPUT_MB * MB:
                ended = "output"
            else:
                time.sleep(_POLL_SECONDS)
        code = process.returncode if ended == "exit" else None
        kill_tree(process)
        seconds = time.monotonic() - began
        return AgentRun(code, _tail(output), _tail(errors), seconds, ended)


_DNS = 53


def ports_of(allowed: Sequence[int], values: Iterable[str]) -> tuple[int, ...] | None:
    """Return the ports an agent may connect to: `allowed`, DNS, and those of addresses in its environment.

    Args:
        allowed: `[proposer] ports`; empty is every port, and the answer None.
        values: Of its environment: of a proxy, of a server of the user's.
    """
    if not allowed:
        return None
    found = {_DNS, *allowed}
    for value in values:
        with contextlib.suppress(ValueError):
            parts = urlsplit(value)
            if parts.scheme and parts.hostname:
                found.add(parts.port or (80 if parts.scheme == "http" else 443))
    return tuple(sorted(found))


def program_folders(program: Path, scratch: Path) -> tuple[Path, ...]:
    """Return what an installed program needs to be read from, behind links too.

    Args:
        program: The program.
        scratch: Where it will write. Of a script in a folder around that (the run directory, say) only the file is
            given: the folder would make the scratch read-only and show what is none of the agent's business.
    """
    found: list[Path] = []
    for path in (program.absolute(), program.resolve()):
        parts = path.parts
        if "node_modules" in parts:
            found.append(Path(*parts[: parts.index("node_modules") + 1]))
        else:
            found.append(path if path.parent == home() else path.parent)
    found += [Path(folder).parent for folder in node_folders()]
    found += _python_folders(program)
    system = (Path("/usr"), Path("/bin"), Path("/"))
    kept = [
        p
        for p in dict.fromkeys(found)
        if p.exists() and not any(s in (p, *p.parents) for s in system[:2])
    ]
    files = [program.absolute(), program.resolve()]
    around = [p for p in kept if p in scratch.resolve().parents]
    shown = [p for p in kept if p not in around and p != Path("/")]
    return tuple(dict.fromkeys(shown + [f for f in files if f.parent in around]))


def in_place(words: Sequence[str], folder: Path, work: Path) -> tuple[list[str], tuple[Path, ...]]:
    """Return the arguments of a command as they are understood in another folder, and the files that they name.

    Args:
        words: As the user wrote them, `my.toml` or `--config=my.toml`.
        folder: What the user's names are relative to.
        work: Where the command will run; a name that is there too means the file there.
    """
    found: list[str] = []
    files: list[Path] = []
    for word in words:
        name = word.partition("=")[2] if word.startswith("-") else word
        path = folder / name
        if os.path.lexists(work / name) or not os.path.isfile(path):  # noqa: PTH113 - that of pathlib raises
            found.append(word)
        else:
            found.append(f"{word.removesuffix(name)}{path}")
            files += [path, path.resolve()]
    return found, tuple(dict.fromkeys(files))


def _python_folders(program: Path) -> list[Path]:
    """Return the environment of a script that pip, pipx or uv installed, and the Python it is made from."""
    for interpreter in map(Path, interpreters(program)[:1]):
        if interpreter.name.startswith("python"):
            return [interpreter.parent.parent, interpreter.resolve().parent.parent]
    return []


def interpreters(program: Path) -> list[str]:
    """Return what the first line of a script starts: a program, and where that is `env` the one it looks for."""
    try:
        with program.open("rb") as file:
            line = file.readline(1024).decode("utf-8", "replace")
    except OSError:
        return []
    words = line[2:].split() if line.startswith("#!") else []
    if [Path(word).name for word in words[:1]] == ["env"]:
        named = (w for w in words[1:] if not w.startswith("-") and "=" not in w)
        return words[:1] + list(named)[:1]
    return words[:1]


def node_folders() -> list[str]:
    """Return the folder of node, if it is installed."""
    node = shutil.which("node")
    return [str(Path(node).resolve().parent)] if node else []


def kill_tree(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and all it started, and wait for it."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(file: Any) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    return bytes(file.read()).decode("utf-8", "replace")


def read_usage(output: str, seconds: float) -> Usage:
    """Return what an agent says it used, from the JSON it printed (Claude Code, Codex); else only the time."""
    tokens_in = tokens_out = tokens_cached = 0
    cost: float | None = None
    for item in _items(output):
        used = item.get("usage")
        if not isinstance(used, dict):
            continue
        if item.get("type") == "turn.completed":  # Codex: input includes what was cached.
            tokens_in += _whole(used.get("input_tokens"))
            tokens_cached += _whole(used.get("cached_input_tokens"))
        elif item.get("type") == "result":  # Claude Code: three separate counts.
            read = _whole(used.get("cache_read_input_tokens"))
            tokens_cached += read
            tokens_in += _whole(used.get("input_tokens")) + read
            tokens_in += _whole(used.get("cache_creation_input_tokens"))
            said = item.get("total_cost_usd")
            cost = float(said) if isinstance(said, int | float) else cost
        else:
            continue
        tokens_out += _whole(used.get("output_tokens"))
    return Usage(1, tokens_in, tokens_out, tokens_cached, cost, seconds)


def failure_of(run: AgentRun) -> str | None:
    """Return what an agent says went wrong, in its own format, whatever its exit status; None if nothing did.

    In JSON an error on the way counts only where no turn was completed after it, and a turn that was begun must be
    completed. Without JSON the last line says it, and of aider every line after its last edit.
    """
    failure: str | None = None
    items = _items(run.output)
    for item in items:
        kind, final = str(item.get("type", "")), _final_words(item)
        if (words := _error_in(item)) or _FAILED.search(kind) or _is_failed(item):
            failure = words or "an error without words"
        elif _SAYS_ERROR.match(final):
            failure = final
        elif kind in _DONE:
            failure = None
        elif kind in _BEGUN or (kind, item.get("subtype")) == ("system", "init"):
            failure = "the turn was begun and not completed"
    if items:
        return failure
    ends = (_last_line(run.output), _last_line(run.errors))
    failure = next(filter(_SAYS_ERROR.match, ends), None)
    if re.search(r"^Aider v\d", run.output, re.MULTILINE):
        for found in _AIDER_ERROR.finditer(run.output.rpartition("\nApplied edit to ")[2]):
            failure = found.group()
    return failure


_BEGUN = ("turn.started", "init", "step_start")
"""Of Codex, Gemini and OpenCode; Claude Code says `system`, `init`."""
_DONE = ("turn.completed", "result", "step_finish", "complete", "done")
"""Of Codex; of Claude Code, Cursor, Gemini and Qwen; of OpenCode; of Goose and others."""
_FAILED = re.compile(r"^(?!.*tool)(.*[._])?(error|failed)$")
"""Types of messages: `error`, `turn.failed`, `session.error`."""
_SAYS_ERROR = re.compile(r"\[?(api |execution )?error\b|Session ended with error", re.IGNORECASE)
"""How the last words begin where Claude Code, Codex, Qwen, OpenCode or Goose ends with 0 after an error."""
_AIDER_ERROR = re.compile(
    r"^(litellm\.\w*(Error|Exception|Timeout)|The LLM did not conform|Only \d+ reflections allowed).*",
    re.MULTILINE,
)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def last_words(run: AgentRun) -> str:
    """Return what an agent said at last: in the JSON it printed, else its last line of errors or output."""
    for item in reversed(_items(run.output) or _items(run.errors)):
        final = _final_words(item) if run.code == 0 else ""
        if words := _error_in(item) or final:
            return words
    return _last_line(run.errors) or _last_line(run.output)


def _last_line(text: str) -> str:
    lines = (_ANSI.sub("", line).strip() for line in reversed(text.splitlines()))
    return next(filter(None, lines), "")


def _final_words(item: Mapping[str, Any]) -> str:
    """Return the text an agent ends with, as Claude Code and Gemini give it; "" where it is another message."""
    final = item.get("result") or item.get("response")
    return final if isinstance(final, str) else ""


def _items(output: str) -> list[dict[str, Any]]:
    """Return the JSON objects an agent printed: one per line (Codex), or one alone (Claude Code, Gemini)."""
    items = [item for line in output.splitlines() for item in _objects(line, 0)]
    starts = re.finditer(r"^[{\[]", output, re.MULTILINE)
    return items or next(filter(None, (_objects(output, m.start()) for m in starts)), [])


def _objects(text: str, start: int) -> list[dict[str, Any]]:
    """Return the objects of the JSON at `start`: itself, or those it lists; none where it is no JSON."""
    if text[start : start + 1] not in ("{", "["):
        return []
    try:
        found, _ = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return []
    return [
        item for item in (found if isinstance(found, list) else [found]) if isinstance(item, dict)
    ]


def _is_failed(item: Mapping[str, Any]) -> bool:
    """Whether a result of Claude Code or Gemini is one of a failure."""
    words = [item.get("subtype")] + ([item.get("status")] if item.get("type") in _DONE else [])
    return bool(item.get("is_error")) or any(
        str(word).startswith(("error", "fail", "cancel")) for word in words
    )


def _error_in(item: Mapping[str, Any]) -> str:
    """Return the words of an error in one of an agent's messages; "" where it is none."""
    error, data = item.get("error"), item.get("data")
    if isinstance(error, dict):  # Codex at the end, Gemini, OpenCode.
        data = error.get("data")
        error = error.get("message") or (data.get("message") if isinstance(data, dict) else None)
        error = error or item["error"].get("name")
    failed = item.get("result") or item.get("subtype")  # Claude Code.
    is_error = _FAILED.search(str(item.get("type", "")))
    said = [
        error,
        failed if _is_failed(item) else None,
        item.get("message") if is_error else None,  # Codex, on the way.
        data.get("message") if is_error and isinstance(data, dict) else None,  # Copilot.
    ]
    return next((text for text in said if text and isinstance(text, str)), "")


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, int | float) else 0
