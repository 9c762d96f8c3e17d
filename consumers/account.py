"""Reads an account from Redis; refreshes it by REST when it is stale, shared with all other readers; or refuses."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from consumers import config
from consumers.models import AccountSnapshot, Balance, OrderRows, Position, Rows, Totals, check_side
from consumers.refresh import NoAnswer, Refresher
from consumers.tables import Tables, of_publisher, of_refresh
from statecast.clock import Clock, SystemClock
from statecast.domain.freshness import Verdict, age_ms, judge
from statecast.errors import ContractMismatch, NeverPublished, StaleState
from statecast.store.client import AnyRedis, Client
from statecast.store.keys import CONTRACT, AccountId
from statecast.store.reader import TABLES, read_account
from statecast.venues.adapter import Access


class AccountReader:
    """One account, read when it is asked for. An async context manager; many calls can be made at the same time.

        async with AccountReader("binance:main", "redis://127.0.0.1:6379/0") as reader:
            position = await reader.position("BTCUSDT")
            print(position.position_amt, position.age_s)

    Every call is one round trip and one commit. What it returns was verified within `max_age_s`, by Redis's clock and
    including the time that the answer took; otherwise it raises. `max_age_s` can be given to each call as well.

    When the publisher's state is older, a REST answer that is young enough serves all readers of all processes; if
    there is none, one of those with `credentials` fetches it, or a living publisher does, and the others wait.

    All calls raise:
        StaleState: nothing is young enough to act on; the message says how old, why, and what to do.
        NeverPublished: no publisher has ever written the account: unknown, not flat. A kind of StaleState.
        ContractMismatch: the keys are of another version.
        StoreUnreachable, StoreRefused: Redis does not answer, or refuses.
    """

    def __init__(
        self,
        account_id: str | AccountId,
        redis: str | AnyRedis,
        *,
        max_age_s: float = config.MAX_AGE_S,
        credentials: Access | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`redis` is a URL, or a client of redis-py, which says where and how to connect.

        Raises:
            ConfigError: a setting cannot work. Nothing is connected yet.
        """
        self.account_id = config.account_id(account_id)
        self.max_age_s = config.max_age(max_age_s)
        self._clock = clock or SystemClock()
        self._client = Client(redis, client_name="statecast-reader")
        self._refresher = Refresher(self._client, self.account_id, credentials, self._clock)

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
            "credentials": environment.access,
        }
        return cls(**given | dict(environment.options))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._refresher.aclose()
        await self._client.aclose()

    async def totals(self, *, max_age_s: float | None = None) -> Totals:
        """The account as a whole."""
        return (await self._tables(("account",), max_age_s)).totals()

    async def balances(self, *, max_age_s: float | None = None) -> Rows[Balance]:
        """All assets, also by name: `(await reader.balances())["USDT"]`."""
        return (await self._tables(("balances",), max_age_s)).balances()

    async def positions(self, *, max_age_s: float | None = None) -> Rows[Position]:
        """All open positions. Empty is flat, and known to be."""
        return (await self._tables(("positions",), max_age_s)).positions()

    async def position(self, symbol: str, side: str = "BOTH", *, max_age_s: float | None = None) -> Position:
        """One position; false, and its `side` "flat", if there is none. In hedge mode `side` is LONG or SHORT."""
        positions = await self.positions(max_age_s=max_age_s)
        found = positions.get(f"{symbol}:{side}")
        if found is None:
            check_side(symbol, side, positions.by_name)
        return found or Position.flat(symbol, side, positions.freshness)

    async def open_orders(self, *, max_age_s: float | None = None) -> OrderRows:
        """All open orders, also by name (`BTCUSDT:1001`), or by the id alone where one symbol has it."""
        return (await self._tables(("orders",), max_age_s)).open_orders()

    async def snapshot(self, *, max_age_s: float | None = None) -> AccountSnapshot:
        """All of it at one `seq`."""
        return (await self._tables(TABLES, max_age_s)).snapshot()

    async def refresh(self) -> AccountSnapshot:
        """The account by REST, asked after this call began: by this reader, or by the publisher on its behalf.

        Readers that ask at the same time share the answer. Nothing that the publisher wrote is overwritten.
        """
        stored = await read_account(self._client, self.account_id)
        judged = judge(stored.status, stored.now_ms, 0.0, contract=CONTRACT, asked=stored.asked, missing=stored.missing)
        refuse_unreadable(self.account_id, self._client.server, judged, 0.0)
        try:
            answer = await self._refresher.answer(0.0)
        except NoAnswer as error:
            raise self._stale(0.0, error.why, error.advice, stored.age_ms, error.age_ms) from error
        return of_refresh(self.account_id, self._client.server, answer).snapshot()

    async def _tables(self, asked: tuple[str, ...], max_age_s: float | None) -> Tables:
        limit_s = self.max_age_s if max_age_s is None else config.max_age(max_age_s)
        began = self._clock.monotonic()
        stored = await read_account(self._client, self.account_id, asked)
        now_ms = stored.now_ms
        if (stored.age_ms or 0) >= 0:  # else Redis's clock was set back, and no time that passes here makes up for it
            # The answer may have been long on its way, or this process may have stood still meanwhile.
            now_ms += round((self._clock.monotonic() - began) * 1000)
        judged = judge(
            stored.status, now_ms, limit_s * 1000, contract=CONTRACT, asked=stored.asked, missing=stored.missing
        )
        age = age_ms(stored.status, now_ms)
        if judged.fresh:
            assert age is not None
            return of_publisher(stored, self._client.server, age)
        refuse_unreadable(self.account_id, self._client.server, judged, limit_s)
        try:
            answer = await self._refresher.answer(limit_s)
        except NoAnswer as error:
            raise self._stale(limit_s, f"{judged.why}; {error.why}", error.advice, age, error.age_ms) from error
        return of_refresh(self.account_id, self._client.server, answer)

    def _stale(self, limit_s: float, why: str, advice: str, *ages_ms: int | None) -> StaleState:
        # A negative age is none: it was verified before Redis's clock was set back.
        known = [age for age in ages_ms if age is not None and age >= 0]
        return StaleState(str(self.account_id), min(known) / 1000 if known else None, limit_s, why, advice)


def refuse_unreadable(account_id: AccountId, server: str, judged: Verdict, limit_s: float) -> None:
    """Raise for what no refresh could fix: an account that nobody has published, another contract."""
    if judged.never_published:
        why = f"no publisher has ever written it to Redis at {server}, so it is unknown, not flat"
        raise NeverPublished(str(account_id), limit_s, why, "start `statecast publish`, or check the account's name")
    if judged.other_contract:
        raise ContractMismatch(server, f"{account_id} is {judged.why}")
