"""What a process has received of SIGINT and SIGTERM. That none of them cuts a stop short is in test_main.py."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from publisher.stop_signals import NUMBERS, StopSignals


@pytest.fixture
def signals() -> Iterator[StopSignals]:
    before = [signal.getsignal(number) for number in NUMBERS]
    yield StopSignals()
    for number, handler in zip(NUMBERS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
def test_each_of_them_asks_for_a_stop(signals: StopSignals, number: signal.Signals) -> None:
    acted: list[str] = []
    signals.install()
    signals.then(lambda: acted.append("stop"))
    assert (signals.received, acted) == (False, [])
    for _ in range(2):
        signal.raise_signal(number)
    assert (signals.received, acted) == (True, ["stop", "stop"])


def test_what_was_received_before_is_acted_on_at_once(signals: StopSignals) -> None:
    acted: list[str] = []
    signals.install()
    signal.raise_signal(signal.SIGTERM)
    signals.then(lambda: acted.append("stop"))
    assert acted == ["stop"]


def test_at_the_end_they_do_nothing(signals: StopSignals) -> None:
    signals.install()
    signals.ignore()
    for number in NUMBERS:
        signal.raise_signal(number)
    assert not signals.received
