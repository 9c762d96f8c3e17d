"""The open positions of an account: rows, what is set for their symbols, and mark prices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

from statecast.domain.changes import AllPositions, LeverageUpdate, MarkPriceUpdate, PositionUpdate, Snapshot
from statecast.domain.models import OrderEvent, Position, PositionKey, Stamp, SymbolConfig
from statecast.domain.orders import FILL_EVENTS
from statecast.domain.snapshot_merge import (
    Asked,
    Fill,
    LastAnswer,
    RestTiming,
    is_position_standing,
    merged_positions,
    with_rest_figures,
)
from statecast.domain.table import Table
from statecast.domain.valuation import at_mark_price, notional, profit

Setting = Literal["leverage", "margin type", "margin mode"]
"""The last is the account's: whether all collateral counts."""

NOTHING_SET = SymbolConfig(leverage=None, margin_type=None)


class Positions:
    """The methods that change something return the venue's time of it; 0 where nothing changed.

    Closed positions leave a stamp behind, so that a late frame does not open them again.
    """

    def __init__(self, rest: RestTiming) -> None:
        self.table: Table[PositionKey, Position] = Table()
        self._rest = rest
        self._closed: dict[PositionKey, Stamp] = {}
        self._not_listed: set[PositionKey] = set()
        """Closed positions that the last snapshot did not list either."""
        self._configs: dict[str, SymbolConfig] = {}
        self._set_ms: dict[tuple[str, Setting], int] = {}
        """When the stream has said last what a symbol has set."""
        self._received_since_ms = 0
        self._margin_assets: dict[str, str] = {}
        self._marks: dict[str, MarkPriceUpdate] = {}
        self._fills: dict[PositionKey, list[Fill]] = {}
        """Those that the rows do not have."""

    @property
    def symbols(self) -> frozenset[str]:
        """Those with an open position."""
        return frozenset(key.symbol for key in self.table.rows)

    @property
    def configs(self) -> Mapping[str, SymbolConfig]:
        """What the account has set, by symbol."""
        return self._configs

    def set_ms(self, symbol: str, setting: Setting) -> int:
        """Of which venue time a setting is; 0 where the stream has said nothing of it."""
        return self._set_ms.get((symbol, setting), 0)

    def trusted_ms(self, key: PositionKey) -> int:
        """As of which venue time what is known of a position, or that it is closed, is to be compared with an answer; 0
        where the stream has said nothing."""
        row, stamp = self.table.rows.get(key), self._closed.get(key)
        stamp = row.stamp if row is not None else stamp
        return self.table.trusted_ms(key, stamp.venue_time_ms) if stamp is not None else 0

    def stands_unlisted(self, row: Position, youngest_ms: int, asked: Asked) -> bool:
        """Whether a row stands against an answer that does not list it; the youngest row of that is of
        `youngest_ms`."""
        return is_position_standing(row, self._fills.get(row.key, ()), youngest_ms, asked, self._rest)

    def has_rows(self, symbol: str) -> bool:
        """Whether the stream has sent a position there. Where it has not, the venue changes a margin type without an
        event, and only then: it takes a symbol without position and orders."""
        return any(key.symbol == symbol for table in (self.table.rows, self._closed) for key in table)

    # The stream

    def apply(self, update: PositionUpdate, answer: LastAnswer) -> int:
        """Upsert a row if it is newer; an amount of 0 closes it."""
        key = PositionKey(update.symbol, update.position_side)
        known = self.table.rows.get(key)
        last = known.stamp if known is not None else self._closed.get(key)
        if last is not None and update.stamp < last:
            self.table.pass_over(key, update.stamp.venue_time_ms)
            return 0
        if answer.is_repeat(update.stamp, known):
            return 0
        is_not_listed = last is None or key in self._not_listed
        if is_not_listed and update.stamp.venue_time_ms < answer.listed_ms:
            return 0  # It was closed before the snapshot, and what was missed is received again.
        self.table.renew(key)
        if update.margin_asset is not None:
            self._margin_assets[update.symbol] = update.margin_asset
        config = self._configs.get(update.symbol, NOTHING_SET)
        if update.margin_type is not None and config.margin_type != update.margin_type:
            config = self._configs[update.symbol] = replace(config, margin_type=update.margin_type)
            self._set_ms[update.symbol, "margin type"] = update.stamp.venue_time_ms
        if update.position_amt == 0:
            self._close(key, update.stamp)
        else:
            self._put(self._row(update, known, config))
        return update.stamp.venue_time_ms

    def apply_all(self, update: AllPositions, answer: LastAnswer) -> int:
        """These are all rows: what is not listed is closed, unless the stream knows newer."""
        times = [self.apply(row, answer) for row in update.rows]
        listed = {PositionKey(row.symbol, row.position_side) for row in update.rows}
        for key, row in list(self.table.rows.items()):
            is_covered = update.symbols is None or key.symbol in update.symbols
            if is_covered and key not in listed and row.stamp <= update.stamp:
                self._close(key, update.stamp)
                times.append(update.stamp.venue_time_ms)
        return max(times, default=0)

    def apply_leverage(self, update: LeverageUpdate) -> None:
        """A setting, which has no time in REST's answers."""
        config = self._configs.get(update.symbol, NOTHING_SET)
        self._configs[update.symbol] = replace(config, leverage=update.leverage)
        self._set_ms[update.symbol, "leverage"] = update.venue_time_ms
        for row in self._of(update.symbol):
            self._put(replace(row, leverage=update.leverage))

    def note_event(self, event: OrderEvent) -> None:
        """If it is a fill, the position's row may not have it."""
        if event.event_type not in FILL_EVENTS:
            return
        fill, key = Fill.of(event), PositionKey(event.order.symbol, event.order.position_side)
        row = self.table.rows.get(key)
        if row is not None and fill.since_ms > row.stamp.venue_time_ms:
            newer = (one for one in self._fills.get(key, ()) if one.since_ms > row.stamp.venue_time_ms)
            self._fills[key] = [*newer, fill]

    def apply_mark(self, update: MarkPriceUpdate) -> int:
        """A mark price, and what follows from it, if it is newer."""
        last = self._marks.get(update.symbol)
        if last is not None and update.time_ms < last.time_ms:
            return 0
        self._marks[update.symbol] = update
        moved = [row for row in self._of(update.symbol) if (row.mark_price_time_ms or 0) < update.time_ms]
        for row in moved:
            self._put(at_mark_price(row, update.mark_price, update.time_ms))
        return update.time_ms if moved else 0

    def _row(self, update: PositionUpdate, known: Position | None, config: SymbolConfig) -> Position:
        amount, entry = update.position_amt, update.entry_price
        mark = self._marks.get(update.symbol)
        gain, gain_ms = update.unrealized_profit, update.stamp.event_time_ms or update.stamp.venue_time_ms
        if mark is not None and (gain is None or mark.time_ms >= gain_ms):
            gain, gain_ms = profit(amount, entry, mark.mark_price, inverse=update.inverse), mark.time_ms
        # A liquidation price belongs to the size it was calculated for.
        same = known if known is not None and known.position_amt == amount else None
        return Position(
            symbol=update.symbol,
            position_side=update.position_side,
            position_amt=amount,
            entry_price=entry,
            stamp=update.stamp,
            source="stream",
            break_even_price=update.break_even_price,
            mark_price=mark.mark_price if mark else None,
            mark_price_time_ms=mark.time_ms if mark else None,
            unrealized_profit=gain,
            unrealized_profit_time_ms=None if gain is None else gain_ms,
            leverage=config.leverage,
            margin_type=config.margin_type,
            isolated_wallet=update.isolated_wallet,
            liquidation_price=same.liquidation_price if same else None,
            liquidation_price_time_ms=same.liquidation_price_time_ms if same else None,
            notional=notional(amount, mark.mark_price, inverse=update.inverse) if mark else None,
            margin_asset=self._margin_assets.get(update.symbol),
            quantity_asset=update.quantity_asset,
            contracts=update.contracts,
            contract_size=update.contract_size,
            inverse=update.inverse,
        )

    # REST

    def merge(self, snapshot: Snapshot) -> None:
        """The whole account by REST; rows of the stream stand where they are newer."""
        self._forget_future(snapshot.taken_ms)
        self._merge_configs(snapshot)
        self._margin_assets.update(snapshot.margin_assets)
        merged = merged_positions(
            self.table.rows, self._closed, self.table.trusted_ms, self._fills, snapshot, self._rest
        )
        of_stream = {symbol for symbol, _ in self._set_ms}
        rows = {
            key: self._reconfigured(row) if key.symbol in of_stream else self._configured(row)
            for key, row in merged.of_rest.items()
        }
        rows |= {key: self._reconfigured(row) for key, row in merged.of_stream.items()}
        self.table.replace_all(rows, self._closed)
        self._fills = {key: fills for key, fills in self._fills.items() if key in rows}
        latest_ms = snapshot.taken_ms + self._rest.lag_ms
        self._closed = {key: stamp for key, stamp in self._closed.items() if stamp.venue_time_ms <= latest_ms}
        self._not_listed = self._closed.keys() - rows.keys()

    def _merge_configs(self, snapshot: Snapshot) -> None:
        """No answer gives a setting a time: what the stream has said stands for as long as REST may be behind."""
        known, asked = self._configs, Asked.of(snapshot)
        self._configs = dict(snapshot.symbol_configs)
        self._received_since_ms = snapshot.stream_since_ms
        self._forget_old_settings(asked)
        for symbol, setting in self._set_ms:
            self._set(symbol, setting, known[symbol])

    def _set(self, symbol: str, setting: Setting, source: SymbolConfig) -> None:
        """Take one setting, where it is known there."""
        config = self._configs.get(symbol, NOTHING_SET)
        if setting == "leverage" and source.leverage is not None:
            self._configs[symbol] = replace(config, leverage=source.leverage)
        elif setting == "margin type" and source.margin_type is not None:
            self._configs[symbol] = replace(config, margin_type=source.margin_type)

    def _forget_old_settings(self, asked: Asked) -> None:
        """Of these an answer to that question says what they are."""
        since_ms, stands = self._received_since_ms, self._rest.stands_without_time
        self._set_ms = {of: ms for of, ms in self._set_ms.items() if stands(ms, since_ms, asked)}

    def take_figures(self, positions: Iterable[Position], asked_ms: int) -> None:
        """What no event carries, of positions that still have the size for which REST says it."""
        self._forget_future(asked_ms)
        for answer in positions:
            if answer.margin_asset is not None:
                self._margin_assets[answer.symbol] = answer.margin_asset
            known = self.table.rows.get(answer.key)
            if known is not None and known.position_amt == answer.position_amt:
                self._put(with_rest_figures(known, answer))

    def take_configs(self, configs: Mapping[str, SymbolConfig], asked: Asked) -> None:
        """Settings of symbols that were listed since the snapshot; those of which the stream's word does not count any
        more; and margin types where no event says them."""
        before = {of for of, ms in self._set_ms.items() if ms < self._received_since_ms}
        self._forget_old_settings(asked)
        for symbol, setting in before - self._set_ms.keys():
            if symbol in configs:
                self._set(symbol, setting, configs[symbol])
                for row in self._of(symbol):
                    self._put(self._reconfigured(row))
        for symbol, config in configs.items():
            known = self._configs.setdefault(symbol, config)
            is_other = config.margin_type is not None and config.margin_type != known.margin_type
            if is_other and not self.has_rows(symbol):
                self._configs[symbol] = replace(known, margin_type=config.margin_type)

    def take_marks(self, positions: Iterable[Position]) -> int:
        """The mark prices of an answer's rows."""
        marks = (
            MarkPriceUpdate(row.symbol, row.mark_price, row.mark_price_time_ms)
            for row in positions
            if row.mark_price is not None and row.mark_price_time_ms is not None
        )
        return max((self.apply_mark(mark) for mark in marks), default=0)

    def _forget_future(self, asked_ms: int) -> None:
        """Marks and profits of later than the venue's time were stamped by a clock that was wrong: to them everything
        true is old. An answer shows that time, to within its lag."""
        latest_ms = asked_ms + self._rest.lag_ms
        self._marks = {symbol: mark for symbol, mark in self._marks.items() if mark.time_ms <= latest_ms}
        for row in list(self.table.rows.values()):
            if (row.mark_price_time_ms or 0) > latest_ms:
                self._put(replace(row, mark_price=None, mark_price_time_ms=None, notional=None))
        for row in list(self.table.rows.values()):
            if (row.unrealized_profit_time_ms or 0) > latest_ms:
                self._put(replace(row, unrealized_profit=None, unrealized_profit_time_ms=None))

    def _configured(self, row: Position) -> Position:
        """A row of REST with what no position row carries, at the newest mark price."""
        config = self._configs.get(row.symbol, NOTHING_SET)
        row = replace(
            row,
            leverage=config.leverage if row.leverage is None else row.leverage,
            margin_type=row.margin_type or config.margin_type,
            margin_asset=row.margin_asset or self._margin_assets.get(row.symbol),
        )
        mark = self._marks.get(row.symbol)
        if mark is None or mark.time_ms <= (row.mark_price_time_ms or 0):
            return row
        return at_mark_price(row, mark.mark_price, mark.time_ms)

    def _reconfigured(self, row: Position) -> Position:
        """A row with the settings that count after a snapshot, whatever the row has."""
        config = self._configs.get(row.symbol)
        if config is None:
            return row
        return replace(row, leverage=config.leverage, margin_type=config.margin_type or row.margin_type)

    # Rows

    def _of(self, symbol: str) -> list[Position]:
        return [row for key, row in self.table.rows.items() if key.symbol == symbol]

    def _put(self, row: Position) -> None:
        self.table.put(row.key, row)
        self._closed.pop(row.key, None)
        self._not_listed.discard(row.key)

    def _close(self, key: PositionKey, stamp: Stamp) -> None:
        self.table.remove(key)
        self._closed[key] = stamp
