"""`AutoTrader` and `AutoTraderConfig`: a bot's life around its trader. What it decides is not our business."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from consumers.nofx.binance_futures import BinanceFuturesTrader
from statecast.clock import SystemClock
from statecast.errors import StaleState, StoreError

_log = logging.getLogger("statecast.consumers.nofx")

_detaching: set[asyncio.Task[None]] = set()
"""The event loop itself holds tasks only weakly."""


@dataclass
class AutoTraderConfig:
    """What a bot is configured with, every field of old. Here, `id`, `name`, `ai_model`, `exchange`, `testnet`, the
    Binance keys, `scan_interval_minutes` and `initial_balance` have a meaning; the rest is for the bot's own code.

    An `initial_balance` of 0 is taken from the account when the bot starts.
    """

    id: str
    name: str
    ai_model: str = ""
    exchange: str = "binance"
    testnet: bool = False
    binance_api_key: str = field(default="", repr=False)
    binance_secret_key: str = field(default="", repr=False)
    hyperliquid_private_key: str = field(default="", repr=False)
    hyperliquid_wallet_address: str = ""
    aster_private_key: str = field(default="", repr=False)
    aster_wallet_address: str = ""
    okx_api_key: str = field(default="", repr=False)
    okx_api_secret: str = field(default="", repr=False)
    okx_passphrase: str = field(default="", repr=False)
    deepseek_key: str = field(default="", repr=False)
    qwen_key: str = field(default="", repr=False)
    openrouter_key: str = field(default="", repr=False)
    custom_api_url: str = ""
    custom_api_key: str = field(default="", repr=False)
    custom_model_name: str = ""
    use_default_coins: bool = False
    coin_pool_api_url: str = field(default="", repr=False)
    oi_top_api_url: str = field(default="", repr=False)
    scan_interval_minutes: float = 3
    initial_balance: float = 0.0
    btc_eth_leverage: int = 5
    altcoin_leverage: int = 5
    max_daily_loss: float = 10.0
    max_drawdown: float = 20.0
    stop_trading_hours: float = 1.0
    is_cross_margin: bool = True
    default_coins: list[str] | None = None
    trading_coins: list[str] | None = None
    system_prompt_template: str = "default"
    custom_prompt: str = ""
    override_base_prompt: bool = False

    def __post_init__(self) -> None:
        self.default_coins = self.default_coins or []
        self.trading_coins = self.trading_coins or []


class AutoTrader:
    """A bot: starts and stops its trader, and says how the account stands.

        trader = AutoTrader(AutoTraderConfig(id="trader_001", name="…", binance_api_key=…, binance_secret_key=…))
        await trader.initialize()
        print(await trader.get_account_info(), await trader.trader.get_positions())
        trader.stop()

    `run` calls `run_cycle` at every interval; a subclass says what a cycle does. `client` trades, see
    `BinanceFuturesTrader`.
    """

    def __init__(self, config: AutoTraderConfig, is_running: bool = False, *, client: Any = None) -> None:
        self.config = config
        self.id = config.id
        self.name = config.name
        self.ai_model = config.ai_model
        self.exchange = config.exchange
        self.initial_balance = config.initial_balance
        self.trader: BinanceFuturesTrader | None = None
        self.is_running = is_running
        self.call_count = 0
        self._client = client
        self._stream_enabled = True
        self._began = SystemClock().monotonic()
        self._stopped = asyncio.Event()
        self._detaching: asyncio.Task[None] | None = None

    @property
    def user_stream_enabled(self) -> bool:
        """Whether reads may come from the stream; may be set at any time. False forces REST."""
        return self._stream_enabled if self.trader is None else self.trader.user_stream_enabled

    @user_stream_enabled.setter
    def user_stream_enabled(self, enabled: bool) -> None:
        self._stream_enabled = enabled
        if self.trader is not None:
            self.trader.user_stream_enabled = enabled

    async def initialize(self) -> None:
        """Make the trader and start its stream. Without a stream it trades on by REST, and the log says so.

        Raises:
            ValueError: the exchange is not one that this version reads, or the initial balance is negative.
            ConfigError: an argument or a setting cannot work.
        """
        if self.initial_balance < 0:
            raise ValueError(f"initial_balance is {self.initial_balance}; accepted: 0 or more, 0 to take the account's")
        if self.exchange != "binance":
            raise ValueError(f"exchange is {self.exchange!r}; accepted: binance, the one that this version reads")
        if self.trader is None:
            keys = self.config.binance_api_key, self.config.binance_secret_key
            self.trader = BinanceFuturesTrader(*keys, self.config.testnet, client=self._client)
            self.trader.user_stream_enabled = self._stream_enabled
        if self._detaching is not None and not self._detaching.done():
            await asyncio.wait((self._detaching,))  # or a stop just before would take the new stream for the old one
        await self.trader.initialize_user_stream()
        if not self.initial_balance:
            with suppress(StaleState, StoreError):  # then the first account info that there is
                await self.get_account_info()

    async def run(self) -> None:
        """Call `run_cycle` at once and then every `scan_interval_minutes`, until `stop`. What it raises is logged."""
        if getattr(self.run_cycle, "__func__", None) is AutoTrader.run_cycle:
            await self.run_cycle()
        self.is_running = True
        self._began = SystemClock().monotonic()
        self._stopped.clear()
        await self.initialize()
        while self.is_running:
            self.call_count += 1
            try:
                await self.run_cycle()
            except Exception:  # noqa: BLE001 - the outermost loop, around foreign code: the next cycle may do better
                _log.exception("%s: cycle %d failed", self.id, self.call_count)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.config.scan_interval_minutes * 60):
                    await self._stopped.wait()

    async def run_cycle(self) -> None:
        """What the bot does each time; a subclass's business."""
        raise NotImplementedError("statecast keeps the account and makes no decisions: override AutoTrader.run_cycle")

    def stop(self) -> asyncio.Task[None] | None:
        """Stop; no cycle begins after this. The stream is detached by a task, which may be awaited and need not be."""
        self.is_running = False
        self._stopped.set()
        _log.info("%s: stopped", self.id)
        if self.trader is None:
            return None
        try:
            task = asyncio.get_running_loop().create_task(self.trader.stop_user_stream())
        except RuntimeError:
            return None  # the loop has ended, and everything of it
        self._detaching = task
        _detaching.add(task)
        task.add_done_callback(_detaching.discard)
        return task

    # How it stands

    async def get_account_info(self) -> dict[str, float]:
        """total_equity, available_balance, total_pnl and total_pnl_pct since the initial balance, initial_balance."""
        balance = await self._initialized().get_balance()
        equity = balance["totalWalletBalance"] + balance["totalUnrealizedProfit"]
        if not self.initial_balance:
            self.initial_balance = equity
            _log.info("%s: profit is counted from the account's equity of now, %.4f", self.id, equity)
        profit = equity - self.initial_balance
        return {
            "total_equity": equity,
            "available_balance": balance["availableBalance"],
            "total_pnl": profit,
            "total_pnl_pct": profit / self.initial_balance * 100 if self.initial_balance > 0 else 0,
            "initial_balance": self.initial_balance,
        }

    def get_status(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "ai_model": self.ai_model,
            "exchange": self.exchange,
            "is_running": self.is_running,
            "call_count": self.call_count,
            "runtime_minutes": int((SystemClock().monotonic() - self._began) / 60),
            "initial_balance": self.initial_balance,
        }

    def get_id(self) -> str:
        return self.id

    def get_name(self) -> str:
        return self.name

    def get_ai_model(self) -> str:
        return self.ai_model

    def get_exchange(self) -> str:
        return self.exchange

    # Trading, by the user's own client

    async def close_position(self, symbol: str, side: str) -> None:
        """Close all of a "long" or "short" position, by the client."""
        trader = self._initialized()
        if side not in ("long", "short"):
            raise ValueError(f"side is {side!r}; accepted: long, short")
        await (trader.close_long(symbol, 0) if side == "long" else trader.close_short(symbol, 0))

    async def close_all_positions(self) -> None:
        """Close every open position, by the client; which there are, the venue is asked now.

        Raises:
            ExceptionGroup: some were not closed; all were tried.
        """
        failures: list[Exception] = []
        for position in await self._initialized().get_positions(skin=True):
            try:
                await self.close_position(position["symbol"], position["side"])
            except Exception as error:  # noqa: BLE001 - foreign code; raised below, after the others had their turn
                failures.append(error)
        if failures:
            raise ExceptionGroup("some positions were not closed", failures)

    def _initialized(self) -> BinanceFuturesTrader:
        if self.trader is None:
            raise RuntimeError("the bot has no account yet: await initialize() first")
        return self.trader
