"""The same reader, mirror and order events for programs that are not async.

    from consumers.blocking import AccountReader

    with AccountReader("binance:main", "redis://127.0.0.1:6379/0") as reader:
        print(reader.position("BTCUSDT").position_amt)

Each object runs its async twin in an event loop of its own, in a thread of its own; nothing is done twice here. Calls
can be made from any thread. Ctrl-C ends a call that waits, and leaving the `with` block closes what was opened.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import TracebackType
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar

from anyio import to_thread
from anyio.from_thread import BlockingPortal, start_blocking_portal

from consumers import account, mirror, order_events
from consumers.mirror import Callback, Rejoin
from consumers.models import Order, Position, Totals
from consumers.order_events import Gap
from statecast.store.keys import AccountId

P = ParamSpec("P")
T = TypeVar("T")
Core = TypeVar("Core", bound="_ForOneAccount")


def _arguments_of(
    core: Callable[P, object],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, P], None]]:
    """Gives a constructor the arguments of `core`, for type checkers and `help`."""

    def dressed(constructor: Callable[..., None]) -> Callable[Concatenate[Any, P], None]:
        return functools.update_wrapper(constructor, core.__init__, assigned=("__doc__",))

    return dressed


def _waits_for(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], T]:
    """The async method, called in the event loop's thread and waited for."""

    @functools.wraps(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        waited_for: T = self._wait(functools.partial(method, self._core, *args, **kwargs))
        return waited_for

    return call


def _calls(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """The method, called in the caller's own thread."""

    @functools.wraps(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return method(self._core, *args, **kwargs)

    return call


class _ForOneAccount(AbstractAsyncContextManager[Any], Protocol):
    account_id: AccountId


class _Blocking(Generic[Core]):
    """What all have: an async object, and an event loop for it from entering to leaving."""

    _kind: ClassVar[Any]
    _core: Core

    def _hold(self, core: Core) -> None:
        self._core = core
        self._portal: BlockingPortal | None = None
        self._opened = ExitStack()

    @classmethod
    def from_env(cls, **overrides: Any) -> Self:
        """As `from_env` of the async class."""
        made = cls.__new__(cls)
        made._hold(cls._kind.from_env(**overrides))
        return made

    @property
    def account_id(self) -> AccountId:
        return self._core.account_id

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            portal = opening.enter_context(start_blocking_portal(name=f"statecast-{type(self).__name__}"))
            opening.enter_context(portal.wrap_async_context_manager(self._core))
            self._portal, self._opened = portal, opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal = None
        self._opened.__exit__(kind, error, trace)

    def _wait(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._portal is None:
            raise RuntimeError(f"use it as `with {type(self).__name__}(…) as …`, and within that block")
        running: Future[T] = self._portal.start_task_soon(call)
        try:
            return running.result()
        except BaseException:
            running.cancel()  # Ctrl-C came to this thread; what it waited for is not wanted any more
            raise


class AccountReader(_Blocking[account.AccountReader]):
    """`consumers.AccountReader` with plain calls."""

    _kind = account.AccountReader

    @_arguments_of(account.AccountReader)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._hold(account.AccountReader(*args, **kwargs))

    @property
    def max_age_s(self) -> float:
        """The limit of reads that name none."""
        return self._core.max_age_s

    totals = _waits_for(account.AccountReader.totals)
    balances = _waits_for(account.AccountReader.balances)
    positions = _waits_for(account.AccountReader.positions)
    position = _waits_for(account.AccountReader.position)
    open_orders = _waits_for(account.AccountReader.open_orders)
    snapshot = _waits_for(account.AccountReader.snapshot)
    refresh = _waits_for(account.AccountReader.refresh)
    close = _waits_for(account.AccountReader.aclose)


class AccountMirror(_Blocking[mirror.AccountMirror]):
    """`consumers.AccountMirror` with plain calls. Its reads stay in the caller's thread."""

    _kind = mirror.AccountMirror

    @_arguments_of(mirror.AccountMirror)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._hold(mirror.AccountMirror(*args, **kwargs))

    @property
    def max_age_s(self) -> float:
        """The limit of reads that name none."""
        return self._core.max_age_s

    totals = _calls(mirror.AccountMirror.totals)
    balances = _calls(mirror.AccountMirror.balances)
    positions = _calls(mirror.AccountMirror.positions)
    position = _calls(mirror.AccountMirror.position)
    open_orders = _calls(mirror.AccountMirror.open_orders)
    snapshot = _calls(mirror.AccountMirror.snapshot)
    changed = _waits_for(mirror.AccountMirror.changed)
    close = _waits_for(mirror.AccountMirror.aclose)

    @property
    def rejoins(self) -> tuple[Rejoin, ...]:
        """The last times that the account was read again because the copy was incomplete, oldest first."""
        return self._core.rejoins

    # Callbacks run in a worker thread, one at a time: one that blocks must not hold up the copy.

    def on_totals(self, callback: Callback[Totals]) -> None:
        """Call `callback(before, after)` in another thread for every change of the totals."""
        self._core.on_totals(_in_a_thread(callback))

    def on_position(self, callback: Callback[Position], symbol: str | None = None) -> None:
        """Call `callback(before, after)` in another thread for every change of a position; None is flat."""
        self._core.on_position(_in_a_thread(callback), symbol)

    def on_order(self, callback: Callback[Order]) -> None:
        """Call `callback(before, after)` in another thread for every change of the open orders; None is not open."""
        self._core.on_order(_in_a_thread(callback))

    def on_rejoin(self, callback: Callable[[Rejoin], object]) -> None:
        """Call `callback(rejoin)` in another thread when the copy had to be read again."""
        self._core.on_rejoin(_in_a_thread(callback))


def _in_a_thread(callback: Callable[P, object]) -> Callable[P, Coroutine[Any, Any, None]]:
    async def call(*args: P.args, **kwargs: P.kwargs) -> None:
        # One that hangs must not keep the program from ending.
        await to_thread.run_sync(functools.partial(callback, *args, **kwargs), abandon_on_cancel=True)

    return call


@dataclass(frozen=True, kw_only=True)
class OrderEvent(order_events.OrderEvent):
    """`consumers.OrderEvent` with plain calls."""

    _delivered: order_events.OrderEvent = field(repr=False, compare=False)
    _waits: Callable[[Callable[[], Coroutine[Any, Any, None]]], None] = field(repr=False, compare=False)
    """Runs a call in the event loop of the consumer, and waits for it."""

    def ack(self) -> None:  # type: ignore[override]  # waits here, where the other returns what to await
        """The event is handled: never deliver it again. Waits while Redis is away; may be repeated."""
        self._waits(self._delivered.ack)

    def retry(self, reason: str) -> None:  # type: ignore[override]  # likewise
        """Handling failed: deliver it again, after a pause and before any later event.

        After `max_attempts` it goes to the dead letters instead.
        """
        self._waits(functools.partial(self._delivered.retry, reason))

    def reject(self, reason: str) -> None:  # type: ignore[override]  # likewise
        """The event cannot be handled: move it to the dead letters of the group, with the reason."""
        self._waits(functools.partial(self._delivered.reject, reason))


class OrderEvents(_Blocking[order_events.OrderEvents], Iterator[OrderEvent]):
    """`consumers.OrderEvents` as a plain iterator.

        with OrderEvents("binance:main", "redis://127.0.0.1:6379/0", group="mybot") as events:
            for event in events:
                print(event.event_type, event.order_id, event.executed_qty)
                event.ack()

    or `events.run(handle)`. The lease is renewed in another thread, so a handler may take its time. `on_gap` is called
    in another thread, too.
    """

    _kind = order_events.OrderEvents

    @_arguments_of(order_events.OrderEvents)
    def __init__(self, *args: Any, on_gap: Callable[[Gap], object] | None = None, **kwargs: Any) -> None:
        in_a_thread = None if on_gap is None else _in_a_thread(on_gap)
        self._hold(order_events.OrderEvents(*args, on_gap=in_a_thread, **kwargs))

    close = _waits_for(order_events.OrderEvents.aclose)

    @property
    def group(self) -> str:
        return self._core.group

    @property
    def consumer(self) -> str:
        """The name of this consumer within the group."""
        return self._core.consumer

    @property
    def gaps(self) -> Sequence[Gap]:
        """The last gaps, the youngest at the end."""
        return tuple(self._core.gaps)

    @property
    def holds(self) -> tuple[int, ...]:
        """The partitions that this consumer works on, from 1; empty while it is a standby."""
        return self._core.holds

    def __next__(self) -> OrderEvent:
        """Wait for the next event."""

        async def next_or_end() -> order_events.OrderEvent | None:
            return await anext(self._core, None)

        event = self._wait(next_or_end)
        if event is None:
            raise StopIteration
        return self._with_plain_calls(event)

    def run(self, handler: Callable[[OrderEvent], object]) -> None:
        """As `consumers.OrderEvents.run`; the handler is called in this thread and may block."""
        if self._portal is None:
            raise RuntimeError("use it as `with OrderEvents(…) as events`, and within that block")
        turns: SimpleQueue[tuple[order_events.OrderEvent, Future[Exception | None]] | None] = SimpleQueue()

        async def hand_over(event: order_events.OrderEvent) -> None:
            handled: Future[Exception | None] = Future()
            handled.set_running_or_notify_cancel()  # what is being handled cannot be called back
            turns.put((event, handled))
            # As a result: no asyncio future takes a StopIteration as its exception; it would be waited for without end.
            if (failure := await asyncio.wrap_future(handled)) is not None:
                raise failure

        running = self._portal.start_task_soon(self._core.run, hand_over)
        running.add_done_callback(lambda ended: turns.put(None))
        try:
            while (turn := turns.get()) is not None:
                event, handled = turn
                try:
                    handler(self._with_plain_calls(event))
                except Exception as error:  # noqa: BLE001 - `run` of the async class judges it
                    handled.set_result(error)
                else:
                    handled.set_result(None)
            running.result()
        except BaseException:  # Ctrl-C came to this thread: the loop's thread would go on without a handler
            running.cancel()
            raise

    def _with_plain_calls(self, event: order_events.OrderEvent) -> OrderEvent:
        return OrderEvent(**vars(event), _delivered=event, _waits=self._wait)
