"""The record of one session: what the loop stores and what everybody reads.

A session is two refs: branch `autoresearch/<tag>`, the kept experiments in a line, and
`refs/autoresearch/<tag>/journal`, one commit per event (`journal.py`). `Record.session` is the fold of the journal.

Guarantees: writes are durable when the method returns; a keep moves journal and branch together or not at all; a
branch that moved meanwhile is left alone, the verdict stored and the user alerted; the user's working tree, index and
HEAD change only as `worktree.py` says.

Not supported: two machines that write the same session. `push` refuses then, and nothing is merged.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Self, cast

from autoresearch.errors import PrerequisiteError, UsageError, WorkError
from autoresearch.events import (
    Alerted,
    Approved,
    Event,
    Proposed,
    TipMoved,
    TrialJudged,
    VerdictGiven,
    now,
)
from autoresearch.paths import RunDirectory
from autoresearch.record.branches import begin_branch, choose_tag, resolve
from autoresearch.record.commits import kept_message, write_candidate
from autoresearch.record.fold import (
    CURVE_FILE,
    LOG_FILE,
    PROGRAM_FILE,
    curve_from_bytes,
    curve_to_bytes,
    make,
    result_to_json,
)
from autoresearch.record.git import AUTHOR, RefUpdate, Repository
from autoresearch.record.git_command import RefLockedError, RefMovedError
from autoresearch.record.journal import Journal
from autoresearch.record.refs import FETCH, branch_name, branch_ref
from autoresearch.record.worktree import WorkTree
from autoresearch.rundir.status import Presence, ensure_state
from autoresearch.types import (
    CurvePoint,
    Decision,
    Experiment,
    Proposal,
    Purpose,
    Session,
    TrialResult,
    Verdict,
)
from autoresearch.util.killpoints import reach
from autoresearch.util.text import clean_line, clean_text


class Record(contextlib.AbstractContextManager["Record"]):
    """One session's journal, opened for a run directory and a tag."""

    def __init__(self, run_directory: RunDirectory, repository: Repository, tag: str) -> None:
        self.run_directory = run_directory
        self.repository = repository
        self.tag = tag
        self.worktree = WorkTree(repository, tag)
        self.presence = Presence(run_directory, repository.git_dir, tag)
        """Who runs the session and what it does now."""
        self._journal = Journal(run_directory, repository, tag)
        self._lock = self._journal.lock
        self.writing, self.append = self._journal.writing, self._journal.append
        self.journal_tip = self._journal.tip
        self.files, self.diff = repository.files_at, repository.diff
        self._editable: tuple[str, ...] | None = None
        self._built: tuple[object, Session] | None = None

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with each event once it is stored."""
        self._journal.listener = listener

    # Opening

    @classmethod
    def open(cls, run_directory: RunDirectory, tag: str | None = None) -> Self:
        """Open a session.

        Args:
            run_directory: A run directory, or a clone of one.
            tag: None: the session of the current branch, else the newest one.

        Raises:
            PrerequisiteError: no repository, or no session of that name.
        """
        repository = Repository.open(run_directory.root)
        try:
            tag = choose_tag(repository, tag)
        except BaseException:
            repository.close()
            raise
        return cls(run_directory, repository, tag)

    @classmethod
    def create(
        cls,
        run_directory: RunDirectory,
        tag: str,
        paths: Sequence[str],
        replaced: Sequence[str] = (),
    ) -> Self:
        """Make branch `autoresearch/<tag>` with the given files of the working tree, or open it where it is.

        A repository is made if there is none; the rest is as `branches.begin_branch` says.
        """
        repository = Repository.init(run_directory.root, tag)
        record = cls(run_directory, repository, tag)
        ensure_state(run_directory)
        with record.writing():
            begin_branch(repository, tag, paths, now(), replaced)
        return record

    def close(self) -> None:
        """End the helper process of the repository."""
        self.repository.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    # Reading

    @property
    def branch(self) -> str:
        """The session's branch, `autoresearch/<tag>`."""
        return branch_name(self.tag)

    def session(self) -> Session:
        """Return the session as it is now; cheap when nothing changed."""
        with self._lock:
            fold = self._journal.fold()
            state = self.presence.open_state() if fold.is_open else None
            key = (fold.journal, state)
            if self._built is not None and self._built[0] == key and self._built[1].journal:
                return self._built[1]
            session = fold.session()
            if state is not None:
                session = replace(session, state=cast("Any", state))
            if not session.tip:  # nothing recorded yet
                session = replace(session, tip=self.branch_tip() or "")
            self._built = (key, session)
            return session

    @property
    def is_cut(self) -> bool:
        """Whether a run started and has not ended; to who holds the lock: that the last one died."""
        with self._lock:
            return self._journal.fold().is_open

    def subject(self, commit: str) -> str:
        """Return the first line of a commit's message."""
        lines = self.repository.message(commit).splitlines()
        return clean_line(lines[0]) if lines else ""

    @property
    def is_unfetched(self) -> bool:
        """Whether the session's branch is here, or known of a remote, and its record is not, or only an older one."""
        is_new = not self._journal.exists and not self.worktree.given()
        if is_new and any(
            r.endswith(f"/{self.branch}") for r in self.repository.refs("refs/remotes/")
        ):
            return True
        tip = self.branch_tip()
        if tip is None or (not is_new and tip == self.session().tip):
            return False
        # A commit of the lab that no record here holds; one that the user picked or rebased has another committer.
        return bool(
            self.repository.run(
                "rev-list",
                "-1",
                f"--committer={AUTHOR[1]}",
                "--grep=^Autoresearch-Experiment: ",
                f"--grep=^Begin session {self.tag}$",
                tip,
                "--not",
                "--glob=refs/autoresearch/*",
            )
        )

    def check_fetched(self) -> None:
        """See that what is written here does not begin a second record of the same session.

        Raises:
            PrerequisiteError: this is a clone without the record, or with a part of it.
        """
        if self.is_unfetched:
            part = "does not hold all experiments of its branch" if self._journal.exists else ""
            raise PrerequisiteError(
                f"the record of session `{self.tag}` {part or 'is not in this clone'}",
                hint=f"fetch it: `{FETCH}`; for a new session: `autoresearch init . --tag NEW`",
                kind="record",
            )

    def tip(self) -> str:
        """Return the branch's commit.

        Raises:
            WorkError: the branch was deleted.
        """
        found = self.branch_tip()
        if found is None:
            known = self.session().tip
            raise WorkError(
                f"branch `{self.branch}` is not here: it was deleted, or never checked out in this clone",
                hint=f"bring it back with `git branch {self.branch} {known[:12]}`"
                if known
                else f"make it with `autoresearch init . --tag {self.tag}`",
                kind="git",
            )
        return found

    def branch_tip(self) -> str | None:
        """Return the branch's commit, None if there is no such branch."""
        return self.repository.ref(branch_ref(self.tag))

    def curve(self, event: str) -> tuple[CurvePoint, ...]:
        """Return the training curve of a trial's event, empty if it has none."""
        data = self.repository.file_at(event, CURVE_FILE)
        return curve_from_bytes(data) if data else ()

    def log_tail(self, event: str) -> str:
        """Return the end of a trial's output; untrusted text."""
        data = self.repository.file_at(event, LOG_FILE)
        return clean_text(data.decode("utf-8", "replace"), 1_000_000) if data else ""

    def identity(self, files: Mapping[str, bytes]) -> str:
        """Return the hash of the editable files; two ideas with the same one are duplicates."""
        from autoresearch.proposer.edits import identity

        known = [path for path in self.editable() if path in files]
        return identity({path: files[path].decode("utf-8", "surrogateescape") for path in known})

    def editable(self) -> tuple[str, ...]:
        """Return the paths an experiment may change."""
        if self._editable is None:
            from autoresearch.config import load_config

            self._editable = tuple(load_config(self.run_directory).config.task.editable)
        return self._editable

    def resolve(self, name: str) -> Experiment:
        """Return the experiment the user means: `12`, `#12`, `baseline`, `best`, `last`, a sha prefix.

        Raises:
            UsageError: none, or more than one.
            PrerequisiteError: this is a clone without the record.
        """
        self.check_fetched()
        return resolve(self.session(), name, self._journal.fold().candidate)

    def commit_of(self, name: str) -> str:
        """Return the commit the user means: an experiment as `resolve` takes it, else anything git knows.

        Raises:
            UsageError: neither.
        """
        try:
            self.resolve(name)
        except UsageError:
            commit = self.repository.rev_parse(name)
            if commit is None:
                raise
            return commit
        return self.with_commit(name).commit

    def with_commit(self, name: str) -> Experiment:
        """Return the experiment the user means, as `resolve` does; refuses one that made no commit."""
        experiment = self.resolve(name)
        if not experiment.commit:
            raise UsageError(
                f"experiment {experiment.number} made no commit ({experiment.reason})",
                hint=f"see `autoresearch show {experiment.number}`",
            )
        return experiment

    # Writing

    def propose(
        self,
        proposal: Proposal,
        number: int,
        program: bytes,
        *,
        moves: Sequence[RefUpdate] = (),
    ) -> Experiment:
        """Store a proposal before it is tried: its commit, then its event, and `moves` with it.

        Raises:
            WorkError: the number is taken.
        """
        with self._lock:
            if any(e.number == number for e in self.session().experiments):
                raise WorkError(f"experiment {number} is recorded already", kind="record")
            files = dict(proposal.attachments)
            if program:
                files[PROGRAM_FILE] = program
            self._store(proposal, number, files, program, moves)
            return self.session().experiment(number)

    def rebase(self, number: int, files: Mapping[str, str], onto: str) -> None:
        """Store a proposal again on parent `onto`: number and cost stay, its trials so far no longer count."""
        with self._lock:
            said = vars(self.session().experiment(number))
            proposal = make(Proposal, said, files=files, parent=onto, note="")
            self._store(proposal, number, {}, b"", ())

    def _store(
        self,
        proposal: Proposal,
        number: int,
        files: Mapping[str, bytes],
        program: bytes,
        moves: Sequence[RefUpdate],
    ) -> None:
        at = now()
        commit = write_candidate(self.repository, proposal, number, at)
        reach("proposal_written")
        added = removed = 0
        if commit and commit != proposal.parent:
            added, removed = self.repository.count_lines(proposal.parent, commit)
        event = make(
            Proposed,
            vars(proposal),
            at=at,
            number=number,
            commit=commit,
            identity=self.identity(self.editable_files(commit)) if commit else "",
            model=clean_line(proposal.model),
            description=clean_line(proposal.description),
            theme=clean_line(proposal.theme),
            note=clean_text(proposal.note, 2000),
            lines_added=added,
            lines_removed=removed,
            program=self.repository.write_blob(program) if program else "",
        )
        self.append(event, files=files, commit=commit or None, moves=moves)

    def editable_files(self, commit: str) -> dict[str, bytes]:
        """Return the files of a commit that an experiment may change."""
        found = {path: self.repository.file_at(commit, path) for path in self.editable()}
        return {path: content for path, content in found.items() if content is not None}

    def texts(self, commit: str) -> dict[str, str]:
        """Return the files of a commit that an experiment may change, as text."""
        files = self.editable_files(commit)
        return {path: content.decode("utf-8", "replace") for path, content in files.items()}

    def record_trial(
        self,
        number: int,
        result: TrialResult,
        *,
        setup: str,
        started_at: str,
        confirmation: str = "",
        purpose: Purpose = Purpose.CANDIDATE,
    ) -> str:
        """Store a trial's result, its curve and the end of its log; returns the journal commit."""
        files = {}
        if result.curve:
            files[CURVE_FILE] = curve_to_bytes(result.curve)
        if result.log_tail:
            files[LOG_FILE] = clean_text(result.log_tail, 100_000).encode()
        with self.writing():  # so that no other process takes the index
            event = TrialJudged(
                number=number,
                index=len(self.session().experiment(number).trials),
                setup=setup,
                started_at=started_at,
                result=result_to_json(result),
                confirmation=confirmation,
                purpose=purpose,
            )
            return self.append(event, files=files)

    def judge(
        self,
        number: int,
        verdict: Verdict,
        reason: str,
        decision: Decision | None = None,
        setup: str = "",
    ) -> str:
        """Store a verdict; for a keep, move the branch in the same transaction.

        If the branch does not hold what the journal says, the verdict is stored with reason
        `branch_moved`, the branch is left and an alert recorded.

        Returns:
            The experiment's commit: for a keep that went on the branch, the new tip.
        """
        with self.writing():
            session = self.session()
            experiment = session.experiment(number)
            event = VerdictGiven(
                number=number,
                verdict=str(verdict),
                reason=reason,
                decision=asdict(decision) if decision is not None else {},
                setup=setup,
            )
            if verdict is not Verdict.KEEP:
                self.append(event)
                return experiment.commit
            candidate = self._journal.fold().candidate(number)
            branch, expected = self.branch_tip(), session.tip
            if branch == expected and candidate == expected:
                self.append(replace(event, commit=candidate), commit=candidate)
                return candidate
            if branch == expected and self.repository.parents(candidate)[:1] == [expected]:
                message = kept_message(experiment, session, reason, decision, setup)
                tree = self.repository.tree(candidate)
                commit = self.repository.write_commit(tree, [expected], message, event.at)
                reach("commit_written")
                move = RefUpdate(branch_ref(self.tag), commit, expected)
                try:
                    self.append(replace(event, commit=commit), commit=commit, moves=[move])
                    reach("branch_moved")
                    return commit
                except RefMovedError:
                    branch = self.branch_tip()
            return self._displaced(event, candidate, branch or "deleted")

    def approve(self, number: int) -> str:
        """Release a keep that is held: on the branch now where that has not moved, else the next thing a run measures.

        Returns:
            The new tip; `""` where the idea has to be measured on the present one first.
        """
        with self.writing():
            session = self.session()
            held = session.experiment(number)
            is_measured = session.setup is not None and held.setup == session.setup.key
            decision = held.decision
            self.append(Approved(number=number))
            if held.parent != self.branch_tip() or not is_measured or decision is None:
                return ""
            commit = self.judge(number, Verdict.KEEP, decision.reason, decision, held.setup)
        with contextlib.suppress(RefLockedError):  # the next run gives the files
            self.update_worktree(commit)
        return commit

    def _displaced(self, event: VerdictGiven, candidate: str, branch: str) -> str:
        self.append(replace(event, reason="branch_moved", displaced_by=branch), commit=candidate)
        what = "was deleted" if branch == "deleted" else f"moved to {branch[:12]}"
        self.append(
            Alerted(
                text=f"#{event.number} is better but is not on the branch: {self.branch} {what}"
                " during its trial",
                command=f"git cherry-pick {candidate[:12]}",
            )
        )
        return candidate

    def sync_tip(self) -> str:
        """Take note of a commit on the branch that is not ours and return the tip.

        Raises:
            WorkError: the branch was deleted.
        """
        with self._lock:
            tip, known = self.tip(), self.session().tip
            if known and tip != known:
                self.append(TipMoved(before=known, after=tip), commit=tip)
                self._built = None
            return tip

    def alert(self, text: str, command: str = "", about: str = "") -> str:
        """Record something the user should know; under a key, if its end can be seen, for `tell` to say."""
        text = clean_line(text, 1000)
        return self.append(Alerted(text=text, command=clean_line(command), about=about))

    def tell(self, about: str, text: str, command: str = "", *, is_over: bool = False) -> bool:
        """Record an alert under a key once until it is over, and its end once; whether it did."""
        told = [alert for alert in self.session().alerts if alert.about == about]
        is_new = is_over == (bool(told) and not told[-1].is_over)
        if is_new:
            self.append(Alerted(text=text, command=command, about=about, is_over=is_over))
        return is_new

    # The user's side

    def update_worktree(self, commit: str) -> bool:
        """Give a clean working tree the files of `commit`; False if it was left as it is."""
        with self.writing():
            is_hand = any(
                e.commit == commit and e.proposer == "human" and e.verdict is Verdict.KEEP
                for e in self.session().experiments
            )
            return self.worktree.update(commit, includes_taken=is_hand)
