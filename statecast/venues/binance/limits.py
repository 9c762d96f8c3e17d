"""The request weight of this machine's IP address: what has been spent this minute, and until when to be silent.

Binance allows 2,400 a minute per IP address, pooled over futures products and over every program behind the address
("LIMITS", and the UM/CM notice of 2026-06-30). 429 asks for silence, going on brings 418: a ban of 2 minutes to 3 days.
Pure: the time is an argument, in ms the venue's, for its minutes are what counts. Silence is kept by the monotonic
clock, in seconds: the venue's is perhaps not known yet, and may be set.
"""

from __future__ import annotations

from math import ceil

MINUTE_MS = 60_000

LIMIT = 2400

RESERVE = 600
"""Left to the traders behind the same address: a quarter, so that their calls do not fail because we re-read. What they
spend counts against it: it is not left to them a second time."""

SHORTEST_RATE_MS = 10_000
"""What others spend in less than this is no measure of how fast they go on."""

CALM_RATE_MS = 30_000
"""The same for what others will want of the whole minute: programs that start spend much at once, and then little."""

LEAST_BAN_MS = 2 * MINUTE_MS
"""A ban without a word of its length: the shortest that the venue documents."""

MAX_BAN_MS = 3 * 24 * 60 * MINUTE_MS
"""The longest ban that the venue documents; a longer `Retry-After` is not believed."""


class WeightBudget:
    """The venue's `Limits`: counts what is spent here, and by the venue's own count what others spend.

    Three rules say whether a call may be sent. No call may take the address over its limit: others are taken to go on
    as fast as in the minute before, or as they do in this one; a sixteenth of the limit stays free for what that
    estimate misses. Calls that nothing is `live` without (snapshots, the histories of a gap) may spend five twelfths of
    the limit in a minute, and all others an eighth; beyond its share a call is sent while the reserve is untouched, and
    one that is not urgent if it also stays so by what others go on to spend. A sixteenth is there for what is urgent,
    even where others spend all the rest.
    """

    def __init__(self, limit: int = LIMIT, reserve: int = RESERVE) -> None:
        assert 0 <= reserve < limit
        self._unreserved = limit - reserve
        self._limit = limit
        self._ceiling = limit - limit // 16
        self._share = limit // 8
        self._urgent_share = limit * 5 // 12
        self._minute = 0
        self._used = 0
        self._own = 0
        self._known_ms = 0
        """When the venue said last what is used."""
        self._others_before = 0
        """What others had spent of the minute before, as far as is known."""
        self._blocked_until_s = 0.0

    def used(self, now_ms: int) -> int:
        """Weight spent in the minute of `now_ms`, as far as is known."""
        return self._used if now_ms // MINUTE_MS == self._minute else 0

    def own(self, now_ms: int) -> int:
        """What of it was spent through this object."""
        return self._own if now_ms // MINUTE_MS == self._minute else 0

    def spent(self, now_ms: int) -> str:
        """`used`, as text for other programs behind the same address."""
        return str(self.used(now_ms))

    def learn(self, spent: str, at_ms: int, now_ms: int) -> None:
        """What another program behind this address knew to be spent in the venue's minute of `at_ms`."""
        self.observe(spent, at_ms, now_ms)

    def delay_ms(self, cost: int, now_ms: int, now_s: float, *, urgent: bool = False, spare: int = 0) -> int:
        """How long to wait before a call of `cost`; 0 is now. One dearer than all allowed gets a fresh minute.
        `urgent`: nothing is live without it. `spare` is to be left of the share."""
        if now_s < self._blocked_until_s:
            return ceil((self._blocked_until_s - now_s) * 1000)
        used, own = self.used(now_ms), self.own(now_ms) + cost + spare
        # What others go on to spend is theirs before what is not urgent.
        others = used - self.own(now_ms) if urgent else self._others(now_ms, MINUTE_MS, CALM_RATE_MS)
        is_due = own <= (self._urgent_share if urgent else self._share) or others + own <= self._unreserved
        if (is_due or used == 0) and self._fits(cost, now_ms, urgent=urgent):
            return 0
        if used == 0 and cost > self._ceiling:
            return 0
        return MINUTE_MS - now_ms % MINUTE_MS

    def _fits(self, cost: int, now_ms: int, *, urgent: bool) -> bool:
        """Whether a call of `cost` leaves the address within its limit, now and for the rest of the minute, as far as
        can be known."""
        others, own = self._others(now_ms, now_ms % MINUTE_MS), self.own(now_ms) + cost
        if others + own > self._ceiling:
            return False
        before = self._others_before if now_ms // MINUTE_MS == self._minute else self._used - self._own
        # By the end of it no more than in the minute before, and in what is left of it no faster.
        left_ms = MINUTE_MS - now_ms % MINUTE_MS
        expected = max(others, min(before, others + before * left_ms // MINUTE_MS))
        return min(expected, self._ceiling) + own <= (self._limit if urgent else self._ceiling)

    def _others(self, now_ms: int, into_ms: int, shortest_ms: int = SHORTEST_RATE_MS) -> int:
        """What others may have spent when so much of this minute is over: since the venue said last what is used, as
        fast as they did before. What they spent within `shortest_ms` is taken for that time's."""
        if now_ms // MINUTE_MS == self._minute:
            others, since_ms, before = self._used - self._own, self._known_ms % MINUTE_MS, self._others_before
        else:
            others, since_ms, before = 0, 0, self._used - self._own
        rate = max(before / MINUTE_MS, others / max(since_ms, shortest_ms))
        return others + ceil(rate * max(0, into_ms - since_ms))

    def spend(self, cost: int, now_ms: int) -> None:
        """A call of `cost` is being sent."""
        self._turn(now_ms)
        self._used += cost
        self._own += cost

    def observe(self, header: str | None, sent_ms: int, now_ms: int) -> None:
        """`X-MBX-USED-WEIGHT-1M` of an answer. Missing, -1 (demo), or from one minute into the next it says nothing."""
        if header is None or not header.isascii() or not header.isdecimal() or len(header) > 9:
            return
        if sent_ms // MINUTE_MS == now_ms // MINUTE_MS:
            self._turn(now_ms)
            self._used = max(self._used, int(header))
            self._known_ms = max(self._known_ms, sent_ms)

    def _turn(self, now_ms: int) -> None:
        """Another minute has begun, or the clock was set."""
        minute = now_ms // MINUTE_MS
        if minute != self._minute:
            self._others_before = self._used - self._own if minute == self._minute + 1 else 0
            self._minute, self._used, self._own, self._known_ms = minute, 0, 0, 0

    def block(self, until_s: float) -> None:
        """The venue asked for silence; a later call never shortens it."""
        self._blocked_until_s = max(self._blocked_until_s, until_s)


def silence_until_ms(retry_after: str | None, message: str, now_ms: int, *, banned: bool = False) -> int:
    """Until when a 429, or a 418 (`banned`), wants silence, always later than `now_ms`.

    `Retry-After` in seconds where it is sent, else `… IP banned until 1793000123456 …` in the message, else the rest of
    the minute, and two minutes for a ban ("LIMITS"; the header is documented for Spot only).
    """
    unsaid_ms = now_ms + LEAST_BAN_MS if banned else now_ms - now_ms % MINUTE_MS + MINUTE_MS
    if retry_after is not None and retry_after.isascii() and retry_after.isdecimal() and len(retry_after) <= 9:
        return now_ms + min(max(int(retry_after) * 1000, 1000), MAX_BAN_MS)
    _, found, rest = message.partition("banned until ")
    digits = rest.partition(" ")[0].rstrip(".,;")
    if found and digits.isascii() and digits.isdecimal() and len(digits) <= 16:
        until_ms = min(int(digits), now_ms + MAX_BAN_MS)
        return until_ms if until_ms > now_ms else unsaid_ms
    return unsaid_ms
