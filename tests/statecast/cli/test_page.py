from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from statecast.cli.page import Block, Column, LivePage, Page, Table, shares

COLUMNS = (Column("amount", 1), Column("unimportant", 3), Column("side", 2, right=False))


def table(rows: int) -> Table:
    return Table(
        "things", COLUMNS, [[Text(f"thing {at}"), Text("12.50"), Text("x"), Text("long")] for at in range(rows)]
    )


def lines(blocks: list[Block], width: int = 80, height: int = 24, *, within_screen: bool = False) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height)
    return [line.plain for line in Page(blocks, within_screen=within_screen).lines(console, width)]


def test_a_table_has_its_names_to_the_left_and_its_figures_to_the_right() -> None:
    assert lines([table(1)]) == [
        "things   amount  unimportant  side",
        "thing 0   12.50            x  long",
    ]


def test_the_least_important_column_goes_first_and_no_figure_is_cut() -> None:
    assert lines([table(1)], width=25) == ["things   amount  side", "thing 0   12.50  long"]
    assert lines([table(1)], width=18) == ["things   amount", "thing 0   12.50"]


def test_wide_characters_keep_the_columns_straight() -> None:
    rows = [[Text("币安"), Text("1")], [Text("ab"), Text("1")]]
    assert lines([Table("t", (Column("n", 1),), rows)]) == ["t     n", "币安  1", "ab    1"]


def test_blocks_are_apart_where_there_is_room() -> None:
    assert lines([[Text("head")], table(1)])[1] == ""
    assert "" not in lines([[Text("head")], table(1)], height=4, within_screen=True)


@pytest.mark.parametrize("height", range(8, 40))
def test_a_page_stays_within_the_screen_and_says_what_it_leaves_out(height: int) -> None:
    shown = lines([[Text("head")], table(20), table(3), [Text("foot")]], height=height, within_screen=True)
    assert len(shown) < height
    assert shown[0] == "head"
    assert shown[-1] == "foot"
    rows = sum(line.startswith("thing ") for line in shown)
    assert rows == 23 or any(f"({rows - 3} of 20)" in line or "of 3)" in line for line in shown)


def test_lines_that_are_too_long_are_folded_and_counted() -> None:
    shown = lines([[Text("word " * 30)], table(20)], width=40, height=12, within_screen=True)
    assert len(shown) < 12
    assert max(map(len, shown)) <= 40


def test_a_screen_that_is_too_low_for_a_row_of_each_table_shows_the_beginning() -> None:
    assert lines([[Text("head")], table(2), [Text("foot")]], height=4, within_screen=True) == [
        "head",
        "things (1 of 2)  amount  unimportant  side",
        "thing 0           12.50            x  long",
    ]


def test_without_a_screen_all_rows_are_shown() -> None:
    assert len(lines([table(100)], height=10)) == 101


@pytest.mark.parametrize(
    ("counts", "room", "expected"),
    [
        ([3, 20, 20], 23, [3, 10, 10]),
        ([3, 2], 23, [3, 2]),
        ([0, 9], 5, [0, 5]),
        ([5, 5], 0, [1, 1]),
        ([], 5, []),
    ],
)
def test_room_is_shared_alike(counts: list[int], room: int, expected: list[int]) -> None:
    assert shares(counts, room) == expected


def test_a_terminal_that_changed_its_size_is_cleared() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=80, height=24, color_system=None)
    with LivePage(console) as page:
        page.show([[Text("first")]])
        page.show([[Text("second")]])
        before = written.getvalue()
        console.size = (60, 20)  # type: ignore[assignment]  # rich takes any pair
        page.show([[Text("third")]])
        assert page.width == 60
    clear = "\x1b[2J"
    assert clear not in before
    assert clear in written.getvalue()
    assert written.getvalue().rstrip("\x1b[?25h\n").endswith("third")
