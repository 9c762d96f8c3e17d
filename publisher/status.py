"""What the status hash says about the state in Redis, next to its numbers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from publisher.lifecycle import Move, State, after
from publisher.logs import Log
from statecast.domain.changes import Unreadable
from statecast.store.keys import CONTRACT

COUNTERS = (
    "unknownEvents",
    "malformedFrames",
    "malformedMarketFrames",
    "futureMarkPrices",
    "unreadableValues",
    "drifts",
    "walletCorrections",
)
"""Fields of the status hash that count what happened since the start."""

MAX_NAMED_VALUES = 100
"""Values of answers that are counted and logged, each once."""


class Status:
    """The one owner of state, reason, counters and marks of completeness, and of how long the state counts as verified.

    Times in ms are the venue's where an order event is meant, else this machine's; 0 means not yet known.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._state: State = "starting"
        self._reason = "connecting"
        self._stream_since_ms = 0
        self._reconciled_at_ms = 0
        self._counters = dict.fromkeys(COUNTERS, 0)
        self._named_values: set[str] = set()
        self._events_since_ms = 0
        self._events_complete_ms = 0
        self._published_complete_ms = 0
        self._verified_until_mono_s = inf
        self._write_soon: Callable[[], None] = _nothing
        self._is_standby: Callable[[], bool] = _no

    def bind(self, write_soon: Callable[[], None], is_standby: Callable[[], bool]) -> None:
        """`write_soon` is called when readers must see a change at once; `is_standby` says whether another publisher
        holds the lease, which changes of state are logged with."""
        self._write_soon = write_soon
        self._is_standby = is_standby

    # State

    @property
    def state(self) -> State:
        return self._state

    @property
    def reason(self) -> str:
        """Why the state is what it is: a sentence for operators."""
        return self._reason

    def move(self, move: Move, reason: str = "") -> None:
        """Change the state that readers see; the change is written at once, and logged after that was asked for.

        Raises IllegalMoveError where the state has no such move.
        """
        before, self._state = self._state, after(self._state, move)
        if (before, self._reason) == (self._state, reason):
            return
        self._reason = reason
        self._write_soon()
        level = self._log.warning if self._state in ("recovering", "refused") else self._log.info
        standby = {"standby": True} if self._is_standby() else {}
        level("state", state=self._state, before=before, reason=reason, **standby)

    # Verification

    def verify_until(self, mono_s: float) -> None:
        """A comparison with the venue shows that the state is true; it counts as verified until this monotonic time."""
        self._verified_until_mono_s = mono_s

    def stop_verifying(self) -> None:
        """The state differs from the venue's answer: it does not count as verified until `verify_until` says so."""
        self._verified_until_mono_s = -inf

    def is_verified(self, now_mono_s: float) -> bool:
        """Whether readers may take the state for the venue's: it is live, and no comparison is overdue."""
        return self._state == "live" and now_mono_s <= self._verified_until_mono_s

    # What happened

    def stream_connected(self, at_ms: int) -> None:
        """The account's stream is connected since then."""
        self._stream_since_ms = at_ms

    def reconciled(self, at_ms: int) -> None:
        """The state was found equal to the venue's answer then."""
        self._reconciled_at_ms = at_ms

    def count_malformed_frame(self) -> None:
        """A frame of the account's stream could not be decoded."""
        self._counters["malformedFrames"] += 1

    def count_unknown_event(self) -> None:
        """The account's stream sent an event of a type that we do not know."""
        self._counters["unknownEvents"] += 1

    def count_drift(self) -> None:
        """The venue's answer differed from the state, and the stream did not explain it."""
        self._counters["drifts"] += 1

    def count_wallet_correction(self) -> None:
        """A wallet was taken from REST, for the venue changes it without an event."""
        self._counters["walletCorrections"] += 1

    def set_malformed_market_frames(self, count: int) -> None:
        """So many frames of the market stream could not be decoded, since the start."""
        self._counters["malformedMarketFrames"] = count

    def count_unreadable(self, parts: Iterable[Unreadable]) -> None:
        """Parts of the venue's answers could not be understood: each is counted and logged once."""
        for text, _ in parts:
            if text not in self._named_values and len(self._named_values) < MAX_NAMED_VALUES:
                self._named_values.add(text)
                self._counters["unreadableValues"] += 1
                self._log.warning("unreadable_value", value=text)

    def count_future_mark_price(self) -> None:
        """A mark price was of later than the venue's time, and was not taken."""
        self._counters["futureMarkPrices"] += 1

    # Completeness of the log of order events

    @property
    def events_since_ms(self) -> int:
        """Venue time since which the log holds every event."""
        return self._events_since_ms

    @property
    def events_complete_ms(self) -> int:
        """Venue time until which every order event was submitted."""
        return self._events_complete_ms

    @property
    def published_complete_ms(self) -> int:
        """Venue time until which readers may take the log in Redis to be complete."""
        return self._published_complete_ms

    def log_begins(self, since_ms: int) -> None:
        """The log holds every event since this venue time."""
        self._events_since_ms = since_ms

    def log_complete_until(self, ms: int) -> None:
        """Every event until this venue time was submitted. It may be earlier than what was said before: then the log
        turned out to miss something."""
        self._events_complete_ms = ms

    def log_found(self, complete_ms: int) -> None:
        """The log that another publisher has left in Redis is complete until this venue time."""
        self._events_complete_ms = self._published_complete_ms = complete_ms

    def publish_completeness(self, *, all_written: bool) -> None:
        """Let readers see `events_complete_ms` with the next write: a later one only where all that was submitted is
        written with it, an earlier one always."""
        if all_written or self._events_complete_ms < self._published_complete_ms:
            self._published_complete_ms = self._events_complete_ms

    def fields(self, publisher_id: str, epoch: int) -> dict[str, str | int]:
        """Fields of the status hash, by their names in Redis."""
        return {
            "state": self._state,
            "reason": self._reason,
            "publisherId": publisher_id,
            "epoch": epoch,
            "streamSinceMs": self._stream_since_ms,
            "reconciledAtMs": self._reconciled_at_ms,
            **self._counters,
            "eventsSinceMs": self._events_since_ms,
            "eventsCompleteMs": self._published_complete_ms,
            "contract": CONTRACT,
        }


def _nothing() -> None:
    return


def _no() -> bool:
    return False
