"""`UserDataStream`: an account's state and its changes, under names that the NOFX bot's users know."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from consumers.mirror import AccountMirror
from consumers.models import EventFields, Freshness
from consumers.nofx import modes, shapes, shared
from consumers.nofx.shared import Mirrored, Shared
from statecast.clock import SystemClock
from statecast.errors import StaleState, StatecastError, StoreError
from statecast.store.client import server_name
from statecast.store.event_log import PAGE, last_entries, read_on
from statecast.store.reader import read_account

START_WITHIN_S = 20.0
"""To the first complete snapshot: connecting and asking take a second or two, a dead publisher's lease 2.5."""

REFUSED_AFTER_S = 3.0
"""Longer than the lease: what another publisher left behind, its refused key included, is overwritten by then."""

LOOK_AGAIN_S = 0.25
"""How often to look whether a state that is not fresh has become so."""

IDLE_S = 1.0
"""The longest time between two looks for order events; normally they are looked for at once, when the state changes."""

_log = logging.getLogger("statecast.consumers.nofx")

AccountCallback = Callable[[dict[str, float]], object]
PositionCallback = Callable[[list[dict[str, Any]]], object]
OrderCallback = Callable[[dict[str, Any]], object]


class UserDataStream:
    """One account, followed.

        stream = UserDataStream(api_key=…, secret_key=…)
        stream.on_order_update = lambda order: print(order["symbol"], order["status"])
        await stream.start()
        print(stream.get_account_data(), stream.get_positions())
        await stream.stop()

    With keys a publisher runs in this process, shared by all bots of one account; without, it runs elsewhere
    (`docs/nofx.md`). What the getters return was verified within the last 10 s. Otherwise `get_account_data` returns
    None, as it always did, and the lists raise StaleState, since an empty list means that there is none.

    A callback slot holds a function, sync or async, or None. It is called with account and positions once after the
    start and then when they change, and with each order event, in this order and apart from the stream: while a slow
    callback works, changes of account and positions become one, and order events wait. What a callback raises is
    logged.
    """

    def __init__(
        self,
        api_key: str | None = "",
        secret_key: str | None = "",
        testnet: bool = False,
        *,
        start_within_s: float = START_WITHIN_S,
    ) -> None:
        """Nothing is connected yet. `start` and `connect` wait `start_within_s` for the first snapshot.

        Raises:
            ConfigError: an argument or a setting cannot work.
        """
        self.api_key = api_key
        self.secret_key = secret_key
        self.testnet = testnet
        self.start_within_s = start_within_s
        self.source = modes.choose(api_key, secret_key, testnet)
        self.rest_base = self.source.endpoints.rest
        self.ws_base = self.source.endpoints.stream
        self.running = False
        self.on_account_update: AccountCallback | None = None
        self.on_position_update: PositionCallback | None = None
        self.on_order_update: OrderCallback | None = None
        self._shared: Shared[Mirrored] | None = None
        self._calling_back: asyncio.Task[None] | None = None
        self._listening = False

    def __repr__(self) -> str:
        return f"UserDataStream({self.source.account_id}, {self.source.mode}, running={self.running})"

    async def start(self) -> None:
        """Follow the account; return with a complete snapshot.

        Raises:
            StaleState: there is none in time, or the venue refuses the key; the message says why and what to do.
            ConfigError: something about it cannot work: Redis refuses the password, the account's name is taken.
            ContractMismatch: the account's keys are of another version.
        """
        began = SystemClock().monotonic()
        try:
            await self._wait_for_snapshot(self._attach(), began)
        except BaseException:  # cancelled, too: it has not started, so nobody will stop it
            await self.stop()
            raise
        _log.info("%s: user data stream started (%s)", self.source.account_id, self.source.mode)

    async def connect(self) -> bool:
        """As `start`, but what hinders it is logged; if that may pass, it goes on trying.

        Returns whether data is there.
        """
        began = SystemClock().monotonic()
        try:
            await self._wait_for_snapshot(self._attach(), began)
        except StaleState as error:
            _log.warning("user data stream without data, trying on: %s", error)
            return False
        except StatecastError as error:
            _log.error("user data stream not started: %s", error)
            await self.stop()
            return False
        _log.info("%s: user data stream started (%s)", self.source.account_id, self.source.mode)
        return True

    async def stop(self) -> None:
        """Detach. Publisher and mirror go on for others; the venue's listen key, which is everyone's, stays alive."""
        self.running = False
        held, self._shared = self._shared, None
        calling_back, self._calling_back = self._calling_back, None
        if held is None:
            return
        # A callback may stop its own stream.
        if calling_back is not None and calling_back is not asyncio.current_task():
            calling_back.cancel()
            await asyncio.wait((calling_back,))
        await held.release()
        _log.info("%s: user data stream stopped", self.source.account_id)

    # Getters

    @property
    def account_data(self) -> dict[str, float] | None:
        return self.get_account_data()

    @property
    def positions(self) -> list[dict[str, Any]]:
        return self.get_positions()

    @property
    def orders(self) -> list[dict[str, Any]]:
        return self.get_orders()

    def get_account_data(self) -> dict[str, float] | None:
        """totalWalletBalance, availableBalance, totalUnrealizedProfit; None when nothing is fresh enough."""
        try:
            return shapes.account(self.mirror.totals(max_age_s=self.source.max_age_s))
        except StaleState:
            return None

    def get_positions(self) -> list[dict[str, Any]]:
        """All open positions, both legs of a hedge; empty means flat. Raises StaleState when that is not known."""
        return shapes.positions(self.mirror.positions(max_age_s=self.source.max_age_s))

    def get_orders(self) -> list[dict[str, Any]]:
        """All open orders, conditional ones included. Raises StaleState when they are not known."""
        return [shapes.order(row) for row in self.mirror.open_orders(max_age_s=self.source.max_age_s)]

    def get_freshness(self) -> dict[str, Any]:
        """How far the getters' answers may be trusted: `age_ms`, `source` of the last change, `seq`, `via`.

        Raises StaleState when nothing is fresh enough.
        """
        return freshness(self.mirror.totals(max_age_s=self.source.max_age_s).freshness)

    @property
    def mirror(self) -> AccountMirror:
        """What the getters read; StaleState while it is not there."""
        followed = self._shared.now if self._shared is not None else None
        if followed is not None:
            return followed.mirror
        why, advice = "the user data stream is not started", "await start() and read after it"
        if self._shared is not None:
            why, advice = "the user data stream has not reached Redis yet", "wait, or see the log"
        raise StaleState(str(self.source.account_id), None, self.source.max_age_s, why, advice)

    # Starting

    def _attach(self) -> Shared[Mirrored]:
        if self._shared is None:
            _log.info("%s: user data stream starting (%s)", self.source.account_id, self.source.mode)
            self._shared = shared.mirrored(self.source)
            self._listening = False
            self._calling_back = asyncio.create_task(self._call_back(self._shared))
            self.running = True
        return self._shared

    async def _wait_for_snapshot(self, held: Shared[Mirrored], began: float) -> None:
        clock = SystemClock()
        try:
            async with asyncio.timeout(self.start_within_s):
                followed = await held.opened()
        except TimeoutError:
            where = server_name(self.source.redis_url)
            why, advice = f"Redis at {where} does not answer", "start it, or correct STATECAST_REDIS_URL"
            raise StaleState(str(self.source.account_id), None, self.source.max_age_s, why, advice) from None
        while self._shared is held:
            waited_s = clock.monotonic() - began
            try:
                followed.mirror.snapshot(max_age_s=self.source.max_age_s)
                if self._listening:
                    return
                if waited_s > self.start_within_s:
                    why, advice = "the order events cannot be read", "see the log; a reader needs …:order-events, too"
                    raise StaleState(str(self.source.account_id), None, self.source.max_age_s, why, advice)
            except StaleState:
                if followed.publisher is not None and followed.publisher.done():
                    followed.publisher.result()
                if waited_s > self.start_within_s or (waited_s > REFUSED_AFTER_S and await self._refused(followed)):
                    raise
            await clock.sleep(LOOK_AGAIN_S)
        raise shared.stopped(self.source)

    async def _refused(self, followed: Mirrored) -> bool:
        try:
            return (await read_account(followed.client, self.source.account_id, ())).status.get("state") == "refused"
        except StoreError:
            return False

    # Callbacks

    async def _call_back(self, held: Shared[Mirrored]) -> None:
        """Call back for every change from now on. What fails is retried; what a callback raises is logged."""
        try:
            followed = await held.opened()
        except StatecastError:
            return  # the caller of `start` gets the error
        updates, hindered = _Updates(followed, self.source.max_age_s), ""
        while self._shared is held:
            try:
                await (updates.next() if self._listening else updates.begin())
            except StaleState:
                return  # the mirror is closed: the event loop ends
            except StoreError as error:
                _log.log(
                    logging.DEBUG if str(error) == hindered else logging.WARNING,
                    "%s: callbacks wait: %s",
                    self.source.account_id,
                    error,
                )
                hindered = str(error)
                await SystemClock().sleep(IDLE_S)
                continue
            self._listening, hindered = True, ""
            if (account := updates.changed_account()) is not None:
                _log.debug("%s: account %s", self.source.account_id, account)
                await self._call(self.on_account_update, account)
            if (positions := updates.changed_positions()) is not None:
                _log.debug("%s: %d open positions", self.source.account_id, len(positions))
                await self._call(self.on_position_update, positions)
            for event in updates.take_events():
                if self._shared is not held:
                    return
                _log.debug("%s: order %s %s %s", self.source.account_id, event.symbol, event.side, event.status)
                await self._call(self.on_order_update, shapes.order(event))

    async def _call(self, callback: Callable[[Any], object] | None, value: Any) -> None:
        if callback is None or not self.running:
            return
        try:
            result = callback(value)
            if inspect.isawaitable(result):
                await result
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            _log.exception("%s: a callback was cancelled", self.source.account_id)
        except Exception:  # noqa: BLE001 - foreign code: the log has its error, and the updates go on
            _log.exception("%s: a callback failed", self.source.account_id)


class _Updates:
    """What of an account has changed since the last callbacks, and the order events since then."""

    def __init__(self, followed: Mirrored, max_age_s: float) -> None:
        self._mirror = followed.mirror
        self._client = followed.client
        self._max_age_s = max_age_s
        self._seq: int | None = None
        self._entry_id = ""
        self._more = False
        self._events: deque[EventFields] = deque()
        self._event_seq: int | None = None
        self._account: dict[str, float] | None = None
        self._positions: list[dict[str, Any]] | None = None

    async def begin(self) -> None:
        """Order events count from here on; account and positions count as changed."""
        self._entry_id, entries = await last_entries(self._client, self._mirror.account_id, 1)
        last = entries[-1].get("eventSeq", "") if entries else ""
        self._event_seq = int(last) if last.isdecimal() else None

    async def next(self) -> None:
        """Wait for an update, for a bounded time. What an order event did to account and positions is there with it."""
        account_id = self._mirror.account_id
        if not self._more:
            with suppress(TimeoutError):
                self._seq = await self._mirror.changed(since=self._seq, timeout_s=IDLE_S)
        self._entry_id, entries = await read_on(self._client, account_id, self._entry_id, block_ms=0)
        self._more = len(entries) == PAGE
        for entry in entries:
            self._take(entry)
        if entries:
            stored = await read_account(self._client, account_id, ())
            await self._reach(int(stored.status.get("seq", 0)))

    async def _reach(self, seq: int) -> None:
        """Wait until the mirror shows that commit, or a moment for one that does not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE_S):
                while True:
                    try:
                        at = self._mirror.totals(max_age_s=self._max_age_s).seq
                    except StaleState:
                        await SystemClock().sleep(LOOK_AGAIN_S)
                        continue
                    if at >= seq:
                        return
                    await self._mirror.changed(since=at)

    def _take(self, entry: Mapping[str, str]) -> None:
        account_id, last = self._mirror.account_id, self._event_seq
        try:
            event = shapes.order_event(entry)
        except ValueError as error:
            _log.error("%s: an order event cannot be understood and is left out: %s", account_id, error)
            return
        if last is not None and event.event_seq != last + 1:
            _log.warning("%s: order event %d follows %d: Redis lost some", account_id, event.event_seq, last)
        self._event_seq = event.event_seq
        self._events.append(event)

    def take_events(self) -> Iterator[EventFields]:
        while self._events:
            yield self._events.popleft()

    def changed_account(self) -> dict[str, float] | None:
        """The account, if it is fresh and not the same as in the last callback."""
        try:
            now = shapes.account(self._mirror.totals(max_age_s=self._max_age_s))
        except StaleState:
            return None
        before, self._account = self._account, now
        return dict(now) if now != before else None

    def changed_positions(self) -> list[dict[str, Any]] | None:
        """All positions, if they are fresh and not the same as in the last callback."""
        try:
            now = shapes.positions(self._mirror.positions(max_age_s=self._max_age_s))
        except StaleState:
            return None
        before, self._positions = self._positions, now
        return [dict(row) for row in now] if now != before else None


def freshness(of: Freshness, age_s: float | None = None) -> dict[str, Any]:
    """{"age_ms": 130, "source": "stream", "seq": 2013, "via": "publisher"}; an answer by REST is via "refresh"."""
    age_ms = round((of.age_s if age_s is None else age_s) * 1000)
    return {"age_ms": age_ms, "source": of.source, "seq": of.seq, "via": of.via}
