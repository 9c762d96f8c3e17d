"""One event, one line, on standard error; JSON where no person reads along; no secret, not even in a traceback."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator

import pytest
import structlog

from publisher import logs
from statecast.errors import VenueUnreachable
from statecast.secret import Secret

LISTEN_KEY = "pqia91ma19a5s61cv6a81va65sd"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def configuration() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


Configure = Callable[..., io.StringIO]


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Sets up the log as a process with such a standard error does; what was written to it."""

    def configure(kind: type[io.StringIO] = io.StringIO, *least: str) -> io.StringIO:
        stderr = kind()
        monkeypatch.setattr(sys, "stderr", stderr)
        logs.configure(*least)
        return stderr

    return configure


on_either = pytest.mark.parametrize("kind", [io.StringIO, Terminal], ids=["file", "terminal"])


def fail_with_the_key_at_hand() -> None:
    url = "wss://host/private/ws?listenKey=" + Secret(LISTEN_KEY).reveal()
    raise RuntimeError(f"a URL of {len(url)} characters")


def test_lines_are_json_where_there_is_no_terminal(configured: Configure) -> None:
    file = configured()
    log = logs.account_log("binance:main")
    log.info("state", state="live", before="starting", reason='a "quoted"\nreason')
    log.warning("refresh_failed", reason=str(VenueUnreachable("binance", "GET /x", "HTTP 503")))
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [(line["event"], line["level"], line["account"]) for line in lines] == [
        ("state", "info", "binance:main"),
        ("refresh_failed", "warning", "binance:main"),
    ]
    assert lines[0]["reason"] == 'a "quoted"\nreason'
    assert lines[1]["reason"] == "binance: GET /x: HTTP 503"
    assert lines[0]["timestamp"].endswith("Z")


def test_lines_are_for_people_on_a_terminal(configured: Configure) -> None:
    terminal = configured(Terminal)
    logs.account_log("binance:main").info("state", state="live")
    (line,) = terminal.getvalue().splitlines()
    assert not line.startswith("{")
    assert "live" in line


@on_either
def test_frames_and_other_details_are_left_out_unless_asked_for(configured: Configure, kind: type[io.StringIO]) -> None:
    stderr = configured(kind)
    logs.account_log("binance:main").debug("frame")
    assert stderr.getvalue() == ""
    stderr = configured(kind, "debug")
    logs.account_log("binance:main").debug("frame")
    assert "frame" in stderr.getvalue()


@on_either
def test_a_secret_stays_a_placeholder(configured: Configure, kind: type[io.StringIO]) -> None:
    stderr = configured(kind)
    logs.account_log("binance:main").info("connecting", listen_key=Secret(LISTEN_KEY), also=[Secret(LISTEN_KEY)])
    assert LISTEN_KEY not in stderr.getvalue()
    assert "***" in stderr.getvalue()


@on_either
def test_a_traceback_shows_where_and_no_variable(configured: Configure, kind: type[io.StringIO]) -> None:
    stderr = configured(kind)
    try:
        fail_with_the_key_at_hand()
    except RuntimeError:
        logs.account_log("binance:main").exception("unexpected")
    text = stderr.getvalue()
    assert "fail_with_the_key_at_hand" in text
    assert "RuntimeError: a URL of" in text
    assert LISTEN_KEY not in text


def test_an_exception_is_one_line_of_json(configured: Configure) -> None:
    file = configured()
    try:
        fail_with_the_key_at_hand()
    except RuntimeError:
        logs.account_log("binance:main").exception("unexpected")
    (line,) = map(json.loads, file.getvalue().splitlines())
    assert line["level"] == "error"
    assert "RuntimeError" in line["exception"]
