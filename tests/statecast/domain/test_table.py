from __future__ import annotations

from statecast.domain.table import Table


def table(**rows: int) -> Table[str, int]:
    """One whose commit begins with these rows."""
    made: Table[str, int] = Table()
    for key, row in rows.items():
        made.put(key, row)
    made.begin()
    return made


def test_a_commit_has_the_rows_that_changed_with_what_they_were() -> None:
    rows = table(a=1, b=2, c=3)
    rows.put("a", 5)
    rows.remove("b")
    rows.put("d", 4)
    assert rows.changed() == ((1, 5), (2, None), (None, 4))
    assert rows.rows == {"a": 5, "c": 3, "d": 4}


def test_what_changes_twice_changed_from_what_it_was_first() -> None:
    rows = table(a=1)
    rows.put("a", 5)
    rows.put("a", 6)
    assert rows.changed() == ((1, 6),)


def test_what_changes_and_changes_back_is_touched_and_has_not_changed() -> None:
    rows = table(a=1)
    rows.put("a", 5)
    rows.put("a", 1)
    rows.put("b", 2)
    rows.remove("b")
    assert rows.is_touched
    assert rows.changed() == ()


def test_removing_what_is_not_there_changes_nothing() -> None:
    rows = table(a=1)
    rows.remove("b")
    assert rows.changed() == ()


def test_a_new_commit_begins_with_the_rows_as_they_are() -> None:
    rows = table(a=1)
    rows.put("a", 2)
    rows.begin()
    assert not rows.is_touched
    rows.put("a", 3)
    assert rows.changed() == ((2, 3),)


def test_rows_that_are_all_replace_what_was_there() -> None:
    rows = table(a=1)
    rows.put("b", 2)
    rows.replace_all({"c": 3})
    assert rows.rows == {"c": 3}
    assert rows.changed() == ()
