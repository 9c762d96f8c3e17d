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
"""Left to the traders behind the same address: a quarter, so that their calls do not fail because we re-read."""

LEAST_BAN_MS = 2 * MINUTE_MS
"""A ban without a word of its length: the shortest that the venue documents."""

MAX_BAN_MS = 3 * 24 * 60 * MINUTE_MS
"""The longest ban that the venue documents; a longer `Retry-After` is not believed."""


class WeightBudget:
    """The venue's `Limits`: counts what is spent here, and takes the venue's own count where that is higher (others
    spend too)."""

    def __init__(self, limit: int = LIMIT, reserve: int = RESERVE) -> None:
        assert 0 <= reserve < limit
        self._allowed = limit - reserve
        self._minute = 0
        self._used = 0
        self._blocked_until_s = 0.0

    def used(self, now_ms: int) -> int:
        """Weight spent in the minute of `now_ms`, as far as is known."""
        return self._used if now_ms // MINUTE_MS == self._minute else 0

    def spent(self, now_ms: int) -> str:
        """`used`, as text for other programs behind the same address."""
        return str(self.used(now_ms))

    def learn(self, spent: str, at_ms: int, now_ms: int) -> None:
        """What another program behind this address knew to be spent in the venue's minute of `at_ms`."""
        self.observe(spent, at_ms, now_ms)

    def delay_ms(self, cost: int, now_ms: int, now_s: float) -> int:
        """How long to wait before a call of `cost`; 0 is now. One dearer than all allowed gets a fresh minute."""
        if now_s < self._blocked_until_s:
            return ceil((self._blocked_until_s - now_s) * 1000)
        used = self.used(now_ms)
        if used == 0 or used + cost <= self._allowed:
            return 0
        return MINUTE_MS - now_ms % MINUTE_MS

    def spend(self, cost: int, now_ms: int) -> None:
        """A call of `cost` is being sent."""
        self._used = self.used(now_ms) + cost
        self._minute = now_ms // MINUTE_MS

    def observe(self, header: str | None, sent_ms: int, now_ms: int) -> None:
        """`X-MBX-USED-WEIGHT-1M` of an answer. Missing, -1 (demo), or from one minute into the next it says nothing."""
        if header is None or not header.isascii() or not header.isdecimal() or len(header) > 9:
            return
        if sent_ms // MINUTE_MS == now_ms // MINUTE_MS:
            self._used = max(self.used(now_ms), int(header))
            self._minute = now_ms // MINUTE_MS

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
