"""A real Redis server in the simulated world: every command is run on it at the instant at which it arrives there.

Time is simulated, too. The simulated clock stands in the far future, so that the server's own never ends a key; the
bridge ends them by the simulated one, and rewrites what scripts ask of time:

    TIME               the simulated clock's
    SET … PX, PEXPIRE  become points in simulated time; a key that is past its end goes before it is looked at
    PTTL               what is left in simulated time
    XADD … *           an id of simulated time

A wait (BLOCK) is tried again when something was written to the stream. A transaction is run as one, and so is a script.
All writes are kept, so that a crash can lose the last of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import hiredis
from sim.loop import SimLoop
from sim.network import Connection

Args = list[bytes]

PRELUDE = """
local NOW = table.remove(KEYS)
local function left_of(key) return tonumber(redis.call('PEXPIRETIME', key)) end
for _, key in ipairs(KEYS) do
  local ends = left_of(key)
  if ends >= 0 and ends <= tonumber(NOW) then redis.call('DEL', key) end
end
local function at(ms) return string.format('%.0f', tonumber(NOW) + tonumber(ms)) end
local function CALL(name, ...)
  local command, args = string.upper(name), {...}
  if command == 'TIME' then
    return {string.sub(NOW, 1, -4), tostring(tonumber(string.sub(NOW, -3)) * 1000)}
  elseif command == 'PEXPIRE' then
    return redis.call('PEXPIREAT', args[1], at(args[2]))
  elseif command == 'PTTL' then
    local ends = left_of(args[1])
    return ends < 0 and ends or ends - tonumber(NOW)
  elseif command == 'SET' then
    for i = 3, #args do
      if string.upper(args[i]) == 'PX' then args[i], args[i + 1] = 'PXAT', at(args[i + 1]) end
    end
  elseif command == 'XADD' then
    for i = 2, #args do
      if args[i] == '*' then
        local last = '0-0'
        if redis.call('EXISTS', args[1]) == 1 then
          local info = redis.call('XINFO', 'STREAM', args[1])
          for j = 1, #info, 2 do if info[j] == 'last-generated-id' then last = info[j + 1] end end
        end
        local ms, number = string.match(last, '^(%d+)-(%d+)$')
        if tonumber(ms) < tonumber(NOW) then ms, number = NOW, '-1' end
        args[i] = ms .. '-' .. string.format('%.0f', tonumber(number) + 1)
        break
      end
      if string.upper(args[i]) ~= 'NOMKSTREAM' and string.upper(args[i]) ~= 'MAXLEN' and args[i] ~= '~'
        and not tonumber(args[i]) then break end
    end
  end
  return redis.call(name, (table.unpack or unpack)(args))
end
"""

READS = frozenset(
    {b"GET", b"EXISTS", b"HGETALL", b"HGET", b"HMGET", b"TIME", b"PING", b"XRANGE", b"XREVRANGE", b"XREAD", b"XLEN"}
    | {b"ZRANGE", b"SMEMBERS", b"HELLO", b"CLIENT", b"SELECT", b"PTTL", b"TYPE", b"XINFO", b"INFO", b"CONFIG"}
)
WRITES = frozenset({b"SADD", b"HSET", b"HDEL", b"DEL", b"XADD", b"XTRIM", b"ZADD", b"XGROUP", b"XACK"})
LOOKED_AT = frozenset({b"GET", b"EXISTS", b"PTTL"})
"""Commands that must not see a key which is past its end."""


def rewritten(script: bytes) -> bytes:
    return PRELUDE.encode() + script.replace(b"redis.call(", b"CALL(")


class Server:
    """The real server, driven by a blocking socket: one command after the other."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.hello = self.raw([b"HELLO", b"3"])

    def close(self) -> None:
        self._socket.close()

    def raw(self, *commands: Args) -> bytes:
        """The bytes of the replies to these commands, which go in one packet."""
        self._socket.sendall(b"".join(hiredis.pack_command(tuple(args)) for args in commands))
        reader, replies, left = hiredis.Reader(replyError=_Error), bytearray(), len(commands)
        while True:
            data = self._socket.recv(1 << 20)
            assert data, "the server has ended"
            replies += data
            reader.feed(data)
            while left and reader.gets() is not False:
                left -= 1
            if not left:
                return bytes(replies)

    def call(self, *commands: Args) -> list[Any]:
        """The replies; text is decoded."""
        reader = hiredis.Reader(encoding="utf-8", replyError=_Error)
        reader.feed(self.raw(*commands))
        return [reader.gets() for _ in commands]


class _Error(Exception):
    """An error reply."""


@dataclass(slots=True)
class _Write:
    at: float
    args: Args
    """As they were sent to the real server."""


@dataclass(slots=True)
class _Client:
    """One connection's side of the protocol."""

    reader: hiredis.Reader = field(default_factory=hiredis.Reader)
    waiting: deque[Args] = field(default_factory=deque)
    transaction: list[Args] | None = None
    blocked: Args | None = None
    blocked_keys: frozenset[bytes] = frozenset()
    timer: asyncio.TimerHandle | None = None


class RedisService:
    """What listens on the Redis port of the simulated world."""

    def __init__(self, loop: SimLoop, server: Server, now_ms: Callable[[], int], trace: Callable[[str], None]) -> None:
        self._loop = loop
        self._server = server
        self._now_ms = now_ms
        self._trace = trace
        self._scripts: dict[bytes, bytes] = {}
        """Names by which clients call scripts, to those of the rewritten ones."""
        self._rewritten: dict[bytes, bytes] = {}
        self.clients: dict[Connection, _Client] = {}
        self.log: list[_Write] = []
        self.error = ""
        """What every write is answered with, while a fault says so; LOADING is the answer to everything."""
        self.slow_s = 0.0
        self.lose_next = ""
        """`request` or `reply`: of the next script call, which ends its connection."""
        self.after_write: Callable[[Connection, bool], None] = lambda connection, script: None
        """Called with the connection, and whether it was a script that wrote."""
        self.busy_until = 0.0
        server.raw([b"FLUSHALL"])

    # Connections

    def accepted(self, connection: Connection) -> None:
        connection.kind = "redis"
        self.clients[connection] = _Client()

    def lost(self, connection: Connection) -> None:
        client = self.clients.pop(connection)
        if client.timer is not None:
            client.timer.cancel()

    def received(self, connection: Connection, data: bytes) -> None:
        client = self.clients[connection]
        client.reader.feed(data)
        while (args := client.reader.gets()) is not False:
            client.waiting.append(args)
        if self.slow_s:
            self.busy_until = max(self.busy_until, self._loop.time()) + self.slow_s
        if self.busy_until > self._loop.time():
            self._loop.call_at(self.busy_until, self._serve, connection)
        else:
            self._serve(connection)

    def _serve(self, connection: Connection) -> None:
        client = self.clients.get(connection)
        if client is None:
            return
        replies = bytearray()
        while client.waiting and client.blocked is None and connection.open:
            reply = self._reply(connection, client, client.waiting.popleft())
            if reply is not None:
                replies += reply
        if replies and connection.open:
            connection.send(bytes(replies))

    def _reply(self, connection: Connection, client: _Client, args: Args) -> bytes | None:
        name = args[0].upper()
        if self.error.startswith("LOADING") and name not in (b"HELLO", b"CLIENT"):
            return f"-{self.error}\r\n".encode()
        if name == b"MULTI":
            client.transaction = []
            return b"+OK\r\n"
        if name == b"EXEC" and client.transaction is not None:
            calls, client.transaction = client.transaction, None
            return b"*%d\r\n" % len(calls) + b"".join(self._run(connection, call) for call in calls)
        if client.transaction is not None:
            client.transaction.append(args)
            return b"+QUEUED\r\n"
        if name == b"XREAD":
            return self._xread(connection, client, args)
        return self._run(connection, args)

    # Commands

    def _run(self, connection: Connection, args: Args) -> bytes | None:
        name = args[0].upper()
        if name == b"EVALSHA":
            return self._evalsha(connection, args)
        if name == b"SCRIPT" and args[1].upper() == b"LOAD":
            known = hashlib.sha1(args[2]).hexdigest().encode()  # noqa: S324 - the name that Redis gives a script
            if known not in self._rewritten:
                self._rewritten[known] = self._server.call([b"SCRIPT", b"LOAD", rewritten(args[2])])[0].encode()
            self._scripts[known] = self._rewritten[known]
            return b"$40\r\n%s\r\n" % known
        if name == b"TIME":
            now_ms = self._now_ms()
            seconds, microseconds = b"%d" % (now_ms // 1000), b"%d" % (now_ms % 1000 * 1000)
            return b"*2\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(seconds), seconds, len(microseconds), microseconds)
        if name == b"HELLO":
            return self._server.hello
        if name in (b"CLIENT", b"SELECT"):
            return b"+OK\r\n"
        if name in READS:
            if name in LOOKED_AT:
                self._end_keys(args[1:])
            if name == b"PTTL":
                (ends,) = self._server.call([b"PEXPIRETIME", args[1]])
                return b":%d\r\n" % (ends if ends < 0 else ends - self._now_ms())
            return self._server.raw(args)
        assert name in WRITES, f"the bridge does not know {args[0]!r}"
        assert b"*" not in args or name != b"XADD", "the bridge does not know XADD with * outside of scripts"
        if self.error:
            return f"-{self.error}\r\n".encode()
        reply = self._server.raw(args)
        self.log.append(_Write(self._loop.time(), args))
        self.after_write(connection, False)
        self._wake(args[1:2])
        return reply

    def _evalsha(self, connection: Connection, args: Args) -> bytes | None:
        script = self._scripts.get(args[1])
        if script is None:
            return b"-NOSCRIPT No matching script. Please use EVAL.\r\n"
        if self.error:
            return f"-{self.error}\r\n".encode()
        fate, self.lose_next = self.lose_next, ""
        if fate == "request":
            connection.cut()
            return None
        keys_end = 3 + int(args[2])
        keys = args[3:keys_end]
        now = b"%d" % self._now_ms()
        call = [b"EVALSHA", script, b"%d" % (len(keys) + 1), *keys, now, *args[keys_end:]]
        reply = self._server.raw(call)
        self.log.append(_Write(self._loop.time(), call))
        self.after_write(connection, True)
        self._wake(keys)
        if fate == "reply":
            connection.cut()
            return None
        return reply

    def _end_keys(self, keys: Args) -> None:
        """Remove those that are past their end."""
        now_ms = self._now_ms()
        for key in keys:
            (ends,) = self._server.call([b"PEXPIRETIME", key])
            if 0 <= ends <= now_ms:
                self._server.raw([b"DEL", key])

    # Waiting

    def _xread(self, connection: Connection, client: _Client, args: Args) -> bytes | None:
        names = [arg.upper() for arg in args]
        if b"BLOCK" not in names:
            return self._server.raw(args)
        at = names.index(b"BLOCK")
        block_ms, now = int(args[at + 1]), args[:at] + args[at + 2 :]
        reply = self._server.raw(now)
        if reply != b"_\r\n":
            return reply
        keys = args[names.index(b"STREAMS") + 1 :]
        client.blocked, client.blocked_keys = now, frozenset(keys[: len(keys) // 2])
        client.timer = self._loop.call_later(block_ms / 1000, self._give_up, connection) if block_ms else None
        return None

    def _give_up(self, connection: Connection) -> None:
        client = self.clients[connection]
        client.blocked = client.timer = None
        connection.send(b"_\r\n")
        self._serve(connection)

    def _wake(self, keys: Args) -> None:
        written = frozenset(keys)
        for connection, client in list(self.clients.items()):
            if client.blocked is None or not client.blocked_keys & written:
                continue
            reply = self._server.raw(client.blocked)
            if reply == b"_\r\n":
                continue
            if client.timer is not None:
                client.timer.cancel()
            client.blocked = client.timer = None
            connection.send(reply)
            self._loop.call_soon(self._serve, connection)

    # What goes wrong with a server

    def cut_all(self) -> None:
        for connection in list(self.clients):
            connection.cut()

    def lose_writes_since(self, at: float) -> int:
        """Go back to what was there at that time, as a crash or a fail-over does; how many writes are lost."""
        kept = [write for write in self.log if write.at <= at]
        lost = len(self.log) - len(kept)
        self._server.raw([b"FLUSHALL"])
        if kept:
            self._server.raw(*(write.args for write in kept))
        self.log = kept
        self._scripts.clear()
        return lost

    def wipe(self) -> None:
        self._server.raw([b"FLUSHALL"])
        self.log.clear()
        self._scripts.clear()

    def forget_scripts(self) -> None:
        """SCRIPT FLUSH."""
        self._scripts.clear()
