"""`autoresearch init` and `trust`: a run directory from templates, or from elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoresearch.bootstrap.presets import preset_names
from autoresearch.commands import BeginFromOption, argument, option, state
from autoresearch.paths import CONFIG_NAME

if TYPE_CHECKING:
    from autoresearch.config import ProposerConfig


def init(
    ctx: typer.Context,
    folder: Annotated[
        Path | None,
        argument("FOLDER", "The run directory; made if missing. An empty folder needs no name."),
    ] = None,
    preset: Annotated[
        str,
        option(
            "--preset NAME", f"auto, which looks at the machine, or {', '.join(preset_names())}."
        ),
    ] = "auto",
    template: Annotated[
        str | None,
        option(
            "--template NAME",
            "What to start from: gpt, compat for a train.py of upstream's shape, or a program of `--list`. [gpt]",
        ),
    ] = None,
    is_list: Annotated[
        bool, option("--list", "Say in one line what each template is, and exit.")
    ] = False,
    tag: Annotated[str | None, option("--tag TAG", "Name of the session [today's date].")] = None,
    source: BeginFromOption = None,
    proposer: Annotated[
        str | None,
        option(
            "--proposer NAME",
            "Who has the ideas: claude, codex, PROVIDER/MODEL, or search, which is no agent.",
        ),
    ] = None,
    key: Annotated[
        str | None,
        option("--key-env NAME", "Variable with the key that it may see, where not the usual one."),
    ] = None,
    text: Annotated[
        str | None,
        option("--source SOURCE", "Text to train on: a file, a folder, hf://datasets/OWNER/NAME."),
    ] = None,
) -> None:
    """Make a run directory: train.py, program.md, autoresearch.toml and a git repository.

    On a terminal, without `--proposer`, `--key-env` and `--source`, it asks for them. A second run adds what is missing
    and overwrites nothing. In a clone of karpathy's autoresearch, or of a fork, it adds the two files that feed such a
    script, keeps your prepare.py under another name, and leaves your branch alone.
    """
    import shlex
    import sys

    from autoresearch.bootstrap.presets import is_program, templates
    from autoresearch.bootstrap.scaffold import scaffold
    from autoresearch.config import load_config
    from autoresearch.errors import UsageError

    mode = state(ctx).mode
    if is_list:
        if mode.is_json:
            mode.json(templates())
        for name, what in () if mode.is_json else templates().items():
            mode.data(f"{name:<11} {what}")
        return
    folder = folder or _here()
    choices = (proposer, key, text)
    if text and template is not None and is_program(template):
        raise UsageError(
            f"`--source {text}` has no effect: template `{template}` reads no text",
            hint="leave it out",
        )
    is_asked = mode.is_live and sys.stdin.isatty() and not mode.is_json and not mode.is_quiet
    if is_asked and choices == (None, None, None) and not (folder / CONFIG_NAME).exists():
        choices = _ask(is_text_asked=template is None or not is_program(template))
    flags = zip(("--proposer", "--key-env", "--source"), choices, strict=True)
    made = scaffold(
        folder,
        preset=preset,
        template=template,
        tag=tag,
        source=source,
        settings=_settings(*choices),
        options=[f"{flag} {value}" for flag, value in flags if value is not None],
    )
    root = made.run_directory.root
    config = load_config(made.run_directory).config
    ideas = _ideas_from(config.proposer, config.task.editable[0])
    if mode.is_json:
        mode.json(
            {
                "path": str(root),
                "tag": made.tag,
                "branch": f"autoresearch/{made.tag}",
                "left": made.left or None,
                "preset": made.preset,
                "why": made.why,
                "ideas": ideas,
                "written": list(made.written),
                "kept": list(made.kept),
                "ignored": list(made.ignored),
                "notes": list(made.notes),
            }
        )
        return
    if made.why:
        mode.say(f"preset {made.preset}: {made.why}")
    if made.written:
        mode.say(f"wrote {', '.join(made.written)} in `{folder}`")
    if made.kept:
        mode.say(f"left as they are: {', '.join(made.kept)}")
    for sentence in made.notes:
        mode.say(sentence)
    for sentence in made.ignored:
        mode.warn(sentence)
    if made.outer is not None:
        mode.warn(f"`{folder}` is a separate repository inside `{made.outer}`")
    back = f", from {made.left}: `git switch {made.left}` returns" if made.left else ""
    mode.say(f"branch autoresearch/{made.tag}{back}")
    mode.say(f"ideas come from {ideas}")
    here = "" if root == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    first = "prepare" if config.task.kind == "gpt" else "doctor"
    mode.say(f"next: `{here}autoresearch {first} && autoresearch run --hours 8`", style="hint")


def _here() -> Path:
    """Return the current folder where `init` without a name can only mean that: it is empty, or has a train.py.

    Raises:
        UsageError: it is neither.
    """
    from autoresearch.bootstrap.scaffold import CODE_NAME
    from autoresearch.errors import UsageError

    names = {path.name for path in Path.cwd().iterdir()}
    if names - {".git", ".gitignore"} and not names & {CODE_NAME, CONFIG_NAME}:
        raise UsageError(
            "`init` needs a folder to make, because this one holds other files",
            hint="`autoresearch init myrun`, or `autoresearch init .` for this folder",
        )
    return Path()


def _settings(
    proposer: str | None, key: str | None, text: str | None
) -> dict[str, dict[str, object]]:
    """Return what was chosen as settings of autoresearch.toml, by section."""
    from autoresearch.errors import UsageError
    from autoresearch.proposer.registry import named
    from autoresearch.tasks.gpt.data.sources import normalise

    found: dict[str, dict[str, object]] = {}
    if proposer is not None:
        found["proposer"] = {name: value for name, value in named(proposer).items() if value}
    if key:
        kind = found.get("proposer", {}).get("kind", "search")
        if kind == "search":
            raise UsageError(
                f"`--key-env {key}` has no effect: `search` proposes, which needs no key",
                hint="name an agent too, for example `--proposer anthropic/claude-sonnet-4-5`",
            )
        found["proposer"] |= {"api_key_env": key} if kind == "llm" else {"pass_env": [key]}
    if text:
        found["data"] = {"source": normalise(text, Path.cwd())}
    return found


def _ask(*, is_text_asked: bool) -> tuple[str, str | None, str | None]:
    """Ask on the terminal who proposes, which key it sees, and for the text; Enter takes what is offered."""
    import shutil

    from autoresearch.config import ProposerConfig
    from autoresearch.errors import UsageError
    from autoresearch.proposer.llm.provider import is_local
    from autoresearch.proposer.registry import named

    typer.echo(
        "Who has the ideas?\n"
        "  claude, codex     Claude Code or Codex, with its own sign-in\n"
        "  PROVIDER/MODEL    a model by its API: anthropic/claude-sonnet-4-5, openai/gpt-5.2\n"
        "  ollama_chat/NAME  a model on this machine\n"
        "  search            no agent: a free optimiser over the constants of train.py",
        err=True,
    )
    offer = next((name for name in ("claude", "codex") if shutil.which(name)), "search")
    while True:
        proposer = typer.prompt("Proposer", default=offer, err=True).strip()
        try:
            settings = ProposerConfig.model_validate(named(proposer))
            break
        except UsageError as exc:
            typer.echo(f"{exc.message}: {exc.hint}", err=True)
    key = None
    if settings.kind == "llm" and not is_local(settings):
        usual = f"{settings.model.partition('/')[0].upper()}_API_KEY"
        given = typer.prompt("Environment variable with its key", default=usual, err=True).strip()
        key = None if given == usual else given
    elif settings.kind == "command":
        question = "Environment variable it may see besides its sign-in (Enter: none)"
        key = typer.prompt(question, default="", show_default=False, err=True).strip() or None
    question = (
        "Text to train on: file, folder, hf://datasets/OWNER/NAME (Enter: what fits the machine)"
    )
    if not is_text_asked:
        return proposer, key, None
    text = typer.prompt(question, default="", show_default=False, err=True).strip() or None
    return proposer, key, text


def _ideas_from(settings: "ProposerConfig", file: str) -> str:
    """Return who proposes, with what it needs; `file` holds the constants of `search`."""
    import os

    from autoresearch.proposer.llm.provider import is_local
    from autoresearch.proposer.registry import kinds_of

    kinds = kinds_of(settings)
    if kinds == ("search",):
        return (
            f"`search`, an optimiser over the constants of {file}: free, no agent. For an agent:"
            " `autoresearch run --proposer claude`, or `--proposer PROVIDER/MODEL`"
        )
    said = []
    for kind in kinds:
        if kind == "llm" and is_local(settings):
            said.append(f"`{settings.model}` on this machine")
        elif kind == "llm":
            key = settings.api_key_env or f"{settings.model.partition('/')[0].upper()}_API_KEY"
            said.append(
                f"`{settings.model}`; `{key}` is {'set' if key in os.environ else 'not set'}"
            )
        elif kind == "command":
            said.append(
                f"`{settings.command[0]}`, with its own sign-in" if settings.command else kind
            )
        else:
            said.append(f"`{kind}`")
    return " and ".join(said)


def trust(ctx: typer.Context) -> None:
    """Accept what autoresearch.toml says and where links lead as it is now, and print it.

    `run`, `try`, `confirm` and `prepare` ask first, or without a terminal refuse, where its lines start programs, name
    variables or addresses, read text outside the folder or choose the sandbox, and where program.md or what the lab
    keeps in `.autoresearch` is a link. A change of such a line asks again.
    """
    from autoresearch.config import load_config
    from autoresearch.paths import find_run_directory
    from autoresearch.rundir.trust import trust as accept

    mode = state(ctx).mode
    run_directory = find_run_directory()
    lines = accept(run_directory, load_config(run_directory))
    if mode.is_json:
        mode.json({"path": str(run_directory.root), "trusted": lines})
        return
    for line in lines:
        mode.data(line)
    mode.say(f"{len(lines)} lines trusted" if lines else "nothing in it needs to be trusted")
