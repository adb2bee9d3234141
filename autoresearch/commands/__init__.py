"""One file a verb: options, one call of the core, one call of the ui.

What the verbs share: the global flags as one object, and the options that many of them repeat.
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from autoresearch.commands._common import complete_tag
from autoresearch.config import described

if TYPE_CHECKING:
    from autoresearch.ui.console import OutputMode

Color = Literal["auto", "always", "never"]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print as little as possible.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
TagOption = Annotated[
    str | None,
    typer.Option(
        "--tag",
        metavar="TAG",
        help="The session, if not the current one.",
        autocompletion=complete_tag,
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", "-n", help="Say what would be done, and do nothing.")
]


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
    """Whether an error is told with its traceback."""
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


def state(ctx: typer.Context, *, is_json: bool = False, is_quiet: bool = False) -> State:
    """Return the global flags joined with those given after the verb."""
    found = cast("State", ctx.find_object(State) or State())
    joined = dataclasses.replace(
        found, is_json=found.is_json or is_json, is_quiet=found.is_quiet or is_quiet
    )
    ctx.find_root().obj = joined
    return joined
