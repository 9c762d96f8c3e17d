"""When an account is to be compared with the venue, and with what: deadlines as values. Pure.

    figures      what no event carries (available balance, margins, liquidation prices), soon after a change, and twice
                 later, for REST may have been behind the change
    everything   wallets, positions, orders, settings and what was placed meanwhile, once in every period
    again        what differed, until it is explained

A snapshot proves nothing of what happened right before the stream was connected, for REST may be behind. So the first
comparison that does is a deadline, too: the proof. Two more follow, for REST that is further behind.

All moments are seconds of the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Literal, NamedTuple

from statecast.venues.adapter import CheckPace

SETTLE_S = 0.25
"""After a change, before REST is asked for what the change has moved: a burst costs one question."""

EARLIEST, LATEST = 0.75, 0.95
"""Of the period, when everything is compared again: never later than that, the way of the answer included."""

LATER_S = (2.0, 10.0)
"""After the last change, when the figures are asked for once more."""

RECHECK_S = 1.0
"""After a difference."""

RECHECK_OLD_S = 5.0
"""After an answer that was old: the next one may be as old, for as long as the venue is behind."""

RETRY_S, LONGEST_RETRY_S = 5.0, 20.0
"""After a question that failed; doubled with each that follows."""

Kind = Literal["figures", "everything", "again"]


class Due(NamedTuple):
    """What is to be asked for now (None: nothing), and else when to look again."""

    kind: Kind | None
    wake_mono_s: float


class CheckSchedule:
    """The deadlines of one account."""

    def __init__(self, pace: CheckPace, period_s: float, between: Callable[[float, float], float]) -> None:
        """`between` draws a number: accounts that started together are not compared at one moment."""
        self._pace = pace
        self._period_s = period_s
        self._between = between
        self._moved_mono_s: float | None = None
        """When the first change came of which the figures were not yet asked for."""
        self._last_moved_mono_s = -inf
        self._proof_mono_s: float | None = None
        """From when on an answer proves what the snapshot left open."""
        self._once_more_mono_s: tuple[float, ...] = ()
        self._asked_at: dict[Kind, float] = {"figures": 0.0, "again": 0.0, "everything": 0.0}
        """When each was asked for last."""
        self._everything_due_mono_s = 0.0
        self._doubt_mono_s: float | None = None
        """From when on an answer that agrees ends a doubt."""
        self._not_before_mono_s: dict[Kind, float] = {"everything": 0.0, "figures": 0.0}
        self._retry_s = RETRY_S

    def everything_s(self, *, is_standby: bool) -> float:
        """The period in which everything is compared."""
        return max(self._period_s, self._pace.standby_pause_s if is_standby else self._pace.all_pause_s)

    def moved(self, now_mono_s: float) -> bool:
        """Something has changed: what no event carries of it is asked for soon. Returns whether this is the first
        change since the figures were asked for, by which a deadline may have come nearer."""
        self._last_moved_mono_s = now_mono_s
        if self._moved_mono_s is not None:
            return False
        self._moved_mono_s = now_mono_s
        return True

    def forget_moved(self) -> None:
        """A snapshot is awaited, which has it all."""
        self._moved_mono_s = None

    def due(self, proof_mono_s: float) -> None:
        """Something is doubtful: everything is compared as soon as the pace allows it, and again until an answer agrees
        to a question from that moment on. One of before may be behind what is doubtful."""
        self._doubt_mono_s = proof_mono_s
        self._everything_due_mono_s = 0.0

    @property
    def has_doubt(self) -> bool:
        """Whether no answer has agreed since something was doubtful (`due`)."""
        return self._doubt_mono_s is not None

    def begins(self, asked_mono_s: float, proof_mono_s: float, once_more_mono_s: tuple[float, ...] = ()) -> None:
        """The account was read whole, asked for at the first moment; an answer to a question from the second on is
        proof. Everything is compared `once_more` at the last ones."""
        self._asked_at["everything"] = asked_mono_s
        self._proof_mono_s = proof_mono_s
        self._once_more_mono_s = once_more_mono_s

    @property
    def awaits_proof(self) -> bool:
        """Whether no answer has proved yet that the snapshot holds all that happened before the stream."""
        return self._proof_mono_s is not None

    def agreed(self, asked_mono_s: float, *, is_standby: bool) -> None:
        """Everything agreed, asked for at that moment."""
        if self._doubt_mono_s is not None and asked_mono_s >= self._doubt_mono_s:
            self._doubt_mono_s = None
        share = self._between(EARLIEST, LATEST)
        deadlines = [asked_mono_s + self.everything_s(is_standby=is_standby) * share]
        if not is_standby:  # Nobody reads what a standby knows.
            deadlines += [at_mono_s for at_mono_s in self._once_more_mono_s if at_mono_s > asked_mono_s]
        if self._doubt_mono_s is not None:
            deadlines.append(self._doubt_mono_s)
        self._everything_due_mono_s = min(deadlines)
        if self._proof_mono_s is not None and asked_mono_s >= self._proof_mono_s:
            self._proof_mono_s = None

    def asked(self, kind: Kind, asked_mono_s: float) -> None:
        """A question was sent at that moment."""
        self._asked_at[kind] = asked_mono_s
        # Every answer has the figures of what had changed before.
        self._moved_mono_s = self._last_moved_mono_s if self._last_moved_mono_s > asked_mono_s else None

    def answered(self) -> None:
        """The venue has answered: pauses after failures start over."""
        self._retry_s = RETRY_S

    def failed(self, now_mono_s: float, wait_s: float | None) -> None:
        """A question has failed; the venue wants none for `wait_s`, None where it did not say."""
        pause_s, self._retry_s = self._retry_s, min(2 * self._retry_s, LONGEST_RETRY_S)
        self._not_before_mono_s["everything"] = now_mono_s + (pause_s if wait_s is None else wait_s)
        self._everything_due_mono_s = 0.0

    def put_off(self, kind: Kind, until_mono_s: float) -> None:
        """A question was not sent, for the venue's limits do not allow it until then."""
        self._not_before_mono_s["figures" if kind == "figures" else "everything"] = until_mono_s

    def next(self, now_mono_s: float, *, again_s: float | None, by_symbol: bool, is_standby: bool) -> Due:
        """What is due. `again_s`: something differed and is not explained, and is asked for after so long; `by_symbol`:
        it is so little that it can be asked for alone."""
        everything = max(self._everything_due_mono_s, self._asked_at["everything"] + self._pace.all_pause_s)
        if self._proof_mono_s is not None and self._asked_at["everything"] < self._proof_mono_s:
            everything = self._proof_mono_s  # whatever the pace: once for each connection
        deadlines: list[tuple[float, Kind]] = [(everything, "everything")]
        if again_s is not None and by_symbol:
            deadlines.append((self._asked_mono_s + again_s, "again"))
        elif again_s is not None:
            again = max(self._asked_mono_s + again_s, self._asked_at["everything"] + self._pace.all_pause_s)
            deadlines.append((again, "everything"))
        elif not is_standby:  # Nobody reads what a standby knows.
            figures = max(self._figures_mono_s(), self._not_before_mono_s["figures"])
            if figures + self._pace.figures_pause_s <= everything:  # Else they come with that.
                deadlines.append((figures, "figures"))
        if now_mono_s < (not_before_mono_s := self._not_before_mono_s["everything"]):
            return Due(None, not_before_mono_s)
        for at_mono_s, kind in deadlines:
            if now_mono_s >= at_mono_s:
                return Due(kind, at_mono_s)
        return Due(None, min(at_mono_s for at_mono_s, _ in deadlines))

    @property
    def _asked_mono_s(self) -> float:
        """When anything was asked for last: every answer has the figures."""
        return max(self._asked_at.values())

    def _figures_mono_s(self) -> float:
        earliest = self._asked_mono_s + self._pace.figures_pause_s
        deadlines = [max(earliest, self._asked_mono_s + self._period_s * LATEST)]
        if self._moved_mono_s is not None:
            deadlines.append(max(self._moved_mono_s, earliest) + SETTLE_S)
        later = (self._last_moved_mono_s + after_s for after_s in LATER_S)
        deadlines += [max(at_mono_s, earliest) for at_mono_s in later if self._asked_mono_s < at_mono_s]
        return min(deadlines)
