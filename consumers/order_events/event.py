"""An order event as it was delivered to a consumer. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from consumers.models import EventFields


class Settler(Protocol):
    """The partition that handed an event out, and settles it."""

    async def acknowledge(self, event: OrderEvent) -> None: ...
    async def retry(self, event: OrderEvent, reason: str) -> None: ...
    async def reject(self, event: OrderEvent, reason: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class OrderEvent(EventFields):
    """An order event as it was delivered to this consumer. Acknowledge it once it is handled.

    `entry_id` is its place in the log. `redelivered`: it was delivered before, and perhaps handled. `attempt` is 1 for
    the first delivery; it counts failures, and deliveries to consumers that ended before they acknowledged.
    """

    entry_id: str
    redelivered: bool
    attempt: int
    _settler: Settler = field(repr=False, compare=False)

    async def ack(self) -> None:
        """The event is handled: never deliver it again. Waits while Redis is away; may be repeated."""
        await self._settler.acknowledge(self)

    async def retry(self, reason: str) -> None:
        """Handling failed: deliver it again, after a pause and before any later event.

        After `max_attempts` it goes to the dead letters instead.
        """
        await self._settler.retry(self, reason)

    async def reject(self, reason: str) -> None:
        """The event cannot be handled: move it to the dead letters of the group, with the reason."""
        await self._settler.reject(self, reason)
