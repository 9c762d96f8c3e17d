"""Order events through a consumer group: each event at least once, each order's events in order, gaps reported.

One consumer of a group works, the others are standbys and take over when it ends; with `partitions`, one works on each.
A delivered event stays pending in Redis until it is acknowledged, and is delivered again if its consumer ends before
that. A handler must therefore tolerate an event twice: `event_id` is the same each time.

    consumer.py    OrderEvents, what users see
    event.py       an event as it was delivered
    options.py     the settings, checked; which events are wanted. Pure
    membership.py  joining and leaving the group, the lease of each partition
    lease.py       what this process knows of one lease. Pure
    reading.py     reads the entries of a partition while the lease lasts
    partition.py   hands out and settles the events of a partition
    queue.py       what was read, handed out and settled. Pure
    gaps.py        what the group missed. Pure
    reporting.py   reports gaps to the user
    calls.py       calls to Redis, repeated while it is away; tasks; signals between the parts
"""

from consumers.order_events.consumer import Handler, OrderEvents
from consumers.order_events.event import OrderEvent
from consumers.order_events.gaps import Gap

__all__ = ["Gap", "Handler", "OrderEvent", "OrderEvents"]
