"""`AccountMirror`: a copy of an account in the process, as its users see it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any, Literal, NoReturn, Self

from consumers import config
from consumers.account import refuse_unreadable
from consumers.mirror.callbacks import Callback, Callbacks, Step
from consumers.mirror.follower import CHECK_S, Follower
from consumers.mirror.last_changes import REMEMBERED, LastChanges
from consumers.mirror.view import Names, Rejoin, Table, View
from consumers.models import (
    AccountSnapshot,
    Balance,
    Freshness,
    Order,
    OrderRows,
    Position,
    Rows,
    Source,
    Totals,
    check_side,
)
from statecast.clock import Clock, SystemClock
from statecast.domain.freshness import judge
from statecast.errors import ConfigError, ContractMismatch, StaleState
from statecast.store.client import AnyRedis, Client
from statecast.store.keys import CONTRACT, AccountId
from statecast.store.reader import TABLES

TIMEOUT_S = 3.0
"""Longer than the longest wait for an entry, which is CHECK_S."""

What = Literal["totals", "balances", "positions", "orders"]

_TABLE_OF: Mapping[str, str] = {
    "totals": "account",
    "balances": "balances",
    "positions": "positions",
    "orders": "orders",
}


class AccountMirror:
    """One account, kept in the process. An async context manager; reads are plain calls, good from any thread.

        async with AccountMirror("binance:main", "redis://127.0.0.1:6379/0") as mirror:
            position = mirror.position("BTCUSDT")
            seq = await mirror.changed("positions", "BTCUSDT:BOTH", since=position.seq)

    Entering it reads the account once, and raises what hinders that. It does not wait for a publisher: as long as there
    is none, reads raise.

    A read returns what was verified within `max_age_s`, by Redis's clock; `max_age_s` can be given to each read, too.
    Unlike `AccountReader` a mirror never asks the venue: when the publisher is gone, or Redis cannot be reached, its
    reads start to raise, and work again when that is over. What hinders it is logged as `statecast.consumers`.

    When commits are missing (the stream was trimmed, Redis failed over or was flushed) it reads the account again at
    once; no read returns the old copy meanwhile. `rejoins` lists when and why.

    All reads raise:
        StaleState: nothing is young enough to act on; the message says how old, why, and what to do.
        NeverPublished: no publisher has ever written the account: unknown, not flat. A kind of StaleState.
        ContractMismatch: the keys are of another version.
    """

    def __init__(
        self,
        account_id: str | AccountId,
        redis: str | AnyRedis,
        *,
        max_age_s: float = config.MAX_AGE_S,
        remembered: int = REMEMBERED,
        clock: Clock | None = None,
    ) -> None:
        """`redis` is a URL, or a client of redis-py, which says where and how to connect. `remembered`: so many rows of
        each table are known by the commit that changed them last.

        Raises:
            ConfigError: a setting cannot work. Nothing is connected yet.
        """
        self.account_id = config.account_id(account_id)
        self.max_age_s = config.max_age(max_age_s)
        self._clock = clock or SystemClock()
        self._client = Client(redis, client_name="statecast-mirror", timeout_s=TIMEOUT_S)
        self._follower = Follower(
            self._client,
            self.account_id,
            self._clock,
            check_s=min(CHECK_S, self.max_age_s / 4),
            refusal="the mirror was not started; use it as an async context manager",
            on_view=self._replaced,
        )
        self._last_changes = LastChanges(remembered)
        self._updated = asyncio.Event()
        """Set, and replaced, whenever the view is replaced."""
        self._callbacks = Callbacks(self.account_id, self._age_s)
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    @classmethod
    def from_env(cls, **overrides: Any) -> Self:
        """From the settings `STATECAST_…` of the environment and `.env`, the publisher's own.

        Overrides are settings in lower case (`account="main"`, `redis_url=…`, `max_age_s=…`) or arguments of the class.
        """
        environment = config.from_environment(overrides)
        given: dict[str, Any] = {
            "account_id": environment.account_id,
            "redis": environment.redis_url,
            "max_age_s": environment.max_age_s,
        }
        return cls(**given | dict(environment.options))

    async def __aenter__(self) -> Self:
        assert not self._tasks, "enter it once"
        try:
            await self._follower.join()
        except BaseException:  # cancelled, too: it was not entered, so nobody will leave it
            await self._client.aclose()
            raise
        self._tasks = (asyncio.create_task(self._follower.run()), asyncio.create_task(self._callbacks.run()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop following and close the connection; who waits for a change gets StaleState."""
        for task in self._tasks:
            task.cancel()
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            self._follower.refuse("the mirror is closed")
        await self._client.aclose()

    # Reads

    def totals(self, *, max_age_s: float | None = None) -> Totals:
        """The account as a whole."""
        view = self._follower.view
        table = view.account
        freshness = self._fresh(view, table, max_age_s)
        return table.rows[""].at(freshness)

    def balances(self, *, max_age_s: float | None = None) -> Rows[Balance]:
        """All assets, also by name: `mirror.balances()["USDT"]`."""
        view = self._follower.view
        return Rows(view.balances.rows, self._fresh(view, view.balances, max_age_s))

    def positions(self, *, max_age_s: float | None = None) -> Rows[Position]:
        """All open positions. Empty is flat, and known to be."""
        view = self._follower.view
        return Rows(view.positions.rows, self._fresh(view, view.positions, max_age_s))

    def position(self, symbol: str, side: str = "BOTH", *, max_age_s: float | None = None) -> Position:
        """One position; false, and its `side` "flat", if there is none. In hedge mode `side` is LONG or SHORT."""
        view = self._follower.view
        table = view.positions
        freshness = self._fresh(view, table, max_age_s)
        row = table.rows.get(f"{symbol}:{side}")
        if row is None:
            check_side(symbol, side, table.rows)
            row = _flat(symbol, side, table.source)
        return row.at(freshness)

    def open_orders(self, *, max_age_s: float | None = None) -> OrderRows:
        """All open orders, also by name (`BTCUSDT:1001`), or by the id alone where one symbol has it."""
        view = self._follower.view
        return OrderRows(view.orders.rows, self._fresh(view, view.orders, max_age_s))

    def snapshot(self, *, max_age_s: float | None = None) -> AccountSnapshot:
        """All of it at one `seq`."""
        view = self._follower.view
        tables: tuple[Table[Any], ...] = (view.account, view.balances, view.positions, view.orders)
        freshness = self._fresh(view, max(tables, key=lambda table: table.seq), max_age_s)
        return AccountSnapshot(
            account_id=str(self.account_id),
            totals=view.account.rows[""].at(freshness),
            balances=Rows(view.balances.rows, freshness),
            positions=Rows(view.positions.rows, freshness),
            open_orders=OrderRows(view.orders.rows, freshness),
            freshness=freshness,
        )

    # Changes

    @property
    def rejoins(self) -> tuple[Rejoin, ...]:
        """The last times that the account was read again because the copy was incomplete, oldest first."""
        return tuple(self._follower.rejoins)

    async def changed(
        self,
        what: What | None = None,
        name: str | None = None,
        *,
        since: int | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Wait until something changes after commit `since` (default: now); returns the copy's `seq` then.

        `what` is a part of the account, `name` one of it: an asset, a position as `BTCUSDT:BOTH`, an order as
        `BTCUSDT:1001`. Give what this returned, or the `seq` of an answer, as the next `since`, and no change between
        two calls is lost; changes meanwhile count as one. When an incomplete copy was read again, all that differs
        counts as changed. If the account has not reached `since` (Redis lost everything, and numbers started over), it
        returns at once.

        Raises:
            TimeoutError: nothing changed within `timeout_s`.
            StaleState: the mirror was closed.
            ConfigError: there is no such part or name.
        """
        table = _table_of(what, name)
        after = self._follower.view.seq if since is None else since
        async with asyncio.timeout(timeout_s):
            while not after > self._follower.view.seq and not self._last_changes.of(table, name) > after:
                if self._follower.view.refusal:
                    self._refuse(self._follower.view, self._age_s(), self.max_age_s)
                await self._updated.wait()
        return self._follower.view.seq

    def on_totals(self, callback: Callback[Totals]) -> None:
        """Call `callback(before, after)` for every change of the totals.

        Callbacks are called in the order of commits, one at a time, and apart from the copy: a slow one delays the
        others and not the reads. If they are 1,000 commits late, they get those as one change, and the log says so.
        What a callback raises is logged. Values know their commit; their age is that of the call, and may be beyond
        `max_age_s`.
        """
        self._callbacks.totals.append(callback)

    def on_position(self, callback: Callback[Position], symbol: str | None = None) -> None:
        """Call `callback(before, after)` for every change of a position, mark prices included; None is flat."""
        self._callbacks.positions.append((symbol, callback))

    def on_order(self, callback: Callback[Order]) -> None:
        """Call `callback(before, after)` for every change of the open orders; None is not open (yet, or any more)."""
        self._callbacks.orders.append(callback)

    def on_rejoin(self, callback: Callable[[Rejoin], object]) -> None:
        """Call `callback(rejoin)` when the copy had to be read again, before the callbacks for what differs."""
        self._callbacks.rejoins.append(callback)

    def _replaced(self, before: View, after: View, names: Names | None, rejoins: tuple[Rejoin, ...]) -> None:
        """Let those who wait see that the view has changed."""
        if names is not None:
            if before.refusal or after.seq < before.seq:
                self._last_changes.start_over(after.seq)
            self._last_changes.note(names, after.seq)
            if not before.refusal:
                self._callbacks.put(Step(before, after, names, rejoins))
        self._updated.set()
        self._updated = asyncio.Event()

    # How far the copy may be trusted

    def _age_s(self) -> float:
        return self._follower.view.age_at(self._clock.monotonic())

    def _fresh(self, view: View, table: Table[Any], max_age_s: float | None) -> Freshness:
        limit_s = self.max_age_s if max_age_s is None else config.max_age(max_age_s)
        age_s = view.age_s + self._clock.monotonic() - view.asked_mono_s
        if not view.good or age_s > limit_s:
            self._refuse(view, age_s, limit_s)
        # As `view.freshness`, without the call: this is most of a read's time.
        return Freshness(age_s, view.seq, table.source, "publisher", view.epoch, view.state, view.verified_at_ms)

    def _refuse(self, view: View, age_s: float, limit_s: float) -> NoReturn:
        """Say why the copy is not to be read, in the words in which a reader would."""
        if view.mismatch:
            raise ContractMismatch(self._client.server, view.mismatch)
        if view.age_s < 0:
            age_s = view.age_s  # Redis's clock was set back: no time that passes here makes up for it
        age_ms = None if math.isinf(age_s) else math.ceil(age_s * 1000)
        if age_ms is not None and age_s > limit_s:
            age_ms = max(age_ms, math.floor(limit_s * 1000) + 1)
        now_ms = view.verified_at_ms + (age_ms or 0)
        judged = judge(view.status, now_ms, limit_s * 1000, contract=CONTRACT, asked=TABLES, missing=view.missing)
        why = judged.why
        advice = "start `statecast publish`, or see what its log says; the mirror recovers by itself"
        trouble = self._follower.trouble
        if view.refusal:
            why, advice = view.refusal, "read a mirror that runs"
        elif view.incomplete:
            why = f"the copy is incomplete ({view.incomplete}) and is being read again"
            advice = "read again in a moment"
        else:
            refuse_unreadable(self.account_id, self._client.server, judged, limit_s)
        if trouble and not view.refusal:
            why, advice = f"{why}; the mirror cannot read on ({trouble})", "fix that; the mirror recovers by itself"
        raise StaleState(str(self.account_id), None if age_ms is None else age_ms / 1000, limit_s, why, advice)


@lru_cache(4096)
def _flat(symbol: str, side: str, source: Source) -> Position:
    return Position.flat(symbol, side, Freshness(math.inf, 0, source, "publisher", 0, "", 0))


def _table_of(what: What | None, name: str | None) -> str | None:
    """The hash that holds it; ConfigError for what there cannot be."""
    if what is not None and what not in _TABLE_OF:
        raise ConfigError("what", str(what), ", ".join(_TABLE_OF))
    if name is not None and what in (None, "totals"):
        raise ConfigError("name", name, "a name within balances, positions or orders")
    if name is not None and what == "positions" and name.rpartition(":")[2] not in ("BOTH", "LONG", "SHORT"):
        raise ConfigError("name", name, "a position as SYMBOL:SIDE, such as BTCUSDT:BOTH")
    if name is not None and what == "orders" and ":" not in name:
        raise ConfigError("name", name, "an order as SYMBOL:ORDERID, such as BTCUSDT:1001")
    return None if what is None else _TABLE_OF[what]
