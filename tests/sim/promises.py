"""What is promised whatever fails, checked by a reader that looks at Redis right after every write.

- The state: each row of the hashes was the venue's at some moment that is not earlier than the one for which the
  publisher verified (`verifiedAtMs`), less what may have been under way. What was lost without a sign has the bound of
  the reconciliation instead.
- The hashes are what the entries of the changes stream make, one by one: nothing is written outside of a commit.
- `seq`, `eventSeq` and `epoch` never go back; what Redis itself lost is a new beginning, under a higher epoch.
- The log has every order event once, in the venue's order per order. Amendments, which not every history has, are in it
  if they were received, or an entry says that they are not: `Received` has the exceptions.
- Of an order of which nobody can say what became of it, the log says that much, and everything else goes on.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from decimal import Decimal
from typing import Any

import orjson
from sim.redis_server import Server
from support.rows import RowHistory, RowName, stored_row
from support.truth import (
    IDENTITY_FIELDS,
    UNTOLD_BY_REST,
    UNTOLD_STEPS_BY_REST,
    algo_identity,
    differences,
    gap_differences,
    ledger_identity,
)
from support.written import applied

from statecast.domain.gaps import GAP
from statecast.simulator.events import AlgoChanged, OrderChanged
from statecast.simulator.orders import OrderStatus
from statecast.store.codec import entities
from statecast.store.keys import AccountId, AccountKeys
from statecast.store.reader import StoredAccount

UNNAMED = OrderStatus.EXPIRED_BY_RISK.value
UNTOLD = UNTOLD_BY_REST | UNTOLD_STEPS_BY_REST
UNDER_WAY_S = 0.3
"""What a fault of the way to the venue catches of what was sent just before."""

COMPARED_WITHIN_S = 3.0
"""What makes no sense, and is no proof of anything, is compared with the venue so soon."""

HASHES = ("account", "balances", "positions", "orders")
BEYOND_MS = 1 << 60


AmendmentName = tuple[str, int, Decimal, Decimal]
"""The order, the venue's time, the new quantity and price."""


class Received:
    """Amendments that every publisher has received. Each is in the log at the end, or an entry of type GAP covers it:
    whatever became of Redis, the lease and the connections meanwhile.

    What nobody can know any more is not here:

    - what was under way when a socket was cut, and what a process that stood still had not read from it;
    - what was not in the log when the last publisher that knew it was gone: killed, or asked to end while Redis could
      not be reached;
    - what was not in the log when a publisher took the lease that did not know it, because it started later. All that
      it has of that time are the venue's histories.
    """

    def __init__(self) -> None:
        self._sent: dict[AmendmentName, float] = {}
        self._knowing: dict[AmendmentName, set[object]] = {}

    def add(self, name: AmendmentName, now: float, knowing: Iterable[object]) -> None:
        self._sent[name], self._knowing[name] = now, set(knowing)

    def names(self) -> list[AmendmentName]:
        return list(self._sent)

    def forget_all(self) -> None:
        self._sent.clear()

    def lost_since(self, since: float) -> None:
        """A socket is gone, with what was sent since then."""
        self._sent = {name: at for name, at in self._sent.items() if at < since}

    def forgotten_by(self, publisher: object) -> None:
        """This publisher knows nothing of before now."""
        for knowing in self._knowing.values():
            knowing.discard(publisher)

    def is_left_to(self, publishers: Container[object], logged: Container[AmendmentName]) -> None:
        """What is not in the log can only be written by these."""
        self._sent = {
            name: at
            for name, at in self._sent.items()
            if name in logged or any(one in publishers for one in self._knowing[name])
        }


class Broken(Exception):
    """A promise was broken: which, and how."""

    def __init__(self, promise: str, *details: str) -> None:
        super().__init__(promise, *details)
        self.promise = promise
        self.details = details


def order_name(symbol: str, order_id: object) -> str:
    """Ids may be numbered for each symbol by itself; those of conditional orders are the account's."""
    return f"{symbol}:{order_id}"


def _name_of(entry: Mapping[str, str]) -> str:
    return order_name(entry["symbol"], entry["orderId"])


def _event_name(event: OrderChanged) -> tuple[str, ...]:
    order, filled = event.order, str(event.order.filled_qty.normalize())
    trade_id = str(event.trade_id or "")
    return (order_name(order.symbol, order.order_id), event.execution.value, filled, trade_id, order.status.value)


def _algo_order(event: AlgoChanged) -> str:
    return f"algo-{event.algo.algo_id}"


def _algo_name(event: AlgoChanged) -> tuple[str, ...]:
    return (_algo_order(event), f"ALGO_{event.algo.status}")


def _entry_name(entry: Mapping[str, str]) -> tuple[str, ...]:
    if entry["algoId"]:
        return (entry["orderId"], entry["eventType"])
    filled = str(Decimal(entry["executedQty"] or "0").normalize())
    return (_name_of(entry), entry["eventType"], filled, entry["tradeId"], entry["status"])


def _covers(gap: Mapping[str, str], order: str, at_ms: int) -> bool:
    """Whether an entry of type GAP says that what happened to an order then may be missing."""
    if gap["orderId"]:
        since = gap["eventId"].rpartition(":")[2]
        return _name_of(gap) == order and at_ms >= (int(since) if since.isdecimal() else 0)
    since = gap["eventId"].rpartition(":")[0].rpartition(":")[2]
    return gap["symbol"] in ("", order.rpartition(":")[0]) and int(since) <= at_ms <= int(gap["venueTimeMs"])


class Bounds:
    """How old a verified row may be, by what was going on when the venue's row moved on, and since.

    `plain_s` is what is under way between venue, publisher and Redis when nothing is slow; `disturbed_s` the same when
    Redis or the process itself stood still, which the lease bounds; `silent_s` the reconciliation's."""

    def __init__(self, plain_s: float, disturbed_s: float, silent_s: float) -> None:
        self._plain_s = plain_s
        self._disturbed_s = disturbed_s
        self._silent_s = silent_s
        self._silent: list[tuple[float, float]] = []
        self._disturbed: list[tuple[float, float]] = []
        self._looks_older: list[tuple[float, float]] = []
        self._excused: list[tuple[float, float]] = []

    def silent(self, since: float, until: float) -> None:
        """What the venue sent then was lost or late, without a sign."""
        self._silent.append((since, until))

    def is_silent(self, at: float) -> bool:
        return any(since <= at <= until for since, until in self._silent)

    def disturbed(self, since: float, until: float) -> None:
        """Redis or a process stood still then."""
        self._disturbed.append((since, until))

    def is_disturbed(self, at: float) -> bool:
        """Whether Redis or a process stood still then, or so shortly before that it still shows."""
        return any(since <= at <= until + self._disturbed_s for since, until in self._disturbed)

    def looks_older(self, since: float, until: float) -> None:
        """What the venue sent then may have been stamped older than what it sent before, which is a reason to compare
        at once."""
        self._looks_older.append((since, until))

    def no_rest(self, since: float, until: float) -> None:
        """Nothing could be asked then, so the reconciliation has so much longer."""
        self._excused.append((since, until))

    def of(self, departed: float, now: float) -> float:
        bound = self._plain_s
        if any(since <= now and departed <= until + self._disturbed_s for since, until in self._disturbed):
            bound = self._disturbed_s
        excuse = sum(max(0.0, min(until, now) - max(since, departed)) for since, until in self._excused)
        if any(since <= departed <= until for since, until in self._looks_older):
            bound = max(bound, COMPARED_WITHIN_S + excuse)
        if any(since <= departed <= until for since, until in self._silent):
            bound = max(bound, self._silent_s + excuse)
        return bound


class Reader:
    """Looks at the account in Redis."""

    def __init__(self, server: Server, account_id: AccountId, truth: RowHistory, bounds: Bounds) -> None:
        self._server = server
        self._account_id = account_id
        self._keys = keys = AccountKeys(account_id)
        self._truth = truth
        self._bounds = bounds
        truth.on_change = self._judge_row
        self._look = (
            [b"HGETALL", keys.status.encode()],
            [b"XRANGE", keys.changes.encode(), b"", b"+"],
            [b"XRANGE", keys.order_events.encode(), b"", b"+"],
        )
        self._read_hashes = tuple([b"HGETALL", keys.table(name).encode()] for name in HASHES)
        self._last_change = self._last_event = "0-0"
        self._copy: dict[str, dict[str, str]] = {}
        self._rows: dict[str, dict[str, dict[str, str]]] = {}
        self._stale: dict[RowName, float] = {}
        self._event_ids: set[str] = set()
        self.status: dict[str, str] = {}
        self._seq = self._event_seq = self._epoch = 0
        self._most_epoch = 0
        self._most_seq: dict[str, int] = {}
        """By publisher, while it was the writer."""
        self._after_loss = False
        self._lost_by = ""
        self._ever_lost = False
        self._verified: dict[str, float] = {}
        self.history: list[dict[str, str]] = []
        """What happened before the log began, as if it stood there."""
        self.forgotten: set[tuple[str, ...]] = set()
        """Events that Redis lost when nobody was left who knew them."""
        self.nothing_left = False
        """Whether Redis, when it lost something, lost everything."""
        self.unheard: set[str] = set()
        """Orders of which something was lost without a sign."""
        self.received = Received()
        self.unknowable: set[str] = set()
        """Orders of which it is enough that the log says what is known, and that the rest is not."""
        self.vanished: set[str] = set()
        """Those that were open and are gone without an event."""
        self.delisted: set[str] = set()
        """Symbols of which the same is true."""
        self.looks = 0
        self.events = 0

    # After a write

    def look(self, now: float, *, whole: bool = False) -> None:
        """Read what is new and judge it."""
        self.looks += 1
        self._look[1][2] = f"({self._last_change}".encode()
        self._look[2][2] = f"({self._last_event}".encode()
        status, changes, events = self._server.call(*self._look)
        self._judge_numbers(status, events)
        touched: set[RowName] = set()
        for entry_id, flat in changes:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            touched |= self._take_change(fields)
            self._last_change = entry_id
        if changes:
            self._rows = {name: entities(self._copy.get(name, {})) for name in HASHES[1:]}
        for name in touched:
            self._judge_row(name)
        if whole or self.looks % 8 == 0:
            self._compare_with_hashes()
        self._judge_state(status, now)

    def _judge_numbers(self, status: dict[str, str], events: list[Any]) -> None:
        seq, event_seq, epoch = (int(status.get(name, 0)) for name in ("seq", "eventSeq", "epoch"))
        if epoch != self._epoch and status:
            if epoch <= self._most_epoch:
                raise Broken("epochs never go back", f"{self._most_epoch} → {epoch}")
            most = self._most_seq.get(status.get("publisherId", ""), 0)
            if self._lost_by and self._lost_by == status.get("publisherId") and seq < most:
                raise Broken("seq never goes back while a publisher lives", f"{most} → {seq}")
            self._lost_by = ""
        if not self._after_loss and (seq < self._seq or event_seq < self._event_seq):
            raise Broken("seq never goes back", f"seq {self._seq} → {seq}, eventSeq {self._event_seq} → {event_seq}")
        if events:
            for entry_id, flat in events:
                fields = dict(zip(flat[::2], flat[1::2], strict=True))
                number = int(fields["eventSeq"])
                if number != self._event_seq + 1 and not (self._after_loss and number > self._event_seq):
                    raise Broken("eventSeq has no hole", f"{self._event_seq} → {number} ({fields['eventId']})")
                if fields["eventId"] in self._event_ids:
                    raise Broken("no order event stands in the log twice", fields["eventId"])
                self._event_ids.add(fields["eventId"])
                self._event_seq, self._last_event = number, entry_id
                self._after_loss = False
                self.events += 1
            if self._event_seq != event_seq:
                raise Broken("eventSeq is the last entry's", f"{event_seq}, log {self._event_seq}")
        self._seq, self._epoch, self.status = seq, epoch, status
        self._most_epoch = max(epoch, self._most_epoch)
        publisher_id = status.get("publisherId", "")
        self._most_seq[publisher_id] = max(seq, self._most_seq.get(publisher_id, 0))

    def _take_change(self, fields: dict[str, str]) -> set[RowName]:
        change = orjson.loads(fields["change"])
        before = self._rows if change.get("replaces") else {}
        applied(self._copy, change)
        touched = {(kind, name) for kind, rows in before.items() for name in rows}
        if change.get("replaces"):
            touched |= self._truth.rows.keys()
        for kind in HASHES[1:]:
            part = change.get(kind, {})
            touched |= {(kind, name.rpartition(".")[0]) for name in part.get("set", ())}
            touched |= {(kind, name) for name in part.get("removed", ())}
        return touched

    def _compare_with_hashes(self) -> None:
        for name, flat in zip(HASHES, self._server.call(*self._read_hashes), strict=True):
            fields = {field: value for field, value in flat.items() if field[0] != "_"}
            copy = self._copy.get(name, {})
            if fields != copy:
                names = [f for f in sorted(fields.keys() | copy.keys()) if fields.get(f) != copy.get(f)]
                told = [f"{name} {f}: {fields.get(f)}, by the changes stream {copy.get(f)}" for f in names[:10]]
                raise Broken("the hashes are what the commits say", *told)

    # The state

    def _judge_row(self, name: RowName) -> None:
        kind, entity = name
        if not self._rows:
            return
        row = stored_row(kind, self._rows[kind].get(entity))
        departed = self._truth.departed(name, row)
        if departed is None:
            self._stale.pop(name, None)
        else:
            self._stale[name] = departed

    def _judge_state(self, status: dict[str, str], now: float) -> None:
        verified = status.get("verifiedAtMs")
        if not verified or verified == "0":
            return
        at = self._verified.setdefault(verified, now)
        for name, departed in self._stale.items():
            kind, entity = name
            if status.get("state") != "live" and kind == "orders" and entity.partition(":")[0] in self.delisted:
                continue  # Its venue shows an older row of the order, and not what became of it.
            bound = self._bounds.of(departed, at)
            if at - departed > bound:
                row = stored_row(kind, self._rows[kind].get(entity))
                past = self._truth.rows.get(name, [])[-4:]
                raise Broken(
                    "no wrong state is vouched for",
                    f"{kind} {entity} is {row} in Redis, vouched for at {at:.3f} s, state {status.get('state')}",
                    f"at the venue it was that until {departed:.3f} s; the bound is {bound:.2f} s",
                    *(f"venue from {since:.3f} s: {what}" for since, what in past),
                )

    def look_for_rows(self) -> None:
        """Judge all rows again."""
        self._stale.clear()
        names = {(kind, entity) for kind, rows in self._rows.items() for entity in rows} | self._truth.rows.keys()
        for name in names:
            self._judge_row(name)

    # What Redis itself lost

    def lost(self, publisher_lives: bool) -> None:
        """Begin again with what Redis holds now."""
        self._lost_by = self.status.get("publisherId", "") if publisher_lives else self._lost_by
        status, hashes = self._server.call(self._look[0])[0], self._server.call(*self._read_hashes)
        self._copy = {
            name: {field: value for field, value in flat.items() if field[0] != "_"}
            for name, flat in zip(HASHES, hashes, strict=True)
            if flat
        }
        self._rows = {name: entities(self._copy.get(name, {})) for name in HASHES[1:]} if self._copy else {}
        self.look_for_rows()
        changes, events = self._server.call(
            [b"XREVRANGE", self._keys.changes.encode(), b"+", b"-", b"COUNT", b"1"],
            [b"XRANGE", self._keys.order_events.encode(), b"-", b"+"],
        )
        self._last_change = changes[0][0] if changes else "0-0"
        self._last_event = events[-1][0] if events else "0-0"
        entries = [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in events]
        self._event_ids = {entry["eventId"] for entry in entries}
        self._event_seq = int(entries[-1]["eventSeq"]) if entries else 0
        self._seq, self._epoch = int(status.get("seq", 0)), int(status.get("epoch", 0))
        self.status = status
        self._after_loss = self._ever_lost = True
        self.nothing_left = not entries and status.get("eventsCompleteMs", "0") == "0"

    # When the faults have stopped

    def stored(self, now_ms: int) -> StoredAccount:
        status, *flat = self._server.call(self._look[0], *self._read_hashes)
        hashes = dict(zip(HASHES, flat, strict=True))
        rows = {name: entities(hashes[name]) if hashes[name] else None for name in HASHES[1:]}
        account = hashes["account"] or None
        return StoredAccount(self._account_id, now_ms, status, account, **rows)

    def log_begins(self, order_events: list[OrderChanged], algo_events: list[AlgoChanged]) -> None:
        """What happened until now, before anybody listened, is not for the log to tell."""
        self.received.forget_all()
        self.history = [
            dict(zip(IDENTITY_FIELDS, ledger_identity(event), strict=True)) | {"algoId": ""} for event in order_events
        ]
        self.history += [
            {
                "symbol": event.algo.symbol,
                "orderId": _algo_order(event),
                "eventType": algo_identity(event)[0],
                "actualOrderId": algo_identity(event)[1],
                "algoId": str(event.algo.algo_id),
            }
            for event in algo_events
        ]
        for at, entry in enumerate(self.history):
            entry |= {"eventSeq": str(at + 1 - len(self.history)), "eventId": f"before-{at}"}

    def forget(self, order_events: list[OrderChanged], algo_events: list[AlgoChanged]) -> None:
        """The log began again, and says since when: what happened before that nobody can know, nor the steps that a
        conditional order of then has taken since, which no history tells."""
        self.received.forget_all()
        self.history = []
        since_ms = int(self.status["eventsSinceMs"])
        self.forgotten = {_event_name(event) for event in order_events if event.at_ms < since_ms}
        began = {event.algo.algo_id for event in algo_events if event.at_ms < since_ms}
        last = {event.algo.algo_id: event for event in algo_events}
        self.forgotten |= {
            _algo_name(event)
            for event in algo_events
            if event.at_ms < since_ms or (event.algo.algo_id in began and event is not last[event.algo.algo_id])
        }

    def log(self) -> list[dict[str, str]]:
        (entries,) = self._server.call([b"XRANGE", self._keys.order_events.encode(), b"-", b"+"])
        return [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in entries]

    def unequal(
        self,
        dump: Mapping[str, Any],
        order_events: list[OrderChanged],
        algo_events: list[AlgoChanged],
        now_ms: int,
    ) -> list[str]:
        """Where hashes and log are not what the ledger says."""
        stored = self.stored(now_ms)
        if stored.status.get("state") != "live":
            return [f"the state is {stored.status.get('state')}: {stored.status.get('reason')}"]
        found = differences(stored, dump)
        return found or self._of_the_log(order_events, algo_events) or self._not_logged()

    def logged_amendments(self) -> set[AmendmentName]:
        return {
            (_name_of(one), int(one["venueTimeMs"]), Decimal(one["quantity"]), Decimal(one["price"]))
            for one in self.log()
            if one["eventType"] == "AMENDMENT"
        }

    def _not_logged(self) -> list[str]:
        """Amendments that were received and are not in the log, where no entry says so."""
        logged, gaps = self.logged_amendments(), [one for one in self.log() if one["eventType"] == GAP]
        lost = [
            name
            for name in self.received.names()
            if name not in logged and not any(_covers(gap, name[0], name[1]) for gap in gaps)
        ]
        return [f"{len(lost)} amendments were received and are not in the log; the first: {lost[0]}"] if lost else []

    def _is_unknowable(self, name: str) -> bool:
        return name in self.unknowable or name.rpartition(":")[0] in self.delisted

    def _of_the_unknowable(self, entries: list[dict[str, str]], events: Mapping[str, list[str]]) -> list[str]:
        """Where the log says something of these orders that did not happen, or keeps silent about what it does not
        know. `events` are the types of what happened, by order; of an end nobody's word, so the log may have its own.
        """
        ours: dict[str, list[dict[str, str]]] = {}
        for entry in entries:
            ours.setdefault(_name_of(entry), []).append(entry)
        found: list[str] = []
        for name, own in ours.items():
            known = [entry for entry in own if entry["eventType"] != GAP]
            types = [entry["eventType"] for entry in known]
            if known and known[-1].get("status") == UNNAMED:
                types[-1] = "EXPIRED"
            truth, left = events.get(name, []), iter(events.get(name, []))
            gap = len(known) < len(own) or any(
                one["eventType"] == GAP and not one["orderId"] and one["symbol"] in ("", own[0]["symbol"])
                for one in entries
            )
            missing = [one for one in truth if one not in types and one not in UNTOLD]
            if not all(one in left for one in types):
                found.append(f"order {name}: {types}, but what happened was {truth}")
            elif known and not gap and (missing or name in self.vanished):
                found.append(f"order {name}: {missing or 'that it vanished'} is missing, and no GAP says so: {types}")
        return found

    def _of_the_log(self, order_events: list[OrderChanged], algo_events: list[AlgoChanged]) -> list[str]:
        """Where the log is not what happened.

        Where frames were lost without a sign, later ones of the same order may have come before REST gave the lost
        ones, which then stand behind them: there the order of an order's events is not compared. And the venue tells
        past conditional orders by symbol alone: one that came and went unseen, in a symbol of which nothing else was
        known, is not found, and neither is the end of one that was triggered before the log began.
        """
        log = self.log()
        kinds: dict[str, list[str]] = {}
        for happened in order_events:
            name = order_name(happened.order.symbol, happened.order.order_id)
            kinds.setdefault(name, []).append(happened.execution)
        for change in algo_events:
            name = order_name(change.algo.symbol, _algo_order(change))
            kinds.setdefault(name, []).append(f"ALGO_{change.algo.status}")
        holes = self._holes(log)
        found = self._of_the_unknowable(
            [one for one in self.history + log if self._is_unknowable(_name_of(one))], kinds
        )
        log = [entry for entry in log if not self._is_unknowable(_name_of(entry))]
        order_events = [
            e for e in order_events if not self._is_unknowable(order_name(e.order.symbol, e.order.order_id))
        ]
        algo_events = [e for e in algo_events if not self._is_unknowable(order_name(e.algo.symbol, _algo_order(e)))]
        triggered_before = {entry["orderId"] for entry in self.history if entry["eventType"] == "ALGO_TRIGGERED"}
        entries = [
            entry
            for entry in self.history + log
            if entry["orderId"] not in triggered_before and not self._is_unknowable(_name_of(entry))
        ]
        algo_events = [event for event in algo_events if _algo_order(event) not in triggered_before]
        # Fills of before a log that began anew are not its own; that events are missing there is true all the same.
        begun_before = {name[0] for name in self.forgotten}
        entries = [entry for entry in entries if not (entry["eventType"] == GAP and _name_of(entry) in begun_before)]
        names = {_entry_name(entry) for entry in log}
        order_events = [e for e in order_events if _event_name(e) not in self.forgotten - names]
        algo_events = [e for e in algo_events if _algo_name(e) not in self.forgotten - names]
        known_from = {entry["symbol"]: int(entry["venueTimeMs"]) for entry in reversed(log)}
        told = {entry["orderId"] for entry in entries}
        algo_events = [
            event
            for event in algo_events
            if _algo_order(event) in told or event.at_ms >= known_from.get(event.algo.symbol, BEYOND_MS)
        ]
        places = {_event_name(event): at for at, event in enumerate(order_events)}
        places |= {_algo_name(event): at for at, event in enumerate(algo_events)}
        unheard = [entry for entry in entries if _name_of(entry) in self.unheard]
        unheard.sort(key=lambda entry: places.get(_entry_name(entry), -1))
        entries = [entry for entry in entries if _name_of(entry) not in self.unheard] + unheard
        renumbered = [entry | {"eventSeq": str(number)} for number, entry in enumerate(entries, start=1)]
        return holes + found + gap_differences(renumbered, order_events, algo_events)

    def _holes(self, log: list[dict[str, str]]) -> list[str]:
        """Numbers that are missing. Where Redis has lost entries that nobody could write again as they were, what the
        venue's histories tell of them has new numbers, under a new epoch."""
        before = {"eventSeq": "0", "epoch": "0"}
        found: list[str] = []
        for entry in log:
            missing = int(entry["eventSeq"]) - int(before["eventSeq"]) - 1
            if missing and not (self._ever_lost and missing > 0 and int(entry["epoch"]) > int(before["epoch"])):
                found.append(f"after eventSeq {before['eventSeq']} comes {entry['eventSeq']}")
            before = entry
        return found
