"""How much a caller may ask: request weight, orders, and the ban of a caller who does not stop. Pure.

All callers share one address here, so there is one count of each; other programs on it use weight evenly over each
minute. What was used goes into the headers of every answer that it was counted for, refused ones too.
"""

from __future__ import annotations

from dataclasses import dataclass

from statecast.simulator.binance.errors import ApiError
from statecast.simulator.binance.rest import ORDER_LIMIT_10S, WEIGHT_LIMIT

BAN_MS = 120_000
"""The first ban; each further one lasts twice as long."""
BAN_AFTER = 10
"""How many calls beyond the limit, in one minute, bring the ban."""

Headers = dict[str, str]


@dataclass(slots=True)
class Usage:
    """What was used in one fixed interval of `width_ms`."""

    width_ms: int
    interval: int = 0
    used: int = 0

    def add(self, amount: int, now_ms: int) -> int:
        """What is used in the present interval, `amount` included."""
        interval = now_ms // self.width_ms
        if interval != self.interval:
            self.interval, self.used = interval, 0
        self.used += amount
        return self.used


class Limits:
    """Counts what is used and declines what is too much. `weight` is the request weight per minute."""

    def __init__(self, weight: int = WEIGHT_LIMIT) -> None:
        self._weight_limit = weight
        self._shown = True
        self._others_weight = 0
        self._weight = Usage(60_000)
        self._sapi_weight = Usage(60_000)
        self._over_limit = Usage(60_000)
        self._orders_10s = Usage(10_000)
        self._orders_1m = Usage(60_000)
        self._banned_until_ms = 0
        self._ban_ms = BAN_MS

    def allow(self, weight: int, *, shown: bool = True) -> None:
        """Change the limit; what is used already stays counted.

        Without `shown` headers say -1 in place of what is used, as the demo venue does.
        """
        self._weight_limit, self._shown = weight, shown

    def share(self, weight: int) -> None:
        """Let other programs use so much of the weight in every minute."""
        self._others_weight = weight

    @property
    def weight_used(self) -> int:
        """Request weight in the current minute, without what other programs use."""
        return self._weight.used

    def use_weight(self, weight: int, headers: Headers, now_ms: int) -> None:
        """Count a call's weight; beyond the limit it is declined, and a caller who goes on is banned."""
        if now_ms < self._banned_until_ms:
            raise self._banned(now_ms)
        used = self._weight.add(weight, now_ms) + self._others_weight * (now_ms % 60_000) // 60_000
        headers["X-MBX-USED-WEIGHT-1M"] = str(used if self._shown else -1)
        if used <= self._weight_limit:
            return
        if self._over_limit.add(1, now_ms) > BAN_AFTER:
            self._banned_until_ms = now_ms + self._ban_ms
            self._ban_ms *= 2
            raise self._banned(now_ms)
        raise ApiError(
            -1003,
            f"Too many requests; current limit of IP(127.0.0.1) is {self._weight_limit} requests per minute. "
            "Please use the websocket for live updates to avoid polling the API.",
            429,
            {"Retry-After": str(60 - now_ms // 1000 % 60)},
        )

    def use_sapi_weight(self, weight: int, headers: Headers, now_ms: int) -> None:
        """Count the weight of a call to the Spot wallet's API, which has a limit of its own, never reached here."""
        headers["X-SAPI-USED-IP-WEIGHT-1M"] = str(self._sapi_weight.add(weight, now_ms))

    def use_order(self, headers: Headers, now_ms: int) -> None:
        """Count an order; beyond the limit it is declined."""
        used = self._orders_10s.add(1, now_ms)
        headers["X-MBX-ORDER-COUNT-10S"] = str(used)
        headers["X-MBX-ORDER-COUNT-1M"] = str(self._orders_1m.add(1, now_ms))
        if used > ORDER_LIMIT_10S:
            message = f"Too many new orders; current limit is {ORDER_LIMIT_10S} orders per TEN_SECONDS."
            raise ApiError(-1015, message, 429)

    def _banned(self, now_ms: int) -> ApiError:
        left_s = -(-(self._banned_until_ms - now_ms) // 1000)
        return ApiError(
            -1003,
            f"Way too many requests; IP banned until {self._banned_until_ms}. "
            "Please use the websocket for live updates to avoid bans.",
            418,
            {"Retry-After": str(left_s)},
        )
