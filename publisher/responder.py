"""Answers readers that ask through Redis for a REST refresh: those without credentials, while the publisher lives."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from publisher.config import AccountConfig
from publisher.logs import Log
from statecast.clock import Clock
from statecast.domain.changes import Check, Snapshot
from statecast.errors import StoreError
from statecast.store.client import Client, connect
from statecast.store.refresh import REQUESTS_BLOCK_MS, Fetch, RefreshRequests, SharedRefresh
from statecast.venues.adapter import VenueAccount

TIMEOUT_S = REQUESTS_BLOCK_MS / 1000 + 3.0
"""Of the connection that waits for requests: beyond the longest wait."""

RETRY_S = 1.0
"""After Redis was not there; readers ask again as often."""


class RefreshResponder:
    """Fetches a snapshot when a reader asks for one, under the lock that readers with credentials take as well."""

    def __init__(
        self,
        client: Client,
        config: AccountConfig,
        publisher_id: str,
        venue: VenueAccount,
        offer: Callable[[Check], None],
        clock: Clock,
        log: Log,
    ) -> None:
        """`offer` is called with what was fetched for readers: it is as good as a check of the publisher's own."""
        self._redis = client.redis
        self._config = config
        self._publisher_id = publisher_id
        self._venue = venue
        self._offer = offer
        self._clock = clock
        self._log = log
        self._numbers = itertools.count(1)

    async def run(self) -> None:
        """Answer until cancelled, on a connection of its own. The committer logs that Redis is away."""
        async with connect(self._redis, client_name="statecast-answers", timeout_s=TIMEOUT_S) as client:
            account_id = self._config.account_id
            requests = RefreshRequests(client, account_id, self._publisher_id)
            name = self._config.access.credentials_name
            shared = SharedRefresh(client, account_id, self._clock, credentials=name, ask_publisher=False)
            while True:
                try:
                    asked_at_ms = await requests.next()
                    if asked_at_ms is not None:
                        await self._answer(shared, asked_at_ms)
                except StoreError as error:
                    self._log.debug("no_answer_to_readers", reason=str(error))
                    await self._clock.sleep(RETRY_S)

    async def _answer(self, shared: SharedRefresh, asked_at_ms: int) -> None:
        """Fetch, unless an answer younger than the request is there, or somebody is about to have one, or the venue
        wants a pause: the reader learns all that from Redis by itself."""
        token = f"{self._publisher_id}-{next(self._numbers)}"
        step = await shared.begin(token, 0, not_before_ms=asked_at_ms)
        if isinstance(step, Fetch):
            snapshot = await shared.fetch(step, self._venue)
            if snapshot is not None:
                self._offer(_figures(snapshot))


def _figures(snapshot: Snapshot) -> Check:
    return Check(
        snapshot.totals,
        snapshot.balances,
        snapshot.positions,
        snapshot.taken_ms,
        answered_ms=snapshot.answered_ms,
        unreadable=snapshot.unreadable,
    )
