"""Makes a run directory: files from templates, a git repository on branch `autoresearch/<tag>`."""

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from autoresearch.errors import UsageError
from autoresearch.paths import CONFIG_NAME, PROGRAM_NAME, RunDirectory, expanded

CODE_NAME, PROGRAM_CODE_NAME = "train.py", "solution.py"
"""What is changed: of a language model, of a program."""
COMMON = (".gitignore", CONFIG_NAME, PROGRAM_NAME)
"""What every template has; the rest of a template belongs to its train.py."""


@dataclass(frozen=True)
class Scaffold:
    """What `init` made and what it found."""

    run_directory: RunDirectory
    tag: str
    preset: str
    """Empty where there was an autoresearch.toml, and for a program."""
    why: str
    """Why this preset was chosen; empty when the person named it."""
    written: tuple[str, ...]
    kept: tuple[str, ...]
    """Files that were there already and were left as they are."""
    ignored: tuple[str, ...]
    """What was asked for and had no effect, one sentence each."""
    notes: tuple[str, ...]
    """What the user should know of a folder that came from elsewhere, one sentence each."""
    outer: Path | None
    """The repository the new one nests in, if any."""
    left: str
    """The user's own branch that was checked out before, if any."""


def scaffold(
    folder: Path,
    *,
    preset: str = "auto",
    template: str | None = None,
    tag: str | None = None,
    source: str | None = None,
    heading: str = "",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    options: Sequence[str] = (),
) -> Scaffold:
    """Fill `folder` with what a session needs; files that exist are never overwritten.

    Those that the session's branch has are taken from there. Where train.py exists, files that only the template's own
    train.py would use are left out. One of upstream's shape gets the two files of the template `compat`; a prepare.py
    that is there keeps its text under another name.

    Args:
        folder: Made if missing.
        preset: `auto` chooses from the hardware.
        template: Folder under templates/; None is `gpt`, or `compat` where train.py is of upstream's shape.
        tag: Name of the session; None takes that of the current branch, else today's date, `nov21`. A branch
            `autoresearch/TAG` that no session began stays as it is: the session is `TAG-lab`, from its tip.
        source: Begin the session with this tag's best, experiment or commit of the same directory.
        heading: First comment line of autoresearch.toml, if any.
        settings: Section -> settings for a new autoresearch.toml, which is trusted then: the user chose them.
        options: The options that gave `settings`, for the message that they have no effect on a file that is there.

    Raises:
        UsageError: the folder is a file, the preset or the template is unknown, the tag is refused.
        PrerequisiteError: this is a clone that has such a session, without its record.
        AutoresearchError: git is missing or fails.
    """
    from autoresearch.bootstrap import flat
    from autoresearch.bootstrap.presets import choose_preset, hidden_files, is_program, render
    from autoresearch.config import load_config
    from autoresearch.machine.hardware import describe
    from autoresearch.record.branches import current_tag, foreign_branch, is_elsewhere
    from autoresearch.record.git import Repository, is_repository
    from autoresearch.record.record import Record
    from autoresearch.record.refs import check_tag
    from autoresearch.record.sessions import begin_from
    from autoresearch.rundir.trust import trust
    from autoresearch.util.files import write_file

    folder = expanded(str(folder)).resolve()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"`{folder}` is a file", hint="name a folder")
    wanted_preset, why = preset, ""
    of_program = template is not None and is_program(template)
    if of_program:
        preset = ""
    elif preset == "auto":
        preset, why = choose_preset(describe())
    render(template or "gpt", preset, heading)  # refuses what it does not know
    run_directory = RunDirectory(folder)
    foreign = None if tag or source else foreign_branch(folder, CONFIG_NAME)
    if foreign is not None:
        tag = f"{foreign.replace('/', '-')}-lab"
    tag = check_tag(tag or (None if source else current_tag(folder)) or default_tag())
    stays, restored, left = False, list[str](), ""
    if is_repository(folder):
        with Repository.open(folder) as repository:
            record = Record(run_directory, repository, tag)
            record.check_fetched()
            tip = record.branch_tip() or ""
            for name in (*COMMON, CODE_NAME, flat.PREPARE) if tip else ():
                content = repository.file_at(tip, name)
                if content is not None and not os.path.lexists(folder / name):
                    write_file(folder / name, content)  # deleted, or left out of a sparse checkout
                    restored.append(name)
            stays = is_elsewhere(repository, tag)
            if repository.ref("HEAD") and not stays:
                left = (repository.head() or "").removeprefix("refs/heads/")
    if source is not None:  # first, so that its files are kept
        begin_from(run_directory, tag, source).close()
    folder.mkdir(parents=True, exist_ok=True)
    shape = flat.shape_of(folder)
    is_flat = shape is not flat.Shape.OTHER and template in (None, "compat")
    files = render("compat" if is_flat else template or "gpt", preset, heading, settings)
    code = PROGRAM_CODE_NAME if of_program else CODE_NAME
    is_new = not (folder / CONFIG_NAME).exists()
    moved = "" if not is_flat or stays else flat.make_room(folder)
    kept = [name for name in files if os.path.lexists(folder / name)]
    written = [n for n in files if n not in kept and (n in COMMON or is_flat or code not in kept)]
    if moved:
        kept, written = [n for n in kept if n != flat.PREPARE], [*written, flat.PREPARE]
    for name in written:
        write_file(folder / name, files[name].encode())
    outer = None if (folder / ".git").exists() else outer_repository(folder)
    secret = hidden_files(tomllib.loads(files[CONFIG_NAME])) if of_program else []
    known = [n for n in files if n in (*written, *kept) and n not in secret]
    paths = [*known, *filter(None, [moved])]
    with Record.create(run_directory, tag, paths, [flat.PREPARE] if moved else []):
        pass
    if is_new and settings:
        trust(run_directory, load_config(run_directory))
    notes = list(flat.notes(folder, foreign, tag, moved)) if is_flat else []
    return Scaffold(
        run_directory=run_directory,
        tag=tag,
        preset=preset if is_new else "",
        why=why if is_new else "",
        written=(*restored, *written),
        kept=tuple(n for n in kept if n not in restored),
        ignored=tuple(_ignored(wanted_preset, None if is_flat else template, options, kept, code)),
        notes=tuple(notes),
        outer=outer,
        left="" if left.startswith("autoresearch/") else left,
    )


def _ignored(
    preset: str, template: str | None, options: Sequence[str], kept: Sequence[str], code: str
) -> Iterator[str]:
    """Say which choices had no effect because the files that would show them are there already."""
    there = "there already; name a new folder to have it"
    shown = [name for name in (code, CONFIG_NAME) if name in kept]
    if preset != "auto" and code == PROGRAM_CODE_NAME:
        yield f"`--preset {preset}` has no effect: presets are for language models"
    elif preset != "auto" and shown:
        yield f"`--preset {preset}` has no effect on {' and '.join(shown)}: {there}"
    if template is not None and code in kept:
        yield f"`--template {template}` has no effect on {code} and what belongs to it: {there}"
    if options and CONFIG_NAME in kept:
        yield f"`{' '.join(options)}` has no effect on {CONFIG_NAME}: there already; edit it, or name a new folder"


def outer_repository(folder: Path) -> Path | None:
    """Return the working tree of the git repository around `folder`, if there is one."""
    return next((p for p in folder.parents if (p / ".git").exists()), None)


def default_tag() -> str:
    """Return today's date as a tag, `nov21`."""
    return date.today().strftime("%b%d").lower()  # noqa: DTZ011 - the person's own day
