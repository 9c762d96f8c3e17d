"""The simulated exchange on a port: REST, websockets and the control API, all on one.

A thin shell: `Exchange` decides, this module moves bytes. `http://host:port` is the REST base URL, `ws://host:port` the
websocket base URL with the routed paths `/private`, `/market` and `/public` below it.

The control API lives under `/simulate/`; `statecast.simulator.control` documents its endpoints. One thing is added
here: `POST /simulate/burst` with a `rate` spreads the events over time and answers when the last one is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Self

import orjson
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from statecast.clock import Clock
from statecast.simulator import trading
from statecast.simulator.control import ControlError, control
from statecast.simulator.exchange import ABNORMAL_CLOSURE, Exchange, Response, Stream

PING_INTERVAL_S = 180.0
PONG_TIMEOUT_S = 600.0
CONNECTION_LIFE_S = 86_400.0
CLOSE_TIMEOUT_S = 0.5
"""How long a client may take to answer a close frame."""
FLUSH_FRAMES = 256
"""Frames of a backlog that are written before other tasks get a turn."""
BURST_EVENTS = 200
"""Order events of a burst that are made before the sockets get a turn."""


class SimulatorServer:
    """Serves an exchange while entered; `host` and `port` (0 for a free one) as for a listening socket.

    `mark_interval_s` is how often mark prices move and are sent (0 leaves them alone); `trade_rate` is the random
    trader's steps a second. Raises `OSError` on entering when the port is taken.
    """

    def __init__(
        self,
        exchange: Exchange,
        clock: Clock,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        mark_interval_s: float = 1.0,
        trade_rate: float = 0.0,
        ping_interval_s: float = PING_INTERVAL_S,
        pong_timeout_s: float = PONG_TIMEOUT_S,
        connection_life_s: float = CONNECTION_LIFE_S,
    ) -> None:
        self.exchange = exchange
        self.host = host
        self.port = port
        self._clock = clock
        self._mark_interval_s = mark_interval_s
        self._trade_rate = trade_rate
        self._ping_interval_s = ping_interval_s
        self._pong_timeout_s = pong_timeout_s
        self._connection_life_s = connection_life_s
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def rest_url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, self.host, self.port)
            await site.start()
        except OSError:
            await self._runner.cleanup()
            raise
        self.port = self._runner.addresses[0][1]
        self._start(self._tick())
        if self._mark_interval_s > 0:
            self._start(self._move_marks())
        if self._trade_rate > 0:
            self._start(self._trade())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for stream in list(self.exchange.streams):
            stream.close(WSCloseCode.GOING_AWAY)
        assert self._runner is not None
        await self._runner.cleanup()

    async def wait_failed(self) -> None:
        """Return never, but raise what a background task dies of."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    # -- background --------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(1.0)
            self.exchange.tick(self._clock.now_ms())

    async def _move_marks(self) -> None:
        while True:
            await self._clock.sleep(self._mark_interval_s)
            now_ms = self._clock.now_ms()
            self.exchange.move_marks(now_ms)
            self.exchange.publish_marks(now_ms)

    async def _trade(self) -> None:
        while True:
            await self._clock.sleep(1.0 / self._trade_rate)
            now_ms = self._clock.now_ms()
            exchange = self.exchange
            exchange.publish(trading.step(exchange.ledger, exchange.rng, exchange.server_ms(now_ms)), now_ms)

    # -- HTTP --------------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        # The target as received: signatures are over the raw query string.
        path, _, query = request.raw_path.partition("?")
        if path.startswith("/simulate/"):
            return await self._control(request, path.removeprefix("/simulate/"), query)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._websocket(request, path, query)
        body = await request.read()
        answer = self.exchange.request(request.method, path, query, request.headers, body, self._clock.now_ms())
        return await self._respond(answer)

    async def _respond(self, answer: Response) -> web.Response:
        if answer.delay_ms:
            await self._clock.sleep(answer.delay_ms / 1000)
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

    async def _control(self, request: web.Request, name: str, query: str) -> web.Response:
        try:
            args = orjson.loads(await request.read() or b"{}")
            if not isinstance(args, dict):
                raise ControlError("the body has to be a JSON object")
            if (request.method, name) == ("POST", "burst"):
                args = await self._burst(args)
            answer = control(self.exchange, request.method, name, query, args, self._clock.now_ms())
        except (ControlError, orjson.JSONDecodeError) as error:
            return _json_response({"error": str(error)}, 400)
        return _json_response(answer)

    async def _burst(self, args: dict[str, Any]) -> dict[str, Any]:
        """Make all but the last of a burst's events, in turn with the sockets that carry them; the rest is returned.

        With a `rate` they come at so many events a second, without falling behind; else as fast as they can be made.
        """
        left, rate = args.get("count"), args.pop("rate", 0)
        if not isinstance(left, int) or not isinstance(rate, int | float):
            raise ControlError("count has to be a whole number, and rate a number")
        start_mono_s, made = self._clock.monotonic(), 0
        while left > BURST_EVENTS or (rate > 0 and left > 2):
            due = BURST_EVENTS if rate <= 0 else int((self._clock.monotonic() - start_mono_s) * rate) - made
            count = min(due, BURST_EVENTS, left - 2) // 2 * 2
            if count > 0:
                control(self.exchange, "POST", "burst", "", args | {"count": count}, self._clock.now_ms())
                made, left = made + count, left - count
            await self._clock.sleep(2 / rate if rate > 0 else 0)
        return args | {"count": left}

    # -- websockets --------------------------------------------------------------------------------------------------

    async def _websocket(self, request: web.Request, path: str, query: str) -> web.StreamResponse:
        stream = self.exchange.connect(path, query, self._clock.now_ms())
        if isinstance(stream, Response):
            return await self._respond(stream)
        socket = _Socket(stream, self._clock, self._ping_interval_s, self._pong_timeout_s, self._connection_life_s)
        try:
            return await socket.serve(request)
        finally:
            self.exchange.disconnect(stream)


class _Socket:
    """One websocket: reads its client, writes its stream's outbox, pings, and ends after its lifetime."""

    def __init__(
        self, stream: Stream, clock: Clock, ping_interval_s: float, pong_timeout_s: float, life_s: float
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._ping_interval_s = ping_interval_s
        self._pong_timeout_s = pong_timeout_s
        self._life_s = life_s
        self._ws = web.WebSocketResponse(timeout=CLOSE_TIMEOUT_S, autoping=False, compress=False)
        self._ready = asyncio.Event()
        self._pong_mono_s = 0.0

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        await self._ws.prepare(request)

        def wake() -> None:
            self._ready.set()
            # At once: the writer may be waiting for a client that does not read.
            if self._stream.close_code == ABNORMAL_CLOSURE and request.transport is not None:
                request.transport.abort()

        self._stream.on_wake(wake)
        self._pong_mono_s = self._clock.monotonic()
        tasks = [asyncio.create_task(work) for work in (self._write(), self._ping())]
        try:
            async for message in self._ws:
                await self._receive(message)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return self._ws

    async def _receive(self, message: WSMessage) -> None:
        now_ms = self._clock.now_ms()
        match message.type:
            case WSMsgType.TEXT | WSMsgType.BINARY:
                self._stream.receive(message.data, now_ms)
            case WSMsgType.PING:
                self._stream.count_frame(now_ms)
                await self._ws.pong(message.data)
            case WSMsgType.PONG:
                self._stream.count_frame(now_ms)
                self._pong_mono_s = self._clock.monotonic()

    async def _write(self) -> None:
        """Write what is due; the transport is only awaited when its buffer is full."""
        with contextlib.suppress(ConnectionError):
            while not self._stream.close_code:
                frames = self._stream.take(self._clock.now_ms())
                for number, frame in enumerate(frames, start=1):
                    await self._ws.send_frame(frame, WSMsgType.TEXT)
                    if number % FLUSH_FRAMES == 0:
                        await self._clock.sleep(0)
                await self._wait()
            if self._stream.close_code != ABNORMAL_CLOSURE:
                await self._ws.close(code=self._stream.close_code)

    async def _wait(self) -> None:
        """Wait until something is put into the outbox, or what is in it falls due."""
        due_ms = self._stream.next_due_ms
        if due_ms is None:
            await self._ready.wait()
        else:
            await self._clock.sleep((due_ms - self._clock.now_ms()) / 1000)
        self._ready.clear()

    async def _ping(self) -> None:
        """Ping at the interval; end the connection without pongs, or at the end of its life."""
        opened_mono_s = self._clock.monotonic()
        while True:
            left_s = self._life_s - (self._clock.monotonic() - opened_mono_s)
            await self._clock.sleep(min(self._ping_interval_s, left_s))
            now_mono_s = self._clock.monotonic()
            if now_mono_s - opened_mono_s >= self._life_s or now_mono_s - self._pong_mono_s >= self._pong_timeout_s:
                self._stream.close(ABNORMAL_CLOSURE)
                return
            with contextlib.suppress(ConnectionError):
                await self._ws.ping(str(self._clock.now_ms()).encode())


def _json_response(body: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
