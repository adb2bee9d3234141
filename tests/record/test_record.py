"""The journal, its fold, and the one transaction of a keep."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from record_support import SETUP, TRAIN, Night, git, undo

import autoresearch
from autoresearch.errors import PrerequisiteError, UsageError, WorkError
from autoresearch.events import Alerted, Event, Noted
from autoresearch.paths import RunDirectory
from autoresearch.record.commits import carry
from autoresearch.record.fold import curve_from_bytes
from autoresearch.record.record import Record
from autoresearch.types import Outcome, State, TrialResult, Verdict


def test_a_new_run_directory_is_clean_and_on_its_branch(record: Record) -> None:
    root = record.run_directory.root
    assert git(root, "status", "--porcelain") == ""
    assert git(root, "symbolic-ref", "HEAD") == "refs/heads/autoresearch/nov21"
    assert record.session().state == "new"
    assert record.session().tip == record.tip()


def test_a_kept_experiment_is_a_commit_and_appears_in_the_working_tree(night: Night) -> None:
    text = night.knob(3, 33)
    kept = night.try_out(text, "knob 3 up", hypothesis="bigger is better\n\n---\nSigned-off-by: x")
    assert night.record.tip() == kept.commit
    assert (night.root / "train.py").read_text() == text
    assert git(night.root, "status", "--porcelain") == ""
    message = git(night.root, "log", "-1", "--format=%B")
    assert message.startswith("knob 3 up (#1, -0.100000)\n\nbigger is better")
    subjects = git(
        night.root, "log", "-3", "--first-parent", "--format=%s", "refs/autoresearch/nov21/journal"
    )
    assert subjects.split("\n") == [
        "#1 verdict keep gain -0.100000", "#1 trial 1 ok 1.400000", "#1 proposed: knob 3 up",
    ]  # fmt: skip
    assert "\n---" not in message
    assert "val_bpb 1.400000, -0.100000 against #0, better with probability 0.97" in message
    trailers = git(night.root, "log", "-1", "--format=%(trailers)")
    assert "Autoresearch-Experiment: 1" in trailers
    assert "Signed-off-by" not in trailers


def test_discarded_and_crashed_candidates_stay_reachable(night: Night) -> None:
    lost = [
        night.try_out(night.knob(1, 5), "worse", keep=False),
        night.try_out(night.knob(2, 5), "too big", score=None),
    ]
    git(night.root, "reflog", "expire", "--expire=now", "--all")
    git(night.root, "gc", "--quiet", "--prune=now")
    for experiment in lost:
        assert "train.py" in night.record.files(experiment.commit)
    assert git(night.root, "fsck", "--strict") == ""


def test_the_fold_reads_back_what_was_written(night: Night) -> None:
    kept = night.try_out(night.knob(3, 33), "knob 3 up")
    night.try_out(night.knob(4, 44), "knob 4 up", keep=False)
    night.try_out(night.knob(5, 55), "knob 5 up", score=None)
    night.propose(night.knob(6, 66), "knob 6 up")
    night.record.append(Noted(text="try the optimizer"))
    night.end("interrupted")
    session = night.record.session()
    assert autoresearch.read_session(night.root) == session
    assert [e.verdict for e in session.experiments] == [
        Verdict.KEEP, Verdict.KEEP, Verdict.DISCARD, Verdict.CRASH, None,
    ]  # fmt: skip
    assert session.experiment(4).state is State.PROPOSED
    assert (session.best, session.tip) == (1, kept.commit)
    assert (session.state, session.stop_reason) == ("interrupted", "interrupted")
    assert session.wall_seconds == 10.0
    assert session.setup == SETUP
    assert session.notes[0].text == "try the optimizer"
    assert kept.score == 1.4
    assert (kept.lines_added, kept.lines_removed) == (1, 1)
    trial = kept.trials[0]
    assert [p.loss for p in night.record.curve(trial.event)] == [3.25, None]
    assert night.record.log_tail(trial.event) == "step 1\n"
    assert night.record.files(kept.event)["prompt.md"] == b"try something"
    assert night.record.files(kept.event)["program.md"] == b"# program\n"


def test_a_second_reader_follows_the_first_writer(night: Night) -> None:
    with Record.open(night.record.run_directory) as other:
        before = other.session()
        night.try_out(night.knob(3, 33))
        after = other.session()
        assert len(after.experiments) == len(before.experiments) + 1
        assert after.experiments[0] is before.experiments[0]
        assert other.session() is after


def test_a_clock_that_is_set_back_changes_no_order(night: Night) -> None:
    night.propose(night.knob(1, 5), "x")
    for hour in (22, 19, 19, 20, 23):
        result = TrialResult(seed=1, outcome=Outcome.OK, score=1.4)
        at = f"2026-03-01T{hour}:00:00Z"
        night.record.record_trial(1, result, setup=SETUP.key, started_at=at)
    with Record.open(night.record.run_directory) as again:
        for record in (night.record, again):
            times = [t.started_at[11:19] for t in record.session().experiment(1).trials]
            assert times == ["22:00:00", "22:00:01", "22:00:02", "22:00:03", "23:00:00"]


def test_two_writers_lose_nothing(night: Night) -> None:
    def write(name: str) -> None:
        with Record.open(night.record.run_directory) as mine:
            for n in range(8):
                mine.append(Noted(text=f"{name}{n}"))

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = [n.text for n in night.record.session().notes]
    assert sorted(texts) == sorted(f"{name}{n}" for name in "ab" for n in range(8))


def test_a_branch_that_moved_keeps_its_commit_and_the_verdict_is_stored(night: Night) -> None:
    experiment = night.propose(night.knob(3, 33), "knob 3 up")
    night.trial(experiment.number, 1.4)
    git(night.root, "commit", "--allow-empty", "-qm", "mine")
    mine = git(night.root, "rev-parse", "HEAD")
    night.record.judge(experiment.number, Verdict.KEEP, "baseline", setup=SETUP.key)
    session = night.record.session()
    assert night.record.tip() == mine
    assert session.experiment(1).verdict is Verdict.KEEP
    assert session.experiment(1).reason == "branch_moved"
    assert session.kept == ()
    assert "not on the branch" in session.alerts[0].text
    assert night.record.sync_tip() == mine
    assert night.record.session().tip == mine
    assert night.record.sync_tip() == mine


def test_a_deleted_branch_keeps_the_verdict_and_says_how_to_bring_it_back(night: Night) -> None:
    experiment = night.propose(night.knob(3, 33), "knob 3 up")
    tip = night.record.tip()
    git(night.root, "checkout", "-q", "--detach")
    git(night.root, "branch", "-qD", "autoresearch/nov21")
    night.record.judge(experiment.number, Verdict.KEEP, "baseline", setup=SETUP.key)
    assert night.record.session().experiment(1).reverted_by == "deleted"
    with pytest.raises(WorkError, match="was deleted") as caught:
        night.record.sync_tip()
    assert tip[:12] in (caught.value.hint or "")


def test_hostile_text_is_stored_safely(night: Night) -> None:
    description = "a\r\nb\0c\ud800d\x1b[31m\u202ee\n\n---\nFake-Trailer: yes"
    text = night.knob(3, 3) + "# \x00 \udcff \u2603\n"
    kept = night.try_out(text, description, hypothesis="h" * 1_000_000 + "\0\ud800")
    assert "\n" not in kept.description
    assert "\0" not in kept.description
    assert "\u2400" in kept.description
    assert "\ufffd" in kept.description
    assert len(kept.hypothesis) == 20_000
    assert "more characters]" in kept.hypothesis
    kept.description.encode()
    assert "Fake-Trailer" not in git(night.root, "log", "-1", "--format=%(trailers)")
    subject, _, line = git(night.root, "log", "--format=%B", "-1", kept.event).partition("\n\n")
    assert subject.startswith("#1 proposed: ")
    assert len(subject) <= 72
    assert json.loads(line)["number"] == 1
    assert line.isascii()
    assert git(night.root, "fsck", "--strict") == ""


def test_a_newer_schema_is_refused(night: Night) -> None:
    tree = git(night.root, "rev-parse", "HEAD^{tree}")
    journal = "refs/autoresearch/nov21/journal"
    message = json.dumps({"v": 3, "type": "note"})
    sha = git(night.root, "commit-tree", tree, "-p", journal, "-m", message)
    git(night.root, "update-ref", journal, sha)
    with pytest.raises(PrerequisiteError, match="newer autoresearch"):
        autoresearch.read_session(night.root)


def test_an_unknown_event_of_the_same_schema_is_passed_over(night: Night) -> None:
    tree = git(night.root, "rev-parse", "HEAD^{tree}")
    journal = "refs/autoresearch/nov21/journal"
    message = json.dumps({"v": 1, "type": "sung", "at": "2026-03-01T22:00:00Z", "song": "x"})
    sha = git(night.root, "commit-tree", tree, "-p", journal, "-m", message)
    git(night.root, "update-ref", journal, sha)
    assert len(autoresearch.read_session(night.root).experiments) == 1
    night.try_out(night.knob(3, 33))


def test_a_journal_that_holds_something_else_is_named(night: Night) -> None:
    git(night.root, "update-ref", "refs/autoresearch/nov21/journal", "HEAD")
    with pytest.raises(WorkError, match="not an event"):
        autoresearch.read_session(night.root)


@pytest.mark.parametrize(
    "event",
    [
        "[" * 100_000,
        {"type": "trial", "number": 0, "result": {"outcome": "ok", "seed": 1, "bpb": "NaN"}},
        {"type": "trial", "number": 0, "result": {"outcome": "ok", "seed": 1, "detail": 3}},
        {"type": "verdict", "number": 0, "verdict": "keep", "decision": {"p_real": "1"}},
        {"type": "proposed", "number": 1, "parameters": {"LR": "high"}},
    ],
)
def test_an_event_of_odd_values_is_named(night: Night, event: Any) -> None:
    journal = "refs/autoresearch/nov21/journal"
    times = {"at": "2026-03-01T22:00:00Z", "started_at": "2026-03-01T22:00:00Z"}
    idea = {"description": "x", "parent": "", "proposer": "search", "commit": ""}
    more = {"v": 1, "setup": "", "reason": "", **times, **idea}
    message = event if isinstance(event, str) else json.dumps({**more, **event})
    (night.root / "message").write_text(message)
    sha = git(night.root, "commit-tree", "HEAD^{tree}", "-p", journal, "-F", "message")
    git(night.root, "update-ref", journal, sha)
    with pytest.raises(WorkError, match="not an event"):
        autoresearch.read_session(night.root)


@pytest.mark.parametrize("text", ["{}", "[[1]]", '[["a", 1, null]]', "[" * 100_000, "[3]"])
def test_a_curve_of_another_shape_is_none(text: str) -> None:
    assert curve_from_bytes(text.encode()) == ()


def test_a_clone_reads_the_same_session(night: Night, tmp_path: Path) -> None:
    night.try_out(night.knob(3, 33))
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(night.root), str(clone))
    with pytest.raises(PrerequisiteError, match="no session"):
        Record.open(RunDirectory(clone), "other")
    git(clone, "fetch", "-q", "origin", "refs/autoresearch/*:refs/autoresearch/*")
    night.end()
    git(clone, "fetch", "-q", "origin", "refs/autoresearch/*:refs/autoresearch/*")
    assert autoresearch.read_session(clone) == night.record.session()


@pytest.mark.parametrize("name", ["1", "#1", "best", "BEST", "last"])
def test_experiments_have_names(night: Night, name: str) -> None:
    kept = night.try_out(night.knob(3, 33))
    assert night.record.resolve(name).number == 1
    assert night.record.resolve(kept.commit[:7]).number == 1
    candidate = git(night.root, "log", "-1", "--format=%H", f"{kept.event}^2")
    assert night.record.resolve(candidate).number == 1
    assert night.record.resolve("baseline").number == 0
    with pytest.raises(UsageError, match="no experiment `77`"):
        night.record.resolve("77")


def test_diff_is_a_patch(night: Night) -> None:
    git(night.root, "config", "diff.external", "/bin/false")
    git(night.root, "config", "diff.noprefix", "true")
    kept = night.try_out(night.knob(3, 33))
    text = night.record.diff(kept.parent, kept.commit)
    assert "--- a/train.py\n+++ b/train.py\n" in text
    git(night.root, "checkout", "-q", "--detach", kept.parent)
    (night.root / "x.patch").write_text(text)
    git(night.root, "apply", "x.patch")
    assert (night.root / "train.py").read_text() == night.knob(3, 33)


def test_the_identity_of_an_idea_is_that_of_the_editable_files(night: Night) -> None:
    files = {"train.py": TRAIN.encode(), "other.py": b"1"}
    identity = night.record.identity(files)
    assert identity == night.record.identity({**files, "other.py": b"2"})
    assert identity == night.record.session().experiment(0).identity
    assert identity != night.record.identity({"train.py": b""})


def test_a_proposal_without_a_change_makes_no_commit(night: Night) -> None:
    experiment = night.try_out(TRAIN, "edit failed", keep=False)
    assert (experiment.commit, experiment.identity) == ("", "")


def test_a_number_is_given_once(night: Night) -> None:
    night.number = 0
    with pytest.raises(WorkError, match="recorded already"):
        night.propose(night.knob(3, 33), "again")


def test_numbers_that_are_not_finite_are_missing(night: Night) -> None:
    from autoresearch.types import Outcome, TrialResult

    experiment = night.propose(night.knob(3, 33), "x")
    result = TrialResult(seed=0, outcome=Outcome.OK, score=float("nan"), tokens_per_second=0.0)
    night.record.record_trial(1, result, setup=SETUP.key, started_at="")
    trial = night.record.session().experiment(experiment.number).trials[0]
    assert trial.result.score is None
    assert trial.result.tokens_per_second == 0.0


@pytest.mark.parametrize("tag", ["a/b", "", ".x", "a..b", "a.lock", "a b", "-x", "a\n"])
def test_a_tag_that_cannot_name_a_branch_is_refused(tmp_path: Path, tag: str) -> None:
    with pytest.raises(UsageError, match="tag"):
        Record.create(RunDirectory(tmp_path), tag, [])


def test_a_branch_named_autoresearch_is_refused_with_the_reason(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "autoresearch")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "x")
    with pytest.raises(PrerequisiteError, match="a branch is named `autoresearch`"):
        Record.create(RunDirectory(tmp_path), "nov21", [])


def test_create_builds_on_what_a_repository_holds(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "notes.txt").write_text("mine")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "mine")
    (tmp_path / "staged.txt").write_text("staged")
    git(tmp_path, "add", "staged.txt")
    (tmp_path / "train.py").write_text("x = 1\n")
    with Record.create(RunDirectory(tmp_path), "nov21", ["train.py"]) as record:
        assert set(record.files(record.tip())) == {"notes.txt", "train.py"}
    assert git(tmp_path, "status", "--porcelain") == "A  staged.txt"
    assert git(tmp_path, "branch", "--show-current") == "autoresearch/nov21"


def test_an_alert_may_hold_anything(night: Night) -> None:
    night.record.append(Alerted(text="x\0y\ny", command="rm -rf"))
    assert night.record.session().alerts[0].text == "x\u2400y\ny"


@pytest.mark.parametrize("path", ["../x.py", "/etc/x", "a//b", ".git/hooks/x", "a/.GIT/x", "x\0"])
def test_a_path_outside_the_run_directory_is_refused(night: Night, path: str) -> None:
    from autoresearch.types import Proposal

    proposal = Proposal(
        description="x", files={path: "x"}, parent=night.record.tip(), proposer="command"
    )
    with pytest.raises(WorkError, match="no path inside"):
        night.record.propose(proposal, 1, b"")


def test_files_in_folders_and_new_files_are_kept(night: Night) -> None:
    from autoresearch.types import Proposal

    proposal = Proposal(
        description="split it",
        files={"model/deep/block.py": "x = 1\n", "train.py": TRAIN + "import model\n"},
        parent=night.record.tip(),
        proposer="command",
        attachments={"big.log": b"x" * 3_000_000, "../../up": b"1"},
    )
    night.record.propose(proposal, 1, b"")
    commit = night.record.judge(1, Verdict.KEEP, "baseline")
    assert night.record.update_worktree(commit)
    assert (night.root / "model/deep/block.py").read_text() == "x = 1\n"
    assert git(night.root, "status", "--porcelain") == ""
    files = night.record.files(night.record.session().experiment(1).event)
    assert set(files) == {"big.log", "up"}
    assert len(files["big.log"]) < 1_000_100
    undo(night.record, "1")
    assert not (night.root / "model/deep/block.py").exists()
    assert git(night.root, "status", "--porcelain") == ""


def test_a_proposal_carried_over_keeps_its_prompt(night: Night) -> None:
    first = night.propose(night.knob(3, 33), "ahead")
    night.try_out(night.knob(9, 99))
    texts = {"train.py": night.knob(3, 33)}
    carried = carry(night.record.repository, texts, first.parent, night.record.tip())
    assert carried is not None
    night.record.rebase(1, carried, night.record.tip())
    again = night.record.session().experiment(1)
    assert (again.event, again.started_at) == (first.event, first.started_at)
    assert again.parent == night.record.tip() != first.parent
    night.trial(1, 1.3)
    assert night.record.judge(1, Verdict.KEEP, "baseline") == night.record.tip()
    assert night.record.session().best == 1


def test_create_can_be_killed_and_called_again(record: Record) -> None:
    root = record.run_directory.root
    git(root, "update-ref", "-d", "refs/heads/autoresearch/nov21")
    git(root, "update-ref", "-d", "refs/autoresearch/nov21/worktree")
    (root / ".git" / "index").unlink()
    paths = ["train.py", "program.md", "autoresearch.toml", ".gitignore"]
    with Record.create(record.run_directory, "nov21", paths) as again:
        assert set(again.files(again.tip())) == set(paths)
    assert git(root, "status", "--porcelain") == ""


def test_create_leaves_a_person_on_another_branch(night: Night) -> None:
    git(night.root, "checkout", "-q", "-b", "mine")
    git(night.root, "commit", "-q", "--allow-empty", "-m", "mine")
    with Record.create(night.record.run_directory, "nov21", ["train.py"]) as record:
        assert record.tip() == night.record.tip()
    assert git(night.root, "branch", "--show-current") == "mine"
    assert git(night.root, "status", "--porcelain") == ""


def test_a_clock_that_jumped_back_changes_nothing_but_dates(night: Night) -> None:
    night.try_out(night.knob(3, 33))
    before = night.record.session()
    night.record.append(Noted(text="from the past", at="2001-01-01T00:00:00Z"))
    night.try_out(night.knob(4, 44))
    with Record.open(night.record.run_directory) as record:
        after = record.session()
    assert after.experiments[:2] == before.experiments
    assert [e.number for e in after.kept] == [1, 2]
    assert after.wall_seconds >= 0


def test_a_listener_that_fails_is_told_once_and_breaks_nothing(night: Night) -> None:
    heard: list[str] = []

    def broken(event: Event) -> None:
        heard.append(event.type)
        raise RuntimeError("no display")

    night.record.listen(broken)
    first = night.record.append(Noted(text="one"))
    second = night.record.append(Noted(text="two"))
    assert git(night.root, "rev-parse", f"{second}~2") == first, "one alert between them"
    session = night.record.session()
    assert [note.text for note in session.notes] == ["one", "two"]
    assert [a.text for a in session.alerts] == ["events are not shown: RuntimeError: no display"]
    assert heard == ["note", "alert", "note"]
