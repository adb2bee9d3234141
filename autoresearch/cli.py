"""The Typer app and `main()`, the only place where an error becomes an exit code of `errors.EXIT_CODES`."""

import contextlib
import difflib
import os
import re
import signal
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import replace
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from autoresearch import __version__
from autoresearch.commands import Color, JsonOption, QuietOption, State, as_verb, option
from autoresearch.config import described
from autoresearch.errors import (
    EXIT_CODES,
    AutoresearchError,
    Interrupted,
    PrerequisiteError,
    UsageError,
)
from autoresearch.paths import CONFIG_NAME
from autoresearch.util.streams import drop_broken, open_closed
from autoresearch.util.text import redact

HELP = """Turn one GPU into an overnight research lab.

You write program.md, an AI agent edits train.py. The lab trains the result for a fixed time, measures it itself,
commits it if it is probably better, and repeats until morning."""

EPILOG = f"""Exit codes: {", ".join(f"{code} {text.partition(';')[0]}" for code, text in EXIT_CODES.items())}.
Start with `autoresearch demo`."""

VERBS: dict[str, tuple[str, ...]] = {
    "Start": ("demo", "init", "trust", "prepare", "doctor"),
    "Experiment": ("run", "try", "note", "stop", "pause", "resume", "confirm"),
    "Look": ("log", "status", "show", "diff", "report"),
    "Change": ("revert", "approve", "reject", "export", "push"),
}
"""Help panel -> verbs; `verb` lives in `autoresearch.commands.<verb>`, see `_MODULES` for the others."""

EXAMPLES = {
    "demo": "demo",
    "init": "init myrun --proposer claude",
    "trust": "trust",
    "prepare": "prepare --source hf://datasets/karpathy/tinystories-gpt4-clean",
    "doctor": "doctor --quick",
    "run": "run --until 07:00 --proposer anthropic/claude-sonnet-4-5 --max-cost 10",
    "try": "try --seconds 60",
    "note": 'note "try a longer cooldown"',
    "stop": "stop --wait",
    "pause": "pause",
    "resume": "resume",
    "confirm": "confirm --each",
    "log": "log --kept",
    "status": "status",
    "show": "show 12",
    "diff": "diff baseline best",
    "report": "report --watch --open",
    "revert": "revert 12",
    "approve": "approve 12",
    "reject": "reject 12",
    "export": "export best",
    "push": "push origin",
}
"""Verb -> what follows `autoresearch` in the example of its help."""
MEANT = {
    "cancel": "stop --now",
    "compare": "diff A B",
    "config": "run --show-config",
    "export-model": "export best",
    "follow": "log --watch",
    "help": "--help",
    "history": "log -n 0",
    "kill": "stop --now",
    "list": "log",
    "ls": "log",
    "new": "init myrun",
    "open": "report --open",
    "plot": "report -o progress.png",
    "quit": "stop",
    "rollback": "revert N",
    "sessions": "log --sessions",
    "start": "run",
    "tail": "log --watch",
    "undo": "revert N",
    "version": "--version",
    "watch": "log --watch",
}
"""What people type that is no verb -> what does it."""

_MODULES = {
    "try": "try_",
    "trust": "init",
    "status": "log",
    **dict.fromkeys(("stop", "pause", "resume", "note", "approve", "reject"), "steer"),
    **dict.fromkeys(("push", "export"), "share"),
}
_FUNCTIONS = {"try": "try_"}
_GIVEN: ContextVar[State] = ContextVar("_GIVEN")
"""The flags before the verb, for errors: when one is printed, Typer's context is gone."""

_WrongLine = cast("type[Exception]", typer.BadParameter.__mro__[1])
"""What Typer raises for a command line it cannot read: `UsageError`, which it does not export."""


class _PlainUsage:
    """Help without what Typer adds to names: types of flags and arguments, braces around an argument."""

    def get_params(self, ctx: Any) -> list[Any]:
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in found:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
            elif parameter.param_type_name == "argument":
                parameter.display_type_rich = lambda **_: None
        return found

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]  # type: ignore[misc]


class _Verb(_PlainUsage, TyperCommand):
    """One verb."""


class _Verbs(_PlainUsage, TyperGroup):
    """All of them."""


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"autoresearch {__version__}")
        raise typer.Exit


def _globals(
    ctx: typer.Context,
    is_json: JsonOption = False,
    is_quiet: QuietOption = False,
    is_verbose: Annotated[
        bool, option("--verbose -v", "Print the traceback of an error too.")
    ] = False,
    color: Annotated[str, option("--color WHEN", "auto, always or never.")] = "auto",
    is_progress_hidden: Annotated[
        bool, option("--no-progress", "No bars, no live rows.", envvar="AUTORESEARCH_NO_PROGRESS")
    ] = False,
    _version: Annotated[
        bool,
        option(
            "--version -V", "Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    if color not in ("auto", "always", "never"):
        raise typer.BadParameter(f"`{color}` is not auto, always or never", param_hint="--color")
    chosen: Color = color  # type: ignore[assignment]
    if ctx.invoked_subcommand not in ("log", "report"):  # which may read a file that is named
        _check_folder()
    ctx.obj = State(is_json, is_quiet, is_verbose, chosen, not is_progress_hidden)
    _GIVEN.set(ctx.obj)


def _check_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError as exc:
        raise PrerequisiteError(
            "the current folder no longer exists",
            hint="go to another one, for example `cd`",
            kind="not_a_run_directory",
        ) from exc


def make_app(*only: str, is_listed: bool = False) -> typer.Typer:
    """Return the app with all verbs, or some: to make them all takes longer than most of them.

    Args:
        only: Verbs.
        is_listed: Leave out their options, which the list of verbs does not show.
    """
    app = typer.Typer(
        name="autoresearch",
        cls=_Verbs,
        help=HELP,
        epilog=EPILOG,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_globals)
    for panel, verb in ((panel, verb) for panel, verbs in VERBS.items() for verb in verbs):
        if only and verb not in only:
            continue
        module = import_module(f"autoresearch.commands.{_MODULES.get(verb, verb)}")
        function = getattr(module, _FUNCTIONS.get(verb, verb))
        example = f"For example: `autoresearch {EXAMPLES[verb]}`" if verb in EXAMPLES else None
        add = app.command(
            verb, cls=_Verb, help=function.__doc__, rich_help_panel=panel, epilog=example
        )
        add((lambda: None) if is_listed else as_verb(function))
    return app


def _app_for(args: Sequence[str]) -> typer.Typer:
    """Return the app with what a command line may need."""
    if "_AUTORESEARCH_COMPLETE" in os.environ:
        return make_app()
    if not args or args[0] in ("--help", "-h", "--version", "-V"):
        return make_app(is_listed=True)
    flags = list(takewhile(lambda word: word.startswith("-") and word != "--color", args))
    verb = args[len(flags)] if len(flags) < len(args) else ""
    return make_app(verb) if verb in EXAMPLES else make_app()


def __getattr__(name: str) -> Any:
    if name == "app":
        return make_app()
    raise AttributeError(name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: Without the program's name; None takes them from `sys.argv`.
    """
    args = list(sys.argv[1:] if arguments is None else arguments)
    _GIVEN.set(State())
    open_closed()
    with contextlib.suppress(ValueError):  # not the main thread
        # Where the parent ignores it, no exit status of a child arrives.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A relative entry would find `git` in the folder of a stranger.
    os.environ["PATH"] = os.pathsep.join(filter(os.path.isabs, os.get_exec_path())) or os.defpath
    _dump_no_core()
    if sys.platform == "win32":
        sys.stderr.write("error: native Windows is not supported\n\nhint: run it inside WSL2\n")
        return 3
    try:
        code = _run(args)
        sys.stdout.flush()
        return code
    except Interrupted:
        return 130
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except BrokenPipeError:
        drop_broken("")
        return 141
    except OSError as exc:
        drop_broken(f"error: cannot write the output: {exc.strerror}\n")
        return 1


def _dump_no_core() -> None:
    """See that no crash of this process or what it starts writes its memory, keys included, to a file."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        # Of 0 Linux takes no notice where dumps are piped to a program; of 1 byte it makes none at all.
        limit = int(sys.platform == "linux")
        resource.setrlimit(
            resource.RLIMIT_CORE, (limit, resource.getrlimit(resource.RLIMIT_CORE)[1])
        )


def _run(args: list[str]) -> int:
    """Run the command, print its error, and return the exit code.

    Does not call the app, which has its own exit codes for Ctrl-C and a reader that is gone.

    Raises:
        KeyboardInterrupt: Ctrl-C, also at a question.
        Interrupted: a verb was ended by the user.
        BrokenPipeError: the reader is gone.
        OSError: the error cannot be written.
    """
    try:
        app = _app_for(args)
        if "_AUTORESEARCH_COMPLETE" in os.environ:
            app(args=args, prog_name="autoresearch")
        command = typer.main.get_command(app)
        with command.make_context("autoresearch", list(args)) as ctx:
            return int(command.invoke(ctx) or 0)
    except typer.Exit as exc:
        return exc.exit_code
    except SystemExit as exc:  # of the shell's completion, and of rich where help has no reader
        if isinstance(exc.__context__, BrokenPipeError):
            raise exc.__context__ from None
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except _WrongLine as exc:
        # Without arguments it was the help.
        return _report(_usage_error(exc), args) if args else 2
    except AutoresearchError as exc:
        return _report(exc, args)
    except typer.Abort as exc:
        if exc.__context__:
            sys.stderr.write("\n")  # it was not answered: the line of the question is still open
        if isinstance(exc.__context__, KeyboardInterrupt):
            raise exc.__context__ from None
        sys.stderr.write("aborted\n")
        return 1
    except (BrokenPipeError, Interrupted):
        raise
    except Exception as exc:  # noqa: BLE001 - the last net: no exception is shown as a traceback
        return _report(_unforeseen(exc, args), args)


def _usage_error(problem: Any) -> UsageError:
    """Return the error of a wrong command line in the style of ours: no capital, no full stop, a hint."""
    message = problem.format_message().strip().removesuffix(".")
    verb = problem.ctx.command_path if problem.ctx else "autoresearch"
    hint = f"see `{verb} --help`"
    wrong = re.match(r"no such command '([^']+)'", message, re.IGNORECASE)
    if wrong and wrong[1] in MEANT:
        message, hint = wrong[0], f"`autoresearch {MEANT[wrong[1]]}`"
    if hasattr(problem, "possibilities"):  # an option that the verb does not have
        message = problem.message
        hint = _place_of(problem.option_name, problem.ctx) or hint
    return UsageError(f"{message[0].lower()}{message[1:]}", hint=hint)


def _place_of(option: str, ctx: Any) -> str:
    """Return where an unknown option belongs: before the verb, to settings, to other verbs; else what it is like."""
    root: Any = typer.main.get_command(make_app())
    app_options, commands = _options(root), root.commands
    if option in app_options:
        return f"`{option}` goes before the verb: see `autoresearch --help`"
    name = option.lstrip("-").replace("-", "_")
    settings = {d.key.partition("."): d for d in described() if not d.flag}
    found = [d for (_, _, last), d in settings.items() if last == name]
    found = found or [d for (_, _, last), d in settings.items() if last.startswith(f"{name}_")]
    if 0 < len(found) < 3:
        return "; or ".join(
            f"set `[{section}] {key}` in {CONFIG_NAME}: {d.meaning.partition('. ')[0].removesuffix('.')}"
            for d in found
            for section, _, key in [d.key.partition(".")]
        )
    if verbs := [f"`autoresearch {verb}`" for verb, c in commands.items() if option in _options(c)]:
        return f"it is an option of {', '.join(verbs)}"
    near = difflib.get_close_matches(option, _options(ctx.command) | app_options, n=1, cutoff=0.75)
    return f"did you mean `{near[0]}`?" if near else ""


def _options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def _unforeseen(problem: Exception, args: Sequence[str]) -> AutoresearchError:
    """Return the error for an exception that no other code caught: of the system, else a bug."""
    verb = next((a for a in args if any(a in verbs for verbs in VERBS.values())), "autoresearch")
    reason = redact(str(problem).strip().partition("\n")[0])[:300]
    if isinstance(problem, OSError):
        try:
            _check_folder()
        except PrerequisiteError as exc:
            return exc
        places = [f"`{place}`" for place in (problem.filename, problem.filename2) if place]
        at = f" at {' and '.join(places)}" if places else ""
        error = AutoresearchError(
            f"`{verb}` failed{at}: {problem.strerror or reason or type(problem).__name__}",
            hint="fix that and try again; `autoresearch -v ...` shows where it happened"
            if places
            else "is the output, or the file it goes to, full or closed? `autoresearch -v ...` shows"
            " where it happened",
            kind="system",
        )
    else:
        message = f"`{verb}` failed: {type(problem).__name__}: {reason}".removesuffix(": ")
        error = AutoresearchError(
            f"{message}; this is a bug in autoresearch", hint=_store(problem, args), kind="bug"
        )
    error.__cause__ = problem
    return error


def _store(problem: Exception, args: Sequence[str]) -> str:
    """Write a bug report to a file; return how to send it."""
    import platform
    import shlex
    import tempfile
    import traceback

    lines = (
        f"autoresearch {__version__}, Python {platform.python_version()}, {platform.platform()}\n",
        f"autoresearch {shlex.join(args)}\n\n",
        *traceback.format_exception(problem),
    )
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="autoresearch-bug-", suffix=".txt", delete=False, errors="replace"
        ) as file:
            file.write(redact("".join(lines)))
    except OSError:
        return "report it with what `autoresearch -v` prints for the same command"
    return (
        f"report it with `{file.name}` (traceback, versions, command line) and what you did before"
    )


def _report(error: AutoresearchError, args: Sequence[str]) -> int:
    given = _GIVEN.get()
    if given.is_verbose or os.environ.get("AUTORESEARCH_DEBUG"):
        import traceback

        sys.stderr.write(redact("".join(traceback.format_exception(error))))
    from autoresearch.ui.console import print_error

    # `--json` may stand after the verb too, also where that could not be read.
    print_error(replace(given, is_json=given.is_json or "--json" in args).mode, error)
    return error.exit_code
