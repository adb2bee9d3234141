"""One file per verb: options, one call of the core, one call of the ui; what verbs share is here and in `_common`."""

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from autoresearch.commands._common import complete_experiment, complete_tag
from autoresearch.types import LARGEST

if TYPE_CHECKING:
    from autoresearch.ui.console import OutputMode

Color = Literal["auto", "always", "never"]


def _sensible(value: float | None) -> float | None:
    if value is not None and not value <= LARGEST[type(value)]:
        raise typer.BadParameter(f"{value} is not in the range x<={LARGEST[type(value)]:g}")
    return value


def option(flags: str, text: str, **more: Any) -> Any:
    """Return an option of a verb.

    Args:
        flags: As help and docs show it, `--num -n N`; a word without a dash names the value.
        text: Help.
        **more: Other arguments of `typer.Option`.
    """
    if "min" in more:
        more["callback"] = _sensible
    *names, last = flags.split()
    if last.startswith("-"):
        return typer.Option(*names, last, help=text, **more)
    return typer.Option(*names, metavar=last, help=text, **more)


def argument(metavar: str, text: str, **more: Any) -> Any:
    """Return an argument of a verb, by the name that the help shows, with its help."""
    return typer.Argument(metavar=metavar, help=text, **more)


JsonOption = Annotated[bool, option("--json", "Print JSON on stdout.")]
QuietOption = Annotated[bool, option("--quiet -q", "Print less.")]
YesOption = Annotated[bool, option("--yes -y", "Do not ask for confirmation.")]
TagOption = Annotated[
    str | None,
    option("--tag TAG", "Session; default: the current one.", autocompletion=complete_tag),
]
DryRunOption = Annotated[bool, option("--dry-run -n", "Show what would be done, and do nothing.")]
FromFileOption = Annotated[
    str, option("--from FILE", "Read a results.tsv, or - for stdin, instead of the record.")
]
NoPagerOption = Annotated[bool, option("--no-pager", "Never use a pager.")]
TableOption = Annotated[
    bool, option("--table", "Print the screen of a terminal in a pipe too, $COLUMNS or 100 wide.")
]
UnsafeOption = Annotated[
    bool, option("--unsafe-no-sandbox", "Run generated code without a sandbox; reports say so.")
]
BeginFromOption = Annotated[
    str | None,
    option(
        "--from RESULT",
        "Begin the new session, --tag, from a tag's best, an experiment or a commit.",
    ),
]


def as_table(mode: "OutputMode") -> "OutputMode":
    """Return the mode that prints what a terminal gets, without a pager."""
    if mode.is_tty or mode.is_json or mode.is_quiet:
        return mode
    found = dataclasses.replace(mode, kind="tty")
    if "COLUMNS" not in os.environ:
        found.out.width = 100
    return found


def experiment_argument(metavar: str = "EXPERIMENT") -> Any:
    """Return the argument that names an experiment, under the name that the help calls it."""
    text = "A number, baseline, best, last or the beginning of a commit."
    return argument(metavar, text, autocompletion=complete_experiment)


def option_of(key: str) -> Any:
    """Return the option that sets a setting, as `config.py` declares it; help is the first sentence of its meaning.

    In annotations that are read when they are needed only: the settings take a tenth of a second to import.
    """
    from autoresearch.config import described

    declared = next(d for d in described() if d.key == key)
    text = declared.meaning.partition(". ")[0].removesuffix(".")
    return option(declared.flag, f"{text}.")


@dataclass(frozen=True)
class State:
    """The global flags, the same before and after the verb."""

    is_json: bool = False
    is_quiet: bool = False
    is_verbose: bool = False
    """Whether errors are printed with their traceback."""
    color: Color = "auto"
    is_progress_shown: bool = True

    @property
    def mode(self) -> "OutputMode":
        """How this process prints, derived from the flags and the environment."""
        from autoresearch.ui.console import OutputMode

        return OutputMode.derive(
            is_json=self.is_json,
            is_quiet=self.is_quiet,
            color=self.color,
            progress=self.is_progress_shown,
        )


def state(ctx: typer.Context) -> State:
    """Return the global flags."""
    return cast("State", ctx.find_object(State) or State())


def as_verb(function: Callable[..., int | None]) -> Callable[..., int | None]:
    """Return the function of a verb with `--json` and `--quiet` added to its options."""

    @functools.wraps(function)
    def verb(ctx: typer.Context, is_json: bool, is_quiet: bool, **options: Any) -> int | None:
        given = state(ctx)
        ctx.obj = ctx.find_root().obj = dataclasses.replace(
            given, is_json=given.is_json or is_json, is_quiet=given.is_quiet or is_quiet
        )
        return function(ctx, **options)

    shared = {"is_json": JsonOption, "is_quiet": QuietOption}
    signature = inspect.signature(function, eval_str=True)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)
        for name, option in shared.items()
    ]
    verb.__dict__["__signature__"] = signature.replace(
        parameters=[*signature.parameters.values(), *added]
    )
    verb.__annotations__ = {**inspect.get_annotations(function, eval_str=True), **shared}
    return verb
