"""The list of venues, and what all of them share."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from statecast import settings
from statecast.errors import ConfigError
from statecast.venues import registry
from statecast.venues.adapter import Venue
from statecast.venues.registry import VENUES, SharedLimits

KEYS = {"API_KEY": "the-api-key", "API_SECRET": "the-api-secret"}


def test_a_venue_is_binance_unless_it_is_said() -> None:
    assert registry.chosen({}) is registry.chosen({"VENUE": "binance"}) is registry.venue("binance")


def test_a_venue_that_is_not_known_is_named_with_its_setting() -> None:
    with pytest.raises(ConfigError) as refused:
        registry.chosen({"VENUE": "mtgox"})
    assert str(refused.value) == f"STATECAST_VENUE is 'mtgox'; accepted: {', '.join(VENUES)}"


def test_every_venue_goes_by_its_own_name_and_reads_settings_that_exist() -> None:
    for name, venue in VENUES.items():
        assert venue.name == name
        assert set(venue.settings) <= set(registry.names().venues)
        assert set(venue.credentials) <= set(registry.names().credentials)
        assert not {*venue.settings, *registry.names().of_credentials} & set(settings.COMMON)


def test_a_further_venue_brings_names_of_its_own_and_may_share_others() -> None:
    further = SimpleNamespace(
        settings={"REST_URL": "another REST host", "DEX": "which one"}, credentials={"ADDRESS": "the account's address"}
    )
    ours = registry.names()
    found = registry.names({**VENUES, "further": cast("Venue", further)})
    assert found.venues == (*ours.venues, "DEX")
    assert found.credentials == (*ours.credentials, "ADDRESS")
    assert set(found.all) - set(ours.all) == {"DEX", "ADDRESS", "ADDRESS_FILE"}


def test_access_may_be_missing_or_needed() -> None:
    assert registry.access({}) is None
    found = registry.needed_access(KEYS)
    assert found == registry.access(KEYS)
    assert found.venue == "binance"
    with pytest.raises(ConfigError) as refused:
        registry.needed_access({})
    assert str(refused.value).startswith(
        "STATECAST_API_KEY is not set; accepted: the key of a reading-only API key, or"
    )


def test_accounts_share_limits_by_venue_and_host() -> None:
    limits, other = SharedLimits(), SharedLimits()
    access = registry.needed_access(KEYS)
    second = registry.needed_access(KEYS | {"API_KEY": "another"})
    testnet = registry.needed_access(KEYS | {"TESTNET": "true"})
    assert limits.of(access) is limits.of(second)
    assert limits.of(access) is not limits.of(testnet)
    assert limits.of(access) is not other.of(access)


def test_limits_may_be_made_otherwise() -> None:
    made = VENUES["binance"].limits()
    assert SharedLimits(lambda _: made).of(registry.needed_access(KEYS)) is made
