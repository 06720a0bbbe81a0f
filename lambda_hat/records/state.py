"""The states of a trial, a run or a reference."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["ENDS", "State"]


class State(StrEnum):
    """What has become of a task. Only the last three are ends.

    Divergence is no state of its own: a diverged trial is PRUNED, and the field `is_diverged` of its metrics says why.
    """

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"

    @property
    def word(self) -> str:
        """The state in the words of summaries and reports."""
        return _WORDS[self]


ENDS = frozenset({State.COMPLETE, State.PRUNED, State.FAIL})

_WORDS = {
    State.WAITING: "waiting",
    State.RUNNING: "unfinished",
    State.COMPLETE: "complete",
    State.PRUNED: "pruned",
    State.FAIL: "failed",
}
