"""The toy exchange: a ledger in memory, REST and a websocket on loopback."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple

import orjson
from aiohttp import WSMsgType, web

from statecast.clock import SystemClock

AHEAD_MS = 2_500
"""The exchange's clock is ahead of the machine's."""

KEY = ("toy-key", "toy-secret", "toy-passphrase")
PAGE = 2
HISTORY_PAGE = 7
MARK_S = 0.1
EIGHT_PLACES = Decimal("0.00000001")

Row = dict[str, Any]


class Contract(NamedTuple):
    """`size` is what one contract is: of the base coin, or where it is inverse of US dollars."""

    size: Decimal
    inverse: bool
    coin: str

    def profit(self, contracts: int, entry: Decimal, price: Decimal) -> Decimal:
        """Of so many contracts, in `coin`."""
        if self.inverse:
            return (contracts * self.size * (1 / entry - 1 / price)).quantize(EIGHT_PLACES)
        return contracts * self.size * (price - entry)

    def mean(self, first: int, at: Decimal, second: int, at_too: Decimal) -> Decimal:
        """The entry price of both amounts together."""
        if self.inverse:
            mean = (first + second) / (first / at + second / at_too)
        else:
            mean = (first * at + second * at_too) / (first + second)
        return mean.quantize(EIGHT_PLACES)


CONTRACTS = {
    "BTC-L": Contract(Decimal("0.01"), inverse=False, coin="USD"),
    "BTC-I": Contract(Decimal(100), inverse=True, coin="BTC"),
}


class Connection:
    """One client's socket."""

    def __init__(self, number: int, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.number = number
        self.channels: set[str] = set()
        self.logged_in = False
        self._sent = 0
        self._socket = socket
        self._request = request
        self._outbox: asyncio.Queue[str] = asyncio.Queue()

    def send(self, body: Row) -> None:
        """Every frame has the connection's number and count in it."""
        self._sent += 1
        self._outbox.put_nowait(orjson.dumps({"conn": self.number, "seq": self._sent, **body}).decode())

    def send_text(self, text: str) -> None:
        self._outbox.put_nowait(text)

    def cut(self) -> None:
        """Without a word."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def write(self) -> None:
        with suppress(ConnectionError):
            while True:
                await self._socket.send_str(await self._outbox.get())


class ToyExchange:
    """The ledger. Every change of it is sent to those who have subscribed."""

    def __init__(self, seed: int = 1, *, kept: int = 1_000) -> None:
        """`kept` is how many orders, and how many trades, the histories have."""
        self.rng = Random(seed)
        self.wallets = {"USD": Decimal(10_000), "BTC": Decimal(2)}
        self.wallet_ms = dict.fromkeys(self.wallets, 0)
        self.positions: dict[str, Row] = {}
        """By contract, flat ones included: `contracts` (negative is short), `entry`, `ms`."""
        self.orders: dict[int, Row] = {}
        """All that ever were, by number."""
        self.trades: list[Row] = []
        self.events: list[tuple[str, int, str]] = []
        """What happened to orders: contract, order, and `placed`, `pulled` or the number of the trade."""
        self.marks = {"BTC-L": Decimal(50_000), "BTC-I": Decimal(50_010)}
        self.connections: list[Connection] = []
        self.calls: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """REST calls that were too many for their bucket."""
        self.bucket = (40, 1.0)
        """So many calls of one endpoint within so many seconds."""
        self.is_down = False
        self._kept = kept
        self._asked: dict[str, deque[float]] = {}
        self._clock = SystemClock()
        self._last_ms = 0

    def now_ms(self) -> int:
        return self._clock.now_ms() + AHEAD_MS

    def _next_ms(self) -> int:
        """No two events of the ledger have one time."""
        self._last_ms = max(self.now_ms(), self._last_ms + 1)
        return self._last_ms

    # Trading

    def place(self, contract: str, side: str, contracts: int, price: Decimal) -> int:
        number = len(self.orders) + 1
        self.orders[number] = {
            "number": number,
            "tag": f"bot-{number}",
            "contract": contract,
            "side": side,
            "contracts": contracts,
            "done": 0,
            "price": str(price),
            "state": "working",
            "made": self._next_ms(),
            "ms": self._last_ms,
        }
        self._tell_order(number, "placed", None)
        return number

    def pull(self, number: int) -> None:
        order = self.orders[number]
        order.update(state="pulled", ms=self._next_ms())
        self._tell_order(number, "pulled", None)

    def fill(self, number: int, contracts: int) -> None:
        order = self.orders[number]
        contract, price = CONTRACTS[order["contract"]], Decimal(order["price"])
        signed = contracts if order["side"] == "buy" else -contracts
        order.update(done=order["done"] + contracts, ms=self._next_ms())
        if order["done"] == order["contracts"]:
            order["state"] = "done"
        position = self.positions.setdefault(order["contract"], {"contracts": 0, "entry": Decimal(0), "ms": 0})
        realized = Decimal(0)
        held, entry = position["contracts"], position["entry"]
        closes = min(abs(held), contracts) if held * signed < 0 else 0
        if closes:
            realized = contract.profit(closes if held > 0 else -closes, entry, price)
        left = held + signed
        if not left:
            position["entry"] = Decimal(0)
        elif held * left <= 0:
            position["entry"] = price
        elif not closes:
            position["entry"] = contract.mean(abs(held), entry, contracts, price)
        position.update(contracts=left, ms=self._last_ms)
        fee = Decimal("0.01") if contract.coin == "USD" else Decimal("0.00000021")
        self.wallets[contract.coin] += realized - fee
        self.wallet_ms[contract.coin] = self._last_ms
        trade = {
            "trade": len(self.trades) + 1,
            "number": number,
            "contract": order["contract"],
            "contracts": contracts,
            "price": str(price),
            "fee": str(fee),
            "coin": contract.coin,
            "realized": str(realized),
            "ms": self._last_ms,
        }
        self.trades.append(trade)
        self._tell_order(number, str(trade["trade"]), trade)
        self._tell("positions", {"row": self.position(order["contract"])})
        self._tell("wallets", {"row": self.wallet(contract.coin)})

    def step(self) -> None:
        """Something that a trader might do."""
        working = [number for number, order in self.orders.items() if order["state"] == "working"]
        chance = self.rng.random()
        if working and (chance < 0.5 or len(working) > 5):
            number = self.rng.choice(working)
            order = self.orders[number]
            if chance < 0.15:
                self.pull(number)
            else:
                self.fill(number, self.rng.randint(1, order["contracts"] - order["done"]))
        else:
            name = self.rng.choice(sorted(CONTRACTS))
            price = self.marks[name] + self.rng.randint(-50, 50)
            self.place(name, self.rng.choice(("buy", "sell")), self.rng.randint(1, 9), Decimal(price))

    def _tell_order(self, number: int, what: str, fill: Row | None) -> None:
        order = self.orders[number]
        self.events.append((order["contract"], number, what))
        self._tell("orders", {"order": order, "fill": fill})

    def _tell(self, channel: str, body: Row) -> None:
        for connection in self.connections:
            if channel in connection.channels:
                connection.send({"ch": channel, "ms": self._last_ms, **body})

    def position(self, name: str) -> Row:
        row = self.positions[name]
        profit = CONTRACTS[name].profit(row["contracts"], row["entry"] or Decimal(1), self.marks[name])
        return {
            "contract": name,
            "contracts": row["contracts"],
            "entry": str(row["entry"]),
            "profit": str(profit if row["contracts"] else Decimal(0)),
            "mark": str(self.marks[name]),
            "ms": row["ms"],
        }

    def wallet(self, coin: str) -> Row:
        return {"coin": coin, "total": str(self.wallets[coin]), "ms": self.wallet_ms[coin]}

    def move_marks(self) -> None:
        for name in self.marks:
            self.marks[name] += self.rng.randint(-20, 20)

    # Faults

    def cut(self) -> None:
        """Every socket of the account."""
        for connection in self.connections:
            if connection.logged_in:
                connection.cut()

    # REST

    def answer(self, name: str, given: Row) -> tuple[int, Row]:
        """Status and body of a call."""
        if name == "time":
            return 200, {"ms": self.now_ms()}
        most, within_s = self.bucket
        asked, now = self._asked.setdefault(name, deque()), self._clock.monotonic()
        while asked and asked[0] <= now - within_s:
            asked.popleft()
        if len(asked) >= most:
            self.refused[name] += 1
            return 429, {"wait_ms": round((asked[0] + within_s - now) * 1000) + 1}
        asked.append(now)
        self.calls[name] += 1
        if given.get("key") != list(KEY):
            return 401, {"why": "no such key"}
        return self._answers()[name](given)

    def _answers(self) -> dict[str, Callable[[Row], tuple[int, Row]]]:
        return {
            "wallets": lambda given: self._page([self.wallet(coin) for coin in sorted(self.wallets)], given),
            "positions": lambda given: self._page([self.position(n) for n in self.open_positions()], given),
            "orders": lambda given: self._page(self.open_orders(), given),
            "order": self._order,
            "history/orders": lambda given: self._history(list(self.orders.values()), "made", "number", given),
            "history/trades": lambda given: self._history(self.trades, "ms", "trade", given),
        }

    def open_positions(self) -> list[str]:
        return [name for name, row in sorted(self.positions.items()) if row["contracts"]]

    def open_orders(self) -> list[Row]:
        return [order for order in self.orders.values() if order["state"] == "working"]

    def _page(self, rows: list[Row], given: Row) -> tuple[int, Row]:
        at = given.get("at", 0)
        return 200, {"rows": rows[at : at + PAGE], "next": at + PAGE if at + PAGE < len(rows) else None}

    def _order(self, given: Row) -> tuple[int, Row]:
        order = self.orders.get(given["number"])
        newest = list(self.orders.values())[-self._kept :]
        known = order is not None and (order["state"] == "working" or order in newest)
        return (200, {"order": order}) if known else (404, {"why": "no such order"})

    def _history(self, rows: list[Row], time: str, number: str, given: Row) -> tuple[int, Row]:
        """Oldest first, beyond the row `after`. What is beyond the count of kept rows is forgotten."""
        forgotten_ms = rows[-self._kept - 1][time] if len(rows) > self._kept else 0
        found = [row for row in rows[-self._kept :] if row[time] >= given["since"] and row[number] > given["after"]]
        page = found[:HISTORY_PAGE]
        return 200, {"rows": page, "more": len(found) > len(page), "forgotten": forgotten_ms, "ms": self.now_ms()}

    # Sockets

    def received(self, connection: Connection, text: str) -> None:
        if text == "ping":
            connection.send_text("pong")
            return
        body = orjson.loads(text)
        if body["do"] == "login":
            connection.logged_in = body["key"] == list(KEY)
            connection.send({"done": "login", "ok": connection.logged_in})
        elif body["do"] == "subscribe":
            wanted = set(body["to"])
            allowed = connection.logged_in or all(channel.startswith("mark:") for channel in wanted)
            connection.send({"done": "subscribe", "ok": allowed, "to": body["to"]})
            if allowed:
                connection.channels |= wanted
            if "positions" in wanted and allowed:
                self._send_pages(connection)
        elif body["do"] == "unsubscribe":
            connection.channels -= set(body["to"])

    def _send_pages(self, connection: Connection) -> None:
        """All positions, at the beginning of a subscription."""
        pages = [[self.position(name)] for name in self.open_positions()] or [[]]
        for number, rows in enumerate(pages, start=1):
            body = {"rows": rows, "page": number, "last": number == len(pages), "ms": self.now_ms()}
            connection.send({"ch": "positions", "all": body})

    def send_marks(self) -> None:
        for connection in self.connections:
            for name, price in self.marks.items():
                if f"mark:{name}" in connection.channels:
                    connection.send({"ch": f"mark:{name}", "ms": self.now_ms(), "price": str(price)})


class ToyServer(NamedTuple):
    """Where the exchange listens."""

    exchange: ToyExchange
    rest_url: str
    ws_url: str


@asynccontextmanager
async def serving(exchange: ToyExchange) -> AsyncIterator[ToyServer]:
    """The exchange on a free port of this machine."""

    async def api(request: web.Request) -> web.Response:
        status, body = exchange.answer(request.match_info["name"], await request.json(loads=orjson.loads))
        return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")

    async def socket(request: web.Request) -> web.StreamResponse:
        if exchange.is_down:
            return web.Response(status=503)
        response = web.WebSocketResponse()
        await response.prepare(request)
        connection = Connection(next(numbers), response, request)
        exchange.connections.append(connection)
        writing = asyncio.create_task(connection.write())
        try:
            async for message in response:
                if message.type is WSMsgType.TEXT:
                    exchange.received(connection, message.data)
        finally:
            exchange.connections.remove(connection)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        return response

    async def marks() -> None:
        while True:
            await asyncio.sleep(MARK_S)
            exchange.send_marks()

    numbers = iter(range(1, 1_000_000))
    app = web.Application()
    app.router.add_post("/api/{name:.+}", api)
    app.router.add_get("/ws", socket)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    moving = asyncio.create_task(marks())
    try:
        yield ToyServer(exchange, f"http://{host}:{port}", f"ws://{host}:{port}")
    finally:
        moving.cancel()
        await asyncio.gather(moving, return_exceptions=True)
        await runner.cleanup()
