"""Mark prices for the symbols of open positions. Their silence makes these prices old, never the account."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from publisher.connection import Connection, Route
from publisher.handover import Message
from publisher.logs import Log
from publisher.status import Status
from publisher.updater import Updater
from statecast.clock import Clock, wait_until
from statecast.domain.account import Account
from statecast.domain.changes import MarkPriceUpdate
from statecast.errors import FrameError, VenueError
from statecast.secret import Secret
from statecast.venues.adapter import MarketSession, StreamEnded, StreamTraits, VenueAccount

STEADY_S = 60.0
"""A connection that lasted this long was a good one: the pauses start over."""

KEPT_S = 60.0
"""A connection is kept so long while no position is open: an account that opens and closes positions all the time would
use up the connections that the venue allows, and the private stream needs them."""

FOLLOW_PAUSE_S = 0.2
"""Between two requests for other symbols: positions come in groups, and venues take few requests a second."""


class MarkPrices:
    """Keeps the newest mark price of every followed symbol until it is taken."""

    def __init__(self, account: VenueAccount, traits: StreamTraits, route: Route, log: Log) -> None:
        self._account = account
        self._traits = traits
        self._route = route
        self._log = log
        self._symbols: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._newest: dict[str, MarkPriceUpdate] = {}
        self._malformed_frames = 0
        self._logged_malformed = False

    @property
    def malformed_frames(self) -> int:
        """Frames that made no sense. They put prices in doubt, which grow old by themselves, and not the account."""
        return self._malformed_frames

    def follow(self, symbols: frozenset[str]) -> None:
        """Follow these symbols from now on, and no others."""
        if symbols != self._symbols:
            self._symbols = symbols
            self._changed.set()

    def take(self) -> list[MarkPriceUpdate]:
        """What came since the last call, one price per symbol."""
        updates = list(self._newest.values())
        self._newest.clear()
        return updates

    async def run(self) -> None:
        """Stay connected while there is a symbol to follow, until cancelled. Where prices come on the private stream it
        returns: there is nothing to run."""
        clock, connector = self._route.clock, self._route.connector
        failures = 0
        while True:
            while not self._symbols:
                self._changed.clear()
                await self._changed.wait()
            stream = self._account.market_stream(self._symbols)
            if stream is None:
                return
            began_mono_s = clock.monotonic()
            try:
                await self._connect(*stream)
                failures = 0
            except (VenueError, StreamEnded) as error:
                if clock.monotonic() - began_mono_s > STEADY_S:
                    failures = 0
                self._log.warning("market_stream_lost", reason=str(error))
                failures += 1
                await clock.sleep(connector.pause_s(failures))

    async def _connect(self, url: Secret, session: MarketSession) -> None:
        """One connection, until there has been nothing to follow for a while."""
        connection = Connection(self._route, "market stream", url, session)
        self._logged_malformed = False
        carrying = asyncio.create_task(
            connection.run(
                self._received, self._changed.set, max_silence_s=self._traits.market_silence_s, pings_count=False
            )
        )
        try:
            await self._subscribe(connection, session, carrying)
        finally:
            carrying.cancel()
            await asyncio.gather(carrying, return_exceptions=True)

    async def _subscribe(self, connection: Connection, session: MarketSession, carrying: asyncio.Task[None]) -> None:
        clock, leave_mono_s = self._route.clock, math.inf
        while clock.monotonic() < leave_mono_s:
            self._changed.clear()
            if not self._symbols:
                leave_mono_s = min(leave_mono_s, clock.monotonic() + KEPT_S)
            else:
                leave_mono_s = math.inf
                if connection.ready.is_set() and (requests := session.follow(self._symbols)):
                    await connection.send(requests)
                    self._changed.set()  # There may be more to send, after the pause.
            changed = asyncio.create_task(wait_until(self._changed, leave_mono_s, clock))
            try:
                await asyncio.wait((changed, carrying), return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
            if carrying.done():
                carrying.result()
            await clock.sleep(FOLLOW_PAUSE_S)

    def _received(self, message: Message) -> None:
        content = message.content
        if isinstance(content, FrameError):
            self._malformed_frames += 1
            if not self._logged_malformed:  # Once per connection: nonsense every second must not flood the log.
                self._logged_malformed = True
                self._log.warning("market_frame", reason=str(content))
            return
        for change in content.changes:
            if isinstance(change, MarkPriceUpdate) and change.symbol in self._symbols:
                self._newest[change.symbol] = change


class MarkPriceFeed:
    """Mark prices into the account: one commit for all symbols, and no more than one per interval."""

    def __init__(
        self,
        prices: MarkPrices,
        account: Account,
        updater: Updater,
        resync: Callable[[str], None],
        status: Status,
        clock: Clock,
        *,
        every_s: float,
    ) -> None:
        """`resync` is called with the reason where the prices cannot be applied."""
        self._prices = prices
        self._account = account
        self._updater = updater
        self._resync = resync
        self._status = status
        self._clock = clock
        self._every_s = every_s

    async def run(self) -> None:
        """Apply what has come, until cancelled."""
        while True:
            await self._clock.sleep(self._every_s)
            updates = self._prices.take()
            self._status.set_malformed_market_frames(self._prices.malformed_frames)
            if updates and self._account.complete:
                try:
                    self._updater.apply(updates, "derived")
                except FrameError as error:
                    self._resync(str(error))
