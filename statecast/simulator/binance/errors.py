"""Binance's error codes and sentences, for what the simulated exchange declines. Pure."""

from __future__ import annotations

from statecast.simulator.orders import Refusal, Refused


class ApiError(Exception):
    """An answer of the form {"code": …, "msg": …}."""

    def __init__(self, code: int, message: str, status: int = 400, headers: dict[str, str] | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.status = status
        self.headers = headers or {}

    def __str__(self) -> str:
        return f"HTTP {self.status}, code {self.code}: {self.message}"


def missing(name: str) -> ApiError:
    return ApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


REFUSALS: dict[Refusal, tuple[int, str]] = {
    Refusal.UNKNOWN_SYMBOL: (-1121, "Invalid symbol."),
    Refusal.UNKNOWN_ORDER: (-2011, "Unknown order sent."),
    Refusal.QTY_NOT_POSITIVE: (-4003, "Quantity less than or equal to zero."),
    Refusal.QTY_TOO_LARGE: (-4005, "Quantity greater than max quantity."),
    Refusal.QTY_PRECISION: (-1111, "Precision is over the maximum defined for this asset."),
    Refusal.PRICE_NOT_POSITIVE: (-4001, "Price less than 0."),
    Refusal.PRICE_PRECISION: (-4014, "Price not increased by tick size."),
    Refusal.PRICE_TOO_HIGH: (-4016, "Limit price can't be higher than {}."),
    Refusal.PRICE_TOO_LOW: (-4024, "Limit price can't be lower than {}."),
    Refusal.NOTIONAL_TOO_SMALL: (-4164, "Order's notional must be no smaller than {} (unless you choose reduce only)."),
    Refusal.MARGIN_INSUFFICIENT: (-2019, "Margin is insufficient."),
    Refusal.REDUCE_ONLY: (-2022, "ReduceOnly Order is rejected."),
    Refusal.POSITION_SIDE: (-4061, "Order's position side does not match user's setting."),
    Refusal.REDUCE_ONLY_IN_HEDGE: (-1106, "Parameter 'reduceonly' sent when not required."),
    Refusal.FOK_UNFILLABLE: (
        -5021,
        "Due to the order could not be filled immediately, the FOK order has been rejected. "
        "The order will not be recorded in the order history.",
    ),
    Refusal.GTX_WOULD_TAKE: (
        -5022,
        "Due to the order could not be executed as maker, the Post Only order will be rejected. "
        "The order will not be recorded in the order history.",
    ),
    Refusal.DUPLICATE_CLIENT_ID: (-4116, "ClientOrderId is duplicated."),
    Refusal.IMMEDIATE_TRIGGER: (-2021, "Order would immediately trigger."),
    Refusal.TRIGGER_INVALID: (-4006, "Stop price less than zero."),
    Refusal.CALLBACK_RATE: (-2007, "Invalid callBack rate."),
    Refusal.CLOSE_POSITION_EXISTS: (
        -4130,
        "An open stop or take profit order with GTE and closePosition in the direction is existing.",
    ),
    Refusal.TOO_MANY_ALGOS: (-4045, "Reach max stop order limit."),
    Refusal.NOTHING_TO_AMEND: (-5027, "No need to modify the order."),
    Refusal.NOT_AMENDABLE: (-5025, "Only limit order is supported."),
    Refusal.LEVERAGE_INVALID: (-4028, "Leverage {} is not valid"),
    Refusal.LEVERAGE_NOTIONAL: (-2027, "Exceeded the maximum allowable position at current leverage."),
    Refusal.LEVERAGE_ISOLATED: (
        -4161,
        "Leverage reduction is not supported in Isolated Margin Mode with open positions.",
    ),
    Refusal.MARGIN_TYPE_SAME: (-4046, "No need to change margin type."),
    Refusal.MARGIN_TYPE_ORDERS: (-4047, "Margin type cannot be changed if there exists open orders."),
    Refusal.MARGIN_TYPE_POSITION: (-4048, "Margin type cannot be changed if there exists position."),
    Refusal.MARGIN_TYPE_MULTI_ASSETS: (
        -4168,
        "Unable to adjust to isolated-margin mode under the Multi-Assets mode.",
    ),
    Refusal.MODE_SAME: (-4059, "No need to change position side."),
    Refusal.MODE_ORDERS: (-4067, "Position side cannot be changed if there exists open orders."),
    Refusal.MODE_POSITION: (-4068, "Position side cannot be changed if there exists position."),
    Refusal.MULTI_ASSETS_SAME: (
        -4171,
        "Adjusted asset mode is currently set and does not need to be adjusted repeatedly.",
    ),
    Refusal.MULTI_ASSETS_ISOLATED: (
        -4167,
        "Unable to adjust to Multi-Assets mode with symbols of USDⓈ-M Futures under isolated-margin mode.",
    ),
    Refusal.NOT_ISOLATED: (-4054, "Cannot add position margin: position is 0."),
    Refusal.BALANCE_INSUFFICIENT: (-4050, "Cross balance insufficient."),
}

REFUSAL_TEXTS = {refusal: message for refusal, (_, message) in REFUSALS.items()}


def as_api_error(refused: Refused) -> ApiError:
    """The venue's way of saying what the ledger declined."""
    code, message = REFUSALS[refused.refusal]
    return ApiError(code, message.format(refused.detail))


NO_SUCH_ORDER = ApiError(-2013, "Order does not exist.")


def no_such_order(refused: Refused) -> ApiError:
    return NO_SUCH_ORDER if refused.refusal is Refusal.UNKNOWN_ORDER else as_api_error(refused)
