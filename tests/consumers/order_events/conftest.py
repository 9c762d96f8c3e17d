from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from support.groups import Log, log_of


@pytest.fixture
async def log(redis_url: str, account_name: str) -> AsyncIterator[Log]:
    async with log_of(redis_url, account_name) as opened:
        yield opened


@pytest.fixture
def url(redis_url: str) -> str:
    return redis_url
