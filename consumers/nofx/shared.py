"""What all bots of a process share: a mirror of each account, its publisher, its REST, and one private Redis server.

Each is opened for its first user and closed after its last, by a task of its own; a user may stop waiting
for a slow opening, which goes on meanwhile. Everything but the private server belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Generic, NamedTuple, TypeVar, cast
from weakref import WeakKeyDictionary

from consumers.mirror import AccountMirror
from consumers.nofx.modes import PRIVATE_SERVER, Source
from consumers.refresh import NoAnswer, Refresher
from consumers.tables import Tables, of_refresh
from statecast.clock import SystemClock
from statecast.embedded.server import EmbeddedServer
from statecast.errors import ConfigError, StaleState, StoreError, StoreUnreachable
from statecast.settings import PREFIX
from statecast.store.client import Client, connect

RETRY_S = 1.0
"""Between two attempts to reach a Redis that is away."""

Value = TypeVar("Value")

_log = logging.getLogger("statecast.consumers.nofx")


class Shared(Generic[Value]):
    """One thing, open for as long as it has users. Get one from `mirrored` or `by_rest`, and `release` it.

    `ended` is called when nobody may get it any more: its last user has gone, or it has failed.
    """

    def __init__(
        self, source: Source, make: Callable[[], AbstractAsyncContextManager[Value]], ended: Callable[[], None]
    ) -> None:
        self.source = source
        self._users = 0
        self.now: Value | None = None
        """The thing, as soon as it is open."""

        self._opened = asyncio.Event()
        self._ended = asyncio.Event()
        self._forget = ended
        self._keeper = asyncio.create_task(self._keep(make))
        self._keeper.add_done_callback(lambda _: ended())

    async def opened(self) -> Value:
        """The thing, when it is open; raises what hinders it permanently."""
        opening = asyncio.create_task(self._opened.wait())
        try:
            await asyncio.wait((opening, self._keeper), return_when=asyncio.FIRST_COMPLETED)
        finally:
            opening.cancel()
        if self.now is None:
            if self._ended.is_set():  # by another task, which released it meanwhile: that is no cancellation of ours
                raise stopped(self.source)
            await self._keeper
        assert self.now is not None, "a keeper that ends without an error has opened"
        return self.now

    def use(self) -> None:
        """One user more."""
        self._users += 1

    async def release(self) -> None:
        """One user less; the last one returns when it is closed."""
        self._users -= 1
        if self._users:
            return
        self._forget()
        self._ended.set()
        if self.now is None:
            self._keeper.cancel()
        await asyncio.wait((self._keeper,))
        if not self._keeper.cancelled() and (error := self._keeper.exception()) is not None:
            _log.debug("closed after an error: %s", error)

    async def _keep(self, make: Callable[[], AbstractAsyncContextManager[Value]]) -> None:
        async with make() as value:
            self.now = value
            self._opened.set()
            await self._ended.wait()


def stopped(source: Source) -> StaleState:
    """For those who wait for what has been stopped in the meantime."""
    why, advice = "it was stopped while it was starting", "start it again"
    return StaleState(str(source.account_id), None, source.max_age_s, why, advice)


class Mirrored(NamedTuple):
    """An account that is followed. `publisher` is the task of the one in this process; None when attached."""

    mirror: AccountMirror
    client: Client
    publisher: asyncio.Task[None] | None


class ByRest:
    """An account by REST, one question at a time over all bots of all processes that share a Redis."""

    def __init__(self, source: Source, client: Client) -> None:
        self._source = source
        self._client = client
        self._refresher = Refresher(client, source.account_id, source.access, SystemClock())

    async def tables(self, max_age_s: float, stale: StaleState | None) -> Tables:
        """An answer that is at most so old, or asked after this call began if that is 0.

        Raises:
            StaleState: there is none; the message says why, and `stale`, the state of the stream, as well.
            StoreUnreachable: without Redis readers cannot take turns to ask.
        """
        try:
            answer = await self._refresher.answer(max_age_s)
        except NoAnswer as error:
            why = f"{stale.why}; {error.why}" if stale else error.why
            age_s = None if error.age_ms is None else error.age_ms / 1000
            raise StaleState(str(self._source.account_id), age_s, max_age_s, why, error.advice) from error
        return of_refresh(self._source.account_id, self._client.server, answer)

    async def aclose(self) -> None:
        await self._refresher.aclose()


def mirrored(source: Source) -> Shared[Mirrored]:
    """The account's mirror, and in embedded mode its publisher, for one more user.

    Raises:
        ConfigError: the account's name stands for another key already.
    """
    return _share(("mirror", source.redis_url, source.account_id, source.mode), source, lambda: _mirrored(source))


def by_rest(source: Source) -> Shared[ByRest]:
    """The account by REST, for one more user.

    Raises: as `mirrored`.
    """
    return _share(("rest", source.redis_url, source.account_id, source.access), source, lambda: _by_rest(source))


@asynccontextmanager
async def _mirrored(source: Source) -> AsyncIterator[Mirrored]:
    async with _redis(source) as url, AsyncExitStack() as stack:
        publisher = None
        if source.publisher is not None:
            from consumers.nofx import embedded

            publisher = await stack.enter_async_context(embedded.publisher(source.publisher, url))
        mirror = await stack.enter_async_context(_mirror(source, url))
        yield Mirrored(mirror, await stack.enter_async_context(connect(url, client_name="statecast-nofx")), publisher)


@asynccontextmanager
async def _mirror(source: Source, url: str) -> AsyncIterator[AccountMirror]:
    """As soon as Redis answers."""
    warned = False
    while True:
        mirror = AccountMirror(source.account_id, url, max_age_s=source.max_age_s)
        try:
            await mirror.__aenter__()
        except StoreUnreachable as error:
            if not warned:
                _log.warning("%s: %s; trying on", source.account_id, error)
            warned = True
            await SystemClock().sleep(RETRY_S)
            continue
        try:
            yield mirror
        finally:
            await mirror.aclose()
        return


@asynccontextmanager
async def _by_rest(source: Source) -> AsyncIterator[ByRest]:
    async with _redis(source) as url, connect(url, client_name="statecast-nofx") as client:
        rest = ByRest(source, client)
        try:
            yield rest
        finally:
            await rest.aclose()


_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[object, Shared[Any]]] = WeakKeyDictionary()
_lock = threading.Lock()


def _things() -> dict[object, Shared[Any]]:
    return _by_loop.setdefault(asyncio.get_running_loop(), {})


def _share(key: object, source: Source, make: Callable[[], AbstractAsyncContextManager[Value]]) -> Shared[Value]:
    with _lock:
        things = _things()
        for loop, others in _by_loop.items():
            for other in () if loop.is_closed() else tuple(others.values()):
                _check_same_key(source, other.source)
        thing = cast("Shared[Value] | None", things.get(key))
        if thing is None:

            def ended() -> None:
                if things.get(key) is thing:
                    del things[key]

            thing = things[key] = Shared(source, make, ended)
        thing.use()
    return thing


def _check_same_key(source: Source, other: Source) -> None:
    """Under one name two keys would be shown each other's numbers."""
    same_account = (source.redis_url, source.account_id) == (other.redis_url, other.account_id)
    if same_account and source.access and other.access and source.access != other.access:
        accepted = "another name for each API key; this one is in use with another key, or at other hosts"
        raise ConfigError(f"{PREFIX}ACCOUNT", source.account_id.account, accepted)


class _PrivateServer:
    """The one Redis server of this process, while anybody uses it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._server: EmbeddedServer | None = None

    @contextmanager
    def url(self) -> Iterator[str]:
        with self._lock:
            if self._server is None:
                server = EmbeddedServer()
                server.start()
                self._server = server
            self._users += 1
            url = self._server.url
        try:
            yield url
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._server.stop()
                    self._server = None

    def revive(self) -> None:
        """Start it again, at the same port, if it has ended: nobody else does.

        The publisher then writes everything again.
        """
        with self._lock:
            if self._server is not None and self._server.poll() is not None:
                _log.error("the private Redis server has ended (%s); starting it again", self._server.poll())
                self._server.start()


_private_server = _PrivateServer()


@asynccontextmanager
async def _redis(source: Source) -> AsyncIterator[str]:
    if source.redis_url != PRIVATE_SERVER:
        yield source.redis_url
        return
    with _private_server.url() as url:
        watching = asyncio.create_task(_watch())
        try:
            yield url
        finally:
            watching.cancel()
            await asyncio.wait((watching,))


async def _watch() -> None:
    while True:
        await SystemClock().sleep(RETRY_S)
        try:
            _private_server.revive()
        except StoreError as error:
            _log.error("the private Redis server has ended and does not start again: %s", error)
