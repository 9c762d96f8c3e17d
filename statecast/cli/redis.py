"""`statecast redis`: send one command to Redis and print its reply as redis-cli does, where that is not installed."""

from __future__ import annotations

import argparse
import os
import sys
from typing import IO, TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONNECT_WITHIN_S = 5.0

_ACCEPTED_URLS = "redis://HOST:PORT/DB, rediss://HOST:PORT/DB (TLS) or unix:///PATH"
_EMBEDDED = (
    "`embedded` is the private server of the program that started it;"
    " give the URL that this program printed: statecast redis -u redis://127.0.0.1:PORT/0 COMMAND"
)

_EPILOG = """\
examples:
  statecast redis SMEMBERS statecast:accounts
  statecast redis HGETALL 'statecast:{binance:main}:account'
  statecast redis HGET 'statecast:{binance:main}:positions' BTCUSDT:BOTH.positionAmt
  statecast redis XREVRANGE 'statecast:{binance:main}:order-events' + - COUNT 3
  statecast redis -u redis://127.0.0.1:23456/0 PING

Quote the keys, because braces have a meaning in a shell. On a terminal the reply looks as in redis-cli, with `(nil)`
and numbers. A pipe or a file gets the bare values, one per line.

Put a password into the URL: redis://:PASSWORD@HOST:PORT/0. Set it in STATECAST_REDIS_URL, so that no process list
shows it.

Exit codes: 0 after a reply, 1 if Redis answers with an error or cannot be reached, 2 for a wrong URL.
"""

# Replies that are meant as text for people, which redis-cli does not quote either.
_TEXT_REPLIES = {"INFO", "LOLWUT", "CLIENT INFO", "CLIENT LIST", "CLUSTER INFO", "CLUSTER NODES", "MEMORY DOCTOR"}

# Commands after whose first reply others follow, without end.
_STREAMING = {"MONITOR", "PSUBSCRIBE", "SSUBSCRIBE", "SUBSCRIBE"}


_END = b"\r\n"


class Status(bytes):
    """A reply such as OK, which redis-cli shows without the quotes that a value gets."""


class ReplyError(bytes):
    """An error that the server returned, with its code: `WRONGTYPE Operation against …`."""


Reply: TypeAlias = "Status | ReplyError | bytes | int | list[Reply] | None"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `redis` to the sub-commands of `statecast`."""
    parser = commands.add_parser(
        "redis",
        help="send one command to Redis, like redis-cli",
        description="Send one command to Redis and print the reply as redis-cli does. redis-cli is not needed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-u",
        "--url",
        help=f"the server: {_ACCEPTED_URLS}; default: STATECAST_REDIS_URL (also in .env), else redis://127.0.0.1:6379/0",
    )
    parser.add_argument("command", metavar="COMMAND", help="a Redis command, such as HGETALL")
    parser.add_argument(
        "words", metavar="ARGUMENT", nargs=argparse.REMAINDER, help="arguments of the command, sent unchanged"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Send the command and print every reply; the help lists the exit codes."""
    import redis.exceptions

    from statecast import settings

    loaded = settings.load(settings.Names(), {"REDIS_URL": args.url}, os.environ)
    url = loaded.get("REDIS_URL", settings.DEFAULT_REDIS_URL)
    if url == "embedded":
        return _complain(_EMBEDDED, exit_code=2)
    try:
        connection, server = _connection(url)
    except (ValueError, TypeError, redis.exceptions.RedisError):  # whose texts may quote a part of the password
        return _complain(
            f"this Redis URL cannot work (not shown, it may hold a password); accepted: {_ACCEPTED_URLS}", 2
        )

    command = [os.fsencode(word) for word in (args.command, *args.words)]
    try:
        for reply in _replies(connection, command):
            if isinstance(reply, ReplyError):
                return _complain(f"(error) {reply.decode(errors='replace')}")
            _write(_printed(reply, args.command, args.words))
    except redis.exceptions.RedisError as error:
        return _complain(f"Redis at {server}: {error}")
    except BrokenPipeError:  # `… | head` has seen enough; keep the interpreter from flushing into the closed pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        connection.disconnect()
    return 0


def _write(data: bytes) -> None:
    rest = memoryview(data)
    while rest:  # with PYTHONUNBUFFERED one write may take only a part
        rest = rest[sys.stdout.buffer.write(rest) :]
    sys.stdout.buffer.flush()


def _complain(line: str, exit_code: int = 1) -> int:
    print(" ".join(line.split()), file=sys.stderr)
    return exit_code


# --- the conversation ------------------------------------------------------------------------------------------------


def _connection(url: str) -> tuple[Any, str]:
    """redis-py's connection, not yet open, and where it leads, without the password.

    A bare connection and not redis-py's client, which turns replies into dicts, floats and dates. Raises ValueError,
    TypeError or RedisError for a URL, or an option in it, that cannot work.
    """
    import redis
    from redis.backoff import NoBackoff
    from redis.connection import parse_url
    from redis.retry import Retry

    timeouts = {"socket_connect_timeout": _CONNECT_WITHIN_S, "socket_timeout": _CONNECT_WITHIN_S}
    options: dict[str, Any] = {**timeouts, **parse_url(url)}  # type: ignore[no-untyped-call]  # redis-py left it untyped
    server = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    connection_class = options.pop("connection_class", redis.Connection)
    options |= {
        "parser_class": _ReplyParser,
        "protocol": 2,  # as redis-cli speaks by default: a hash is a list of names and values
        "retry": Retry(NoBackoff(), 0),
    }
    return connection_class(**options), server


def _replies(connection: Any, command: list[bytes]) -> Iterator[Reply]:
    connection.connect()
    connection._sock.settimeout(None)  # a command may block for as long as its arguments say
    connection.send_command(*command)
    yield connection.read_response()
    while command[0].decode(errors="replace").upper() in _STREAMING:
        yield connection.read_response()


class _ReplyParser:
    """Reads RESP2 for redis-py, which asks for these methods, and keeps what its own parsers lose: status or value."""

    def __init__(self, socket_read_size: int) -> None:
        self._stream: IO[bytes] | None = None

    def on_connect(self, connection: Any) -> None:
        self._stream = connection._sock.makefile("rb")

    def on_disconnect(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def read_response(self, **_options: object) -> Reply:
        assert self._stream is not None
        return _read_reply(self._stream)


def _read_reply(stream: IO[bytes]) -> Reply:
    """One reply in RESP2. Raises redis-py's errors for a lost connection and for what is not a reply."""
    from redis.exceptions import InvalidResponse

    line = _complete(stream.readline())
    kind, text = line[:1], line[1:]
    match kind:
        case b"+":
            return Status(text)
        case b"-":
            return ReplyError(text)
        case b":":
            return int(text)
        case b"$" | b"*" if text == b"-1":
            return None
        case b"$":
            return _complete(stream.read(int(text) + len(_END)))
        case b"*":
            return [_read_reply(stream) for _ in range(int(text))]
        case _:
            raise InvalidResponse("what answers there does not speak the Redis protocol")


def _complete(data: bytes) -> bytes:
    """`data` without the line end that proves it whole."""
    import redis.exceptions

    if not data.endswith(_END):
        raise redis.exceptions.ConnectionError("the server closed the connection")
    return data.removesuffix(_END)


# --- the printing ----------------------------------------------------------------------------------------------------


def _printed(reply: Reply, command: str, words: list[str]) -> bytes:
    if command.upper() in _TEXT_REPLIES or " ".join([command, *words[:1]]).upper() in _TEXT_REPLIES:
        return _bare(reply)  # has its own line end
    return _for_people(reply) if sys.stdout.isatty() else _bare(reply) + b"\n"


def _bare(reply: Reply) -> bytes:
    """The values alone, one per line; nothing at all for a missing one."""
    match reply:
        case None:
            return b""
        case int():
            return b"%d" % reply
        case list():
            return b"\n".join(_bare(item) for item in reply)
        case ReplyError():
            return reply + b"\n"  # an empty line after it, as redis-cli has it
        case _:
            return reply


def _for_people(reply: Reply, indent: bytes = b"") -> bytes:
    """Lines as redis-cli writes them on a terminal; `indent` stands before all but the first."""
    match reply:
        case None:
            return b"(nil)\n"
        case int():
            return b"(integer) %d\n" % reply
        case []:
            return b"(empty array)\n"
        case list():
            width = len(str(len(reply)))
            inner = indent + b" " * (width + len(") "))
            return b"".join(
                (indent if number > 1 else b"") + b"%*d) " % (width, number) + _for_people(item, inner)
                for number, item in enumerate(reply, 1)
            )
        case Status():
            return reply + b"\n"
        case ReplyError():
            return b"(error) " + reply + b"\n"
        case _:
            return _quoted(reply) + b"\n"


_ESCAPES = {ord(raw): rb"\%c" % ord(sign) for raw, sign in zip('\\"\n\r\t\a\b', '\\"nrtab', strict=True)}


def _quoted(value: bytes) -> bytes:
    """A value between quotes, with escapes for all but printable ASCII: a newline becomes `\\n`, é `\\xc3\\xa9`."""
    return b'"%s"' % b"".join(
        _ESCAPES.get(byte) or (b"%c" % byte if 0x20 <= byte < 0x7F else rb"\x%02x" % byte) for byte in value
    )
