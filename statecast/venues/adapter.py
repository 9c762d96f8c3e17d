"""The whole face of a venue: what publisher, readers and store may know of an exchange. No I/O here.

A venue is three things: a stateless `Venue` (settings → access, and facts as `Traits`), the `VenueAccount` that it
makes for one account (the only part with I/O), and a `Session` for each connection (its dialogue, sans-I/O).
What is said here must hold for every venue; what holds for one stays in its folder.

Times are the venue's milliseconds since 1970 UTC (`_ms`) or seconds of the monotonic clock (`_mono_s`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple, Protocol

from statecast.clock import Clock
from statecast.domain.changes import Check, Frame, Snapshot
from statecast.domain.history import PastAmendment, PastOrder, PastTrade
from statecast.domain.models import OrderKey
from statecast.errors import AuthFailed, VenueError
from statecast.secret import Secret

Waiting = Callable[[float], None]
"""Called with the seconds for which a call has to wait until the venue's limits allow it."""


Retrying = Callable[[VenueError], None]


def ignored(error: VenueError) -> None:
    """Nobody wants to know."""


class WantsSymbol(VenueError):
    """The venue lists this history by symbol alone. `VenueAccount.history_queries` knows it from now on: ask again."""


class StreamEnded(Exception):
    """The stream has a gap from now on, and why: read the account again, on a new connection."""


# Facts


@dataclass(frozen=True, slots=True)
class Retention:
    """For how long the venue's histories reach back. A history that is bounded by a count of rows says in its pages how
    far it reached (`HistoryPage.forgotten_until_ms`)."""

    kept_ms: int
    """Filled orders and trades, from their creation."""

    unfilled_kept_ms: int
    """Orders that ended without any fill, from their end or their creation, whichever the venue counts from; the
    shorter reach is assumed, which is that from their creation. Never more than `kept_ms`."""


@dataclass(frozen=True, slots=True)
class StreamTraits:
    """How a venue's connections live and die. Durations in seconds."""

    life_s: float | None
    """The venue cuts a connection at this age; None where it does not."""

    max_silence_s: float
    """A connection on which neither a frame nor a ping arrives for this long is dead."""

    market_silence_s: float
    """A connection of mark prices on which no frame arrives for this long is dead."""

    connects: int
    connects_within_s: float
    """A publisher makes no more than so many attempts to connect within this time, from one way out of this machine: at
    most half of what the venue allows, because bots connect from the same address."""

    shared: bool
    """Whether each of several connections of one account receives every event. It is where a second connection can take
    over without a gap. (A setting may say otherwise.)"""

    connections: int | None = None
    """The venue allows so many connections at a time from one way out of this machine, less what bots on it need; None:
    no such limit. A connection beyond it is refused before it is made, the second one of a handover included."""

    ping_after_s: float | None = None
    """After so long without a message a session is asked for a ping (`Session.idle`), and so often again; None: the
    venue needs none beyond those of the websocket itself."""


@dataclass(frozen=True, slots=True)
class CheckPace:
    """How often an account may be compared with the venue, by what that costs. Durations in seconds."""

    figures_pause_s: float
    """Between two checks of figures alone, which follow changes."""

    all_pause_s: float
    """Between two checks of everything, however short the period."""

    standby_pause_s: float
    """The same for a standby, which shares its address with the writer."""

    seconds_per_symbol: float
    least_symbols: int
    """Where conditional orders that came and went are listed by symbol: of one symbol for each so many seconds of the
    period, and of so many at least, by turns."""

    orders_by_symbol: int
    """Open orders of up to so many symbols are asked for one symbol at a time; of more, all at once."""

    orders_by_id: int
    """Orders that are asked for by their ids in one check, by turns."""

    conditional_by_symbol: bool
    """Whether conditional orders that came and went are listed by symbol. Where they are listed for the whole account,
    or are ordinary orders there, an adapter lists them with those of `CheckScope.created_since_ms`, and
    `Check.created_until_ms` counts for both."""


@dataclass(frozen=True, slots=True)
class Traits:
    """Facts of a venue, with their sources in `statecast/venues/<venue>/wire.py`."""

    clock_error_ms: int
    """The venue's clock is known to within this."""

    rest_lag_ms: int
    """REST may be behind the stream by this at the most."""

    rest_recent_ms: int
    """What the stream said so shortly before REST was asked, REST may well not know yet."""

    history_lag_ms: int
    """Histories may be behind by this: what they say of so recent a time is asked for once more."""

    wallet_error: Decimal
    """A wallet that the venue does not say, and an adapter computes of rounded figures, is known to within this; 0
    where the venue says it."""

    history: Retention
    max_conditional_orders: int
    """Open conditional orders that the venue allows an account; 0 where it has none of their own."""

    stream: StreamTraits
    checks: CheckPace


# What an account is asked for


class CheckScope(NamedTuple):
    """What a check asks for as well as balances and positions.

    `order_symbols`: open orders of these symbols; None: of all. `settings`: leverage, margin types, account modes.
    `created_since_ms`: orders created since then (0: not asked). `conditional_since_ms`: conditional ones, each
    symbol's since a time of its own; empty without `CheckPace.conditional_by_symbol`. `by_id`: orders of either
    kind by their ids. `urgent`: nothing is `live` without the answer.
    """

    order_symbols: frozenset[str] | None = frozenset()
    settings: bool = False
    created_since_ms: int = 0
    conditional_since_ms: tuple[tuple[str, int], ...] = ()
    by_id: tuple[OrderKey, ...] = ()
    urgent: bool = False


FIGURES_ONLY = CheckScope()

HistoryKind = Literal["orders", "conditional", "trades"]


class HistoryQuery(NamedTuple):
    """One history that has to be read for a gap. `scope` is the venue's word for its part of the account (a symbol, a
    kind of instrument), empty for all of it; `symbol` is the symbol where that part is one."""

    kind: HistoryKind
    scope: str = ""
    symbol: str = ""


class HistoryPage(NamedTuple):
    """A part of a history, in any order; a row may stand on two pages. An order whose row cannot be understood has the
    status `LOST` (`statecast/domain/orders.py`), one whose status nobody named has that. `unreadable` are orders of
    fills whose rows cannot be understood.

    `settled_ms`: everything that was created (orders) or happened (trades) until then was listed and is not listed late
    any more, so that a later attempt may begin there; 0: not known. `forgotten_until_ms`: the venue no longer has what
    is older than that; 0: it has all that was asked for.
    """

    orders: tuple[PastOrder, ...] = ()
    trades: tuple[PastTrade, ...] = ()
    settled_ms: int = 0
    forgotten_until_ms: int = 0
    unreadable: tuple[OrderKey, ...] = ()


class KeyReport(NamedTuple):
    """What a key may do beyond reading, in words such as `trade` and `withdraw`; empty is best."""

    may: tuple[str, ...] = ()


# Connections


class Delivery(NamedTuple):
    """A part of a message that concerns the account, and by what another connection's copy of it is known.

    `identity` is equal for two connections' copies of one event, whatever else stands in their messages; None for what
    concerns this connection alone (a snapshot at its beginning, a state that each connection sends at its own times)
    and is always to be received.
    """

    frame: Frame
    identity: Hashable | None = None


class Received(NamedTuple):
    """What a message from the venue means: what it delivers to the account, in its order (nothing, where it is about
    the connection alone), and what is to be sent in reply.

    Where connections put events into messages each in its own way, every event is a delivery of its own: otherwise a
    second connection seems to send other events than the first, and each change of connections is a gap.
    """

    deliveries: tuple[Delivery, ...] = ()
    replies: tuple[str, ...] = ()


class Session(Protocol):
    """One connection's dialogue, without I/O: what to send, and what was received means.

    A session delivers the events of one order in their order: what seems to be missing before an event is asked for at
    once. Where a venue's channels are not ordered among each other, their session sorts what they send: it holds an
    event until those before it have come, and all channels of one order's events are one connection's.
    """

    @property
    def ready(self) -> bool:
        """Whether everything is subscribed to: events from now on are received."""

    def opened(self, now_ms: int) -> Sequence[str]:
        """The connection is open; what to send first. `now_ms` is the venue's time, as a login may want it."""

    def received(self, raw: str | bytes, now_ms: int) -> Received:
        """`now_ms` is this machine's time, which is stamped on order events and decides nothing. Raises FrameError for
        what cannot be understood, StreamEnded or VenueError for a refusal."""

    def idle(self, silent_s: float) -> str | None:
        """A ping to send after so long without a message; see `StreamTraits.ping_after_s`."""


class MarketSession(Session, Protocol):
    """A session of mark prices, whose symbols may change."""

    def follow(self, symbols: frozenset[str]) -> Sequence[str]:
        """What to send next so that the prices of these symbols come, and no others: as much as the venue takes at a
        time. Ask again, after a pause, until it is nothing."""


class StreamSpec(NamedTuple):
    """A connection to make. The URL may hold a secret; `name` may be logged."""

    name: str
    url: Secret
    session: Callable[[], Session]


class UserStreams(Protocol):
    """The private stream of an account while it is open: what to connect to, and the upkeep that the venue asks for."""

    @property
    def specs(self) -> tuple[StreamSpec, ...]:
        """All of these connections together carry the account's events. Read them again before each connection."""

    async def keep_alive(self) -> None:
        """Run until cancelled, from the first connection on. Raises StreamEnded or AuthFailed when the stream is not
        alive any more, FrameError for an answer that cannot be understood."""

    async def check_alive(self) -> None:
        """Before a connection is replaced. Raises StreamEnded when another connection would be of another stream,
        AuthFailed and FrameError as `keep_alive` does. A venue that does not answer proves nothing, and is no error."""


# Limits


class Limits(Protocol):
    """What one way out of this machine (or one user of it) may still ask of the venue. One object for all accounts that
    share it; `Venue.limits` makes it."""

    def spent(self, now_ms: int) -> str:
        """What is spent, as text for other programs that share the limits; its form is the venue's."""

    def learn(self, spent: str, at_ms: int, now_ms: int) -> None:
        """What another program knew to be spent at a venue time. Text that makes no sense is ignored."""


# The account


class VenueClock(Protocol):
    """The venue's time, as far as it is known: on the monotonic clock, so that setting the machine's clock does not
    move it. Before the first `sync` it is the machine's own."""

    def now_ms(self) -> int: ...

    def at_ms(self, mono_s: float) -> int:
        """The venue's time at a moment of the monotonic clock."""

    async def sync(self) -> None:
        """Ask the venue for its time. Raises VenueUnreachable where no answer is quick enough."""

    async def ensure(self) -> None:
        """`sync`, unless the time is known."""


class VenueAccount(Protocol):
    """One account at the venue: the only part of an adapter with I/O.

    Calls raise VenueUnreachable (wait, ask again), RateLimited (not before `retry_at_ms`), Rejected (the call is
    wrong), AuthFailed (the operator must act), FrameError (an answer that cannot be understood).
    """

    @property
    def clock(self) -> VenueClock: ...

    @property
    def limits(self) -> Limits: ...

    def user_streams(self, retrying: Retrying = ignored) -> AbstractAsyncContextManager[UserStreams]:
        """Open the private stream: on entering, whatever must exist before a connection is made. `retrying` is called
        with each error of the upkeep after which it is tried again, for the log."""

    def market_stream(self, symbols: frozenset[str]) -> tuple[Secret, MarketSession] | None:
        """Where the mark prices of these symbols come, and the dialogue there; None, always, where they come on the
        private stream (as `MarkPriceUpdate`)."""

    async def check_key(self) -> KeyReport | None:
        """What the key may do; None where the venue does not offer the question. Raises AuthFailed for an account that
        this adapter cannot follow."""

    async def fetch_snapshot(self, *, consistent: bool = False) -> Snapshot:
        """The whole account. Its parts may be of slightly different moments, which a stream that was connected before
        puts right; `consistent`: balances and positions are of one moment, or VenueUnreachable.

        A row that cannot be understood is missing, and `Snapshot.unreadable` names it; with `consistent`, where nobody
        would show that doubt, it is a FrameError."""

    async def fetch_check(self, scope: CheckScope = FIGURES_ONLY) -> Check:
        """Balances and positions, and what else is asked for."""

    def history_queries(self, kind: HistoryKind, symbols: Collection[str]) -> tuple[HistoryQuery, ...]:
        """What has to be read to know all orders, conditional orders or trades of the account; `symbols` are those in
        which something may have happened, for a venue that must be asked by symbol."""

    def history_pages(self, query: HistoryQuery, since_ms: int, waiting: Waiting) -> AsyncIterator[HistoryPage]:
        """What was created (orders) or happened (trades) since then. It may list more than that, where the venue counts
        otherwise (from the end of an order, or in whole pages): the caller leaves out what is older. Raises WantsSymbol
        where the venue does not take a query without a symbol."""

    async def symbols_with_fills(
        self, since_ms: int, waiting: Waiting, *, whatever_it_costs: bool
    ) -> frozenset[str] | None:
        """Symbols in which an order was filled since then, as the account's bookings name them; a fill without a
        commission may be missing. None where the venue does not say, or saying it would cost as much as reading the
        histories of all symbols and `whatever_it_costs` is not wanted."""

    async def fetch_amendments(
        self, order: OrderKey, since_ms: int, waiting: Waiting
    ) -> tuple[PastAmendment, ...] | None:
        """How an order was amended since then, oldest first; None where the venue has no such history. Raises Rejected
        where it does not answer for such an order. A row that cannot be understood is missing."""

    async def fetch_order(self, order: OrderKey, waiting: Waiting) -> PastOrder | None:
        """An order as it is now; None where the venue does not know it: not any more, or not yet. Raises Rejected where
        it does not answer for such an order, as one of a symbol that was delisted."""

    async def aclose(self, *, last: bool) -> None:
        """Close the connections. `last`: no other publisher of this account is left, so that what is shared between
        them may be given up, where the settings ask for it."""


# The venue


class Access(Protocol):
    """Endpoints and credentials of one account, judged. Made by `Venue.access`; shows no secret."""

    @property
    def venue(self) -> str: ...

    @property
    def credentials_name(self) -> str:
        """Distinguishes credentials without revealing them: a digest."""

    @property
    def limits_name(self) -> str:
        """Accounts of one process with the same name share one `Limits`: a host, or a user of it."""


class Endpoints(NamedTuple):
    """Base URLs where the venue is asked, and where the private stream comes."""

    rest: str
    stream: str


class Venue(Protocol):
    """An exchange. Stateless; one value per venue, in `statecast/venues/registry.py`."""

    @property
    def name(self) -> str:
        """As it stands in keys and settings."""

    @property
    def traits(self) -> Traits: ...

    @property
    def credentials(self) -> Mapping[str, str]:
        """Names of the credentials that it takes, without `STATECAST_`, and what each is, in words."""

    @property
    def settings(self) -> Mapping[str, str]:
        """Names of the settings that `access` reads as well as the credentials, without `STATECAST_`, and what each
        does, in words for `--help`: a line of some 80 characters, with the default in parentheses."""

    def access(self, values: Mapping[str, str]) -> Access | None:
        """From settings by name; None where no credential is given. Raises ConfigError."""

    def endpoints(self, values: Mapping[str, str]) -> Endpoints:
        """From settings by name; no credential is needed. Raises ConfigError."""

    def limits(self) -> Limits:
        """A fresh count of what may be asked."""

    def account(self, access: Access, clock: Clock, limits: Limits) -> VenueAccount:
        """Raises ConfigError for credentials that cannot be sent."""

    def advice(self, error: AuthFailed) -> str:
        """What the operator should do."""
