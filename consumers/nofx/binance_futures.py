"""`BinanceFuturesTrader`: balance and positions from the stream, else by REST; trading by the user's own client."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from consumers.mirror import AccountMirror
from consumers.models import Freshness
from consumers.nofx import modes, shapes, shared
from consumers.nofx.shared import ByRest, Shared
from consumers.nofx.user_data_stream import START_WITHIN_S, UserDataStream, freshness
from consumers.tables import Tables
from statecast.clock import SystemClock
from statecast.errors import StaleState

_log = logging.getLogger("statecast.consumers.nofx")

Value = TypeVar("Value")


class BinanceFuturesTrader:
    """Reads prefer the stream, then a REST answer that all bots share, then one REST call for all of them. They return
    nothing that is older than `STATECAST_MAX_AGE_S` (10 s).

        trader = BinanceFuturesTrader(api_key=…, secret_key=…)
        await trader.initialize_user_stream()
        print(await trader.get_balance(), await trader.get_positions())
        await trader.stop_user_stream()

    `user_stream_enabled = False`, at any time, forces REST. Reads raise StaleState when nothing that is young enough is
    there, and StoreUnreachable without Redis, because without it readers cannot take turns to ask the venue.

    Trading is not done here: its calls go to the methods of the same name of `client`, sync or async, and without one
    raise NotImplementedError. Account modes and orders of others are never touched.
    """

    def __init__(
        self,
        api_key: str | None = "",
        secret_key: str | None = "",
        testnet: bool = False,
        *,
        client: Any = None,
        start_within_s: float = START_WITHIN_S,
    ) -> None:
        """Nothing is connected yet. `initialize_user_stream` waits `start_within_s` for the first snapshot.

        Raises:
            ConfigError: an argument or a setting cannot work.
        """
        self.api_key = api_key
        self.secret_key = secret_key
        self.testnet = testnet
        self.client = client
        self.start_within_s = start_within_s
        self.source = modes.choose(api_key, secret_key, testnet)
        self.user_stream: UserDataStream | None = None
        self.user_stream_enabled = True
        self._rest: Shared[ByRest] | None = None
        self._last: tuple[Freshness, float] | None = None

    def __repr__(self) -> str:
        return f"BinanceFuturesTrader({self.source.account_id}, {self.source.mode})"

    @property
    def cache_duration(self) -> timedelta:
        return timedelta(seconds=self.source.max_age_s)

    async def initialize_user_stream(self) -> None:
        """Start the stream, if it is enabled. Never raises if it cannot: the log says why, and reads go by REST."""
        if not self.user_stream_enabled or (self.user_stream is not None and self.user_stream.running):
            return
        self.user_stream = UserDataStream(
            self.api_key, self.secret_key, self.testnet, start_within_s=self.start_within_s
        )
        await self.user_stream.connect()

    async def stop_user_stream(self) -> None:
        """Detach from everything that this trader uses. A later read connects again, by REST alone."""
        stream, self.user_stream = self.user_stream, None
        rest, self._rest = self._rest, None
        if stream is not None:
            await stream.stop()
        if rest is not None:
            await rest.release()

    # Reads

    async def get_balance(self) -> dict[str, float]:
        """totalWalletBalance, availableBalance, totalUnrealizedProfit."""
        totals, stale = self._by_stream(lambda mirror: mirror.totals(max_age_s=self.source.max_age_s))
        if totals is None:
            totals = (await self._by_rest(stale)).totals()
        self._note("balance", totals.freshness)
        return shapes.account(totals)

    async def get_positions(self, skin: bool = False) -> list[dict[str, Any]]:
        """All open positions; empty is flat. With `skin` by REST, asked after this call began."""
        if skin:
            rows = (await self._by_rest(None, max_age_s=0.0)).positions()
        else:
            found, stale = self._by_stream(lambda mirror: mirror.positions(max_age_s=self.source.max_age_s))
            rows = (await self._by_rest(stale)).positions() if found is None else found
        self._note("positions", rows.freshness)
        return shapes.positions(rows)

    def get_freshness(self) -> dict[str, Any] | None:
        """How far the last answer may be trusted by now: `age_ms`, `source`, `seq`, `via`. None before the first."""
        if self._last is None:
            return None
        last, at = self._last
        return freshness(last, last.age_s + SystemClock().monotonic() - at)

    def _by_stream(self, read: Callable[[AccountMirror], Value]) -> tuple[Value | None, StaleState | None]:
        """What the stream says; else None, and why it says nothing, if it should."""
        if not self.user_stream_enabled or self.user_stream is None:
            return None, None
        try:
            return read(self.user_stream.mirror), None
        except StaleState as error:
            return None, error

    async def _by_rest(self, stale: StaleState | None, max_age_s: float | None = None) -> Tables:
        held = shared.by_rest(self.source)  # for this call, which a stop in the middle of it must not cut off
        try:
            rest = await held.opened()
            if self._rest is None:
                self._rest = shared.by_rest(self.source)
            return await rest.tables(self.source.max_age_s if max_age_s is None else max_age_s, stale)
        finally:
            await held.release()

    def _note(self, what: str, given: Freshness) -> None:
        before = self._last[0].via if self._last else None
        self._last = (given, SystemClock().monotonic())
        by = "the stream" if given.via == "publisher" else "REST"
        level = logging.DEBUG if given.via == before else logging.INFO
        _log.log(level, "%s: %s from %s, %.1f s old", self.source.account_id, what, by, given.age_s)

    # Trading, by the user's own client

    async def open_long(self, symbol: str, quantity: float, leverage: int) -> Any:
        return await self._delegate("open_long", symbol, quantity, leverage)

    async def open_short(self, symbol: str, quantity: float, leverage: int) -> Any:
        return await self._delegate("open_short", symbol, quantity, leverage)

    async def close_long(self, symbol: str, quantity: float = 0.0) -> Any:
        """A quantity of 0 means all."""
        return await self._delegate("close_long", symbol, quantity)

    async def close_short(self, symbol: str, quantity: float = 0.0) -> Any:
        """A quantity of 0 means all."""
        return await self._delegate("close_short", symbol, quantity)

    async def set_leverage(self, symbol: str, leverage: int) -> None:
        await self._delegate("set_leverage", symbol, leverage)

    async def set_margin_mode(self, symbol: str, is_cross_margin: bool) -> None:
        await self._delegate("set_margin_mode", symbol, is_cross_margin)

    async def get_market_price(self, symbol: str) -> Any:
        return await self._delegate("get_market_price", symbol)

    async def set_stop_loss(self, symbol: str, position_side: str, quantity: float, stop_price: float) -> None:
        await self._delegate("set_stop_loss", symbol, position_side, quantity, stop_price)

    async def set_take_profit(self, symbol: str, position_side: str, quantity: float, take_profit_price: float) -> None:
        await self._delegate("set_take_profit", symbol, position_side, quantity, take_profit_price)

    async def set_stop_loss_take_profit(self, symbol: str, side: str, stop_loss: float, take_profit: float) -> Any:
        return await self._delegate("set_stop_loss_take_profit", symbol, side, stop_loss, take_profit)

    async def cancel_all_orders(self, symbol: str) -> None:
        await self._delegate("cancel_all_orders", symbol)

    async def format_quantity(self, symbol: str, quantity: float) -> Any:
        return await self._delegate("format_quantity", symbol, quantity)

    async def get_commission_rate(self, symbol: str) -> Any:
        return await self._delegate("get_commission_rate", symbol)

    async def calculate_position_fee(self, symbol: str, quantity: float, entry_price: float) -> Any:
        return await self._delegate("calculate_position_fee", symbol, quantity, entry_price)

    async def get_account_commission_info(self) -> Any:
        return await self._delegate("get_account_commission_info")

    async def _delegate(self, call: str, *args: Any) -> Any:
        method = getattr(self.client, call, None)
        if method is None:
            who = "no client was given" if self.client is None else f"{type(self.client).__name__} has no {call}"
            raise NotImplementedError(
                f"statecast does not trade: {call} is left to the object of `client=…`, and {who}"
            )
        result = method(*args)
        return await result if inspect.isawaitable(result) else result
