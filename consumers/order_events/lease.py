"""What this process knows of its lease on one partition. Pure: the time is an argument."""

from __future__ import annotations


class PartitionLease:
    """Whether a partition is this consumer's, until when, and whether it is to be given up. Times are monotonic."""

    def __init__(self) -> None:
        self._term: str | None = None
        self._until_mono_s = 0.0
        self._needs_new_term = False
        self._leave_at_mono_s: float | None = None

    @property
    def term(self) -> str | None:
        """Names this holding of the partition in every call; None while it is not this consumer's."""
        return self._term

    @property
    def needs_new_term(self) -> bool:
        """Whether the outcome of a read is unknown, so that the next renewal must take a new term."""
        return self._needs_new_term

    @property
    def is_leaving(self) -> bool:
        """Whether it is to be given to another consumer, as soon as the events in hand are settled."""
        return self._leave_at_mono_s is not None

    def is_valid(self, now_mono_s: float) -> bool:
        """Whether nobody else can have the partition now."""
        return self._term is not None and now_mono_s < self._until_mono_s

    def gives_out(self, now_mono_s: float) -> bool:
        """Whether events may be handed out now."""
        return self.is_valid(now_mono_s) and not self.is_leaving

    def renew(self, term: str, until_mono_s: float) -> None:
        """`until_mono_s` counts from before the renewal was sent."""
        self._term, self._until_mono_s = term, until_mono_s

    def suspend(self) -> None:
        """Hand nothing out until the lease was renewed, or lost."""
        self._until_mono_s = 0.0

    def require_new_term(self) -> None:
        """Calls under the present term that are still on their way must do nothing when they arrive."""
        self._needs_new_term = True

    def has_new_term(self) -> None:
        self._needs_new_term = False

    def leave_at(self, mono_s: float) -> None:
        """Give it up when nothing is in hand any more, or at this time. A time that was set stays."""
        if self._leave_at_mono_s is None:
            self._leave_at_mono_s = mono_s

    def stay(self) -> None:
        self._leave_at_mono_s = None

    def may_leave(self, now_mono_s: float, in_hand: int) -> bool:
        """Whether to give it up now."""
        return self._leave_at_mono_s is not None and (not in_hand or self._leave_at_mono_s <= now_mono_s)

    def end(self) -> None:
        """It is not this consumer's any more."""
        self._term, self._needs_new_term, self._leave_at_mono_s = None, False, None
