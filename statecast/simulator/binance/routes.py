"""Where each endpoint lives, who may call it, and what it weighs. Pure.

Paths, weights: developers.binance.com, derivatives → usds-margined-futures (2026-05 to 2026-09) and the change log up
to 2026-10.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from statecast.simulator.binance import account, algos, histories, orders, public, settings
from statecast.simulator.binance.rest import Handler, Params


class Security(StrEnum):
    """What a caller has to show."""

    NONE = "NONE"
    KEY = "KEY"
    """The API key alone, unsigned: listen keys."""
    READ = "READ"
    """Signed, with a key that may read."""
    TRADE = "TRADE"
    """Signed, with a key that may trade."""


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint. `weight_all` is the weight without a `symbol`, where that differs."""

    security: Security
    handler: Handler
    weight: int = 1
    weight_all: int | None = None
    is_order: bool = False
    """Counted against the order limits."""

    def weigh(self, params: Params) -> int:
        if self.weight_all is not None and not params.get("symbol"):
            return self.weight_all
        return self.weight


_V1, _V2, _V3 = "/fapi/v1/", "/fapi/v2/", "/fapi/v3/"

ROUTES: dict[tuple[str, str], Route] = {
    ("GET", _V1 + "ping"): Route(Security.NONE, public.ping),
    ("GET", _V1 + "time"): Route(Security.NONE, public.time),
    ("GET", _V1 + "exchangeInfo"): Route(Security.NONE, public.exchange_info),
    ("GET", _V1 + "premiumIndex"): Route(Security.NONE, public.premium_index, 1, 10),
    ("GET", _V1 + "assetIndex"): Route(Security.NONE, public.asset_index, 1, 10),
    ("GET", _V1 + "ticker/price"): Route(Security.NONE, public.ticker_price, 1, 2),
    ("GET", _V2 + "ticker/price"): Route(Security.NONE, public.ticker_price, 1, 2),
    ("GET", _V1 + "ticker/bookTicker"): Route(Security.NONE, public.book_ticker, 2, 5),
    ("GET", _V2 + "account"): Route(Security.READ, account.account_v2, 5),
    ("GET", _V3 + "account"): Route(Security.READ, account.account_v3, 5),
    ("GET", _V2 + "balance"): Route(Security.READ, account.balance, 5),
    ("GET", _V3 + "balance"): Route(Security.READ, account.balance, 5),
    ("GET", _V2 + "positionRisk"): Route(Security.READ, account.position_risk_v2, 5),
    ("GET", _V3 + "positionRisk"): Route(Security.READ, account.position_risk_v3, 5),
    ("GET", _V1 + "accountConfig"): Route(Security.READ, settings.account_config, 5),
    ("GET", _V1 + "symbolConfig"): Route(Security.READ, settings.symbol_config, 5),
    ("GET", _V1 + "positionSide/dual"): Route(Security.READ, settings.position_mode, 30),
    ("POST", _V1 + "positionSide/dual"): Route(Security.TRADE, settings.set_position_mode),
    ("GET", _V1 + "multiAssetsMargin"): Route(Security.READ, settings.multi_assets_mode, 30),
    ("POST", _V1 + "multiAssetsMargin"): Route(Security.TRADE, settings.set_multi_assets_mode),
    ("POST", _V1 + "leverage"): Route(Security.TRADE, settings.set_leverage),
    ("POST", _V1 + "marginType"): Route(Security.TRADE, settings.set_margin_type),
    ("POST", _V1 + "positionMargin"): Route(Security.TRADE, settings.set_position_margin),
    ("GET", _V1 + "leverageBracket"): Route(Security.READ, settings.leverage_bracket),
    ("GET", _V1 + "commissionRate"): Route(Security.READ, settings.commission_rate, 20),
    ("GET", _V1 + "apiTradingStatus"): Route(Security.READ, settings.trading_status, 1, 10),
    ("POST", _V1 + "order"): Route(Security.TRADE, orders.new_order, 0, is_order=True),
    ("POST", _V1 + "order/test"): Route(Security.TRADE, orders.test_order),
    ("PUT", _V1 + "order"): Route(Security.TRADE, orders.amend_order, 1, is_order=True),
    ("DELETE", _V1 + "order"): Route(Security.TRADE, orders.cancel_order),
    ("GET", _V1 + "order"): Route(Security.READ, orders.get_order),
    ("POST", _V1 + "batchOrders"): Route(Security.TRADE, orders.new_batch, 5, is_order=True),
    ("DELETE", _V1 + "batchOrders"): Route(Security.TRADE, orders.cancel_batch),
    ("DELETE", _V1 + "allOpenOrders"): Route(Security.TRADE, orders.cancel_all),
    ("GET", _V1 + "openOrder"): Route(Security.READ, orders.open_order),
    ("GET", _V1 + "openOrders"): Route(Security.READ, orders.open_orders, 1, 40),
    ("GET", _V1 + "allOrders"): Route(Security.READ, histories.all_orders, 5),
    ("GET", _V1 + "orderAmendment"): Route(Security.READ, histories.order_amendments),
    ("GET", _V1 + "userTrades"): Route(Security.READ, histories.user_trades, 5),
    ("GET", _V1 + "income"): Route(Security.READ, histories.income, 30),
    ("GET", _V1 + "forceOrders"): Route(Security.READ, histories.force_orders, 20, 50),
    ("POST", _V1 + "algoOrder"): Route(Security.TRADE, algos.new_algo, 0, is_order=True),
    ("DELETE", _V1 + "algoOrder"): Route(Security.TRADE, algos.cancel_algo),
    ("GET", _V1 + "algoOrder"): Route(Security.READ, algos.get_algo),
    ("DELETE", _V1 + "algoOpenOrders"): Route(Security.TRADE, algos.cancel_all_algos),
    ("GET", _V1 + "openAlgoOrders"): Route(Security.READ, algos.open_algos, 1, 40),
    ("GET", _V1 + "allAlgoOrders"): Route(Security.READ, histories.all_algos, 5),
    # Clients of several products ask Spot for the time when they start.
    ("GET", "/api/v3/ping"): Route(Security.NONE, public.ping),
    ("GET", "/api/v3/time"): Route(Security.NONE, public.time),
}
