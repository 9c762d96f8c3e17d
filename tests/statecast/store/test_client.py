from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.sentinel
from redis.credentials import UsernamePasswordCredentialProvider
from support.link import linked_url

from statecast.embedded.server import EmbeddedServer, find_server_binaries
from statecast.errors import ConfigError, StoreAuthFailed, StoreRefused, StoreUnreachable
from statecast.store.client import ACCEPTED_URLS, Client, check_running_url, check_url, connect, server_name


async def calls_of(url: str, command: str) -> int:
    """How often the server has carried out `command`, by its own count."""
    async with connect(url, client_name="observer") as observer:
        stats: dict[str, Any] = await observer.redis.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


# URLs


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        "redis://localhost",
        "redis://localhost/",
        "rediss://user:p%40ss@redis.example.com:6380/15",
        "redis://:only-password@[::1]:6379/0",
        "redis://localhost:6379?db=3&socket_keepalive=yes",
        "unix:///run/redis/redis.sock",
        "unix:///run/redis/redis.sock?db=2",
    ],
)
def test_a_url_of_a_redis_server_is_accepted(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", "''"),
        ("localhost", "'localhost'"),
        ("localhost:6379/0", "'localhost:6379/0'"),
        ("http://user:hunter2@localhost:6379", "'http://…'"),
        ("redis:hunter2@localhost", "'…'"),
        ("redis:/hunter2@localhost", "'…'"),
        ("hunter2@localhost:6379", "'…'"),
        ("user:hunter2@localhost:6379/0", "'…'"),
        ("redis//:hunter2@localhost", "'…'"),
        ("redis://", "'redis://…'"),
        ("redis:///0", "'redis://…'"),
        ("redis://:hunter2@:6379/0", "'redis://…'"),
        ("redis://:hunter2@localhost:0", "'redis://…'"),
        ("redis://:hunter2@localhost:99999", "'redis://…'"),
        ("redis://:hunter2@localhost:port", "'redis://…'"),
        ("redis://:hunter2@[::1", "'redis://…'"),
        ("redis://:hunter2@localhost/main", "'redis://…'"),
        ("redis://:hunter2@localhost/0/1", "'redis://…'"),
        ("redis://localhost?password=hunter2&db=x", "'redis://…'"),
        ("redis://localhost?password=hunter2&pasword=hunter3", "'redis://…'"),
        ("unix://", "'unix://…'"),
        ("rediss://localhost?password=hunter2&ssl_cert_reqs=perhaps", "'rediss://…'"),
    ],
)
def test_any_other_url_is_refused_without_showing_a_password(url: str, shown: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Client(url, client_name="test")
    assert str(refused.value) == f"STATECAST_REDIS_URL is {shown}; accepted: {ACCEPTED_URLS}"
    assert "hunter2" not in repr(refused.value)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://user:hunter2@localhost:6379/2?password=hunter2", "redis://localhost:6379/2"),
        ("rediss://:hunter2@redis.example.com", "rediss://redis.example.com"),
        ("redis://:hunter2@[::1]:6379/0", "redis://[::1]:6379/0"),
        ("unix://user:hunter2@/run/redis.sock?password=hunter2", "unix:///run/redis.sock"),
    ],
)
def test_a_server_is_named_without_its_password(url: str, name: str) -> None:
    assert server_name(url) == name


def test_a_reader_needs_a_server_that_others_run() -> None:
    check_running_url("redis://localhost")
    with pytest.raises(ConfigError) as refused:
        check_running_url("embedded", "redis_url")
    assert str(refused.value).startswith("redis_url is 'embedded'; accepted: the URL of a server; an embedded one bel")
    with pytest.raises(ConfigError, match="STATECAST_REDIS_URL"):
        check_running_url("localhost")


# Clients of redis-py that a user has already


@pytest.fixture
def unix_path(tmp_path: Path) -> Iterator[Path]:
    """Of the socket of a server that listens on nothing else."""
    path = tmp_path / "r.sock"
    binary = find_server_binaries()[0].path
    server = subprocess.Popen(
        [binary, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield path
    finally:
        server.terminate()
        server.wait()


KINDS = pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis], ids=["sync", "async"])


@KINDS
async def test_a_client_says_where_to_connect_and_is_left_alone(
    own_redis: EmbeddedServer, kind: type[Any], account_name: str
) -> None:
    theirs = kind(host=own_redis.host, port=own_redis.port, db=3)
    async with connect(theirs, client_name="test") as client:
        assert client.server == f"redis://{own_redis.host}:{own_redis.port}/3"
        await client.redis.set(account_name, "text")
        assert await client.redis.get(account_name) == "text"  # not bytes, as their client would say
        assert (await client.redis.client_info())["db"] == 3
        assert [row["name"] for row in await client.redis.client_list()] == ["test"]
    await closed(theirs)


@KINDS
async def test_a_client_of_a_url_says_as_whom_to_connect(own_redis: EmbeddedServer, kind: type[Any]) -> None:
    async with connect(own_redis.url, client_name="operator") as operator:
        await operator.redis.execute_command("ACL", "SETUSER", "reader", "on", ">p@ss", "~*", "+@all")
        theirs = kind.from_url(own_redis.url.replace("redis://", "redis://reader:p%40ss@"))
        async with connect(theirs, client_name="test") as client:
            assert await client.redis.acl_whoami() == "reader"
            assert "p@ss" not in client.server + repr(client)
        await closed(theirs)


@KINDS
async def test_a_credential_provider_is_asked(own_redis: EmbeddedServer, kind: type[Any]) -> None:
    async with connect(own_redis.url, client_name="operator") as operator:
        await operator.redis.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@all")
    provider = UsernamePasswordCredentialProvider("reader", "pw")
    theirs = kind(host=own_redis.host, port=own_redis.port, credential_provider=provider)
    async with connect(theirs, client_name="test") as client:
        assert await client.redis.acl_whoami() == "reader"
    await closed(theirs)


@KINDS
async def test_a_client_of_a_unix_socket_is_followed(unix_path: Path, kind: type[Any], account_name: str) -> None:
    theirs = kind(unix_socket_path=str(unix_path), db=2)
    async with connect(theirs, client_name="test") as client:
        assert client.server == f"unix://{unix_path}"
        async with asyncio.timeout(10):
            while True:
                try:
                    with client.errors():
                        await client.redis.set(account_name, "text")
                    break
                except StoreUnreachable:  # it is starting
                    await asyncio.sleep(0.02)
        assert (await client.redis.client_info())["db"] == 2
    await closed(theirs)


@KINDS
async def test_the_tls_options_of_a_client_are_ours_as_well(kind: type[Any], tmp_path: Path) -> None:
    options = {
        "ssl_ca_certs": str(tmp_path / "ca.pem"),
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": False,
        "ssl_min_version": ssl.TLSVersion.TLSv1_3,
    }
    theirs = kind(host="redis.example.com", ssl=True, username="u", password="hunter2", **options)
    client = Client(theirs, client_name="test", timeout_s=1.5)
    assert client.server == "rediss://redis.example.com:6379/0"
    assert "hunter2" not in client.server
    pool = client.redis.connection_pool
    assert options.items() <= pool.connection_kwargs.items()
    assert issubclass(pool.connection_class, redis.asyncio.SSLConnection)
    ours = pool.make_connection()  # type: ignore[no-untyped-call]  # connects to nothing
    assert (ours.socket_timeout, ours.socket_connect_timeout, ours.retry._retries) == (1.5, 1.5, 0)
    await client.aclose()
    await closed(theirs)


@pytest.mark.parametrize(
    ("theirs", "kind"),
    [
        (redis.sentinel.Sentinel([("127.0.0.1", 1)]).master_for("main"), "SentinelConnectionPool"),
        (redis.asyncio.sentinel.Sentinel([("127.0.0.1", 1)]).master_for("main"), "SentinelConnectionPool"),
        (redis.asyncio.cluster.RedisCluster(host="127.0.0.1", port=1), "RedisCluster"),
    ],
    ids=["sentinel", "sentinel, async", "cluster"],
)
def test_a_client_that_finds_its_server_otherwise_is_refused(theirs: Any, kind: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Client(theirs, client_name="test")
    accepted = "a URL, or a redis.Redis or redis.asyncio.Redis of one server"
    assert str(refused.value) == f"redis is '{kind}'; accepted: {accepted}"


def test_a_check_that_asyncio_cannot_do_is_not_dropped_in_silence() -> None:
    theirs = redis.Redis(host="redis.example.com", ssl=True, ssl_validate_ocsp_stapled=True)
    with pytest.raises(ConfigError, match="redis is 'a client with ssl_validate_ocsp_stapled'; accepted: a client wit"):
        Client(theirs, client_name="test")


async def closed(theirs: Any) -> None:
    if isinstance(theirs, redis.Redis):
        theirs.close()
    else:
        await theirs.aclose()


# Servers that do not answer, or refuse


async def test_a_refused_connection_is_unreachable_and_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and listening to nobody
        url = f"redis://user:hunter2@127.0.0.1:{taken.getsockname()[1]}/0"
        async with connect(url, client_name="test") as client:
            with pytest.raises(StoreUnreachable) as unreachable, client.errors():
                await client.redis.ping()
    assert str(unreachable.value) == f"Redis at {server_name(url)}: connection refused"


async def test_a_socket_file_that_is_not_there_is_unreachable(tmp_path: Any) -> None:
    async with connect(f"unix://{tmp_path}/no.sock", client_name="test") as client:
        with pytest.raises(StoreUnreachable, match=r"no\.sock: no connection"), client.errors():
            await client.redis.ping()


async def test_a_server_that_says_nothing_is_unreachable_after_the_time_out() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        async with connect(url, client_name="test", timeout_s=0.05) as client:
            with pytest.raises(StoreUnreachable, match="no answer within the time-out"), client.errors():
                await client.redis.ping()


async def test_a_wrong_password_is_refused_as_such(own_redis: EmbeddedServer) -> None:
    async with connect(own_redis.url, client_name="operator") as operator:
        await operator.redis.config_set("requirepass", "right")
    secret_url = own_redis.url.replace("redis://", "redis://:hunter2@")
    async with connect(secret_url, client_name="test") as client:
        with pytest.raises(StoreAuthFailed) as refused, client.errors():
            await client.redis.ping()
    assert str(refused.value) == f"Redis at {own_redis.url}: the server refuses the user name or password"
    assert "hunter2" not in repr(refused.value)
    async with connect(own_redis.url, client_name="test") as client:
        with pytest.raises(StoreAuthFailed), client.errors():
            await client.redis.ping()
    async with connect(own_redis.url.replace("redis://", "redis://:right@"), client_name="test") as client:
        assert await client.redis.ping()


async def test_a_missing_permission_is_a_refusal_and_not_a_wrong_password(own_redis: EmbeddedServer) -> None:
    async with connect(own_redis.url, client_name="operator") as operator:
        await operator.redis.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+ping", "+hello")
    async with connect(own_redis.url.replace("redis://", "redis://reader:pw@"), client_name="test") as client:
        with pytest.raises(StoreRefused, match=r"permissions") as refused, client.errors():
            await client.redis.set("a", "b")
    assert not isinstance(refused.value, StoreAuthFailed)


async def test_a_command_that_the_server_refuses_is_told_in_its_words(redis_url: str, account_name: str) -> None:
    async with connect(redis_url, client_name="test") as client:
        await client.redis.set(account_name, "text")
        with pytest.raises(StoreRefused, match="WRONGTYPE Operation against a key"), client.errors():
            await client.redis.hgetall(account_name)


async def test_an_error_of_this_program_is_not_blamed_on_redis(redis_url: str) -> None:
    async with connect(redis_url, client_name="test") as client:
        with pytest.raises(KeyError), client.errors():
            raise KeyError("ours")


# Nothing is sent twice behind our back


async def test_a_lost_reply_is_told_and_not_repeated(own_redis: EmbeddedServer) -> None:
    async with linked_url(own_redis.url) as proxy, connect(proxy.url, client_name="test") as client:
        await client.redis.ping()
        proxy.fate = lambda request: "lose reply" if b"RPUSH" in request else "pass"
        with pytest.raises(StoreUnreachable, match="no connection"), client.errors():
            await client.redis.rpush("list", "once")
        assert await client.redis.lrange("list", 0, -1) == ["once"]
    assert await calls_of(own_redis.url, "rpush") == 1


async def test_a_lost_request_is_told_and_not_repeated(own_redis: EmbeddedServer) -> None:
    async with linked_url(own_redis.url) as proxy, connect(proxy.url, client_name="test") as client:
        await client.redis.ping()
        proxy.fate = lambda request: "lose request" if b"RPUSH" in request else "pass"
        with pytest.raises(StoreUnreachable), client.errors():
            await client.redis.rpush("list", "once")
    assert await calls_of(own_redis.url, "rpush") == 0


async def test_a_wrong_password_is_tried_once(own_redis: EmbeddedServer) -> None:
    async with connect(own_redis.url, client_name="operator") as operator:
        await operator.redis.config_set("requirepass", "right")
        async with connect(own_redis.url.replace("redis://", "redis://:wrong@"), client_name="test") as client:
            with pytest.raises(StoreAuthFailed), client.errors():
                await client.redis.ping()
        log = await operator.redis.acl_log()
    assert [entry["count"] for entry in log] == [1]


async def test_an_idle_connection_that_the_server_closed_is_replaced(own_redis: EmbeddedServer) -> None:
    async with (
        connect(own_redis.url, client_name="operator") as operator,
        connect(own_redis.url, client_name="idle") as client,
    ):
        await client.redis.ping()
        victims = [entry["id"] for entry in await operator.redis.client_list() if entry["name"] == "idle"]
        await operator.redis.client_kill_filter(_id=victims[0])
        with client.errors():
            assert await client.redis.ping()


async def test_a_server_that_comes_back_is_used_again(own_redis: EmbeddedServer) -> None:
    async with connect(own_redis.url, client_name="test") as client:
        await client.redis.ping()
        own_redis.kill()
        with pytest.raises(StoreUnreachable), client.errors():
            await client.redis.ping()
        own_redis.start()
        with client.errors():
            assert await client.redis.ping()


async def test_values_of_any_kind_reach_the_server_as_they_are(any_redis_url: str, account_name: str) -> None:
    """The packing of commands is ours, in C."""
    async with connect(any_redis_url, client_name="test") as client:
        values = {"text": "币安 ü \r\n", "bytes": b"\xe2\x82\xac", "number": 1_793_000_000_123, "empty": ""}
        await client.redis.hset(account_name, mapping=values)
        assert await client.redis.hgetall(account_name) == {
            "text": "币安 ü \r\n",
            "bytes": "€",
            "number": "1793000000123",
            "empty": "",
        }
        assert (await client.redis.client_info())["name"] == "test"  # a command of two words


async def test_a_cancellation_at_any_moment_of_a_call_is_heard(redis_url: str) -> None:
    """`asyncio.wait_for` of Python 3.11, through which redis-py sends, forgets one that comes with the result."""
    async with connect(redis_url, client_name="test") as client:

        async def ask() -> None:
            with client.errors():
                await client.redis.ping()
            await asyncio.Event().wait()

        for turns in range(40):
            task = asyncio.create_task(ask())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=1.0)
            assert done, f"cancelled after {turns} turns of the loop, it went on"
            assert task.cancelled()
