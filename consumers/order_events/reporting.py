"""Reports gaps to the user: in the log, in `gaps`, and through `on_gap`."""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from consumers.order_events.gaps import Gap
from statecast.store.keys import AccountId

LOG = logging.getLogger("statecast.consumers")

KEPT_GAPS = 100


class GapReporter:
    """Reports each gap of a group, whichever partition noticed it."""

    def __init__(
        self, account_id: AccountId, group: str, partitions: int, on_gap: Callable[[Gap], object] | None
    ) -> None:
        self.gaps: deque[Gap] = deque(maxlen=KEPT_GAPS)
        self._account_id = account_id
        self._group = group
        self._partitions = partitions
        self._on_gap = on_gap

    async def report(self, gap: Gap, partition: int) -> None:
        """Log it, keep it, and call back; what the callback raises is raised here.

        A gap of the log itself is noticed by every partition, and reported once.
        """
        if gap.kind == "unrecoverable":
            if gap in self.gaps:
                return
        elif self._partitions > 1:
            gap = replace(gap, reason=f"{gap.reason} (partition {partition} of {self._partitions})")
        self.gaps.append(gap)
        LOG.warning("%s: gap in the order events of %s: %s", self._group, self._account_id, gap.reason)
        if self._on_gap is not None:
            answer = self._on_gap(gap)
            if inspect.isawaitable(answer):
                await answer
