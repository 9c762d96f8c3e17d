"""A page for a terminal: lines and tables that fit its width and, where they are to stay in place, its height.

A value is never cut. On a narrow terminal the least important columns are left out, on a low one the last rows; the
title of the table then says how many are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import ConsoleOptions, RenderResult

GAP = 2
"""Blanks between columns."""


class Column(NamedTuple):
    """A column; of two, the one with the higher `rank` is left out first. Numbers stand to the right."""

    name: str
    rank: int
    right: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under a title; each row begins with its name, and `columns` are those of the other cells."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Text]]

    def lines(self, width: int, shown: int) -> list[Text]:
        """The heading and the first `shown` rows."""
        title = self.title if shown >= len(self.rows) else f"{self.title} ({shown} of {len(self.rows)})"
        names = [title, *(column.name for column in self.columns)]
        widths = [
            max(cell_len(name), *(row[at].cell_len for row in self.rows)) if self.rows else cell_len(name)
            for at, name in enumerate(names)
        ]
        kept = self._kept(widths, width)
        heading = [Text(name, "bold" if at == 0 else "dim") for at, name in enumerate(names)]
        return [self._line(cells, widths, kept, width) for cells in (heading, *self.rows[:shown])]

    def _kept(self, widths: Sequence[int], width: int) -> list[int]:
        """The columns that fit, the most important taken first; the name always stays."""
        kept, left = [0], width - widths[0]
        for at in sorted(range(1, len(widths)), key=lambda at: self.columns[at - 1].rank):
            if GAP + widths[at] <= left:
                left -= GAP + widths[at]
                kept.append(at)
        return sorted(kept)

    def _line(self, cells: Sequence[Text], widths: Sequence[int], kept: Sequence[int], width: int) -> Text:
        line = Text()
        for at in kept:
            blanks = " " * (widths[at] - cells[at].cell_len)
            right = at > 0 and self.columns[at - 1].right
            line.append(" " * GAP if at else "")
            line.append_text(Text(blanks) + cells[at] if right else cells[at] + Text(blanks))
        line.rstrip()
        line.truncate(width, overflow="ellipsis")
        return line


Block = Table | Sequence[Text]


@dataclass(frozen=True, slots=True)
class Page:
    """Blocks below each other. With `within_screen` the page is never higher than the terminal."""

    blocks: Sequence[Block]
    within_screen: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Called by rich."""
        yield from self.lines(console, options.max_width)

    def lines(self, console: Console, width: int) -> list[Text]:
        """What is shown on `console`, line by line."""
        wrapped = [
            [] if isinstance(block, Table) else [line for text in block for line in text.wrap(console, width)]
            for block in self.blocks
        ]
        counts = [len(block.rows) for block in self.blocks if isinstance(block, Table)]
        # One line is kept for the cursor.
        room = console.height - 1 - len(counts) - sum(map(len, wrapped))
        gaps = len(self.blocks) - 1
        spaced = not self.within_screen or room >= sum(counts) + gaps
        shown = iter(shares(counts, room) if self.within_screen and not spaced else counts)
        lines: list[Text] = []
        for block, texts in zip(self.blocks, wrapped, strict=True):
            if lines and spaced:
                lines.append(Text())
            lines += block.lines(width, next(shown)) if isinstance(block, Table) else texts
        return lines[: console.height - 1] if self.within_screen else lines


def shares(counts: Sequence[int], room: int) -> list[int]:
    """How many rows of each table are shown: all of short tables, the same number of the others, and at least one."""
    found = [0] * len(counts)
    left = len(counts)
    for at in sorted(range(len(counts)), key=counts.__getitem__):
        found[at] = min(counts[at], max(1, room // left))
        room -= found[at]
        left -= 1
    return found


class LivePage:
    """Shows one page in place of the one before. The last page stays on the terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
        self._size = self._console.size

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return self._console.width

    def show(self, blocks: Sequence[Block]) -> None:
        """Show these. After a change of size the terminal is cleared, because its old lines were wrapped."""
        if self._console.size != self._size:
            self._size = self._console.size
            self._console.clear()
        self._live.update(Page(blocks, within_screen=True), refresh=True)

    def __enter__(self) -> LivePage:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()
