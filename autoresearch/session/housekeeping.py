"""Housekeeping between trials: stores weights, prunes old files, packs git, pushes the session.

The loop calls `begin` once it holds the run directory, `after_verdict` between trials and `end` at the end. Nothing
here may stop a session: a failure is reported as an alert, once, and tried again the next time.
"""

import contextlib
import threading
from collections.abc import Iterator

from autoresearch.config import Config
from autoresearch.errors import AutoresearchError, ForeignFileError, WorkError
from autoresearch.events import Alerted
from autoresearch.paths import weights_file
from autoresearch.record.record import Record
from autoresearch.record.results_tsv import write_tsv
from autoresearch.rundir.storage import drop_weights, keep_weights, prune, weights_lost
from autoresearch.session.beliefs import Beliefs
from autoresearch.session.notify import Event, kept, notify
from autoresearch.session.trials import label_of
from autoresearch.types import Experiment, Verdict

_MAX_LOOSE_OBJECTS = 4_000
PUSH_SECONDS = 60.0
"""How long the end of a session waits for the last push."""


class Upkeep:
    """Keeps a run directory in order while a session runs."""

    def __init__(self, record: Record, config: Config) -> None:
        self._record = record
        self._config = config
        self._beliefs = Beliefs(record)
        self._push: threading.Thread | None = None
        self._is_push_due = False
        self._told: dict[str, str] = {}
        """What could not be done -> what was told of it."""

    def begin(self) -> None:
        """Make up for what a killed run did not get to: working tree, results.tsv."""
        self._beliefs.restore()
        self._give_files()
        with self._quietly("writing the results"):
            self._write_results()
        pack(self._record)

    def after_verdict(self, number: int) -> None:
        """Do what an experiment that was just judged makes due.

        Raises:
            WorkError: results.tsv cannot be written, so nothing much can be.
        """
        experiment = self._record.session().experiment(number)
        self._give_files()
        self._write_results()
        with self._quietly("storing weights"):
            self._put_weights_away(experiment)
        with self._quietly("removing old files"):
            prune(self._record.run_directory, self._record.session())
        with self._quietly("storing what is believed"):
            self._beliefs.store(self._record.session())
        pack(self._record)
        if experiment.verdict is Verdict.KEEP:
            self._start_push()
        if experiment.verdict is Verdict.KEEP and experiment.commit != experiment.parent:
            self.tell("keep", kept(experiment))
        elif experiment.verdict is Verdict.HELD:
            self.tell("held", f"#{number} is held for you: {experiment.description}")

    def tell(self, event: Event, what: str) -> None:
        """Run the user's `notify` command, if there is one; never waits for it."""
        command = self._config.session.notify
        if command:
            with self._quietly("the `notify` command"):
                root = self._record.run_directory.root
                notify(command, event, what, self._record.session(), root)

    def end(self) -> None:
        """Send what is left to send; waits a while for the network."""
        self._start_push()
        while self._push is not None and self._push.is_alive():
            self._push.join(PUSH_SECONDS)
            if self._push.is_alive() or not self._is_push_due:
                return
            self._start_push()

    def _give_files(self) -> None:
        """Give the working tree what is kept, where it was not given before."""
        with self._quietly("updating the files here"):
            self._record.update_worktree(self._record.tip())

    def _write_results(self) -> None:
        """Write results.tsv, or results-TAG.tsv where that is the user's, which is said once."""
        session, name = self._record.session(), self._record.run_directory.results.name
        place = "`autoresearch log --tsv`"
        for file in (name, f"results-{session.tag}.tsv"):
            with contextlib.suppress(ForeignFileError):
                write_tsv(session, self._record.run_directory.root / file)
                with self._quietly("listing the results for git to pass over"):
                    self._record.repository.exclude(file)
                place = f"`{file}`"
                break
        told = [alert.text for alert in session.alerts if alert.about == name]
        is_over = place == f"`{name}`"
        text = f"the results of this session are in {place}"
        if not is_over:
            text = f"`{name}` is not as the lab wrote it and stays as it is; {text}"
        if text not in told[-1:] and (told or not is_over):
            self._record.append(Alerted(text=text, about=name, is_over=is_over))

    def _put_weights_away(self, experiment: Experiment) -> None:
        """Keep the weights of the last good trial where the configuration asks for them, else delete them."""
        where, tag = self._record.run_directory, self._record.tag
        policy = self._config.trial.save_weights
        # By the label, which is ours: the record may be the work of a stranger and names no files.
        written = [
            weights_file(where.trials, label_of(experiment, tag, index))
            for index, trial in enumerate(experiment.trials)
            if not trial.confirmation
        ]
        there = [path for path in written if path.is_file()]
        lost = weights_lost(experiment)
        if lost and not there and policy != "none" and experiment.verdict is Verdict.KEEP:
            hint = "free some space; what is kept from now on will be saved"
            self._record.alert(
                f"the weights of experiment {experiment.number} are lost: {lost}", hint
            )
        if there and policy != "none" and experiment.verdict in (Verdict.KEEP, Verdict.HELD):
            keep_weights(where, tag, experiment.number, there.pop())
        # Nothing else waits: the rest is of an incumbent run again, or of a lab that was killed.
        for path in weights_file(where.trials, label_of(experiment, tag)).parent.glob(
            "*.safetensors"
        ):
            path.unlink(missing_ok=True)
        drop_weights(where, self._record.session(), policy)

    def _start_push(self) -> None:
        """Send the session in the background; while one push is under way, remember that more is due."""
        remote = self._config.session.push_after_keep
        if not remote:
            return
        if self._push is not None and self._push.is_alive():
            self._is_push_due = True
            return
        self._is_push_due = False
        self._push = threading.Thread(target=self._send, args=(remote,), name="push", daemon=True)
        self._push.start()

    def _send(self, remote: str) -> None:
        from autoresearch.record.remote import push

        with self._quietly("the push"):
            push(self._record, remote)

    @contextlib.contextmanager
    def _quietly(self, what: str) -> Iterator[None]:
        """Report a failure as an alert, the same one once, and that it is over."""
        try:
            yield
        except (AutoresearchError, OSError) as exc:
            text = exc.message if isinstance(exc, AutoresearchError) else str(exc)
            if self._told.get(what) != text:
                self._told[what] = text
                with contextlib.suppress(AutoresearchError):
                    hint = exc.hint if isinstance(exc, AutoresearchError) else None
                    self._record.alert(text, hint or "", about=what)
        else:
            if self._told.pop(what, ""):
                with contextlib.suppress(AutoresearchError):
                    self._record.tell(what, f"{what} works again", is_over=True)


def pack(record: Record, *, force: bool = False) -> bool:
    """Pack the repository when thousands of loose objects have gathered; True if it did.

    Meant for the moments between trials: it takes seconds of one core. Errors are ignored.
    """
    if not force and record.repository.num_loose_objects() < _MAX_LOOSE_OBJECTS:
        return False
    try:
        record.repository.pack()
    except WorkError:
        return False
    return True
