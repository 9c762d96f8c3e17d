"""What an answer of Binance means, and what to do about a refusal. Pure.

Pages "Error Codes" and "General Info", as of 2026-05-28 to 2026-09; read in November 2026. An answer is either the
document that was asked for, or the error that says who must act.
"""

from __future__ import annotations

from collections.abc import Callable

from statecast.errors import AuthFailed, RateLimited, Rejected, VenueUnreachable
from statecast.venues.binance.limits import MINUTE_MS, silence_until_ms
from statecast.venues.binance.snapshot import KeyPermissions
from statecast.venues.binance.wire import VENUE
from statecast.venues.http import MAX_REASON_LENGTH, Answer

TIMESTAMP_REFUSED = -1021
NO_SUCH_LISTEN_KEY = -1125
NO_SUCH_ORDER = -2013
PARAMETER_MISSING = -1102
NO_SUCH_SYMBOL = -1121
TOO_MANY_REQUESTS = -1003

TRANSIENT_CODES = frozenset({-1000, -1001, -1006, -1007})
PAUSE_CODES = frozenset({-1008, -1015, -1016})
AUTH_CODES = frozenset({-1002, -1022, -1099, -2014, -2015, -4109})
"""-2017 (key locked) and -2023 (account in liquidation) are not among them: reading goes on."""

FIREWALL_PAUSE_MS = 10_000
"""After a 403 of the venue's firewall, which counts requests in some way of its own."""


class Silence(RateLimited):
    """The venue wants no call at all before `retry_at_ms`, whatever it is for."""


def judged(call: str, answer: Answer, now_ms: int, *, clock_known: bool, scrub: Callable[[str], str]) -> object:
    """The JSON of a good answer. `now_ms` is the venue's time, which is known where `clock_known`. `scrub` makes a
    text of the server fit for an error.

    Raises:
        Silence, RateLimited, AuthFailed, Rejected, VenueUnreachable: as the codes say, in this order.
    """
    status = answer.status
    code, message = _complaint(answer.document)
    reason = f"HTTP {status}"
    if code is not None:
        reason += f", code {code}: {scrub(message)}"
    elif not answer.is_json:
        content_type = answer.headers.get("content-type", "none")[:MAX_REASON_LENGTH]
        reason += f", not JSON (content type {scrub(content_type)})"
    if status in (418, 429) or code == TOO_MANY_REQUESTS:
        # The end of a ban is a time of the venue's clock, which this machine's may be far from.
        said_ms = now_ms if clock_known else answer.date_ms(now_ms)
        until_ms = silence_until_ms(answer.headers.get("retry-after"), message, said_ms, banned=status == 418)
        raise Silence(VENUE, call, reason, now_ms + until_ms - said_ms)
    if status == 403 and code is None:
        raise Silence(VENUE, call, reason, now_ms + FIREWALL_PAUSE_MS)
    if answer.is_success and answer.is_json and code is None:
        return answer.document
    if code in PAUSE_CODES:
        raise RateLimited(VENUE, call, reason, now_ms - now_ms % MINUTE_MS + MINUTE_MS)
    if code in AUTH_CODES or status in (401, 451):
        raise AuthFailed(VENUE, call, reason, status if code is None else code)
    if code in TRANSIENT_CODES or status == 408 or status >= 500 or not answer.is_json:
        raise VenueUnreachable(VENUE, call, reason)
    raise Rejected(VENUE, call, reason, status if code is None else code)


def refuse_portfolio_margin(permissions: KeyPermissions | None) -> None:
    """Raises AuthFailed for the key of a Portfolio Margin account: that trades by another interface (papi)."""
    if permissions is not None and permissions.portfolio_margin:
        reason = "the key is one of a Portfolio Margin account, whose futures data this interface does not show"
        raise AuthFailed(VENUE, "key permissions", reason, 0)


def advice(error: AuthFailed) -> str:
    """What the operator should do about a refusal, as half a sentence."""
    match error.code:
        case -2014 | -1002:
            return "check STATECAST_API_KEY"
        case -2015:
            return "check STATECAST_API_KEY, its permission to read futures, and its list of IP addresses"
        case -1022:
            return "check STATECAST_API_SECRET"
        case -4109:
            return "the futures account is inactive: a transfer into it activates it"
        case 451:
            return "the venue does not serve this location"
        case _:
            return "check the API key and the account at the venue"


def _complaint(document: object) -> tuple[int | None, str]:
    """Code and message of `{"code":-1121,"msg":"Invalid symbol."}`; the venue's errors are negative, 200 is success."""
    if type(document) is not dict:
        return None, ""
    code, message = document.get("code"), document.get("msg")
    return (code if type(code) is int and code < 0 else None), (message if type(message) is str else "")
