"""Frames of Binance's user and market streams → what they change. Pure; only FrameError comes out, whatever goes in.

Pages "User Data Streams" (one per event) and "Mark Price Stream", as of 2026-05-28 to 2026-09, with the change log up
to 2026-10-23; read in November 2026. A user frame, trimmed:

    {"e":"ORDER_TRADE_UPDATE","E":1793000001079,"T":1793000001046,
     "o":{"s":"BTCUSDT","c":"my-0001","S":"BUY","o":"LIMIT","f":"GTC","q":"0.050","p":"91250.4","ap":"91250.40000",
      "x":"TRADE","X":"PARTIALLY_FILLED","i":8886774001,"l":"0.025","z":"0.025","T":1793000001046,"t":5512345678,…}}

Frames come bare, or as `{"stream":…,"data":…}` where several streams share a socket; the label may be the listen key
and is not read. The venue adds fields and events without notice: they are counted and change nothing. What a side
means and what an amount is must be known: there an unknown value is an error. What only decorates an order (`cp`, `AP`,
`cr`) is left out where it makes no sense. A status that nobody named is passed on
as it is; whether the order is over says the execution type, or what is filled. Where neither does, the frame is
doubtful.

Wire notes. Amounts are text (a JSON integer is read too, a JSON fraction is not: its digits may have been rounded).
Times and ids are integers; algo orders name their engine order (`ai`) in text, `""` before the trigger. `E` of
listenKeyExpired has been text. Position rows say `cross` or `isolated`, margin calls `CROSSED` or `ISOLATED`.
"""

from __future__ import annotations

from collections.abc import Callable

from statecast.domain import event_ids
from statecast.domain.changes import (
    BalanceUpdate,
    Change,
    Frame,
    LeverageUpdate,
    MarkPriceUpdate,
    MultiAssetsUpdate,
    Notice,
    OrderUpdate,
    PositionUpdate,
)
from statecast.domain.models import Order, OrderEvent, Stamp
from statecast.domain.orders import END_EVENTS, EVENTS, FILL_EVENTS, FIRST_EVENTS, is_over
from statecast.errors import FrameError
from statecast.venues.binance.fields import (
    Json,
    count_beyond,
    flag,
    if_readable,
    kind,
    maybe_flag,
    maybe_id,
    maybe_number,
    name,
    number,
    obj,
    one_of,
    parse,
    rows,
    text,
    time_ms,
    time_or_zero,
    whole,
    word,
)
from statecast.venues.binance.wire import (
    ALGO_STATUSES,
    COIN_M,
    MULTI_ASSETS_TOTALS,
    ORDER_STATUSES,
    POSITION_SIDES,
    SIDES,
    SINGLE_ASSET_TOTALS,
    SYSTEM_ORDERS,
)

MAX_NAME_LENGTH = 64
"""Of an unknown event's name, and of each part of a detail, kept for the log."""

_ACCOUNT_FIELDS = frozenset(["e", "E", "T", "a"])
_ACCOUNT_DATA_FIELDS = frozenset(["m", "S", "B", "P"])
_BALANCE_FIELDS = frozenset(["a", "wb", "cw", "bc"])
_POSITION_FIELDS = frozenset(["s", "pa", "ep", "bep", "cr", "up", "mt", "iw", "ps", "ma"])
_ORDER_FRAME_FIELDS = frozenset(["e", "E", "T", "o"])
_ORDER_FIELDS = frozenset(
    [
        "s",
        "c",
        "S",
        "o",
        "f",
        "q",
        "p",
        "ap",
        "sp",
        "x",
        "X",
        "i",
        "l",
        "z",
        "L",
        "N",
        "n",
        "T",
        "t",
        "b",
        "a",
        "m",
        "R",
        "wt",
        "ot",
        "ps",
        "cp",
        "AP",
        "cr",
        "M",
        "pP",
        "si",
        "ss",
        "rp",
        "V",
        "pm",
        "gtd",
        "er",
    ]
)
_ALGO_FIELDS = frozenset(
    [
        "caid",
        "aid",
        "at",
        "o",
        "s",
        "S",
        "ps",
        "f",
        "q",
        "X",
        "ai",
        "ap",
        "aq",
        "act",
        "tp",
        "p",
        "V",
        "wt",
        "pm",
        "cp",
        "pP",
        "R",
        "tt",
        "gtd",
        "rm",
        "ia",
        "AP",
        "cr",
    ]
)
_CONFIG_FIELDS = frozenset(["e", "E", "T", "ac", "ai"])
_LEVERAGE_FIELDS = frozenset(["s", "l"])
_MULTI_ASSETS_FIELDS = frozenset({"j"})
_MARK_PRICE_FIELDS = frozenset(["e", "E", "s", "p", "ap", "P", "i", "r", "T", "st"])
_TRADE_LITE_FIELDS = frozenset(["e", "E", "T", "s", "q", "p", "m", "c", "S", "L", "l", "t", "i"])
_MARGIN_CALL_FIELDS = frozenset(["e", "E", "cw", "p"])
_KEY_EXPIRED_FIELDS = frozenset(["e", "E", "listenKey"])


def decode_user_frame(frame: bytes | str, received_at_ms: int) -> Frame:
    """One frame of the private stream. `received_at_ms` is stamped on order events and decides nothing.

    Notices: `stream_ended` and `reconnect_soon` end this socket's usefulness, `margin_call` names the positions,
    `ignored` is known and carries no state that we keep, `unknown` is an event of a newer venue. FrameError asks for a
    re-read by REST.
    """
    body = _unwrapped(frame)
    if type(body) is not dict:
        raise FrameError("user", "body", f"is {kind(body)}, expected an object")
    event = body.get("e")
    if event == "ORDER_TRADE_UPDATE" and body.get("st") != COIN_M:
        return _order_trade_update(body, received_at_ms)
    if event == "ALGO_UPDATE" and body.get("st") != COIN_M:
        return _algo_update(body, received_at_ms)
    return _decoded(body, _USER_EVENTS)


def decode_market_frame(frame: bytes | str) -> Frame:
    """One frame of the market stream: mark prices, one or an array of them; COIN-M symbols and empty prices are left
    out.

    {"stream":"btcusdt@markPrice@1s","data":{"e":"markPriceUpdate","E":1793000000000,"s":"BTCUSDT","p":"91414.90",…}}

    Prices are stamped with `E`. An array's frame has the time of its youngest price. An array is not "all symbols":
    the venue sends some kinds of symbols in a message of their own.
    """
    body = _unwrapped(frame)
    if type(body) is dict:
        return _decoded(body, _MARKET_EVENTS)
    event = "markPriceUpdate"
    frames = [_decoded(row, _MARKET_EVENTS) for row in rows(body, event, "body")]
    changes = tuple(change for part in frames for change in part.changes)
    return Frame(
        event,
        max((part.event_time_ms for part in frames), default=0),
        changes,
        notice=None if changes else "ignored",
        unknown_fields=sum(part.unknown_fields for part in frames),
    )


def _unwrapped(frame: bytes | str) -> object:
    body = parse(frame, "unreadable")
    if type(body) is dict and "stream" in body and "e" not in body:
        body = body.get("data")
    if type(body) is dict and type(body.get("event")) is dict and "e" not in body:  # as Spot wraps serverShutdown
        return body["event"]
    return body


def _decoded(body: Json, events: dict[str, Callable[[Json], Frame]]) -> Frame:
    """`body` by its event's decoder; replies to our own requests and unknown events have none."""
    event = body.get("e")
    if event is None and "result" in body:
        return Frame("reply", 0, notice="ignored", detail="the venue answered a request on the stream")
    if event is None and "error" in body:
        # Its text may repeat the listen key that was asked for, its number is enough.
        code = body["error"].get("code") if type(body["error"]) is dict else body.get("code")
        raise FrameError("reply", "error", f"the venue refused a request on the stream, code {_short(code)}")
    if type(event) is not str or not event:
        raise FrameError("nameless", "e", "is not the name of an event")
    if body.get("st") == COIN_M:
        return Frame(_short(event), time_or_zero(body, "E"), notice="ignored", detail="COIN-M")
    decoder = events.get(event)
    if decoder is None:
        return Frame(_short(event), time_or_zero(body, "E"), notice="unknown", detail="an event of a newer venue")
    return decoder(body)


def _account_update(body: Json) -> Frame:
    """Wallets and positions that changed; a row that is missing is unchanged.

    {"e":"ACCOUNT_UPDATE","E":…,"T":…,"a":{"m":"ORDER","B":[{"a":"USDT","wb":"10250.11873421","cw":"10150.11873421","bc":"0"}],
     "P":[{"s":"BTCUSDT","pa":"0.025","ep":"91250.4","bep":"91286.9","cr":"0","up":"4.1","mt":"cross","iw":"0","ps":"BOTH"}]}}
    """
    event = "ACCOUNT_UPDATE"
    event_time_ms = time_ms(body, "E", event)
    stamp = Stamp(time_ms(body, "T", event), event_time_ms)
    data = obj(body.get("a"), event, "a")
    unknown = count_beyond(body, _ACCOUNT_FIELDS) + count_beyond(data, _ACCOUNT_DATA_FIELDS)
    changes: list[Change] = []
    for row in rows(data.get("B", []), event, "B"):
        unknown += count_beyond(row, _BALANCE_FIELDS)
        changes.append(BalanceUpdate(name(row, "a", event), number(row, "wb", event), number(row, "cw", event), stamp))
    for row in rows(data.get("P", []), event, "P"):
        unknown += count_beyond(row, _POSITION_FIELDS)
        changes.append(
            PositionUpdate(
                symbol=name(row, "s", event),
                position_side=one_of(row, "ps", POSITION_SIDES, event),
                position_amt=number(row, "pa", event),
                entry_price=number(row, "ep", event),
                break_even_price=maybe_number(row, "bep", event),
                unrealized_profit=maybe_number(row, "up", event),
                margin_type=margin_type(row, "mt", event) if row.get("mt") else None,
                isolated_wallet=maybe_number(row, "iw", event),
                margin_asset=name(row, "ma", event) if row.get("ma") else None,
                stamp=stamp,
            )
        )
    return Frame(event, event_time_ms, tuple(changes), detail=_short(data.get("m", "")), unknown_fields=unknown)


def _order_trade_update(body: Json, received_at_ms: int) -> Frame:
    """One thing that happened to an ordinary order; the payload is at the top of this file.

    The order is complete as of this event. It may be the first one of the order (a liquidation's first event can
    be its fill), and may come before or after the ACCOUNT_UPDATE of the same trade.
    """
    event = "ORDER_TRADE_UPDATE"
    event_time_ms = time_ms(body, "E", event)
    o = obj(body.get("o"), event, "o")
    status, execution = word(o, "X", event), word(o, "x", event)
    is_named = status in ORDER_STATUSES
    order = Order(
        order_id=str(whole(o, "i", event)),
        symbol=name(o, "s", event),
        client_order_id=text(o, "c", event),
        side=one_of(o, "S", SIDES, event),
        position_side=one_of(o, "ps", POSITION_SIDES, event),
        type=text(o, "o", event),
        orig_type=text(o, "ot", event),
        time_in_force=text(o, "f", event),
        status=status,
        price=maybe_number(o, "p", event),
        stop_price=None if trails(o, "o", "ot") else maybe_number(o, "sp", event),
        quantity=number(o, "q", event),
        executed_qty=number(o, "z", event),
        avg_price=maybe_number(o, "ap", event),
        reduce_only=maybe_flag(o, "R", event),
        venue_time_ms=time_ms(o, "T", event),
        source="stream",
        close_position=if_readable(maybe_flag, o, "cp", event),
        activate_price=if_readable(maybe_number, o, "AP", event) if trails(o, "o", "ot") else None,
        callback_rate=if_readable(maybe_number, o, "cr", event) if trails(o, "o", "ot") else None,
        ended=not is_named and (execution in END_EVENTS or is_all_filled(o, "z", "q", event)),
    )
    trade_id = str(whole(o, "t", event) or "")  # 0 without a trade
    event_id = event_ids.of_order(order, execution, trade_id)
    if execution in FILL_EVENTS and (trade_id or number(o, "l", event)):
        order_event = OrderEvent(
            event_id=event_id,
            event_type=execution,
            order=order,
            received_at_ms=received_at_ms,
            last_qty=number(o, "l", event),
            last_price=number(o, "L", event),
            trade_id=trade_id or None,
            commission=maybe_number(o, "n", event),
            commission_asset=name(o, "N", event) if o.get("N") else None,
            realized_profit=maybe_number(o, "rp", event),
            maker=maybe_flag(o, "m", event),
        )
    else:
        order_event = OrderEvent(event_id, execution, order, received_at_ms)
    # Liquidations and the like begin with their fills.
    may_be_first = execution in FIRST_EVENTS or order.client_order_id.startswith(SYSTEM_ORDERS)
    is_doubtful = not is_named and not order.ended and execution not in EVENTS
    return Frame(
        event,
        event_time_ms,
        (OrderUpdate(order_event, not is_over(order), may_be_first),),
        notice=None if is_named else "doubtful" if is_doubtful else "unknown",
        detail="" if is_named else f"an order with the unknown status {_short(status)}",
        unknown_fields=count_beyond(body, _ORDER_FRAME_FIELDS) + count_beyond(o, _ORDER_FIELDS),
    )


def _algo_update(body: Json, received_at_ms: int) -> Frame:
    """One step of a conditional order, which lives in a number space of its own (`aid`).

    {"e":"ALGO_UPDATE","T":…,"E":…,"o":{"caid":"sl-0007","aid":2148719,"at":"CONDITIONAL","o":"STOP_MARKET","s":"BTCUSDT","S":"SELL",
     "ps":"BOTH","f":"GTC","q":"0.025","X":"NEW","ai":"","tp":"88000","p":"0",…,"cp":false,"R":true,"tt":0,"gtd":0,"rm":"","ia":false}}

    `cp` is close-all, whose `q` is 0; a trailing stop has `AP` and `cr` (percent). A cancelled one comes without `cp`
    (seen 2026-09).

    The order that a trigger creates (`ai`) has events of its own, which may come before the one that names it here.
    FINISHED says that it was filled or cancelled, not which. `detail` is the venue's reason (`rm`) of a rejection. Of a
    status that nobody named, only the list of open ones shows whether the order is over.
    """
    event = "ALGO_UPDATE"
    event_time_ms = time_ms(body, "E", event)
    o = obj(body.get("o"), event, "o")
    status = word(o, "X", event)
    order_type = text(o, "o", event)
    algo_id = str(whole(o, "aid", event))
    order = Order(
        order_id=event_ids.conditional_order_id(algo_id),
        symbol=name(o, "s", event),
        client_order_id=text(o, "caid", event),
        side=one_of(o, "S", SIDES, event),
        position_side=one_of(o, "ps", POSITION_SIDES, event),
        type=order_type,
        orig_type=order_type,
        time_in_force=text(o, "f", event),
        status=status,
        price=maybe_number(o, "p", event),
        stop_price=None if trails(o, "o") else maybe_number(o, "tp", event),
        quantity=maybe_number(o, "q", event),
        executed_qty=maybe_number(o, "aq", event),
        avg_price=maybe_number(o, "ap", event),
        reduce_only=maybe_flag(o, "R", event),
        venue_time_ms=time_ms(body, "T", event),
        source="stream",
        algo_id=algo_id,
        actual_order_id=maybe_id(o, "ai", event),
        close_position=if_readable(maybe_flag, o, "cp", event),
        activate_price=if_readable(maybe_number, o, "AP", event) if trails(o, "o") else None,
        callback_rate=if_readable(maybe_number, o, "cr", event) if trails(o, "o") else None,
    )
    # Since 2026-08-21.
    activated = status == "NEW" and trails(o, "o") and maybe_flag(o, "ia", event) is True
    made = event_ids.of_activation(order.order_id) if activated else event_ids.of_conditional(order.order_id, status)
    order_event = OrderEvent(made, f"ALGO_{status}", order, received_at_ms)
    is_named = status in ALGO_STATUSES
    unknown = f"a conditional order with the unknown status {_short(status)}"
    return Frame(
        event,
        event_time_ms,
        (OrderUpdate(order_event, not is_over(order), order_event.event_type in FIRST_EVENTS),),
        notice=None if is_named else "doubtful",
        detail=_short(o.get("rm") or "") if is_named else unknown,
        unknown_fields=count_beyond(body, _ORDER_FRAME_FIELDS) + count_beyond(o, _ALGO_FIELDS),
    )


def _account_config_update(body: Json) -> Frame:
    """A symbol's leverage or the margin mode: `"ac":{"s":"BTCUSDT","l":20}` or `"ai":{"j":true}`.

    The venue sends no event for a change between one-way and hedge mode.
    """
    event = "ACCOUNT_CONFIG_UPDATE"
    event_time_ms = time_ms(body, "E", event)
    changes: list[Change] = []
    unknown = count_beyond(body, _CONFIG_FIELDS)
    if "ac" in body:
        row = obj(body["ac"], event, "ac")
        changes.append(LeverageUpdate(name(row, "s", event), whole(row, "l", event), event_time_ms))
        unknown += count_beyond(row, _LEVERAGE_FIELDS)
    if "ai" in body:
        row = obj(body["ai"], event, "ai")
        enabled = flag(row, "j", event)
        totals_asset = MULTI_ASSETS_TOTALS if enabled else SINGLE_ASSET_TOTALS
        changes.append(MultiAssetsUpdate(enabled, totals_asset, event_time_ms))
        unknown += count_beyond(row, _MULTI_ASSETS_FIELDS)
    notice: Notice | None = None if changes else "unknown"
    return Frame(event, event_time_ms, tuple(changes), notice, unknown_fields=unknown)


def _margin_call(body: Json) -> Frame:
    """A warning that positions are near liquidation: `"p":[{"s":"ETHUSDT","ps":"LONG","pa":"1.327","mt":"CROSSED",…}]`.

    A hint that may come late or never, so that no state is made of it, and passed on even where a row cannot be read.
    """
    calls = body.get("p")
    named = [row for row in calls if type(row) is dict] if type(calls) is list else []
    detail = ", ".join(f"{_short(row.get('s'))} {_short(row.get('ps'))}" for row in named)
    return _notice(body, "margin_call", detail, _MARGIN_CALL_FIELDS)


def _trade_lite(body: Json) -> Frame:
    """The early copy of a fill; the same fill always follows in ORDER_TRADE_UPDATE, with its fee and status."""
    return _notice(body, "ignored", "", _TRADE_LITE_FIELDS)


def _key_expired(body: Json) -> Frame:
    """`{"e":"listenKeyExpired","E":1793000000123,"listenKey":"pqia91ma…"}`: the socket stays open and silent.

    It may come twice. The key itself is not kept: it is a secret, and older frames do not have it.
    """
    return _notice(body, "stream_ended", "the listen key has expired", _KEY_EXPIRED_FIELDS)


def _server_shutdown(body: Json) -> Frame:
    """`{"e":"serverShutdown","E":…}`: this server leaves, open a new socket now. Documented for Spot, accepted here."""
    return _notice(body, "reconnect_soon", "the venue's server is shutting down", frozenset({"e", "E"}))


def _conditional_reject(body: Json) -> Frame:
    """ALGO_UPDATE REJECTED since 2025-12-15: `"or":{"s":"ETHUSDT","i":155618472834,"r":"Due to the order …"}`."""
    row = body.get("or")
    detail = f"{_short(row.get('s'))}: {_short(row.get('r'))}" if type(row) is dict else ""
    return _notice(body, "ignored", detail, frozenset(["e", "E", "T", "or"]))


def _strategy_update(body: Json) -> Frame:
    """A bot of the venue's web pages: `"su":{"si":176054594,"st":"GRID","ss":"NEW","s":"BTCUSDT","ut":…,"c":8007}`."""
    return _notice(body, "ignored", _strategy(body.get("su")), frozenset(["e", "E", "T", "su"]))


def _grid_update(body: Json) -> Frame:
    """The profit of a grid bot: `"gu":{"si":176057039,"st":"GRID","ss":"WORKING","s":"BTCUSDT","r":"-0.003",…}`."""
    return _notice(body, "ignored", _strategy(body.get("gu")), frozenset(["e", "E", "T", "gu"]))


def _strategy(row: object) -> str:
    return f"{_short(row.get('st'))} {_short(row.get('s'))} {_short(row.get('ss'))}" if type(row) is dict else ""


def _mark_price(body: Json) -> Frame:
    """`{"e":"markPriceUpdate","E":1793000000000,"s":"BTCUSDT","p":"91414.90000000","r":"0.0001",…,"st":1}`.

    A price that is empty or zero (a symbol being delisted) changes nothing, so that the last one grows old by its time.
    """
    event = "markPriceUpdate"
    event_time_ms = time_ms(body, "E", event)
    symbol = name(body, "s", event)
    price = maybe_number(body, "p", event)
    unknown = count_beyond(body, _MARK_PRICE_FIELDS)
    if not price:
        return Frame(
            event, event_time_ms, notice="ignored", detail=f"{_short(symbol)} has no price", unknown_fields=unknown
        )
    if price < 0:
        raise FrameError(event, "p", "is a negative price")
    return Frame(event, event_time_ms, (MarkPriceUpdate(symbol, price, event_time_ms),), unknown_fields=unknown)


def _notice(body: Json, notice: Notice, detail: str, known: frozenset[str]) -> Frame:
    """A frame without changes; its time does not have to be readable."""
    return Frame(
        str(body["e"]), time_or_zero(body, "E"), notice=notice, detail=detail, unknown_fields=count_beyond(body, known)
    )


def margin_type(row: Json, key: str, event: str) -> str:
    """`cross` or `isolated`, whichever way the venue spells it; another word as it is, in lower case."""
    word = name(row, key, event).lower()
    return "cross" if word == "crossed" else word


def is_all_filled(row: Json, filled: str, quantity: str, event: str) -> bool:
    """Whether an ordinary order has all filled that it is for, by the fields of both amounts."""
    return 0 < number(row, quantity, event) <= number(row, filled, event)


def trails(row: Json, *types: str) -> bool:
    """Whether an order is a trailing stop, or was one, by the fields that hold its types. It has an activation price
    and a callback rate, and its stop price is to be ignored ("Order Update")."""
    return any(row.get(key) == "TRAILING_STOP_MARKET" for key in types)


def _short(value: object) -> str:
    """A venue's text for a log line, one line and not long."""
    return "".join(c for c in str(value)[:MAX_NAME_LENGTH] if c.isprintable()) if type(value) in (str, int) else "?"


_USER_EVENTS: dict[str, Callable[[Json], Frame]] = {
    "ACCOUNT_UPDATE": _account_update,
    "ACCOUNT_CONFIG_UPDATE": _account_config_update,
    "TRADE_LITE": _trade_lite,
    "MARGIN_CALL": _margin_call,
    "CONDITIONAL_ORDER_TRIGGER_REJECT": _conditional_reject,
    "STRATEGY_UPDATE": _strategy_update,
    "GRID_UPDATE": _grid_update,
    "listenKeyExpired": _key_expired,
    "serverShutdown": _server_shutdown,
}

_MARKET_EVENTS: dict[str, Callable[[Json], Frame]] = {
    "markPriceUpdate": _mark_price,
    "serverShutdown": _server_shutdown,
}
