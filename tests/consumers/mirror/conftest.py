from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from support.mirrors import published
from support.written import Desk

from consumers.mirror import AccountMirror
from statecast.store.client import Client, connect
from statecast.store.keys import AccountId


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with connect(redis_url, client_name="desk") as connected:
        yield connected


@pytest.fixture
def account_id(account_name: str) -> AccountId:
    return AccountId("binance", account_name)


@pytest.fixture
async def desk(client: Client, account_id: AccountId) -> Desk:
    """A publisher that has published, and holds its lease as long as a test lasts."""
    return await published(client, account_id)


@pytest.fixture
async def mirror(redis_url: str, desk: Desk, account_id: AccountId) -> AsyncIterator[AccountMirror]:
    async with AccountMirror(account_id, redis_url) as running:
        yield running
