"""Mark prices for the symbols of open positions. Their silence makes these prices old, never the account."""

from __future__ import annotations

import asyncio
from collections.abc import Set

from publisher.logs import Log
from publisher.websocket import Connector, Stream
from statecast.clock import Clock
from statecast.domain.changes import MarkPriceUpdate
from statecast.errors import FrameError, VenueUnreachable
from statecast.venues.binance.decode import decode_market_frame
from statecast.venues.binance.wire import BinanceUrls, mark_price_requests

STEADY_S = 60.0
"""A connection that lasted this long was a good one: the pauses start over."""

MAX_SILENCE_S = 30.0
"""Every symbol's price comes once a second: a connection that says nothing for so long is open and mute."""

MANY_SYMBOLS = 200
"""More of them than this do not fit a URL safely; then all are subscribed to after connecting."""


class MarkPrices:
    """Keeps the youngest mark price of every followed symbol until it is taken."""

    def __init__(self, urls: BinanceUrls, venue: str, connector: Connector, clock: Clock, log: Log) -> None:
        self._urls = urls
        self._venue = venue
        self._connector = connector
        self._clock = clock
        self._log = log
        self._symbols: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._youngest: dict[str, MarkPriceUpdate] = {}
        self.malformed_frames = 0
        """Frames that made no sense. They put prices in doubt, which grow old by themselves, and not the account."""

    def follow(self, symbols: frozenset[str]) -> None:
        """Follow these symbols from now on, and no others."""
        if symbols != self._symbols:
            self._symbols = symbols
            self._changed.set()

    def take(self) -> list[MarkPriceUpdate]:
        """What came since the last call, one price per symbol."""
        updates = list(self._youngest.values())
        self._youngest.clear()
        return updates

    async def run(self) -> None:
        """Stay connected while there is a symbol to follow, until cancelled."""
        failures = 0
        while True:
            while not self._symbols:
                self._changed.clear()
                await self._changed.wait()
            began = self._clock.monotonic()
            try:
                await self._session()
                failures = 0
            except VenueUnreachable as error:
                if self._clock.monotonic() - began > STEADY_S:
                    failures = 0
                self._log.warning("market_stream_lost", reason=str(error))
                failures += 1
                await self._clock.sleep(self._connector.pause_s(failures))

    async def _session(self) -> None:
        """One connection, until there is nothing to follow."""
        in_url = self._symbols if len(self._symbols) <= MANY_SYMBOLS else frozenset[str]()
        url = self._urls.market_stream_url(sorted(in_url))
        async with self._connector.open(url, self._venue, "market stream") as stream:
            reading = asyncio.create_task(self._read(stream))
            try:
                await self._subscribe(stream, reading, in_url)
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _subscribe(self, stream: Stream, reading: asyncio.Task[None], carried: Set[str]) -> None:
        request_id = 1
        while self._symbols:
            self._changed.clear()
            wanted = self._symbols
            for message in mark_price_requests(carried, wanted, request_id):
                await stream.send(message)
            request_id += 2
            carried = wanted
            changed = asyncio.create_task(self._changed.wait())
            try:
                await asyncio.wait((changed, reading), return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
            if reading.done():
                reading.result()
            await self._clock.sleep(0.2)  # The venue takes ten requests a second, and positions come in groups.

    async def _read(self, stream: Stream) -> None:
        told = False
        frames = stream.frames()
        while True:
            try:
                async with asyncio.timeout(MAX_SILENCE_S):
                    raw = await anext(frames)
            except TimeoutError:
                raise VenueUnreachable(self._venue, "market stream", "open and mute") from None
            try:
                frame = decode_market_frame(raw)
            except FrameError as error:
                self.malformed_frames += 1
                if not told:  # Once per connection: nonsense every second must not flood the log.
                    self._log.warning("market_frame", reason=str(error))
                    told = True
                continue
            for change in frame.changes:
                if isinstance(change, MarkPriceUpdate) and change.symbol in self._symbols:
                    self._youngest[change.symbol] = change
