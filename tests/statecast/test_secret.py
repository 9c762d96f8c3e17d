from __future__ import annotations

import copy
import json
import pickle
import traceback
from dataclasses import dataclass

import pytest

from statecast.errors import Rejected
from statecast.secret import Secret

TEXT = "hunter2-is-not-for-logs"
SECRET = Secret(TEXT)


@dataclass(frozen=True)
class Credentials:
    key: str
    secret: Secret


@pytest.mark.parametrize(
    "shown",
    [
        str(SECRET),
        repr(SECRET),
        f"{SECRET}",
        f"{SECRET!r}",
        "%s %r" % (SECRET, SECRET),  # noqa: UP031 - logging does it this way
        "{}".format(SECRET),  # noqa: UP032
        repr([SECRET]),
        repr({"secret": SECRET}),
        repr(Credentials("key", SECRET)),
        str(Rejected("binance", "account", f"{SECRET}", -1)),
        ascii(SECRET),
    ],
)
def test_a_secret_never_prints_itself(shown: str) -> None:
    assert TEXT not in shown
    assert "***" in shown


def test_a_secret_is_told_to_who_asks_for_it() -> None:
    assert SECRET.reveal() == TEXT


def test_a_secret_does_not_show_in_a_traceback() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        told = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "Secret('***')" in told
    assert TEXT not in told


@pytest.mark.parametrize("export", [json.dumps, pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_leaves_the_program_by_no_other_way(export: object) -> None:
    assert callable(export)
    with pytest.raises(TypeError) as refused:
        export(SECRET)
    assert TEXT not in str(refused.value)


def test_secrets_are_compared_by_what_they_hold() -> None:
    assert Secret(TEXT) == SECRET
    assert Secret("other") != SECRET
    assert SECRET != TEXT
    assert len({SECRET, Secret(TEXT)}) == 1


def test_an_empty_secret_is_false() -> None:
    assert SECRET
    assert not Secret("")


def test_a_fingerprint_tells_secrets_apart_and_gives_none_away() -> None:
    name = Secret("k" * 64).fingerprint()
    assert len(name) == 12
    assert "kk" not in name
    assert name == Secret("k" * 64).fingerprint() != Secret("j" * 64).fingerprint()
