from __future__ import annotations

import argparse
import asyncio
import os
import signal
from pathlib import Path

import pytest

from statecast.cli import source
from statecast.errors import ConfigError, StoreAuthFailed, StoreUnreachable


@pytest.fixture(autouse=True)
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("STATECAST_")]:
        monkeypatch.delenv(name)


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    source.add_arguments(parser)
    return parser.parse_args(words)


def test_options_come_before_environment_dotenv_and_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("statecast.toml").write_text('redis_url = "redis://file"\n')
    given = ["--config", "statecast.toml"]
    assert source.redis_url(arguments()) == "redis://127.0.0.1:6379/0"
    assert source.redis_url(arguments(*given)) == "redis://file"
    Path(".env").write_text("STATECAST_REDIS_URL=redis://dotenv\n")
    assert source.redis_url(arguments(*given)) == "redis://dotenv"
    monkeypatch.setenv("STATECAST_REDIS_URL", "redis://environment")
    assert source.redis_url(arguments(*given)) == "redis://environment"
    assert source.redis_url(arguments(*given, "--redis-url", "redis://option")) == "redis://option"


def test_a_publishers_file_may_hold_what_only_a_publisher_reads() -> None:
    Path("publisher.toml").write_text(
        'redis_url = "redis://file"\ntestnet = true\n[[accounts]]\naccount = "main"\napi_key_file = "key"\n'
    )
    assert source.redis_url(arguments("--config", "publisher.toml")) == "redis://file"
    Path("publisher.toml").write_text("tesnet = true\n")
    with pytest.raises(ConfigError, match="the setting tesnet is 'not known'"):
        source.redis_url(arguments("--config", "publisher.toml"))


@pytest.mark.parametrize("url", ["embedded", "http://127.0.0.1", "redis://127.0.0.1:port"])
def test_what_is_no_server_to_read_from_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(ConfigError, match="STATECAST_REDIS_URL is "):
        source.redis_url(arguments("--redis-url", url))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("STATECAST_ACCOUNT", "a b", "a name"), 2),
        (StoreAuthFailed("redis://somewhere", "the server refuses the user name or password"), 2),
        (StoreUnreachable("redis://somewhere", "connection refused"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_one_line_and_the_contracts_exit_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work(args: argparse.Namespace, url: str) -> int:
        raise error

    assert source.run(arguments(), work) == code
    assert capsys.readouterr().err == f"statecast: {error}\n"


def test_the_work_gets_the_url_and_gives_the_exit_code() -> None:
    async def work(args: argparse.Namespace, url: str) -> int:
        return 3 if url == "redis://there" else 0

    assert source.run(arguments("--redis-url", "redis://there"), work) == 3


def test_sigterm_unwinds_the_work() -> None:
    unwound: list[str] = []

    async def work(args: argparse.Namespace, url: str) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            return await asyncio.Event().wait()
        finally:
            unwound.append("yes")

    assert source.run(arguments(), work) == 143
    assert unwound == ["yes"]
