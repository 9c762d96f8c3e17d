"""What goes wrong in a simulated world: the seed chooses which kinds there are, when each happens, and for how long.

More than half of the worlds have one kind more, of those that few programs are ready for: chance alone would bring each
of them together with what makes it dangerous only once in some hundred worlds.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import orjson
from sim.promises import UNDER_WAY_S, Broken, order_name
from sim.venue import ACCOUNT_PATHS, PATHS

from statecast.simulator.binance.frames import Frame
from statecast.simulator.control import BURST_SYMBOL, burst
from statecast.simulator.orders import AlgoRequest, OrderRequest, OrderType, PositionSide, Refused, Side

if TYPE_CHECKING:
    from sim.world import Publisher, World

VENUE_PORT, REDIS_PORT = 8900, 6379

NONSENSE = (
    "{",
    "null",
    "[]",
    "42",
    '{"e":"ORDER_TRADE_UPDATE"}',
    '{"e":"ORDER_TRADE_UPDATE","E":1,"T":1,"o":{"s":"BTCUSDT","i":"x"}}',
    '{"e":"ACCOUNT_UPDATE","E":1793000000000,"T":1793000000000,"a":{"m":"ORDER","B":[{"a":"USDT","wb":"NaN","cw":"1"}]}}',
    '{"e":"ACCOUNT_UPDATE","E":1793000000000,"T":1793000000000,"a":{"m":"ORDER","B":[{"a":"USDT","wb":"","cw":""}]}}',
)
REWARDED = "BFUSD"
"""An asset that grows by itself while it is held; none that could be margin of a position."""

REST_ANSWERS: tuple[tuple[str, int, str], ...] = (
    ("429", 429, '{"code":-1003,"msg":"Too many requests; current limit of IP is 2400 requests per minute."}'),
    ("403", 403, "<html><body>403 Forbidden</body></html>"),
    ("451", 451, '{"code":0,"msg":"Service unavailable from a restricted location."}'),
    ("503 unknown", 503, '{"code":-1000,"msg":"Unknown error, please check your request or try again later."}'),
    ("503 unavailable", 503, '{"code":-1001,"msg":"Service Unavailable."}'),
    ("503 internal", 503, "Internal error; unable to process your request. Please try again."),
    ("-1008", 503, '{"code":-1008,"msg":"Server is currently overloaded with other requests."}'),
    ("-1007", 408, '{"code":-1007,"msg":"Timeout waiting for response from backend server."}'),
    ("-1021", 400, '{"code":-1021,"msg":"Timestamp for this request is outside of the recvWindow."}'),
    ("-2015", 401, '{"code":-2015,"msg":"Invalid API-key, IP, or permissions for action"}'),
    ("502", 502, "<html>Bad Gateway</html>"),
    ("HTML", 200, "<html>hello</html>"),
    ("cut JSON", 200, '{"assets": ['),
    ("other JSON", 200, '{"hello": 1}'),
)


class Faults:
    """The faults of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = rng = Random(world.rng.getrandbits(64))
        chosen = rng.sample(sorted(KINDS), rng.choice((1, 2, 3, 5, 8)))
        self._rare = Random(f"rare conditions of {world.seed}")
        self._one_more = "" if world.kinds else self._chosen_rare()
        self._kinds = sorted(world.kinds or chosen)
        world.grows_alone = self.kinds == ["a wallet grows without an event"] and not world.others_weight
        self._on = True

    def _chosen_rare(self) -> str:
        drawn = self._rare.random()
        if drawn < 0.08:
            return "rest is far behind"  # It takes so long that most other faults hide it.
        return "" if drawn < 0.5 else self._rare.choice(RARE)

    @property
    def kinds(self) -> list[str]:
        """What may happen."""
        return sorted({*self._kinds, self._one_more} - {""})

    def plan(self, until: float) -> None:
        """Let things happen until then."""
        for _ in range(self._rng.randint(2, 8)):
            at = self._rng.uniform(self._world.loop.time(), until)
            self._at(at, self._rng.choice(self._kinds), self._rng)
        if self._one_more:
            self._at(self._rare.uniform(self._world.loop.time(), until), self._one_more, self._rare)

    def _at(self, at: float, kind: str, rng: Random) -> None:
        self._world.loop.call_at(at, self._strike, kind, rng, context=self._world.network.context)

    def _strike(self, kind: str, rng: Random) -> None:
        if self._on and self._world.broken is None:
            self._world.counts[kind] += 1
            self._world.trace(f"FAULT {kind}")
            KINDS[kind](self._world, rng)

    def stop(self) -> None:
        """Everything is well from now on; who was killed or stopped runs again."""
        self._on = False
        world = self._world
        world.trace("the faults stop")
        world.exchange.faults.frames.clear()
        world.exchange.faults.rest.clear()
        world.exchange.faults.handshakes.clear()
        world.exchange.faults.user_sockets_muted = world.exchange.faults.market_sockets_muted = False
        world.exchange.overtaking = 0
        world.exchange.again_after_ms.clear()
        world.exchange.limits.allow(2400)
        world.others_are_usual()
        world.exchange.fault("hide_young_orders", {"ms": 0}, world.now_ms())
        world.rest_is_present()
        world.venue.unanswered = 0
        world.redis.error, world.redis.slow_s, world.redis.lose_next = "", 0.0, ""
        for host in world.hosts:
            for port in (VENUE_PORT, REDIS_PORT):
                path = world.network.path(host, port)
                now = world.loop.time()
                path.stalled_until = min(path.stalled_until, now)
                path.down_stalled_until = min(path.down_stalled_until, now)
                path.refused_until = min(path.refused_until, now)
                path.extra_s = 0.0
            running = world.publishers[host]
            if running.stopped:
                world.loop.resume(running)
            world.start(host)


Kind = Callable[["World", Random], None]
KINDS: dict[str, Kind] = {}
RARE: list[str] = []
"""Those that few programs are ready for."""


def kind(function: Kind) -> Kind:
    KINDS[function.__name__.replace("_", " ")] = function
    return function


def rare_kind(function: Kind) -> Kind:
    RARE.append(function.__name__.replace("_", " "))
    return kind(function)


def _after(world: World, delay_s: float, call: Callable[[], None]) -> None:
    world.loop.call_later(delay_s, call, context=world.network.context)


def _victim(world: World, rng: Random) -> Publisher:
    return world.publishers[rng.choice(world.hosts)]


# The user stream


@kind
def user_sockets_are_dropped(world: World, rng: Random) -> None:
    world.exchange.fault("cut_sockets", {"kind": "private", "code": 1006}, world.now_ms())


@kind
def user_sockets_are_closed(world: World, rng: Random) -> None:
    code = rng.choice((1000, 1001, 1008, 1011))
    world.exchange.fault("cut_sockets", {"kind": "private", "code": code}, world.now_ms())


@kind
def market_sockets_are_dropped(world: World, rng: Random) -> None:
    world.exchange.fault("cut_sockets", {"kind": "market", "code": 1006}, world.now_ms())


@kind
def all_sockets_are_dropped(world: World, rng: Random) -> None:
    world.exchange.fault("cut_sockets", {"kind": "", "code": 1006}, world.now_ms())


@kind
def user_sockets_are_mute(world: World, rng: Random) -> None:
    world.exchange.fault("mute_user_sockets", {"on": True}, world.now_ms())
    _after(world, rng.uniform(0.5, 15), lambda: world.exchange.fault("mute_user_sockets", {"on": False}, 0))


@kind
def market_sockets_are_mute(world: World, rng: Random) -> None:
    world.exchange.fault("mute_market_sockets", {"on": True}, world.now_ms())
    _after(world, rng.uniform(0.5, 15), lambda: world.exchange.fault("mute_market_sockets", {"on": False}, 0))


@kind
def user_socket_is_a_black_hole(world: World, rng: Random) -> None:
    """Nothing arrives in either direction, and nobody is informed: the publisher's pings find it within 40 s."""
    victim = _victim(world, rng)
    for connection in world.network.of(victim, VENUE_PORT):
        if connection.kind == "private":
            connection.black_hole = True
            world.bounds.silent(world.loop.time() - UNDER_WAY_S, world.loop.time() + 45)


@kind
def frames_are_lost(world: World, rng: Random) -> None:
    events = rng.choice(([], ["ORDER_TRADE_UPDATE"], ["ACCOUNT_UPDATE"], ["ALGO_UPDATE"], ["ACCOUNT_CONFIG_UPDATE"]))
    world.exchange.fault("drop_user_frames", {"count": rng.randint(1, 5), "events": events}, world.now_ms())


@kind
def frames_come_twice(world: World, rng: Random) -> None:
    world.exchange.fault("duplicate_user_frames", {"count": rng.randint(1, 20)}, world.now_ms())


@rare_kind
def frames_come_again_later(world: World, rng: Random) -> None:
    """On the same connection, or only on the next one, behind what is newer: before the state is live, or after."""
    latest_ms = rng.choice((4000, 12_000))
    world.exchange.again_after_ms += [rng.randint(1, latest_ms) for _ in range(rng.randint(5, 20))]
    if rng.random() < 0.8:
        _after(world, rng.uniform(0.3, 4), lambda: user_sockets_are_dropped(world, rng))


@kind
def frames_of_two_types_change_place(world: World, rng: Random) -> None:
    world.exchange.overtaking += rng.randint(1, 10)


@kind
def frames_are_late(world: World, rng: Random) -> None:
    args = {"count": rng.randint(1, 10), "delay_ms": rng.randint(50, 3000)}
    world.exchange.fault("delay_user_frames", args, world.now_ms())


@kind
def frames_make_no_sense(world: World, rng: Random) -> None:
    world.exchange.fault("send_raw", {"text": rng.choice(NONSENSE)}, world.now_ms())


@kind
def unknown_events(world: World, rng: Random) -> None:
    now_ms = world.now_ms()
    event = rng.choice(("STRATEGY_UPDATE", "GRID_UPDATE", "SOMETHING_NEW"))
    world.exchange.send_user(Frame(event, {"e": event, "E": now_ms, "T": now_ms}), now_ms)


# The listen key


def _expired(world: World, body: dict[str, object]) -> None:
    world.exchange.fault("send_raw", {"text": orjson.dumps(body).decode()}, world.now_ms())
    world.exchange.fault("forget_listen_key", {}, world.now_ms())


@kind
def listen_key_expires(world: World, rng: Random) -> None:
    world.exchange.fault("expire_listen_key", {}, world.now_ms())


@kind
def listen_key_expires_twice_told(world: World, rng: Random) -> None:
    key = world.exchange.listen_key
    if key is not None:
        for _ in range(2):
            _expired(world, {"e": "listenKeyExpired", "E": str(world.now_ms()), "listenKey": key.key})


@kind
def listen_key_expires_without_its_name(world: World, rng: Random) -> None:
    _expired(world, {"e": "listenKeyExpired", "E": world.now_ms()})


@kind
def another_program_deletes_the_listen_key(world: World, rng: Random) -> None:
    """Its sockets stay open and silent, and nobody is informed."""
    world.exchange.fault("forget_listen_key", {}, world.now_ms())


@kind
def server_shutdown(world: World, rng: Random) -> None:
    world.exchange.fault("server_shutdown", {}, world.now_ms())
    _after(world, rng.uniform(0.5, 4), lambda: world.exchange.fault("cut_sockets", {"kind": "", "code": 1001}, 0))


# REST


def _rest(world: World, rng: Random, status: int, body: str, count: int) -> None:
    args = {"count": count, "status": status, "body": body, "delay_ms": rng.choice((0, 0, 300))}
    world.exchange.fault("answer_rest", args, world.now_ms())
    world.bounds.no_rest(world.loop.time(), world.loop.time() + 70)


@kind
def rest_answers_with_an_error(world: World, rng: Random) -> None:
    name, status, body = rng.choice(REST_ANSWERS)
    world.counts[f"REST {name}"] += 1
    _rest(world, rng, status, body, rng.randint(1, 6))


@kind
def rest_bans_the_address(world: World, rng: Random) -> None:
    until_ms = world.now_ms() + rng.randint(2, 20) * 1000
    body = f'{{"code":-1003,"msg":"Way too many requests; IP banned until {until_ms}."}}'
    _rest(world, rng, 418, body, rng.randint(1, 3))


@kind
def rest_is_late(world: World, rng: Random) -> None:
    args = {"count": rng.randint(1, 8), "delay_ms": rng.randint(300, 12_000)}
    world.exchange.fault("delay_rest", args, world.now_ms())
    world.bounds.no_rest(world.loop.time(), world.loop.time() + 40)


@kind
def rest_does_not_answer(world: World, rng: Random) -> None:
    world.venue.unanswered += rng.randint(1, 4)
    world.bounds.no_rest(world.loop.time(), world.loop.time() + 40)


@kind
def rest_lags_behind_the_stream(world: World, rng: Random) -> None:
    lag_ms, lasts_s = rng.randint(100, 3000), rng.uniform(1, 10)
    world.rest_is_behind(dict.fromkeys(PATHS, lag_ms), lasts_s)


@kind
def request_weight_is_short(world: World, rng: Random) -> None:
    world.exchange.limits.allow(rng.choice((20, 60, 150)))
    world.bounds.no_rest(world.loop.time(), world.loop.time() + 130)

    def end() -> None:
        world.exchange.limits.allow(2400)

    _after(world, rng.uniform(2, 20), end)


@kind
def the_venues_clock_is_set_forward(world: World, rng: Random) -> None:
    shift = world.exchange.faults.clock_shift_ms + rng.randint(500, 8000)
    world.exchange.fault("shift_clock", {"by_ms": shift}, world.now_ms())


@kind
def maintenance(world: World, rng: Random) -> None:
    now_ms, lasts_s = world.now_ms(), rng.uniform(3, 25)
    body = '{"code":-1016,"msg":"This service is no longer available."}'
    exchange = world.exchange
    exchange.fault("answer_rest", {"count": 100_000, "status": 503, "body": body}, now_ms)
    exchange.fault("refuse_sockets", {"count": 100_000, "status": 503}, now_ms)
    exchange.fault("cut_sockets", {"kind": "", "code": 1001}, now_ms)
    world.bounds.no_rest(world.loop.time(), world.loop.time() + lasts_s + 70)

    def end() -> None:
        exchange.faults.rest.clear()
        exchange.faults.handshakes.clear()

    _after(world, lasts_s, end)


@kind
def sockets_are_refused(world: World, rng: Random) -> None:
    args = {"count": rng.randint(1, 5), "status": rng.choice((403, 429, 500, 503))}
    world.exchange.fault("refuse_sockets", args, world.now_ms())
    world.exchange.fault("cut_sockets", {"kind": "private", "code": 1006}, world.now_ms())


# The way to the venue


@kind
def the_way_to_the_venue_stalls(world: World, rng: Random) -> None:
    now, lasts_s = world.loop.time(), rng.uniform(0.5, 20)
    world.network.path(rng.choice(world.hosts), VENUE_PORT).stalled_until = now + lasts_s
    world.bounds.silent(now - UNDER_WAY_S, now + lasts_s)
    world.bounds.no_rest(now, now + lasts_s + 15)


@kind
def the_venues_words_stall(world: World, rng: Random) -> None:
    now, lasts_s = world.loop.time(), rng.uniform(0.5, 10)
    world.network.path(rng.choice(world.hosts), VENUE_PORT).down_stalled_until = now + lasts_s
    world.bounds.silent(now - UNDER_WAY_S, now + lasts_s)
    world.bounds.no_rest(now, now + lasts_s + 15)


@kind
def the_way_to_the_venue_is_slow(world: World, rng: Random) -> None:
    now, lasts_s = world.loop.time(), rng.uniform(1, 15)
    path = world.network.path(rng.choice(world.hosts), VENUE_PORT)
    path.extra_s = rng.uniform(0.05, 1.0)
    world.bounds.silent(now - UNDER_WAY_S, now + lasts_s + 1)

    def end() -> None:
        path.extra_s = 0.0

    _after(world, lasts_s, end)


@kind
def the_venue_refuses_connections(world: World, rng: Random) -> None:
    victim = _victim(world, rng)
    world.network.path(victim.name, VENUE_PORT).refused_until = world.loop.time() + rng.uniform(0.5, 10)
    world.bounds.no_rest(world.loop.time(), world.loop.time() + 25)
    for connection in world.network.of(victim, VENUE_PORT):
        connection.cut()


# Redis


def _disturbed(world: World, lasts_s: float) -> None:
    world.bounds.disturbed(world.loop.time(), world.loop.time() + lasts_s)


@kind
def the_way_to_redis_stalls(world: World, rng: Random) -> None:
    lasts_s = rng.uniform(0.2, 8)
    path = world.network.path(rng.choice(world.hosts), REDIS_PORT)
    path.stalled_until = world.loop.time() + lasts_s
    _disturbed(world, lasts_s)


@kind
def redis_answers_stall(world: World, rng: Random) -> None:
    lasts_s = rng.uniform(0.2, 5)
    world.network.path(rng.choice(world.hosts), REDIS_PORT).down_stalled_until = world.loop.time() + lasts_s
    _disturbed(world, lasts_s)


@kind
def redis_is_slow(world: World, rng: Random) -> None:
    world.redis.slow_s = rng.choice((0.02, 0.1, 0.4))
    lasts_s = rng.uniform(0.5, 8)
    _disturbed(world, lasts_s + 2)

    def end() -> None:
        world.redis.slow_s = 0.0

    _after(world, lasts_s, end)


@kind
def a_reply_of_redis_is_lost(world: World, rng: Random) -> None:
    world.redis.lose_next = "reply"
    _disturbed(world, 2)


@kind
def a_request_to_redis_is_lost(world: World, rng: Random) -> None:
    world.redis.lose_next = "request"
    _disturbed(world, 2)


@kind
def redis_connections_are_cut(world: World, rng: Random) -> None:
    world.redis.cut_all()
    _disturbed(world, 1)


@kind
def redis_refuses_to_write(world: World, rng: Random) -> None:
    world.redis.error = rng.choice(
        (
            "OOM command not allowed when used memory > 'maxmemory'.",
            "READONLY You can't write against a read only replica.",
            "LOADING Redis is loading the dataset in memory",
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            "NOREPLICAS Not enough good replicas to write.",
        )
    )
    world.counts[f"Redis {world.redis.error.split()[0]}"] += 1
    lasts_s = rng.uniform(0.2, 8)
    _disturbed(world, lasts_s)

    def end() -> None:
        world.redis.error = ""

    _after(world, lasts_s, end)


def _away(world: World, lasts_s: float) -> None:
    world.redis.cut_all()
    for host in world.hosts:
        world.network.path(host, REDIS_PORT).refused_until = world.loop.time() + lasts_s
    _disturbed(world, lasts_s)


@kind
def redis_is_down(world: World, rng: Random) -> None:
    _away(world, rng.uniform(0.2, 8))


@kind
def redis_forgets_its_scripts(world: World, rng: Random) -> None:
    world.redis.forget_scripts()


@kind
def redis_crashes_and_loses_a_second(world: World, rng: Random) -> None:
    _away(world, rng.uniform(0.1, 6))
    lost = world.redis.lose_writes_since(world.loop.time() - rng.uniform(0, 1))
    world.trace(f"{lost} writes are lost")
    world.redis_lost()


@kind
def redis_fails_over_to_a_replica_that_lags(world: World, rng: Random) -> None:
    _away(world, rng.uniform(0.1, 3))
    lost = world.redis.lose_writes_since(world.loop.time() - rng.uniform(0, 4))
    world.trace(f"{lost} writes are lost")
    world.redis_lost()


@kind
def redis_is_wiped(world: World, rng: Random) -> None:
    if rng.random() < 0.5:
        _away(world, rng.uniform(0.1, 3))
    world.redis.wipe()
    world.redis_lost()


# Processes


@kind
def a_publisher_is_killed(world: World, rng: Random) -> None:
    victim = _victim(world, rng)
    if not victim.task.done():
        victim.kill()
    _after(world, rng.uniform(0.1, 8), lambda: world.start(victim.name))


@kind
def all_publishers_are_killed(world: World, rng: Random) -> None:
    for host in world.hosts:
        victim = world.publishers[host]
        if not victim.task.done():
            victim.kill()
        _after(world, rng.uniform(0.1, 8), lambda host=host: world.start(host))  # type: ignore[misc]


@kind
def a_publisher_stands_still(world: World, rng: Random) -> None:
    victim, lasts_s = _victim(world, rng), rng.choice((0.3, 1.0, 2.0, 3.0, 8.0, 20.0))
    if victim.stopped or victim.dead:
        return
    victim.stopped = victim.stood_still = True
    victim.still_since = world.loop.time()
    _disturbed(world, lasts_s)

    def go_on() -> None:
        if victim.stopped:
            world.loop.resume(victim)

    _after(world, lasts_s, go_on)


@kind
def a_publisher_is_stopped_and_started(world: World, rng: Random) -> None:
    victim = _victim(world, rng)
    victim.ask_to_stop()

    def judge() -> None:
        if victim.alive and not victim.stood_still:
            world.fail(Broken("an orderly stop ends within 5 s", f"{victim.name} is still there"))

    _after(world, 5.0, judge)
    delay_s = rng.uniform(0.1, 5)

    def start() -> None:
        if not victim.task.done():
            victim.task.add_done_callback(lambda task: world.start(victim.name), context=world.network.context)
        else:
            world.start(victim.name)

    _after(world, delay_s, start)


@kind
def a_hosts_clock_is_set(world: World, rng: Random) -> None:
    victim = _victim(world, rng)
    victim.wall_offset_ms += rng.choice((-3_600_000, -5_000, -800, 800, 5_000, 3_600_000))
    world.wall_offsets_ms[victim.name] = victim.wall_offset_ms


# What few programs are ready for


@rare_kind
def rest_is_behind_by_endpoint(world: World, rng: Random) -> None:
    """Each path by its own time."""
    lasts_s = rng.uniform(1, 10)
    world.rest_is_behind({path: rng.choice((0, 100, 500, 1500, 2900)) for path in PATHS}, lasts_s)


@rare_kind
def rest_is_behind_when_the_stream_is_cut(world: World, rng: Random) -> None:
    """By as much as is usual, right after the stream has told of something new; and an order that was just placed does
    not exist by its id."""
    cut_s = rng.uniform(0.2, 1.5)
    lag_ms = rng.randint(300, 2900)
    lags_ms = {path: lag_ms if rng.random() < 0.5 else rng.randint(0, 2900) for path in PATHS}
    if rng.random() < 0.5:
        lags_ms = dict.fromkeys(PATHS, lag_ms)
    world.rest_is_behind(lags_ms, cut_s + rng.uniform(3, 6))
    _hide_young_orders(world, rng.choice((0, 1000, 3000, 8000)), cut_s + rng.uniform(2, 5))
    _after(world, max(0.0, cut_s - rng.uniform(0.1, 0.6)), lambda: _open_something(world, rng))
    _after(world, cut_s, lambda: user_sockets_are_dropped(world, rng))


@rare_kind
def rest_is_far_behind(world: World, rng: Random) -> None:
    """By more than any document says, while the stream goes on, or soon has nothing to tell: then what REST says stays
    the same for long, and is wrong."""
    lag_s = rng.uniform(5, 15) if rng.random() < 0.3 else rng.uniform(15, 40)
    lasts_s = lag_s + rng.uniform(-3, 8)
    world.rest_is_behind(dict.fromkeys(rng.choice((ACCOUNT_PATHS, PATHS)), round(lag_s * 1000)), lasts_s)
    if rng.random() < 0.2:
        return
    now = world.loop.time()
    world.goes_on_until(now + lasts_s)
    world.is_calm(now + rng.uniform(0.5, 3), now + lasts_s)
    if rng.random() < 0.5:
        _after(world, min(rng.uniform(0.4, 0.8) * lag_s, lag_s - 5), lambda: user_sockets_are_dropped(world, rng))


def _hide_young_orders(world: World, age_ms: int, lasts_s: float) -> None:
    world.exchange.fault("hide_young_orders", {"ms": age_ms}, world.now_ms())
    _after(world, lasts_s, lambda: world.exchange.fault("hide_young_orders", {"ms": 0}, 0))


def _open_something(world: World, rng: Random) -> None:
    """An order, a stop loss and a position, each where there may have been none; what the account is too poor for is
    left."""
    ledger, now_ms = world.exchange.ledger, world.now_ms()
    at_ms, position_side = world.exchange.server_ms(now_ms), rng.choice(ledger.sides())
    side = {PositionSide.LONG: Side.BUY, PositionSide.SHORT: Side.SELL}.get(position_side, rng.choice(list(Side)))
    held = {row.symbol for row in ledger.positions()}
    symbols = [symbol for symbol in ledger.rules if symbol != BURST_SYMBOL]
    rules = ledger.rules[rng.choice([symbol for symbol in symbols if symbol not in held] or symbols)]
    mark = ledger.marks[rules.symbol]
    qty = (rules.min_notional * 2 / mark // rules.step_size + 1) * rules.step_size
    # Where a limit order rests, and where the position that it opens is stopped.
    price = mark * Decimal("0.97" if side is Side.BUY else "1.03") // rules.tick_size * rules.tick_size
    of: dict[str, Any] = {"symbol": rules.symbol, "qty": qty, "position_side": position_side}
    order = OrderRequest(side=side, type=OrderType.LIMIT, price=price, **of)
    taken = OrderRequest(side=side, type=OrderType.MARKET, **of)
    away = Side.SELL if side is Side.BUY else Side.BUY
    stop = AlgoRequest(side=away, type=OrderType.STOP_MARKET, trigger_price=price, **of)
    for request in rng.sample((order, taken, stop), 3):
        with suppress(Refused):
            place = ledger.place_algo if isinstance(request, AlgoRequest) else ledger.place
            world.exchange.publish(place(request, at_ms), now_ms)  # type: ignore[operator]


@rare_kind
def young_orders_do_not_exist_by_their_id(world: World, rng: Random) -> None:
    _hide_young_orders(world, rng.randint(500, 8000), rng.uniform(1, 10))
    if rng.random() < 0.7:
        _after(world, rng.uniform(0.1, 1.0), lambda: user_sockets_are_dropped(world, rng))


@rare_kind
def other_programs_use_the_address(world: World, rng: Random) -> None:
    lasts_s = rng.uniform(5, 60)
    world.exchange.fault("other_programs", {"weight": rng.choice((600, 1200, 1600, 1700))}, world.now_ms())
    world.bounds.no_rest(world.loop.time(), world.loop.time() + lasts_s)
    if rng.random() < 0.5:
        user_sockets_are_dropped(world, rng)
    _after(world, lasts_s, world.others_are_usual)


@rare_kind
def a_symbol_is_delisted(world: World, rng: Random) -> None:
    """What was open of it is gone, with an event or without; who has not seen the event can ask nobody."""
    ledger, now_ms = world.exchange.ledger, world.now_ms()
    symbols = [symbol for symbol in ledger.rules if symbol != BURST_SYMBOL]
    busy = [symbol for symbol in symbols if ledger.open_orders(symbol)]
    if len(symbols) < 2:
        return
    symbol, reported = rng.choice(busy or symbols), rng.random() < 0.5
    open_names = [order_name(symbol, order.order_id) for order in ledger.open_orders(symbol)]
    open_names += [order_name(symbol, f"algo-{algo.algo_id}") for algo in ledger.open_algos(symbol)]
    world.reader.delisted.add(symbol)
    events = ledger.delist(symbol, world.exchange.server_ms(now_ms), reported=reported)
    world.exchange.publish(events, now_ms)
    if not reported:
        now = world.loop.time()
        world.bounds.silent(now, now)
        world.reader.vanished.update(open_names)
        for name in open_names:
            world.truth.put(("orders", name), None, now)
    if rng.random() < 0.5:
        user_sockets_are_dropped(world, rng)


@rare_kind
def an_order_ends_with_an_unknown_status(world: World, rng: Random) -> None:
    ledger, now_ms = world.exchange.ledger, world.now_ms()
    orders = ledger.open_orders()
    if not orders:
        return
    order = rng.choice(orders)
    world.reader.unknowable.add(order_name(order.symbol, order.order_id))
    if rng.random() < 0.5:
        user_sockets_are_dropped(world, rng)
    events = ledger.expire_by_risk(order.order_id, world.exchange.server_ms(now_ms), symbol=order.symbol)
    world.exchange.publish(events, now_ms)


@rare_kind
def a_wallet_grows_without_an_event(world: World, rng: Random) -> None:
    ledger, now_ms, now, asset = world.exchange.ledger, world.now_ms(), world.loop.time(), REWARDED
    ledger.accrue(asset, Decimal(rng.randint(1, 100_000)) / 100_000_000, world.exchange.server_ms(now_ms))
    world.exchange.publish((), now_ms)
    world.bounds.silent(now, now)
    world.truth.put(("balances", asset), (ledger.wallet(asset).balance, ledger.cross_wallet(asset)), now)


@rare_kind
def an_asset_is_withdrawn_and_not_listed_any_more(world: World, rng: Random) -> None:
    """While the stream is silent."""
    ledger, now_ms = world.exchange.ledger, world.now_ms()
    if not ledger.wallet(REWARDED).balance:
        return
    user_sockets_are_mute(world, rng)
    world.exchange.publish(ledger.forget_asset(REWARDED, world.exchange.server_ms(now_ms)), now_ms)


@rare_kind
def the_venues_clock_is_set_back(world: World, rng: Random) -> None:
    """While connections are open: what is newer has an older time."""
    by_ms, now = rng.randint(300, 3000), world.loop.time()
    world.exchange.fault("shift_clock", {"by_ms": world.exchange.faults.clock_shift_ms - by_ms}, world.now_ms())
    world.bounds.looks_older(now, now + by_ms / 1000)


@rare_kind
def mark_prices_are_stamped_an_hour_ahead(world: World, rng: Random) -> None:
    world.exchange.fault("shift_marks", {"by_ms": 3_600_000}, world.now_ms())


@rare_kind
def a_flood_of_frames(world: World, rng: Random) -> None:
    # Of orders, fewer than a page of a history holds, which may be small here.
    kind = rng.choice(("amendments", "amendments", "cancels", "fills"))
    pairs = rng.randint(50, 400) if kind == "amendments" else rng.randint(5, 15)
    with suppress(Refused):
        burst(world.exchange, pairs, kind, world.now_ms())


@rare_kind
def a_flood_while_rest_answers_nothing(world: World, rng: Random) -> None:
    """What was received since the cut waits for an answer."""
    now, lasts_s = world.loop.time(), rng.uniform(2, 12)
    args = {"count": 100_000, "status": 503, "body": "Service Unavailable.", "path": "/fapi/v3/account"}
    world.exchange.fault("answer_rest", args, world.now_ms())
    user_sockets_are_dropped(world, rng)
    world.bounds.no_rest(now, now + lasts_s + 30)
    world.goes_on_until(now + lasts_s)
    for _ in range(rng.randint(1, 4)):
        _after(world, rng.uniform(0.5, lasts_s), lambda: a_flood_of_frames(world, rng))

    def end() -> None:
        faults = world.exchange.faults.rest
        faults[:] = [fault for fault in faults if fault.path != "/fapi/v3/account"]

    _after(world, lasts_s, end)
