from __future__ import annotations

import pytest
from support.groups import delivered

from consumers.order_events import OrderEvent


class Noted:
    """Notes what an event asks of its partition."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    async def acknowledge(self, event: OrderEvent) -> None:
        self.asked.append(("acknowledge", event.event_id))

    async def retry(self, event: OrderEvent, reason: str) -> None:
        self.asked.append(("retry", event.event_id, reason))

    async def reject(self, event: OrderEvent, reason: str) -> None:
        self.asked.append(("reject", event.event_id, reason))


async def test_an_event_is_settled_by_the_partition_that_handed_it_out() -> None:
    noted = Noted()
    event = delivered(1, settler=noted)
    await event.ack()
    await event.retry("no connection")
    await event.reject("not ours")
    assert noted.asked == [
        ("acknowledge", "event-1"),
        ("retry", "event-1", "no connection"),
        ("reject", "event-1", "not ours"),
    ]


def test_two_deliveries_of_an_event_are_equal_whoever_handed_them_out() -> None:
    assert delivered(1, settler=Noted()) == delivered(1, settler=Noted())
    assert delivered(1) != delivered(1, attempt=2)


@pytest.mark.parametrize("hidden", ["_settler", "Noted"])
def test_an_event_shows_its_fields_alone(hidden: str) -> None:
    assert hidden not in repr(delivered(1, settler=Noted()))
