"""Connections to Redis: time-outs, no hidden retries, redis-py's errors turned into ours.

redis-py 8 repeats every command up to ten times by itself, writes included: a lost reply would append an order event
again. Here every command is sent once, and whether it may be repeated is decided by the caller, who knows what it does.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import hiredis
import redis
import redis.asyncio
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from statecast.errors import ConfigError, StoreAuthFailed, StoreRefused, StoreUnreachable

ACCEPTED_URLS = "redis://HOST:PORT/DB, rediss://HOST:PORT/DB, unix:///PATH, or embedded"
SOCKET_TIMEOUT_S = 2.0
"""Shorter than the lease: a writer without a reply for this long must not assume that it still holds it."""

MAX_CONNECTIONS = 100


class _PackedByHiredis:
    """Packs commands in C: redis-py's own packing takes eight times as long for a commit's fifty arguments."""

    def pack_command(self, *args: Any) -> list[bytes]:
        if isinstance(args[0], str) and " " in args[0]:
            args = (*args[0].split(), *args[1:])
        return [hiredis.pack_command(args)]


class _TcpConnection(_PackedByHiredis, redis.asyncio.Connection):
    pass


class _TlsConnection(_PackedByHiredis, redis.asyncio.SSLConnection):
    pass


class _UnixConnection(_PackedByHiredis, redis.asyncio.UnixDomainSocketConnection):
    pass


_CONNECTIONS = {"redis": _TcpConnection, "rediss": _TlsConnection, "unix": _UnixConnection}


def server_name(url: str) -> str:
    """`url` without user, password and options: what may stand in a log."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


def check_url(url: str, setting: str = "STATECAST_REDIS_URL") -> None:
    """Raise `ConfigError` unless `url` names a Redis server."""
    try:
        parts = urlsplit(url)
        good = (
            parts.scheme in ("redis", "rediss")
            and bool(parts.hostname)
            and parts.port != 0
            and _DATABASE.fullmatch(parts.path) is not None  # redis-py takes any other path for database 0
        ) or (parts.scheme == "unix" and bool(parts.path))
        if good:
            # Connects to nothing; an option that no connection knows would else be an error of the first command.
            pool = ConnectionPool.from_url(url, connection_class=_CONNECTIONS[parts.scheme])
            pool.make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, AttributeError, exceptions.RedisError):
        good = False
    if not good:
        raise ConfigError(setting, _harmless_part(url), ACCEPTED_URLS)


def check_running_url(url: str, setting: str = "STATECAST_REDIS_URL") -> None:
    """Raise `ConfigError` unless `url` names a Redis server that others run: what a reader needs."""
    if url == "embedded":
        accepted = "the URL of a server; an embedded one belongs to the program that runs it, which printed its URL"
        raise ConfigError(setting, url, accepted)
    check_url(url, setting)


_DATABASE = re.compile(r"/?|/[0-9]+")
_HOST_AND_PORT = re.compile(r"[A-Za-z0-9.-]*(:[0-9]*)?(/[0-9]*)?")


def _harmless_part(url: str) -> str:
    """What may be shown of a URL that cannot be parsed, for any part of it may be a password."""
    if _HOST_AND_PORT.fullmatch(url):
        return url
    scheme, colon, _ = url.partition("://")
    return f"{scheme}://…" if colon and scheme.isalpha() else "…"


AnyRedis = redis.Redis | redis.asyncio.Redis
"""A client of redis-py that a user has already, of either kind."""


class Client:
    """A connection pool to one Redis server. Used by one event loop; `aclose()` it.

    `redis` is a URL, or a client of redis-py that says where and how to connect: its connections are left alone, since
    they repeat commands by themselves.
    """

    def __init__(self, redis: str | AnyRedis, *, client_name: str, timeout_s: float = SOCKET_TIMEOUT_S) -> None:
        ours = {
            "decode_responses": True,
            "legacy_responses": False,
            "client_name": client_name,
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
            # With notifications on, redis-py does not look whether an idle connection is dead before it uses it.
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
            # More calls at once than connections wait for one; that is no reason to call the server unreachable.
            "max_connections": MAX_CONNECTIONS,
            "timeout": timeout_s,
        }
        if isinstance(redis, str):
            check_url(redis)
            self.server = server_name(redis)
            connection_class = _CONNECTIONS[urlsplit(redis).scheme]
            pool = BlockingConnectionPool.from_url(redis, connection_class=connection_class, **ours)
        else:
            theirs = _connection_arguments(redis)
            scheme = _scheme(redis)
            path = theirs.get("path") or f"/{theirs.get('db') or 0}"
            host = "" if scheme == "unix" else f"{theirs.get('host', 'localhost')}:{theirs.get('port', 6379)}"
            self.server = f"{scheme}://{host}{path}"
            pool = BlockingConnectionPool(connection_class=_CONNECTIONS[scheme], **theirs | ours)
        self.redis = Redis.from_pool(pool)

    async def aclose(self) -> None:
        await self.redis.aclose()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what redis-py raises into `StoreUnreachable` and `StoreRefused`.

        A cancellation that arrives while redis-py is sending is raised here: Python 3.11's `asyncio.wait_for`, through
        which it sends, forgets one that comes together with the result, and the task would never end.
        """
        task = asyncio.current_task()
        cancelled_before = task.cancelling() if task is not None else 0
        try:
            yield
            if task is not None and task.cancelling() > cancelled_before:
                raise asyncio.CancelledError
        except (exceptions.AuthenticationError, exceptions.AuthorizationError) as error:
            raise StoreAuthFailed(self.server, "the server refuses the user name or password") from error
        except exceptions.BusyLoadingError as error:
            raise StoreUnreachable(self.server, "the server is loading its data") from error
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
            raise StoreUnreachable(self.server, _why_unreachable(error)) from error
        except exceptions.RedisError as error:
            raise StoreRefused(self.server, str(error)) from error


def _scheme(client: AnyRedis) -> str:
    kind = client.connection_pool.connection_class
    if issubclass(kind, (redis.UnixDomainSocketConnection, redis.asyncio.UnixDomainSocketConnection)):
        return "unix"
    return "rediss" if issubclass(kind, (redis.SSLConnection, redis.asyncio.SSLConnection)) else "redis"


_WHERE_AND_WHO = ("host", "port", "path", "db", "username", "password", "credential_provider")
_TLS = tuple(name for name in inspect.signature(redis.asyncio.SSLConnection).parameters if name.startswith("ssl_"))


def _connection_arguments(client: AnyRedis) -> dict[str, Any]:
    """Where and as whom `client` connects.

    Raises:
        ConfigError: it finds its server in another way than by an address (Sentinel, Cluster), or checks it in a way
            that an asyncio connection cannot (OCSP).
    """
    pool = getattr(client, "connection_pool", None)
    if pool is None or hasattr(pool, "sentinel_manager"):
        kind = type(client).__name__ if pool is None else type(pool).__name__
        raise ConfigError("redis", kind, "a URL, or a redis.Redis or redis.asyncio.Redis of one server")
    given = pool.connection_kwargs
    unusable = [name for name, value in given.items() if name.startswith("ssl_") and name not in _TLS and value]
    if unusable:
        raise ConfigError("redis", f"a client with {', '.join(unusable)}", "a client without it; asyncio cannot do it")
    return {name: given[name] for name in (*_WHERE_AND_WHO, *_TLS) if name in given}


def _why_unreachable(error: BaseException) -> str:
    if isinstance(error, (exceptions.TimeoutError, asyncio.TimeoutError)):
        return "no answer within the time-out"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
        cause = cause.__cause__ or cause.__context__
    return "no connection"


@asynccontextmanager
async def connect(
    url: str | AnyRedis, *, client_name: str, timeout_s: float = SOCKET_TIMEOUT_S
) -> AsyncIterator[Client]:
    """A `Client` that is closed at the end."""
    client = Client(url, client_name=client_name, timeout_s=timeout_s)
    try:
        yield client
    finally:
        await client.aclose()
