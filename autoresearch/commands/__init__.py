"""One file per verb: options, one call of the core, one call of the ui; what verbs share is here and in `_common`."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from autoresearch.commands._common import complete_experiment, complete_tag
from autoresearch.config import described

if TYPE_CHECKING:
    from autoresearch.ui.console import OutputMode

Color = Literal["auto", "always", "never"]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print less.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
TagOption = Annotated[
    str | None,
    typer.Option(
        "--tag", metavar="TAG", help="Session; default: the current one.",
        autocompletion=complete_tag,
    ),
]  # fmt: skip
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", "-n", help="Show what would be done, and do nothing.")
]
FromFileOption = Annotated[
    str, typer.Option("--from", metavar="FILE", help="Read a results.tsv instead of the record.")
]
NoPagerOption = Annotated[bool, typer.Option("--no-pager", help="Never use a pager.")]
UnsafeOption = Annotated[
    bool,
    typer.Option(
        "--unsafe-no-sandbox", help="Run unread code without isolation; reports say so."
    ),
]  # fmt: skip
BeginFromOption = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="RESULT",
        help="Begin the new session, --tag, from a tag's best, an experiment or a commit.",
    ),
]  # fmt: skip


def experiment_argument(metavar: str = "EXPERIMENT") -> Any:
    """Return the argument that names an experiment, under the name that the help calls it."""
    return typer.Argument(
        metavar=metavar,
        help="A number, baseline, best, last or the beginning of a commit.",
        autocompletion=complete_experiment,
    )


def option_of(key: str) -> Any:
    """Return the option that sets a setting, as `config.py` declares it; help is the first sentence of its meaning."""
    declared = next(d for d in described() if d.key == key)
    name, metavar = declared.flag.split()
    text = declared.meaning.partition(". ")[0].removesuffix(".")
    return typer.Option(name, metavar=metavar, help=f"{text}.")


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
    signature = inspect.signature(function)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)
        for name, option in shared.items()
    ]
    verb.__dict__["__signature__"] = signature.replace(
        parameters=[*signature.parameters.values(), *added]
    )
    verb.__annotations__ = {**function.__annotations__, **shared}
    return verb
