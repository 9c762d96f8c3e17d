"""Every key and field that statecast has in Redis; the only place where they are spelt.

`…` is `statecast:{<venue>:<account>}:`. The braces are a hash tag: one account lives in one cluster slot, so that one
script can write all of it.

    key                      type     fields / content                          writer     lifetime
    …:account                hash     totals                                    publisher  permanent
    …:balances               hash     <ASSET>.<field>                           publisher  permanent
    …:positions              hash     <SYMBOL>:<POSITIONSIDE>.<field>           publisher  permanent
    …:orders                 hash     <SYMBOL>:<ORDERID>.<field>                publisher  permanent
    …:order-events           stream   EVENT_FIELDS, in this order               publisher  see trim.lua
    …:changes                stream   CHANGE_FIELDS                             publisher  about CHANGES_BYTES
    …:status                 hash     is this true, and who says so             publisher  permanent
    …:lease                  string   the id of the publisher that may write    publisher  LEASE_TTL_MS, renewed
    …:publishers             zset     publisher ids by their last heartbeat     publisher  a member for REGISTERED_MS
    …:refresh                hash     the last REST answer, for all readers     whoever fetched it    permanent
    …:refresh-lock           string   who is fetching now                       the same   REFRESH_LOCK_MS, renewed
    …:refresh-requests       stream   readers that want the publisher to fetch  readers    about REQUESTS_LENGTH entries
    …:refresh-news           stream   how each fetch ended, to wake who waits   whoever fetched it    likewise
    …:group:<GROUP>          hash     a consumer group's members and progress   consumers  until the group is removed
    …:group-activity         hash     when each group was served last           consumers, publisher  likewise
    …:dead-letters:<GROUP>   stream   order events that a group gave up on      consumers  until requeued or dropped
    statecast:accounts       set      all accounts that were ever written       publisher  permanent

A field's last dot separates its entity from its attribute, an entity's last colon its symbol from position side or
order id: symbols hold `:`, `/`, `-` and dots. A conditional order's id is `algo-<ID>`.

State has no time to live: a key that vanished by itself would read as "flat".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from statecast.errors import ConfigError

CONTRACT = "1"
"""Version of the contract that this program writes and reads."""

ACCOUNTS_KEY = "statecast:accounts"

CHANGES_LENGTH = 20_000
"""Entries kept of `…:changes` at the most: ten minutes at 33 commits a second, for a reader that lost its
connection."""

CHANGES_BYTES = 20_000_000
"""Of these, the youngest that have so many bytes together: with 500 positions, whose mark prices are 160 kB each
second, two minutes. A reader that was away for longer reads the hashes again."""

LEASE_TTL_MS = 2_500
"""A writer that was killed holds the account this long; it renews with every batch, and at least once a second."""

REGISTERED_MS = 60_000
"""A publisher that has not shown itself for this long counts as gone."""

REFRESH_LOCK_MS = 1_200
"""Whoever fetches for all holds the lock this long and renews it; killed, another takes over when it has run out."""

REQUEUED = "requeued"
"""The consumer under whose name an event is put back; who works on the group takes it over from there."""

REQUESTS_LENGTH = 100
"""Entries kept of the two streams around a refresh: each is of interest for seconds."""

ACCOUNT_FIELDS = (
    "totalWalletBalance",
    "totalWalletBalanceTimeMs",
    "totalUnrealizedProfit",
    "totalUnrealizedProfitTimeMs",
    "totalMarginBalance",
    "totalMarginBalanceTimeMs",
    "availableBalance",
    "availableBalanceTimeMs",
    "totalInitialMargin",
    "totalMaintMargin",
    "marginTimeMs",
    "totalsAsset",
)
BALANCE_FIELDS = (
    "walletBalance",
    "crossWalletBalance",
    "availableBalance",
    "availableBalanceTimeMs",
    "unrealizedProfit",
    "unrealizedProfitTimeMs",
    "venueTimeMs",
    "source",
)
POSITION_FIELDS = (
    "symbol",
    "positionSide",
    "side",
    "positionAmt",
    "entryPrice",
    "breakEvenPrice",
    "markPrice",
    "markPriceTimeMs",
    "unRealizedProfit",
    "unRealizedProfitTimeMs",
    "leverage",
    "marginType",
    "isolatedWallet",
    "liquidationPrice",
    "liquidationPriceTimeMs",
    "notional",
    "marginAsset",
    "venueTimeMs",
    "source",
    "quantityAsset",
    "contracts",
    "contractSize",
)
_ORDER_FIELDS = (
    "symbol",
    "orderId",
    "clientOrderId",
    "side",
    "positionSide",
    "type",
    "origType",
    "timeInForce",
    "status",
    "price",
    "stopPrice",
    "quantity",
    "executedQty",
    "avgPrice",
    "reduceOnly",
    "venueTimeMs",
    "source",
    "algoId",
    "actualOrderId",
)
_LATER_ORDER_FIELDS = ("quantityAsset", "contracts", "closePosition", "activatePrice", "callbackRate")
ORDER_FIELDS = (*_ORDER_FIELDS, *_LATER_ORDER_FIELDS)
EVENT_FIELDS = (
    "eventSeq",
    "eventId",
    "eventType",
    *_ORDER_FIELDS,
    "lastQty",
    "lastPrice",
    "tradeId",
    "commission",
    "commissionAsset",
    "realizedProfit",
    "maker",
    "receivedAtMs",
    "epoch",
    *_LATER_ORDER_FIELDS,
)
"""The order after the event, between what names the event and what it adds; fields that came later are at the end."""

EVENTS_ORDER_FIELDS = len(_ORDER_FIELDS)
"""So many of `ORDER_FIELDS` stand together in an event; the rest are at its end."""

CHANGE_FIELDS = ("seq", "epoch", "eventSeq", "source", "change")
STATUS_FIELDS = (
    "state",
    "reason",
    "seq",
    "eventSeq",
    "verifiedAtMs",
    "heartbeatAtMs",
    "publisherId",
    "epoch",
    "streamSinceMs",
    "reconciledAtMs",
    "unknownEvents",
    "malformedFrames",
    "malformedMarketFrames",
    "futureMarkPrices",
    "unreadableValues",
    "drifts",
    "walletCorrections",
    "eventsSinceMs",
    "eventsCompleteMs",
    "contract",
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class AccountId:
    """One account of one venue; `binance:main` in text."""

    venue: str
    account: str

    @classmethod
    def parse(cls, text: str, setting: str = "ACCOUNT") -> AccountId:
        """From `<venue>:<account>`; an account name alone is one of `binance`."""
        venue, colon, account = text.partition(":")
        if not colon:
            venue, account = "binance", text
        if not (_NAME.fullmatch(venue) and _NAME.fullmatch(account)):
            raise ConfigError(
                setting, text, "<venue>:<account> of letters, digits, '_', '.', '-', such as binance:main"
            )
        return cls(venue, account)

    def __str__(self) -> str:
        return f"{self.venue}:{self.account}"


class AccountKeys:
    """The keys of one account."""

    __slots__ = (
        "_prefix",
        "account",
        "balances",
        "changes",
        "group_activity",
        "lease",
        "order_events",
        "orders",
        "positions",
        "publishers",
        "refresh",
        "refresh_lock",
        "refresh_news",
        "refresh_requests",
        "status",
    )

    def __init__(self, account_id: AccountId) -> None:
        self._prefix = prefix = f"statecast:{{{account_id}}}:"
        self.account = prefix + "account"
        self.balances = prefix + "balances"
        self.positions = prefix + "positions"
        self.orders = prefix + "orders"
        self.order_events = prefix + "order-events"
        self.changes = prefix + "changes"
        self.status = prefix + "status"
        self.lease = prefix + "lease"
        self.publishers = prefix + "publishers"
        self.refresh = prefix + "refresh"
        self.refresh_lock = prefix + "refresh-lock"
        self.refresh_requests = prefix + "refresh-requests"
        self.refresh_news = prefix + "refresh-news"
        self.group_activity = prefix + "group-activity"

    def table(self, name: str) -> str:
        """The hash `account`, `balances`, `positions` or `orders`."""
        return self._prefix + name

    def group(self, group: str) -> str:
        """What the members of a consumer group share."""
        return f"{self._prefix}group:{group}"

    def dead_letters(self, group: str) -> str:
        """The order events that a consumer group gave up on."""
        return f"{self._prefix}dead-letters:{group}"
