"""How a task ended, whatever it was: the fields that every result has, and the one way to say that it failed."""

from __future__ import annotations

import traceback as tracebacks
from typing import Any, Self

from lambda_hat.records.base import Record
from lambda_hat.records.provenance import Origin, Provenance
from lambda_hat.records.state import State

__all__ = ["Ending"]


class Ending(Record):
    """How a task ended, why, and where it ran."""

    state: State
    """COMPLETE, PRUNED or FAIL."""
    reason: str | None = None
    """Why it is not complete, or why it was cut short."""
    traceback: str | None = None
    """Where the code failed, as Python prints it."""
    provenance: Origin = Provenance()
    """Where, when and by what it was made."""

    @classmethod
    def failed(cls, cause: BaseException | str, *, reason: str | None = None, **facts: Any) -> Self:
        """The end of a task that failed by an exception, or for a reason in words.

        `reason` is said instead of the exception's own words. `facts` are other fields that are known.
        """
        if isinstance(cause, str):
            return cls(state=State.FAIL, reason=cause, **facts)
        return cls(
            state=State.FAIL,
            reason=reason or f"{type(cause).__name__}: {cause}",
            traceback="".join(tracebacks.format_exception(cause)),
            **facts,
        )
