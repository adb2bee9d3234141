"""The record of one session: the journal in git, written and read.

A session is two refs: branch `autoresearch/<tag>`, the kept experiments in a line, and
`refs/autoresearch/<tag>/journal`, a chain of commits with one event each (one line of JSON as the message, the event's
small files as the tree, the experiment's commit as a second parent). `Record.session` is the fold of the journal.

What is promised: when a method that writes returns, what it wrote is on the disk; a keep moves journal and branch
together or not at all; a branch that moved under us is left alone, the verdict stored and the person alerted; nothing
of a person's working tree, index or HEAD is changed except as `worktree.py` says.

What is not: two machines that write the same session. `push` refuses then, and nothing is merged.
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self, cast

from autoresearch.errors import PrerequisiteError, UsageError, WorkError
from autoresearch.events import (
    SCHEMA,
    Alerted,
    Event,
    Proposed,
    TipMoved,
    TrialJudged,
    VerdictGiven,
    now,
)
from autoresearch.faults import reach
from autoresearch.lab import control
from autoresearch.lab.clean import clean_json, clean_line, clean_text
from autoresearch.lab.fold import (
    CURVE_FILE,
    LOG_FILE,
    PROGRAM_FILE,
    Fold,
    curve_from_bytes,
    curve_to_bytes,
    result_to_json,
    without_gc,
)
from autoresearch.lab.git import Entry, RefMovedError, RefUpdate, Repository
from autoresearch.lab.index import load_index, save_index
from autoresearch.lab.lock import (
    Holder,
    Lock,
    holder_of,
    last_holder,
    session_lock,
    session_lock_path,
)
from autoresearch.lab.messages import candidate_message, kept_message
from autoresearch.lab.names import (
    BRANCHES,
    FETCH,
    REFS,
    branch_name,
    branch_ref,
    check_tag,
    journal_ref,
    worktree_ref,
)
from autoresearch.lab.worktree import WorkTree, clear_scratch, read_file, write_file
from autoresearch.lab.writing import writing
from autoresearch.paths import RunDirectory
from autoresearch.types import (
    CurvePoint,
    Decision,
    Experiment,
    Proposal,
    Session,
    TrialResult,
    Verdict,
)

_MAX_EVENT_BYTES = 900_000
_MAX_FILE_BYTES = 1_000_000
_MAX_LOOSE_OBJECTS = 4_000


class Record:
    """One session's journal, opened for a run directory and a tag."""

    def __init__(self, run_directory: RunDirectory, repository: Repository, tag: str) -> None:
        self.run_directory = run_directory
        self.repository = repository
        self.tag = tag
        self.worktree = WorkTree(repository, tag)
        self._fold = Fold(tag)
        self._lock = threading.RLock()
        self._editable: tuple[str, ...] | None = None
        self._num_indexed = 0
        self._built: tuple[object, Session] | None = None
        self.listener: Callable[[Event], None] = lambda _: None
        """Told of each event once it is stored."""

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
            tag = check_tag(tag) if tag is not None else _current_tag(repository)
            if tag is None or not _exists(repository, tag):
                raise _no_session(repository, tag)
        except BaseException:
            repository.close()
            raise
        return cls(run_directory, repository, tag)

    @classmethod
    def create(cls, run_directory: RunDirectory, tag: str, paths: Sequence[str]) -> Self:
        """Make branch `autoresearch/<tag>` with the given files of the working tree, or open it where it is.

        HEAD goes to the branch, the index gets the files, nothing in the working tree changes. May be killed and called
        again.

        Args:
            run_directory: Where; a repository is made if there is none.
            tag: Name of the session.
            paths: Files to commit, relative to the run directory.
        """
        repository = Repository.init(run_directory.root, tag)
        record = cls(run_directory, repository, tag)
        record._ensure_state()
        with record.writing():
            record._begin_branch(paths)
        return record

    def _begin_branch(self, paths: Sequence[str]) -> None:
        repository, branch = self.repository, branch_ref(self.tag)
        existing, here = repository.ref(branch), repository.ref("HEAD")
        if existing and here != existing and repository.head() != branch:
            return  # the person is elsewhere and stays there
        parent = existing or here
        entries = repository.entries(parent) if parent else {}
        missing: dict[str, Entry] = {}
        for path in paths:
            content = read_file(self.run_directory.root / path)
            if content is not None and path not in entries:
                blob = repository.write_blob(content.replace(b"\r\n", b"\n"))
                missing[path] = Entry("100644", blob)
        if missing:  # first, so that a kill leaves no file that seems to be deleted
            repository.stage(dict(missing))
        commit = parent
        if parent is None or missing:
            tree = repository.write_tree({**entries, **missing})
            parents = [parent] if parent else []
            commit = repository.write_commit(tree, parents, f"Begin session {self.tag}\n", now())
        assert commit is not None
        if commit != existing or not self.worktree.given():
            updates = [RefUpdate(worktree_ref(self.tag), commit, None)]
            if commit != existing:
                updates.append(RefUpdate(branch, commit, existing or ""))
            repository.update_refs(updates, "init")
        if repository.head() != branch:
            repository.set_head(branch)

    def close(self) -> None:
        """End the helper process of the repository."""
        self.repository.close()

    def __enter__(self) -> Self:
        return self

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
            self._catch_up()
            key = (self._fold.journal, self._fold.is_open and self._open_state())
            if self._built is not None and self._built[0] == key and self._built[1].journal:
                return self._built[1]
            session = self._fold.session()
            if self._fold.is_open:
                session = replace(session, state=cast("Any", key[1]))
            if not session.tip:  # nothing recorded yet
                session = replace(session, tip=self.branch_tip() or "")
            self._built = (key, session)
            return session

    def _open_state(self) -> str:
        if self.holder() is not None:
            return "paused" if control.is_paused(self.run_directory) else "running"
        path = session_lock_path(self.repository.git_dir)
        return "dead" if path.exists() else "interrupted"

    def _catch_up(self) -> None:
        tip = self.repository.ref(journal_ref(self.tag))
        if tip == (self._fold.journal or None):
            return
        if tip is None:
            self._fold = Fold(self.tag)
            return
        fold = self._fold
        if not fold.journal:
            fold = load_index(self.run_directory, self.tag) or fold
            self._num_indexed = fold.num_events
        if fold.journal != tip:
            fold = self._follow(fold, tip)
        self._fold = fold
        self._num_indexed = save_index(self.run_directory, fold, self._num_indexed)

    def _follow(self, fold: Fold, tip: str) -> Fold:
        after = fold.journal
        if after and self.repository.ref(after) is None:
            after = ""
        events = list(self.repository.chain(tip, after or None))
        if after and (not events or events[0][1][:1] != [after]):  # another history: start anew
            after, self._num_indexed = "", 0
            events = list(self.repository.chain(tip))
        if not after:
            fold = Fold(self.tag)
        with without_gc():
            for sha, _, message in events:
                fold.apply(sha, message)
        return fold

    def holder(self) -> Holder | None:
        """Return who runs this session now, None if nobody does."""
        holder = holder_of(session_lock_path(self.repository.git_dir))
        return holder if holder is not None and holder.tag in (self.tag, "") else None

    def last_holder(self) -> Holder | None:
        """Return who ran here last and did not end in order."""
        return last_holder(session_lock_path(self.repository.git_dir))

    @property
    def is_cut(self) -> bool:
        """Whether a run started and has not ended; to who holds the lock: that the last one died."""
        with self._lock:
            self._catch_up()
            return self._fold.is_open

    def subject(self, commit: str) -> str:
        """Return the first line of a commit's message."""
        lines = self.repository.message(commit).splitlines()
        return clean_line(lines[0]) if lines else ""

    @property
    def has_journal(self) -> bool:
        """Whether anything is recorded; a clone has nothing before the record is fetched."""
        return self.repository.ref(journal_ref(self.tag)) is not None

    def files(self, commit: str) -> dict[str, bytes]:
        """Return every regular file of a commit."""
        return self.repository.files_at(commit)

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
                else f"make it with `autoresearch init --tag {self.tag}`",
                kind="git",
            )
        return found

    def branch_tip(self) -> str | None:
        """Return the branch's commit, None if there is no such branch."""
        return self.repository.ref(branch_ref(self.tag))

    def event_files(self, event: str) -> dict[str, bytes]:
        """Return the small files stored with a journal event."""
        return self.repository.files_at(event)

    def trial_files(self, experiment: Experiment) -> tuple[tuple[CurvePoint, ...], str]:
        """Return the curve and the end of the log of an experiment's last trial, empty where there is none."""
        if not experiment.trials:
            return (), ""
        event = experiment.trials[-1].event
        return self.curve(event), self.log_tail(event)

    def curve(self, event: str) -> tuple[CurvePoint, ...]:
        """Return the training curve of a trial's event, empty if it has none."""
        data = self.repository.file_at(event, CURVE_FILE)
        return curve_from_bytes(data) if data else ()

    def log_tail(self, event: str) -> str:
        """Return the end of a trial's output; untrusted text."""
        data = self.repository.file_at(event, LOG_FILE)
        return clean_text(data.decode("utf-8", "replace"), 1_000_000) if data else ""

    def identity(self, files: Mapping[str, bytes], editable: Sequence[str] | None = None) -> str:
        """Return the hash of the editable files; two ideas with the same one are duplicates."""
        digest = hashlib.sha256()
        for path in sorted(editable if editable is not None else self.editable()):
            if path in files:
                content = files[path].replace(b"\r\n", b"\n")
                digest.update(f"{path}\0{len(content)}\0".encode())
                digest.update(content)
        return digest.hexdigest()[:16]

    def editable(self) -> tuple[str, ...]:
        """Return the paths an experiment may change."""
        if self._editable is None:
            from autoresearch.config import load_config

            self._editable = tuple(load_config(self.run_directory).config.task.editable)
        return self._editable

    def resolve(self, name: str) -> Experiment:
        """Return the experiment a person means: `12`, `#12`, `baseline`, `best`, `last`, a sha prefix.

        Raises:
            UsageError: none, or more than one.
        """
        from autoresearch.lab.resolve import resolve

        return resolve(self.session(), name, self._fold.candidate)

    def commit_of(self, name: str) -> str:
        """Return the commit a person means: an experiment as `resolve` takes it, else anything git knows.

        Raises:
            UsageError: neither.
        """
        try:
            experiment = self.resolve(name)
        except UsageError:
            commit = self.repository.rev_parse(name)
            if commit is None:
                raise
            return commit
        if not experiment.commit:
            raise UsageError(
                f"experiment {experiment.number} made no commit ({experiment.reason})",
                hint=f"see `autoresearch show {experiment.number}`",
            )
        return experiment.commit

    def diff(self, a: str, b: str, paths: Sequence[str] = ()) -> str:
        """Return the unified diff between two commits."""
        return self.repository.diff(a, b, paths)

    # Writing

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the right to write this record, against other threads and other processes."""
        with self._lock, writing(self.repository, self.tag):
            yield

    def append(
        self,
        event: Event,
        *,
        files: Mapping[str, bytes] | None = None,
        commit: str | None = None,
        moves: Sequence[RefUpdate] = (),
    ) -> str:
        """Add an event to the journal and return its commit.

        Args:
            event: A durable event; its text is cleaned first.
            files: Small files of the event: name -> content.
            commit: An experiment's commit, kept reachable as second parent.
            moves: Further refs to move in the same transaction.
        """
        with self.writing():
            return self._append(event, files or {}, commit, moves)

    def _append(
        self,
        event: Event,
        files: Mapping[str, bytes],
        commit: str | None,
        moves: Sequence[RefUpdate],
    ) -> str:
        line = _line(event)
        ref = journal_ref(self.tag)
        journal = self.repository.ref(ref)
        tree = self._tree(files)
        if journal is None and commit is not None:  # its first parent must be the chain
            opened = json.dumps({"v": SCHEMA, "type": "opened", "at": event.at})
            journal = self.repository.write_commit(self._tree({}), [], opened + "\n", event.at)
            self.repository.update_refs([RefUpdate(ref, journal, "")], "journal")
        parents = [sha for sha in (journal, commit) if sha]
        sha = self.repository.write_commit(tree, parents, line + "\n", event.at)
        self.repository.update_refs([RefUpdate(ref, sha, journal or ""), *moves], event.type)
        if self._fold.journal == (journal or ""):
            self._fold.apply(sha, line)
        self.listener(event)
        return sha

    def _tree(self, files: Mapping[str, bytes]) -> str:
        blobs = {
            _file_name(path): Entry("100644", self.repository.write_blob(_cut(content)))
            for path, content in files.items()
        }
        return self.repository.write_tree(blobs)

    def propose(
        self, proposal: Proposal, number: int, program: bytes, *, commit: str | None = None
    ) -> Experiment:
        """Store a proposal before it is tried: its commit, then its event.

        Args:
            proposal: Whole texts of the files it changes.
            number: The next free one.
            program: program.md as the proposer saw it.
            commit: A commit that exists already (a person's own on the branch) instead of a new one.

        Raises:
            WorkError: the number is taken.
        """
        with self._lock:
            session = self.session()
            if any(e.number == number for e in session.experiments):
                raise WorkError(f"experiment {number} is recorded already", kind="record")
            at = now()
            commit = commit or self._candidate(proposal, number, at)
            reach("proposal_written")
            added = removed = 0
            identity = ""
            if commit:
                if commit != proposal.parent:
                    added, removed = self.repository.count_lines(proposal.parent, commit)
                identity = self.identity(self.editable_files(commit))
            event = Proposed(
                at=at,
                number=number,
                commit=commit,
                parent=proposal.parent,
                identity=identity,
                proposer=proposal.proposer,
                description=clean_line(proposal.description),
                hypothesis=proposal.hypothesis,
                expected_effect=proposal.expected_effect,
                theme=clean_line(proposal.theme),
                note=clean_text(proposal.note, 2000),
                parameters=dict(proposal.parameters),
                usage=asdict(proposal.usage),
                lines_added=added,
                lines_removed=removed,
                program=self.repository.write_blob(program) if program else "",
            )
            files = dict(proposal.attachments)
            if program:
                files[PROGRAM_FILE] = program
            self.append(event, files=files, commit=commit or None)
            return self.session().experiment(number)

    def _candidate(self, proposal: Proposal, number: int, at: str) -> str:
        entries = self.repository.entries(proposal.parent)
        changed = dict(entries)
        for path, text in proposal.files.items():
            _check_path(path)
            mode = entries[path].mode if path in entries else "100644"
            blob = self.repository.write_blob(text.encode("utf-8", "replace"))
            changed[path] = Entry(mode if mode == "100755" else "100644", blob)
        if changed == entries:
            return proposal.parent if proposal.proposer in ("baseline", "human") else ""
        tree = self.repository.write_tree(changed)
        message = candidate_message(proposal, number)
        return self.repository.write_commit(tree, [proposal.parent], message, at)

    def editable_files(self, commit: str) -> dict[str, bytes]:
        """Return the files of a commit that an experiment may change."""
        found = {path: self.repository.file_at(commit, path) for path in self.editable()}
        return {path: content for path, content in found.items() if content is not None}

    def rebase(self, number: int, files: Mapping[str, str], onto: str) -> None:
        """Give a proposal that was not tried yet another parent; its number and cost stay.

        Args:
            number: Of the experiment.
            files: Whole texts of the editable files, carried over.
            onto: The new parent.
        """
        with self._lock:
            old = self.session().experiment(number)
            proposal = Proposal(
                description=old.description,
                files=files,
                parent=onto,
                proposer=old.proposer,
                hypothesis=old.hypothesis,
                expected_effect=old.expected_effect,
                theme=old.theme,
                parameters=old.parameters,
                usage=old.usage,
            )
            at = now()
            commit = self._candidate(proposal, number, at)
            added, removed = self.repository.count_lines(onto, commit) if commit else (0, 0)
            event = Proposed(
                at=at,
                number=number,
                commit=commit,
                parent=onto,
                identity=self.identity(self.editable_files(commit)) if commit else "",
                proposer=old.proposer,
                description=old.description,
                hypothesis=old.hypothesis,
                expected_effect=old.expected_effect,
                theme=old.theme,
                parameters=dict(old.parameters),
                usage=asdict(old.usage),
                lines_added=added,
                lines_removed=removed,
            )
            self.append(event, commit=commit or None)

    def record_trial(
        self,
        number: int,
        result: TrialResult,
        *,
        setup: str,
        started_at: str,
        confirmation: str = "",
    ) -> str:
        """Store a trial's result, its curve and the end of its log; returns the journal commit."""
        session = self.session()
        event = TrialJudged(
            number=number,
            index=len(session.experiment(number).trials),
            setup=setup,
            started_at=started_at,
            result=result_to_json(result),
            confirmation=confirmation,
        )
        files = {}
        if result.curve:
            files[CURVE_FILE] = curve_to_bytes(result.curve)
        if result.log_tail:
            files[LOG_FILE] = clean_text(result.log_tail, 100_000).encode()
        return self.append(event, files=files)

    def judge(
        self,
        number: int,
        verdict: Verdict,
        reason: str,
        decision: Decision | None = None,
        setup: str = "",
        message_extra: str = "",
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
                self._append(event, {}, None, [])
                return experiment.commit
            candidate = self._fold.candidate(number)
            branch, expected = self.branch_tip(), session.tip
            if branch == expected and candidate == expected:
                self._append(replace(event, commit=candidate), {}, candidate, [])
                return candidate
            if branch == expected and self.repository.parents(candidate)[:1] == [expected]:
                message = kept_message(experiment, session, reason, decision, setup, message_extra)
                tree = self.repository.tree(candidate)
                commit = self.repository.write_commit(tree, [expected], message, event.at)
                reach("commit_written")
                move = RefUpdate(branch_ref(self.tag), commit, expected)
                try:
                    self._append(replace(event, commit=commit), {}, commit, [move])
                    reach("branch_moved")
                    return commit
                except RefMovedError:
                    branch = self.branch_tip()
            return self._displaced(event, candidate, branch or "deleted")

    def _displaced(self, event: VerdictGiven, candidate: str, branch: str) -> str:
        self._append(replace(event, reason="branch_moved", displaced_by=branch), {}, candidate, [])
        what = "was deleted" if branch == "deleted" else f"moved to {branch[:12]}"
        self._append(
            Alerted(
                text=f"#{event.number} is better but is not on the branch: {self.branch} {what}"
                " during its trial",
                command=f"git cherry-pick {candidate[:12]}",
            ),
            {},
            None,
            [],
        )
        return candidate

    def keep(
        self,
        number: int,
        decision: Decision | None = None,
        message_extra: str = "",
        setup: str = "",
    ) -> str:
        """Keep an experiment; see `judge`."""
        reason = decision.reason if decision is not None else "baseline"
        return self.judge(number, Verdict.KEEP, reason, decision, setup, message_extra)

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

    def alert(self, text: str, command: str = "") -> str:
        """Record something a person should know."""
        return self.append(Alerted(text=clean_line(text, 1000), command=clean_line(command)))

    # The person's side

    def update_worktree(self, commit: str) -> bool:
        """Give a clean working tree the files of `commit`; False if it was left as it is."""
        with self.writing():
            is_hand = any(
                e.commit == commit and e.proposer == "human" and e.verdict is Verdict.KEEP
                for e in self.session().experiments
            )
            return self.worktree.update(commit, includes_taken=is_hand)

    def hand_edit(self, settled_seconds: float = 60.0) -> dict[str, str] | None:
        """Return the editable files a person changed in the working tree, None if there is nothing to take."""
        tip = self.branch_tip()
        if tip is None:
            return None
        with self._lock:
            return self.worktree.hand_edit(self.editable(), tip, settled_seconds)

    def take_hand_edit(self, edits: Mapping[str, str]) -> dict[str, str] | None:
        """Keep a hand edit under the session's refs and return it carried over to the tip.

        Returns:
            Whole texts to propose against the tip; None if they collide with what was kept meanwhile.
        """
        with self.writing():
            given = self.worktree.given() or self.tip()
            self.worktree.take(edits, now())
            return self.carry(edits, given, self.tip())

    def carry(self, files: Mapping[str, str], base: str, onto: str) -> dict[str, str] | None:
        """Return a change made against `base` as it would be against `onto`, None if they collide."""
        if base == onto:
            return dict(files)
        carried = {}
        for path, text in files.items():
            old = self.repository.file_at(base, path) or b""
            new = self.repository.file_at(onto, path) or b""
            merged = self.repository.merge3_bytes(old, new, text.encode("utf-8", "replace"))
            if merged is None:
                return None
            carried[path] = merged.decode("utf-8", "replace")
        return carried

    def revert(self, name: str | None = None, *, to: str | None = None) -> str:
        """Undo one kept experiment, or return to a state; returns the new tip. See `revert.py`."""
        from autoresearch.lab.revert import apply, plan

        return apply(self, plan(self, name, to=to))

    def export_tsv(self, path: Path | None = None) -> Path:
        """Write results.tsv (default: in the run directory) and return where."""
        from autoresearch.lab.results_tsv import write_tsv

        path = path or self.run_directory.root / "results.tsv"
        write_tsv(self.session(), path)
        return path

    # Running

    def maintain(self, *, force: bool = False) -> bool:
        """Pack the repository when thousands of loose objects have gathered; True if it did.

        Meant for the moments between trials: it takes seconds of one core. A failure is no harm and is not told.
        """
        if not force and self.repository.num_loose_objects() < _MAX_LOOSE_OBJECTS:
            return False
        try:
            with self._lock:
                self.repository.pack()
        except WorkError:
            return False
        return True

    @contextlib.contextmanager
    def lock(self) -> Iterator[Lock]:
        """Hold the run directory for this process.

        Raises:
            WorkError: another process holds it (kind `locked`); names it.
        """
        what = f"session `{self.tag}` in `{self.run_directory.root}`"
        with session_lock(self.repository.git_dir, what, self.tag) as lock:
            self._ensure_state()
            clear_scratch(self.run_directory.state)
            yield lock

    def set_status(self, status: Mapping[str, Any] | None) -> None:
        """Write what happens now to .autoresearch/status.json for other terminals; None removes it.

        Not durable and never needed: what cannot be written is left.
        """
        with contextlib.suppress(WorkError, OSError):
            if status is None:
                self._status_path.unlink(missing_ok=True)
                return
            self._ensure_state()
            text = json.dumps({"at": now(), "tag": self.tag, **clean_json(status)})
            write_file(self._status_path, text.encode(), durable=False)

    def status(self) -> dict[str, Any] | None:
        """Return what the running session said last, None if none runs."""
        if self.holder() is None:
            return None
        try:
            value = json.loads(self._status_path.read_bytes())
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) and value.get("tag") == self.tag else None

    @property
    def _status_path(self) -> Path:
        return self.run_directory.state / "status.json"

    def _ensure_state(self) -> None:
        ensure_state(self.run_directory)


def ensure_state(run_directory: RunDirectory) -> None:
    """Make .autoresearch/ so that git never sees it.

    Raises:
        WorkError: it cannot be made (kind `disk`).
    """
    ignore = run_directory.state / ".gitignore"
    if ignore.exists():
        return
    try:
        run_directory.state.mkdir(exist_ok=True)
        ignore.write_text("*\n", encoding="utf-8")
    except OSError as exc:
        raise WorkError(
            f"cannot write in `{run_directory.root}`: {exc.strerror}",
            hint="is the disk full, or the folder read-only or gone?",
            kind="disk",
        ) from exc


def _line(event: Event) -> str:
    payload = clean_json(event.to_json())
    line = json.dumps(payload, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    if len(line) > _MAX_EVENT_BYTES:
        raise WorkError(
            f"an event of kind `{event.type}` has {len(line)} bytes, more than {_MAX_EVENT_BYTES}",
            kind="record",
        )
    return line


def _check_path(path: str) -> None:
    parts = path.split("/")
    if "\0" in path or any(p in ("", ".", "..") or p.lower() == ".git" for p in parts):
        raise WorkError(
            f"`{clean_line(path)}` is no path inside the run directory",
            hint="name files relative to it, as `[task] editable` does",
            kind="record",
        )


def _cut(content: bytes) -> bytes:
    """Return the small file of an event, cut in the middle if it is not small."""
    if len(content) <= _MAX_FILE_BYTES:
        return content
    half = _MAX_FILE_BYTES // 2
    note = f"\n... [{len(content) - 2 * half} bytes left out] ...\n".encode()
    return content[:half] + note + content[-half:]


def _file_name(path: str) -> str:
    parts = [
        p
        for p in clean_line(path).replace("\\", "/").split("/")
        if p not in ("", ".", "..", ".git")
    ]
    return "/".join(parts) or "file"


def _exists(repository: Repository, tag: str) -> bool:
    return any(repository.ref(ref) for ref in (journal_ref(tag), branch_ref(tag)))


def current_tag(root: Path) -> str | None:
    """Return the tag of the session whose branch is checked out in `root`, None if there is none."""
    if not (root / ".git").exists():
        return None
    with Repository.open(root) as repository:
        head = repository.head() or ""
    return head.removeprefix(BRANCHES) if head.startswith(BRANCHES) else None


def _current_tag(repository: Repository) -> str | None:
    head = repository.head() or ""
    tag = head.removeprefix(BRANCHES) if head.startswith(BRANCHES) else None
    if tag is not None and _exists(repository, tag):
        return tag
    tags = session_tags(repository)
    return tags[0] if tags else None


def session_tags(repository: Repository) -> list[str]:
    """Return the tags of all sessions, those with the newest event first."""
    journals = [r for r in repository.refs(REFS) if r.endswith("/journal")]
    branches = repository.refs(BRANCHES.rstrip("/"))
    tags = [r.removeprefix(REFS).removesuffix("/journal") for r in journals]
    return list(dict.fromkeys([*tags, *(b.removeprefix(BRANCHES) for b in branches)]))


def _no_session(repository: Repository, tag: str | None) -> PrerequisiteError:
    tags = session_tags(repository)
    if tag is not None and tags:
        return PrerequisiteError(
            f"there is no session `{tag}` in `{repository.root}`",
            hint="sessions here: " + ", ".join(f"`{t}`" for t in tags[:8]),
            kind="record",
        )
    return PrerequisiteError(
        f"there is no session{f' `{tag}`' if tag else ''} in `{repository.root}`",
        hint=f"start one with `autoresearch run`; in a clone, fetch the record: `{FETCH}`",
        kind="record",
    )
