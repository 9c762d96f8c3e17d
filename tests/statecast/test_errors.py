from __future__ import annotations

import pytest

from statecast import errors
from statecast.errors import (
    AuthFailed,
    ConfigError,
    ContractMismatch,
    FrameError,
    LeaseLost,
    NeverPublished,
    RateLimited,
    Rejected,
    StaleState,
    StatecastError,
    StoreAuthFailed,
    StoreDiverged,
    StoreError,
    StoreRefused,
    StoreUnreachable,
    VenueError,
    VenueUnreachable,
)

SERVER = "redis://localhost:6379/0"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            ConfigError("STATECAST_TESTNET", "perhaps", "true or false"),
            "STATECAST_TESTNET is 'perhaps'; accepted: true or false",
        ),
        (
            ConfigError("STATECAST_API_KEY", None, "the key's text"),
            "STATECAST_API_KEY is not set; accepted: the key's text",
        ),
        (
            VenueUnreachable("binance", "GET /fapi/v3/account", "no answer within 10 s"),
            "binance: GET /fapi/v3/account: no answer within 10 s",
        ),
        (RateLimited("binance", "GET /x", "1,200 of 1,200", 1_793_000_000_000), "binance: GET /x: 1,200 of 1,200"),
        (Rejected("binance", "GET /x", "Illegal characters", -1100), "binance: GET /x: Illegal characters"),
        (AuthFailed("binance", "GET /x", "Invalid API-key", -2015), "binance: GET /x: Invalid API-key"),
        (
            FrameError("ACCOUNT_UPDATE", "a.B[0].wb", "is not a number"),
            "frame ACCOUNT_UPDATE: a.B[0].wb: is not a number",
        ),
        (StoreUnreachable(SERVER, "connection refused"), f"Redis at {SERVER}: connection refused"),
        (StoreRefused(SERVER, "READONLY"), f"Redis at {SERVER}: READONLY"),
        (StoreAuthFailed(SERVER, "wrong password"), f"Redis at {SERVER}: wrong password"),
        (StoreDiverged(SERVER, "a hash is gone"), f"Redis at {SERVER}: a hash is gone"),
        (LeaseLost(SERVER, "the lease has run out"), f"Redis at {SERVER}: the lease has run out"),
        (ContractMismatch(SERVER, "contract 2"), f"Redis at {SERVER}: contract 2"),
        (
            StaleState("binance:main", 12.43, 5.0, "the publisher is recovering (no stream)", "wait for it"),
            "binance:main is stale for 12.4 s (limit 5 s): the publisher is recovering (no stream); wait for it",
        ),
        (
            StaleState("binance:main", None, 5.0, "the publisher is starting", "wait for it"),
            "binance:main is without any verified state (limit 5 s): the publisher is starting; wait for it",
        ),
        (
            NeverPublished("binance:main", 5.0, "nobody has written it", "start a publisher"),
            "binance:main is not published: nobody has written it; start a publisher",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_is_a_sentence(error: StatecastError, sentence: str) -> None:
    assert str(error) == sentence
    assert isinstance(error, StatecastError)


def test_errors_carry_what_a_program_needs_to_act() -> None:
    assert RateLimited("binance", "GET /x", "banned", 17).retry_at_ms == 17
    assert AuthFailed("binance", "GET /x", "no", -2015).code == -2015
    assert FrameError("e", "where", "problem").where == "where"
    assert (StoreRefused(SERVER, "READONLY").server, StoreRefused(SERVER, "READONLY").reason) == (SERVER, "READONLY")
    assert ConfigError("NAME", "value", "accepted").value == "value"


@pytest.mark.parametrize(
    ("error", "branch"),
    [
        (VenueUnreachable, VenueError),
        (RateLimited, VenueError),
        (Rejected, VenueError),
        (AuthFailed, Rejected),
        (StoreUnreachable, StoreError),
        (StoreRefused, StoreError),
        (StoreAuthFailed, StoreRefused),
        (StoreDiverged, StoreError),
        (LeaseLost, StoreError),
        (ContractMismatch, StoreError),
        (FrameError, StatecastError),
        (ConfigError, StatecastError),
        (VenueError, StatecastError),
        (StoreError, StatecastError),
    ],
)
def test_branches_follow_who_has_to_act(error: type[Exception], branch: type[Exception]) -> None:
    assert error.__base__ is branch


def test_the_tree_at_the_top_of_the_module_names_every_error() -> None:
    assert errors.__doc__ is not None
    drawn = {word for word in errors.__doc__.split() if word.isalpha()}
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert defined <= drawn
