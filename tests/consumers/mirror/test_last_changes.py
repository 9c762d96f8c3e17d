from __future__ import annotations

import pytest

from consumers.mirror.last_changes import LastChanges


def noted(*commits: tuple[int, dict[str, list[str]]], remembered: int = 100) -> LastChanges:
    changes = LastChanges(remembered)
    for seq, names in commits:
        changes.note(names, seq)
    return changes


@pytest.mark.parametrize(
    ("table", "name", "seq"),
    [
        (None, None, 4),
        ("orders", None, 4),
        ("orders", "1001", 2),
        ("orders", "1002", 4),
        ("positions", None, 3),
        ("positions", "BTCUSDT:BOTH", 3),
        ("balances", None, 0),
        ("balances", "USDT", 0),
    ],
)
def test_the_last_change_of_the_account_a_hash_and_an_entity(table: str | None, name: str | None, seq: int) -> None:
    changes = noted(
        (2, {"orders": ["1001", "1002"]}), (3, {"positions": ["BTCUSDT:BOTH"]}), (4, {"orders": ["1002"]}),
    )  # fmt: skip
    assert changes.of(table, name) == seq


def test_what_was_forgotten_counts_as_changed_when_the_last_one_was_forgotten() -> None:
    changes = noted(*((seq, {"orders": [f"20{seq}"]}) for seq in range(2, 7)), remembered=2)
    assert [changes.of("orders", f"20{seq}") for seq in range(2, 7)] == [4, 4, 4, 5, 6]
    assert changes.of("orders", "never there") == 4
    assert changes.of("positions", "BTCUSDT:BOTH") == 0


def test_an_entity_that_changes_again_is_remembered_longer() -> None:
    changes = noted(
        (1, {"orders": ["a"]}), (2, {"orders": ["b"]}), (3, {"orders": ["a"]}), (4, {"orders": ["c"]}), remembered=2
    )
    assert [changes.of("orders", name) for name in ("a", "b", "c")] == [3, 2, 4]


def test_starting_over_counts_as_a_change_of_everything() -> None:
    changes = noted((9, {"orders": ["a"]}))
    changes.start_over(3)
    assert [changes.of(None, None), changes.of("orders", "a"), changes.of("positions", None)] == [3, 3, 3]
