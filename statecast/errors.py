"""The whole exception tree. Branches follow who has to act.

    StatecastError
    ├── ConfigError            the operator corrects a setting
    ├── VenueError             the exchange
    │   ├── VenueUnreachable     wait, then try again
    │   ├── RateLimited          wait until `retry_at_ms`
    │   │   └── LimitReached       the same; nothing was sent, so as not to be refused
    │   ├── Rejected             the request is wrong: correct it, do not repeat it
    │   └── AuthFailed           call the operator: credentials or account
    ├── FrameError             a frame that cannot be understood: re-read the venue
    ├── StoreError             Redis
    │   ├── StoreUnreachable     wait, then try again
    │   ├── StoreRefused         the server answers and refuses (read-only, out of memory, no permission)
    │   │   └── StoreAuthFailed    the operator corrects user name or password
    │   ├── StoreDiverged        Redis does not hold what was written: write everything again
    │   ├── LeaseLost            another publisher may write now
    │   └── ContractMismatch     the keys were written by another contract version
    └── StaleState             nothing there that may be acted on: wait, or repair the publisher
        └── NeverPublished       no publisher has ever written the account: unknown, not flat

Exceptions carry fields; `__str__` makes the sentence. None of them ever holds a secret.
"""

from __future__ import annotations


class StatecastError(Exception):
    """Base of everything that statecast raises on purpose."""


class ConfigError(StatecastError):
    """A setting that cannot work. `accepted` says what would."""

    def __init__(self, setting: str, value: str | None, accepted: str) -> None:
        super().__init__(setting, value, accepted)
        self.setting = setting
        self.value = value
        self.accepted = accepted

    def __str__(self) -> str:
        given = "is not set" if self.value is None else f"is {self.value!r}"
        return f"{self.setting} {given}; accepted: {self.accepted}"


class VenueError(StatecastError):
    """The exchange did not do what it was asked. `call` is the endpoint, without query or signature."""

    def __init__(self, venue: str, call: str, reason: str) -> None:
        super().__init__(venue, call, reason)
        self.venue = venue
        self.call = call
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.venue}: {self.call}: {self.reason}"


class VenueUnreachable(VenueError):
    """No usable answer: network, time-out, 5xx, or something that is not the venue's JSON. Reads may be repeated."""


class RateLimited(VenueError):
    """The venue wants silence until `retry_at_ms` (venue time); asking earlier makes it worse (418: an IP ban)."""

    def __init__(self, venue: str, call: str, reason: str, retry_at_ms: int) -> None:
        super().__init__(venue, call, reason)
        self.retry_at_ms = retry_at_ms


class LimitReached(RateLimited):
    """Not sent: the venue's limits, as they are counted here, allow it at `retry_at_ms`."""


class Rejected(VenueError):
    """The venue understood the request and says no. `code` is the venue's own error code."""

    def __init__(self, venue: str, call: str, reason: str, code: int) -> None:
        super().__init__(venue, call, reason)
        self.code = code


class AuthFailed(Rejected):
    """The venue refuses the key, the signature or the account; only the operator can correct it."""


class FrameError(StatecastError):
    """A frame that cannot be understood. `where` names the field; the frame is not kept (it may hold secrets)."""

    def __init__(self, event: str, where: str, problem: str) -> None:
        super().__init__(event, where, problem)
        self.event = event
        self.where = where
        self.problem = problem

    def __str__(self) -> str:
        return f"frame {self.event}: {self.where}: {self.problem}"


class StoreError(StatecastError):
    """Redis, `server` without its password, did not do what it was asked."""

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(server, reason)
        self.server = server
        self.reason = reason

    def __str__(self) -> str:
        return f"Redis at {self.server}: {self.reason}"


class StoreUnreachable(StoreError):
    """No connection, or a lost reply: what was sent may or may not have been done."""


class StoreRefused(StoreError):
    """The server answers and refuses: read-only replica, out of memory, missing permission, wrong type of a key."""


class StoreAuthFailed(StoreRefused):
    """The server refuses the user name or the password."""


class StoreDiverged(StoreError):
    """Redis does not hold the commit that this publisher wrote last: it was flushed, restored, or failed over."""


class LeaseLost(StoreError):
    """The account's lease is another publisher's, or has run out: nothing may be written under the old epoch."""


class ContractMismatch(StoreError):
    """The account's keys carry a contract version that this program does not write."""


class StaleState(StatecastError):
    """There is no state of the account that is young enough to act on.

    `age_s` is how old the youngest is, None if there is none at all; `why` and `advice` are for people.
    """

    def __init__(self, account_id: str, age_s: float | None, max_age_s: float, why: str, advice: str) -> None:
        super().__init__(account_id, age_s, max_age_s, why, advice)
        self.account_id = account_id
        self.age_s = age_s
        self.max_age_s = max_age_s
        self.why = why
        self.advice = advice

    def __str__(self) -> str:
        age = "without any verified state" if self.age_s is None else f"stale for {self.age_s:.1f} s"
        return f"{self.account_id} is {age} (limit {self.max_age_s:g} s): {self.why}; {self.advice}"


class NeverPublished(StaleState):
    """No publisher has ever written the account to this Redis. It is unknown, which is not flat."""

    def __init__(self, account_id: str, max_age_s: float, why: str, advice: str) -> None:
        super().__init__(account_id, None, max_age_s, why, advice)
        self.args = (account_id, max_age_s, why, advice)

    def __str__(self) -> str:
        return f"{self.account_id} is not published: {self.why}; {self.advice}"
