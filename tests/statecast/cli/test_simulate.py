from __future__ import annotations

import argparse
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from random import Random

import pytest

from statecast.cli import simulate
from statecast.simulator.binance.exchange import Exchange
from statecast.simulator.control import control
from statecast.simulator.ledger import Ledger
from statecast.simulator.orders import OrderRequest, OrderType, Side

PROGRAM = """
import argparse, sys
from statecast.cli import simulate
parser = argparse.ArgumentParser(prog="statecast")
simulate.add_parser(parser.add_subparsers(required=True))
args = parser.parse_args()
sys.exit(args.run(args))
"""


@contextmanager
def program(*args: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "simulate", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_until_ready(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    lines: dict[str, str] = {}
    for line in process.stdout:
        name, _, value = line.strip().partition(" ")
        if name == "ready":
            return lines
        lines[name] = value.strip()
    raise AssertionError(f"never ready: {lines}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_and_ends_cleanly(number: signal.Signals) -> None:
    with program("--port", "0", "--trade", "50", "--hedge", "--balance", "USDT=5", "--balance", "USDC=7") as process:
        lines = lines_until_ready(process)
        assert lines["websocket"].replace("ws:", "http:") == lines["REST"]
        assert lines["key"] == "demo-key"
        with urllib.request.urlopen(f"{lines['REST']}/simulate/ledger", timeout=10) as answer:  # noqa: S310 - loopback
            assert b'"dualSidePosition":true' in answer.read()
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "", "")


def test_a_taken_port_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with program("--port", port) as process:
            out, err = process.communicate(timeout=20)
            assert (process.returncode, out) == (1, "")
            assert err.count("\n") == 1
            assert f"cannot listen on 127.0.0.1:{port}" in err


@pytest.mark.parametrize(
    "options",
    [
        ["--port", "70000"],
        ["--trade", "-1"],
        ["--balance", "USDT"],
        ["--balance", "USDT=x"],
        ["--balance", "USDT=nan"],
        ["--mark-interval", "nan"],
    ],
)
def test_bad_options_are_exit_code_2(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    simulate.add_parser(parser.add_subparsers())
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["simulate", *options])
    assert caught.value.code == 2
    assert options[1] in capsys.readouterr().err


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(prog="statecast")
    simulate.add_parser(parser.add_subparsers())
    with pytest.raises(SystemExit):
        parser.parse_args(["simulate", "--help"])
    text = capsys.readouterr().out
    assert "statecast simulate --trade 5" in text
    assert "/simulate/fault" in text


def test_the_conditions_that_help_names_exist(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(prog="statecast")
    simulate.add_parser(parser.add_subparsers())
    with pytest.raises(SystemExit):
        parser.parse_args(["simulate", "--help"])
    named = re.findall(
        r"^  (fault|expire|delist|accrue|forget|burst) +(\{.*?\})(?:  |$)", capsys.readouterr().out, re.MULTILINE
    )
    assert len(named) == 10
    ledger = Ledger({"USDT": Decimal(10_000), "BFUSD": Decimal(5)}, now_ms=1)
    exchange = Exchange(ledger, [], Random(1))
    ledger.place(
        OrderRequest(symbol="BTCUSDT", side=Side.BUY, type=OrderType.LIMIT, qty=Decimal("0.01"), price=Decimal(90_000)),
        1,
    )
    for name, args in named:
        fewer = {"count": 30} if name == "burst" else {}
        control(exchange, "POST", name, "", json.loads(args) | fewer, 1)
