"""A session that a stranger made: opened, exported and run on, it writes and runs nothing of the stranger's choice."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from record_support import SETUP, Night, git

from autoresearch.bootstrap import doctor
from autoresearch.cli import main
from autoresearch.config import load_config
from autoresearch.errors import AutoresearchError, PrerequisiteError, UsageError, WorkError
from autoresearch.events import Proposed, TrialJudged
from autoresearch.paths import RunDirectory, is_safe
from autoresearch.record.git_command import git_environment
from autoresearch.record.record import Record
from autoresearch.record.remote import push
from autoresearch.record.revert import plan
from autoresearch.report.export import export
from autoresearch.session.housekeeping import Upkeep
from autoresearch.types import Outcome, Verdict

EVIL = [
    "../x", "../../x", "/x", "..", ".git/hooks/post-checkout", ".GIT/config", "a/.git/config", "git~1/config",
    ".git /config", ".git./config", ".git::$INDEX_ALLOCATION/config", ".g\u200cit/config", "a\\..\\..\\x",
    ".autoresearch/control/stop", "a/.AutoResearch/x", ".autoresearch", "", ".",
]  # fmt: skip


def _put(root: Path, kind: str, data: bytes) -> str:
    """Store an object as it is, however odd."""
    command = ["git", "hash-object", "-w", "--literally", "-t", kind, "--stdin"]
    done = subprocess.run(command, cwd=root, input=data, capture_output=True, check=True)
    return done.stdout.decode().strip()


def _tree(root: Path, entries: dict[tuple[str, ...], tuple[str, str]]) -> str:
    """Store a tree of `{names: (mode, sha)}`; a name may be anything without NUL."""
    here: dict[str, tuple[str, str]] = {}
    below: dict[str, dict[tuple[str, ...], tuple[str, str]]] = {}
    for (first, *rest), entry in entries.items():
        if rest:
            below.setdefault(first, {})[tuple(rest)] = entry
        else:
            here[first] = entry
    here |= {name: ("40000", _tree(root, inner)) for name, inner in below.items()}
    rows = sorted(
        (name + "/" * (mode == "40000"), name, mode, sha) for name, (mode, sha) in here.items()
    )
    return _put(
        root,
        "tree",
        b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(sha) for _, name, mode, sha in rows),
    )


def _evil(night: Night, names: tuple[str, ...], mode: str = "100755") -> str:
    """Make a commit on the tip with one more path in its tree; returns it."""
    record = night.record
    entries = {
        tuple(path.split("/")): (e.mode, e.sha)
        for path, e in record.repository.entries(record.tip()).items()
    }
    entries[names] = (mode, record.repository.write_blob(b"#!/bin/sh\necho evil\n"))
    tree = _tree(night.root, entries)
    return git(night.root, "commit-tree", "-m", "x", "-p", record.tip(), tree)


def _keep(night: Night, commit: str) -> None:
    """Record the commit as a kept experiment, as the stranger's own program does."""
    record = night.record
    parent = record.tip()
    record.append(
        Proposed(
            number=1, commit=commit, parent=parent, identity="", proposer="search", description="x"
        ),
        commit=commit,
    )
    night.trial(1, 1.2)
    record.judge(1, Verdict.KEEP, "gain", setup=SETUP.key)


def _clone(night: Night, where: Path) -> Record:
    git(where.parent, "clone", "-q", "-n", str(night.root), str(where))
    git(where, "fetch", "-q", "origin", "refs/autoresearch/*:refs/autoresearch/*")
    return Record.open(RunDirectory(where), "nov21")


def _names_of(root: Path) -> set[Path]:
    return {p for p in root.rglob("*") if "objects" not in p.parts}


@pytest.mark.parametrize("path", EVIL)
def test_a_path_that_leads_elsewhere_is_not_safe(path: str) -> None:
    assert not is_safe(path)


@pytest.mark.parametrize(
    "path", [".gitignore", ".github/x.yml", "a/b..c", "..a", "a b", "a:b", "git~2", "é"]
)
def test_an_honest_path_is_safe(path: str) -> None:
    assert is_safe(path)


NAMES = [
    ("..", "..", "x"), ("../../x",), ("/tmp/autoresearch-evil",), (".git", "hooks", "post-checkout"),
    (".Git", "config.worktree"),
    (".git ", "config"), ("git~1", "config"), (".g\u200dit", "config"), ("a\\b",), (".autoresearch", "index", "x"),
    ("a", ".", "x"),
]  # fmt: skip


@pytest.mark.parametrize("names", NAMES, ids=repr)
def test_no_verb_writes_what_a_tree_names(
    night: Night, tmp_path: Path, names: tuple[str, ...]
) -> None:
    good = night.record.tip()
    evil = _evil(night, names)
    _keep(night, evil)
    (tmp_path / "victim" / "a").mkdir(parents=True)
    with _clone(night, tmp_path / "victim" / "a" / "clone") as record:
        root = record.run_directory.root
        git(root, "update-ref", "refs/heads/autoresearch/nov21", good)
        git(root, "symbolic-ref", "HEAD", "refs/heads/autoresearch/nov21")
        git(root, "reset", "-q", "--hard", good)
        git(root, "update-ref", "refs/autoresearch/nov21/worktree", good)
        with record.writing():
            pass  # its lock stays
        before = _names_of(tmp_path)
        for verb in (
            lambda: export(record, "1", root / "out"),
            lambda: plan(record, to="1"),
            lambda: record.update_worktree(evil),
            lambda: record.files(evil),
        ):
            with pytest.raises(WorkError, match=r"commit .* holds the path .* are refused"):
                verb()
        assert _names_of(tmp_path) == before


def test_init_from_a_strangers_experiment_plants_no_hook(
    night: Night,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = night.record.tip()
    _keep(night, _evil(night, (".git", "hooks", "post-checkout")))
    with _clone(night, tmp_path / "clone") as record:
        root = record.run_directory.root
    git(root, "checkout", "-q", "-B", "main", good)
    monkeypatch.chdir(root)
    assert main(["init", ".", "--tag", "mine", "--from", "nov21:best"]) != 0
    assert main(["init", ".", "--tag", "mine", "--from", "best"]) != 0
    assert main(["revert", "--to", "1", "--yes"]) != 0
    capsys.readouterr()
    assert not (root / ".git" / "hooks" / "post-checkout").exists()


def test_nothing_is_written_through_a_link(night: Night, tmp_path: Path) -> None:
    """A tree that holds a link `a` and a folder `a` too, and a link where an export goes by default."""
    (tmp_path / "outside").mkdir()
    link = night.record.repository.write_blob(str(tmp_path / "outside").encode())
    entries = {
        tuple(path.split("/")): (e.mode, e.sha)
        for path, e in night.record.repository.entries(night.record.tip()).items()
    }
    inner = _tree(night.root, {("x",): entries[("train.py",)]})
    plain = subprocess.run(
        ["git", "cat-file", "tree", _tree(night.root, entries)],
        cwd=night.root,
        capture_output=True,
        check=True,
    ).stdout
    both = b"120000 a\0" + bytes.fromhex(link) + b"40000 a\0" + bytes.fromhex(inner)
    commit = git(
        night.root,
        "commit-tree",
        "-m",
        "x",
        "-p",
        night.record.tip(),
        _put(night.root, "tree", plain + both),
    )
    _keep(night, commit)
    (night.root / "a").symlink_to(tmp_path / "outside")
    assert night.record.update_worktree(commit) is False
    (night.root / "export-nov21-1").symlink_to(tmp_path / "outside")
    with pytest.raises(UsageError, match="is a link"):
        export(night.record, "1")
    export(night.record, "1", tmp_path / "out")
    assert not list((tmp_path / "outside").iterdir())
    assert not (tmp_path / "out" / "a").is_symlink()


@pytest.mark.parametrize("name", [".autoresearch", ".AutoResearch"])
def test_a_state_folder_under_git_is_refused(night: Night, tmp_path: Path, name: str) -> None:
    """A checkout may put a link there: what the lab clears would be cleared in another folder."""
    git(tmp_path, "clone", "-q", str(night.root), "clone")
    (tmp_path / "outside" / "trials" / "mine").mkdir(parents=True)
    (tmp_path / "clone" / name).symlink_to(tmp_path / "outside")
    git(tmp_path / "clone", "add", "-f", name)
    with pytest.raises(PrerequisiteError, match="under git"):
        Record.open(RunDirectory(tmp_path / "clone"))


def test_a_commit_in_the_record_is_no_option_of_git(night: Night, tmp_path: Path) -> None:
    target = tmp_path / "written"
    with pytest.raises(AutoresearchError):
        night.record.diff(f"--output={target}", night.record.tip())
    with pytest.raises(AutoresearchError):
        night.record.repository.count_lines(night.record.tip(), f"--output={target}")
    assert not target.exists()


def test_an_attachment_is_named_below_its_event(night: Night) -> None:
    event = night.record.append(
        Proposed(number=9, commit="", parent="", identity="", proposer="search", description="x"),
        files={"../.GIT/a\\.. /.git./b": b"x"},
    )
    assert git(night.root, "ls-tree", "-r", "--name-only", event) == "a/b"


@pytest.mark.parametrize("verdict", [Verdict.KEEP, Verdict.DISCARD])
def test_no_file_that_the_record_names_is_touched(
    night: Night, tmp_path: Path, verdict: Verdict
) -> None:
    """Journals of earlier versions name a file of weights in each trial: read, and passed over."""
    mine = tmp_path / "thesis.txt"
    mine.write_text("years of work")
    experiment = night.propose(night.knob(1, 11), "x")
    result = {"seed": 0, "outcome": Outcome.OK.value, "score": 1.0, "weights_path": str(mine)}
    night.record.append(
        TrialJudged(
            number=experiment.number, index=0, setup=SETUP.key, started_at="", result=result
        )
    )
    night.record.judge(experiment.number, verdict, "gain", setup=SETUP.key)
    Upkeep(night.record, load_config(None, {"trial.save_weights": "kept"}).config).after_verdict(1)
    assert mine.read_text() == "years of work"
    trial = night.record.session().experiment(1).trials[0]
    assert trial.result.score == 1.0
    assert not hasattr(trial.result, "weights_path")


TRAP = "open(__file__ + '.ran', 'w').close()\nraise ImportError\n"


def _trapped(folder: Path) -> Path:
    for name in ("torch", "json", "typing", "__future__", "typer", "rich", "numpy", "pathlib"):
        (folder / f"{name}.py").write_text(TRAP)
    return folder


def test_the_doctor_runs_nothing_of_the_folder(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(_trapped(night.root))
    found = {f.name: f.status for f in doctor.examine(is_quick=True, start=night.root)}
    assert list(night.root.glob("*.ran")) == []
    assert found["torch"] == "ok"


def test_python_m_autoresearch_runs_nothing_of_the_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "autoresearch", "--version"]
    done = subprocess.run(
        command, cwd=_trapped(tmp_path), capture_output=True, text=True, check=False
    )
    assert list(tmp_path.glob("*.ran")) == []
    assert done.returncode == 0, done.stderr


def test_git_is_not_taken_from_the_folder(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    (night.root / "git").write_text("#!/bin/sh\ntouch ran\nexit 1\n")
    (night.root / "git").chmod(0o755)
    monkeypatch.chdir(night.root)
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.environ['PATH']}")
    assert main(["log", "--json"]) == 0
    assert not (night.root / "ran").exists()


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """Return a program that leaves the file `ran` next to it, with what it saw of the environment."""
    path = tmp_path / "trap"
    path.write_text(f"#!/bin/sh\nenv > {tmp_path}/ran\nexit 1\n")
    path.chmod(0o755)
    return path


def _set_traps(root: Path, trap: Path) -> None:
    """Name a program wherever a repository can name one."""
    (root / ".git" / "info").mkdir(exist_ok=True)
    (root / ".git" / "info" / "attributes").write_text("* diff=evil filter=evil merge=evil\n")
    for name in (
        "core.fsmonitor", "core.sshCommand", "core.gitProxy", "core.askPass", "core.pager", "core.editor",
        "credential.helper", "diff.external", "diff.evil.command", "diff.evil.textconv", "filter.evil.clean",
        "filter.evil.smudge", "filter.evil.process", "merge.evil.driver", "gpg.program", "uploadpack.packObjectsHook",
        "remote.origin.uploadpack", "remote.origin.receivepack",
    ):  # fmt: skip
        git(root, "config", name, str(trap))
    for name in ("pre-push", "reference-transaction", "post-index-change", "pre-auto-gc"):
        git(root, "config", "--add", "hook.evil.event", name)  # since git 2.54
        hook = root / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_bytes(trap.read_bytes())
        hook.chmod(0o755)
    git(root, "config", "hook.evil.command", str(trap))
    git(root, "config", "core.hooksPath", str(root / ".git" / "hooks"))
    git(root, "config", "commit.gpgSign", "true")
    git(root, "config", "push.gpgSign", "true")
    git(root, "config", "protocol.allow", "always")
    git(root, "config", "protocol.ext.allow", "always")


def test_no_verb_runs_what_the_repository_names(
    night: Night, tmp_path: Path, trap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing object is fetched by no remote's command, and git sees no key."""
    night.try_out(night.knob(3, 33))
    monkeypatch.setenv("SOME_API_KEY", "sk-stranger")
    blob = git(night.root, "rev-parse", f"{night.record.tip()}:train.py")
    git(night.root, "remote", "add", "origin", f"file://{tmp_path}/no.git")
    git(night.root, "config", "core.repositoryFormatVersion", "1")
    git(night.root, "config", "extensions.partialClone", "origin")
    git(night.root, "config", "remote.origin.promisor", "true")
    _set_traps(night.root, trap)
    monkeypatch.chdir(night.root)
    for verb in ("log", "show 1", "diff 1", "report", "export best", "revert 1 --yes"):
        main(verb.split())
    assert not (tmp_path / "ran").exists()
    (night.root / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    for verb in ("log", "show 1", "diff 1", "report", "export 1 -o out", "revert 1 --yes", "run"):
        main(verb.split())
    assert not (tmp_path / "ran").exists()
    assert "sk-stranger" not in git_environment(night.root).values()
    subprocess.run(["git", "cat-file", "blob", blob], cwd=night.root, check=False)
    assert (tmp_path / "ran").exists(), "the trap is none"


def test_hooks_of_the_configuration_are_off(
    night: Night, trap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as a git that does not know them shows: the setting, not what that does."""
    git(night.root, "config", "hook.a.b=c.command", str(trap))
    git(night.root, "config", "hook.jobs", "1")
    _set_traps(night.root, trap)
    where = (night.root, night.root / ".git", night.root / ".git")
    monkeypatch.setattr("autoresearch.record.git_command.git_version", lambda: (2, 54))
    environment = git_environment(*where)
    keys = {value for name, value in environment.items() if name.startswith("GIT_CONFIG_KEY_")}
    assert {key for key in keys if key.startswith("hook.")} == {
        "hook.a.b=c.enabled",
        "hook.evil.enabled",
    }
    asked = ["git", "config", "--bool", "hook.evil.enabled"]
    done = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "false\n"
    night.record.repository.run("update-ref", "refs/x", night.record.tip())


@pytest.mark.parametrize(
    "url", ["{}/remote.git", "ext::{}/trap", "ssh://nowhere.invalid/x", "git://nowhere.invalid/x"]
)
def test_push_takes_nothing_but_the_address_from_the_repository(
    night: Night, tmp_path: Path, trap: Path, url: str
) -> None:
    git(tmp_path, "init", "-q", "--bare", str(tmp_path / "remote.git"))
    git(night.root, "remote", "add", "origin", url.format(tmp_path))
    _set_traps(night.root, trap)
    if url == "{}/remote.git":
        assert len(push(night.record).changed) == 2
    else:
        with pytest.raises(WorkError, match="cannot send to"):
            push(night.record)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("url", ["evil.git", "../evil.git", "{}/evil.git", "file://{}/evil.git"])
def test_a_remote_that_came_with_the_folder_is_refused(night: Night, url: str) -> None:
    git(night.root, "init", "-q", "--bare", "evil.git")
    git(night.root, "remote", "add", "origin", url.format(night.root))
    with pytest.raises(UsageError, match="may have come with it"):
        push(night.record)
    assert git(night.root / "evil.git", "for-each-ref") == ""
