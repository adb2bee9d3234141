"""A person's edit of an editable file on its way to an experiment: taken once, and never dropped without a word.

What became of an edit is one event: its proposal, or an alert where it collides with what was kept meanwhile. The ref
that keeps the edit moves in the same transaction, so that an edit becomes one experiment, not two and not none,
wherever the lab dies.
"""

from autoresearch.events import Alerted, now
from autoresearch.proposer.edits import changed_constants
from autoresearch.proposer.proposals import describe
from autoresearch.record.commits import carry
from autoresearch.record.git import RefUpdate
from autoresearch.record.record import Record
from autoresearch.record.refs import hand_ref
from autoresearch.record.worktree import HandEdit
from autoresearch.session.context import next_number
from autoresearch.types import Proposal
from autoresearch.util.killpoints import reach

SETTLED_SECONDS = 60.0
"""An edit becomes an experiment once it is unchanged for this long."""
_ABOUT = "hand edit"


def take_hand_edit(record: Record, program: bytes) -> bool:
    """Store a person's edit of the working tree as the next experiment, or say why it cannot be one.

    Args:
        record: The session; the caller holds the run directory.
        program: program.md as it is now.

    Returns:
        Whether an experiment was stored.
    """
    with record.writing():
        tip = record.branch_tip()
        worktree = record.worktree
        edit = worktree.hand_edit(record.editable(), tip, SETTLED_SECONDS) if tip else None
        if tip is None or edit is None:
            if tip is not None and worktree.holds(record.editable(), tip):
                _settle(record)
            return False
        kept = worktree.store_hand_edit(edit, now())
        move = RefUpdate(hand_ref(record.tag), kept, worktree.taken() or "")
        files = carry(record.repository, edit.files, edit.base, tip)
        if files is None:
            record.append(_collision(edit, kept), commit=kept, moves=[move])
            return False
        before = record.texts(tip)
        after = {**before, **files}
        if after == before:  # it was kept already, from somebody else
            record.repository.update_refs([move], "hand edit")
            _settle(record)
            return False
        proposal = Proposal(
            description=f"hand edit: {describe(before, after)}",
            files=files,
            parent=tip,
            proposer="human",
            parameters=changed_constants(before, after),
        )
        record.propose(proposal, next_number(record.session()), program, moves=[move])
    reach("proposal_stored")
    _settle(record)
    return True


def _settle(record: Record) -> None:
    """Say that no edit collides any more, where one did."""
    told = [alert for alert in record.session().alerts if alert.about == _ABOUT]
    if told and not told[-1].is_over:
        record.append(Alerted(text="no edit collides any more", about=_ABOUT, is_over=True))


def _collision(edit: HandEdit, kept: str) -> Alerted:
    names = ", ".join(f"`{path}`" for path in edit.files)
    return Alerted(
        text=f"your edit of {names} collides with what was kept meanwhile and was not tried; it is"
        f" safe in commit {kept[:12]}. To try it, take the branch's file with"
        f" `git checkout HEAD -- {' '.join(edit.files)}` and put it in again",
        command=f"git diff {edit.base[:12]} {kept[:12]}",
        about=_ABOUT,
    )
