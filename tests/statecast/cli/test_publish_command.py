"""`statecast publish` is the service of `python -m publisher`; what it does is tested there."""

from __future__ import annotations

import argparse
import re
import signal
from pathlib import Path

import pytest
from support.programs import program, run
from support.world import account_values, new_server, until

from publisher import config
from publisher.__main__ import add_arguments
from statecast import settings
from statecast.cli import main
from statecast.store.client import connect
from statecast.store.keys import AccountId
from statecast.store.reader import read_account
from statecast.venues import registry
from statecast.venues.binance import wire
from statecast.venues.registry import venue

PUBLISH = ("statecast.cli.main", "publish")


def test_it_takes_the_same_options_as_the_service() -> None:
    service = argparse.ArgumentParser()
    add_arguments(service)
    options = ["--account", "main", "--redis-url", "redis://127.0.0.1", "--testnet", "--reconcile-s", "5"]
    ours, theirs = vars(main.parser().parse_args(["publish", *options])), vars(service.parse_args(options))
    assert {name: ours[name] for name in theirs} == theirs


def test_its_help_names_every_setting_of_the_service_with_its_default(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        main.main(["publish", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    names = registry.names()
    built = config.build(settings.load(names, {"API_KEY": "key", "API_SECRET": "secret"}, {}, directory=tmp_path))
    (account,) = built.accounts
    times = (account.reconcile_s, account.lease_s, account.mark_price_interval_s, account.group_expiry_s)
    for default in (built.redis_url, account.account_id.account, wire.PRIVATE_PATH, *(f"{s:.7g}" for s in times)):
        assert f"({default})" in text
    assert f"({account.events_retention_s:.7g}, a week)" in text
    told = set(re.findall(r"STATECAST_([A-Z_]+)", text))
    of_readers = {"MAX_AGE_S", "NOFX_MODE"}
    assert told == set(names.all) - of_readers
    for what in (*venue("binance").credentials.values(), *venue("binance").settings.values()):
        assert what in text


async def test_settings_that_cannot_work_are_one_line(tmp_path: Path) -> None:
    code, lines = await run(tmp_path, *PUBLISH)
    assert (code, len(lines)) == (2, 1), lines
    assert "STATECAST_API_KEY is not set" in lines[0]
    assert "statecast demo" in lines[0]


async def test_it_publishes_until_it_is_stopped(tmp_path: Path, redis_url: str, account_name: str) -> None:
    account_id = AccountId("binance", account_name)
    async with new_server() as server, connect(redis_url, client_name="test") as client:
        values = account_values(server, account_name, REDIS_URL=redis_url)
        async with program(tmp_path, *PUBLISH, **values) as publisher:
            await until(lambda: read_account(client, account_id), lambda stored: stored.status.get("state") == "live")
            assert await publisher.stop(signal.SIGTERM) == 0
        assert (await read_account(client, account_id)).status["state"] == "stopped"
    assert "Traceback" not in publisher.output
