"""How the account is set up: modes, leverage, margin types, fees. Pure."""

from __future__ import annotations

from statecast.simulator.binance.errors import ApiError
from statecast.simulator.binance.frames import plain
from statecast.simulator.binance.rest import Params, RestApi, done
from statecast.simulator.exchange import Json
from statecast.simulator.matching import MAKER_RATE, TAKER_RATE
from statecast.simulator.orders import PositionSide


def account_config(api: RestApi, params: Params, now_ms: int) -> Json:
    return {
        "feeTier": 0,
        "canTrade": True,
        "canDeposit": True,
        "canWithdraw": True,
        "dualSidePosition": api.ledger.hedge,
        "updateTime": 0,
        "multiAssetsMargin": api.ledger.multi_assets,
        "tradeGroupId": -1,
    }


def symbol_config(api: RestApi, params: Params, now_ms: int) -> list[Json]:
    symbol = api.symbol_or_none(params)
    rows: list[Json] = []
    for rules in api.ledger.rules.values():
        settings = api.ledger.settings(rules.symbol)
        rows.append(
            {
                "symbol": rules.symbol,
                "marginType": "ISOLATED" if settings.isolated else "CROSSED",
                "isAutoAddMargin": False,
                "leverage": settings.leverage,
                "maxNotionalValue": plain(rules.max_notional(settings.leverage)),
            }
        )
    return [row for row in rows if symbol is None or row["symbol"] == symbol]


def position_mode(api: RestApi, params: Params, now_ms: int) -> Json:
    return {"dualSidePosition": api.ledger.hedge}


def set_position_mode(api: RestApi, params: Params, now_ms: int) -> Json:
    api.publish(api.ledger.set_hedge(enabled=params.flag("dualSidePosition")))
    return done()


def multi_assets_mode(api: RestApi, params: Params, now_ms: int) -> Json:
    return {"multiAssetsMargin": api.ledger.multi_assets}


def set_multi_assets_mode(api: RestApi, params: Params, now_ms: int) -> Json:
    api.publish(api.ledger.set_multi_assets(now_ms, enabled=params.flag("multiAssetsMargin")))
    return done()


def set_leverage(api: RestApi, params: Params, now_ms: int) -> Json:
    symbol, leverage = params.text("symbol"), params.integer("leverage")
    api.publish(api.ledger.set_leverage(symbol, leverage, now_ms))
    max_notional = api.ledger.rules[symbol].max_notional(leverage)
    return {"leverage": leverage, "maxNotionalValue": plain(max_notional), "symbol": symbol}


def set_margin_type(api: RestApi, params: Params, now_ms: int) -> Json:
    kind = params.text("marginType")
    if kind not in ("ISOLATED", "CROSSED"):
        raise ApiError(-4064, "Invalid margin type.")
    api.publish(api.ledger.set_margin_type(params.text("symbol"), now_ms, isolated=kind == "ISOLATED"))
    return done()


def set_position_margin(api: RestApi, params: Params, now_ms: int) -> Json:
    amount, kind = params.decimal("amount"), params.integer("type")
    side = params.one_of("positionSide", PositionSide, PositionSide.BOTH)
    signed = amount if kind == 1 else -amount
    api.publish(api.ledger.add_isolated_margin(params.text("symbol"), side, signed, now_ms))
    return {"amount": float(amount), "code": 200, "msg": "Successfully modify position margin.", "type": kind}


def leverage_bracket(api: RestApi, params: Params, now_ms: int) -> list[Json]:
    symbol = api.symbol_or_none(params)
    return [
        {
            "symbol": rules.symbol,
            "notionalCoef": 1.0,
            "brackets": [
                {
                    "bracket": one.number,
                    "initialLeverage": one.max_leverage,
                    "notionalCap": int(one.cap),
                    "notionalFloor": int(one.floor),
                    "maintMarginRatio": float(one.maintenance_rate),
                    "cum": float(one.cum),
                }
                for one in rules.brackets
            ],
        }
        for rules in api.ledger.rules.values()
        if symbol is None or rules.symbol == symbol
    ]


def commission_rate(api: RestApi, params: Params, now_ms: int) -> Json:
    api.ledger.settings(params.text("symbol"))
    return {
        "symbol": params["symbol"],
        "makerCommissionRate": plain(MAKER_RATE),
        "takerCommissionRate": plain(TAKER_RATE),
        "rpiCommissionRate": plain(MAKER_RATE),
    }


def trading_status(api: RestApi, params: Params, now_ms: int) -> Json:
    return {"indicators": {}, "updateTime": now_ms}
