from __future__ import annotations

import argparse
import os
import pty
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
import redis

from statecast import settings
from statecast.cli.redis import add_parser
from statecast.embedded.server import EmbeddedServer

Said: TypeAlias = tuple[int, str, str]
"""Exit code, standard output, standard error."""

HASTY = "?socket_connect_timeout=0.2&socket_timeout=0.2"

# The one sub-command alone, as a process of its own.
PROGRAM = (
    "import argparse, sys; from statecast.cli.redis import add_parser; parser = argparse.ArgumentParser();"
    "add_parser(parser.add_subparsers()); args = parser.parse_args(); sys.exit(args.run(args))"
)


def program_environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.fixture(autouse=True)
def no_url_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATECAST_REDIS_URL", raising=False)


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """Runs `statecast redis WORDS…` with its output in a pipe, or on what says that it is a terminal."""

    def run(*words: str, terminal: bool = False) -> Said:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
        parser = argparse.ArgumentParser()
        add_parser(parser.add_subparsers())
        args = parser.parse_args(["redis", *words])
        exit_code: int = args.run(args)
        return exit_code, *capfd.readouterr()

    return run


@pytest.fixture
def key(account_name: str) -> str:
    return f"statecast:{{binance:{account_name}}}:test"


@pytest.fixture
def filled(any_redis_url: str, key: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(any_redis_url) as client:
        client.hset(f"{key}:hash", mapping={"BTCUSDT:BOTH.positionAmt": "-0.010", "_count": "1"})
        client.set(f"{key}:odd", b'tab\t quote" back\\slash \xc3\xa9 bell\a back\b zero\0 line\r\n end')
        for number in range(11):
            client.xadd(f"{key}:stream", {"n": str(number), "type": "NEW"}, id=f"{number + 1}-0")
        yield client


def test_a_hash_in_a_pipe_is_bare_lines(say: Callable[..., Said], filled: object, any_redis_url: str, key: str) -> None:
    assert say("-u", any_redis_url, "HGETALL", f"{key}:hash") == (
        0,
        "BTCUSDT:BOTH.positionAmt\n-0.010\n_count\n1\n",
        "",
    )


def test_a_hash_on_a_terminal_is_numbered_and_quoted(
    say: Callable[..., Said], filled: object, any_redis_url: str, key: str
) -> None:
    _, out, _ = say("-u", any_redis_url, "HGETALL", f"{key}:hash", terminal=True)
    assert out == '1) "BTCUSDT:BOTH.positionAmt"\n2) "-0.010"\n3) "_count"\n4) "1"\n'


def test_nested_replies_on_a_terminal_are_indented(
    say: Callable[..., Said], filled: object, any_redis_url: str, key: str
) -> None:
    _, out, _ = say("-u", any_redis_url, "XREVRANGE", f"{key}:stream", "+", "-", "COUNT", "2", terminal=True)
    assert out == (
        '1) 1) "11-0"\n   2) 1) "n"\n      2) "10"\n      3) "type"\n      4) "NEW"\n'
        '2) 1) "10-0"\n   2) 1) "n"\n      2) "9"\n      3) "type"\n      4) "NEW"\n'
    )


@pytest.mark.parametrize(
    ("words", "on_terminal", "in_pipe"),
    [
        (["SET", "{key}:new", "x"], "OK\n", "OK\n"),
        (["TYPE", "{key}:hash"], "hash\n", "hash\n"),
        (["GET", "{key}:absent"], "(nil)\n", "\n"),
        (["HLEN", "{key}:hash"], "(integer) 2\n", "2\n"),
        (["LRANGE", "{key}:absent", "0", "-1"], "(empty array)\n", "\n"),
        (["ECHO", "-u"], '"-u"\n', "-u\n"),
        (["ECHO", "two words"], '"two words"\n', "two words\n"),
        (["ECHO", ""], '""\n', "\n"),
        (["ECHO", "\udcff"], '"\\xff"\n', "\udcff\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_each_kind_of_reply(
    words: list[str],
    on_terminal: str,
    in_pipe: str,
    any_redis_url: str,
    filled: object,
    key: str,
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    args = parser.parse_args(["redis", "-u", any_redis_url, *(word.format(key=key) for word in words)])
    assert args.run(args) == 0
    assert capfdbinary.readouterr().out == os.fsencode(in_pipe)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert args.run(args) == 0
    assert capfdbinary.readouterr().out == os.fsencode(on_terminal)


def test_text_for_people_is_never_quoted(say: Callable[..., Said], any_redis_url: str) -> None:
    for words in (["info", "server"], ["CLIENT", "list"]):
        exit_code, out, _ = say("-u", any_redis_url, *words, terminal=True)
        assert exit_code == 0
        assert out.startswith(("# Server", "id="))


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="compares with redis-cli, which is not installed")
@pytest.mark.parametrize(
    "words",
    [
        ["HGETALL", "{key}:hash"],
        ["GET", "{key}:odd"],
        ["GET", "{key}:absent"],
        ["XRANGE", "{key}:stream", "-", "+"],
        ["XINFO", "STREAM", "{key}:stream", "FULL"],
        ["EVAL", "return {1, {2, {}, {3, 'x', redis.status_reply('FINE')}}, redis.error_reply('BAD thing')}", "0"],
        ["COMMAND", "INFO", "get", "nonsense"],
        ["PING"],
        ["MEMORY", "DOCTOR"],
    ],
    ids=lambda words: " ".join(words)[:40],
)
@pytest.mark.parametrize("form", ["--no-raw", "--raw"])
def test_it_prints_what_redis_cli_prints(
    form: str,
    words: list[str],
    any_redis_url: str,
    filled: object,
    key: str,
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [word.format(key=key) if "{key}" in word else word for word in words]
    theirs = subprocess.run(["redis-cli", "-u", any_redis_url, form, *words], capture_output=True, check=True).stdout
    monkeypatch.setattr(sys.stdout, "isatty", lambda: form == "--no-raw")
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    args = parser.parse_args(["redis", "-u", any_redis_url, *words])
    args.run(args)
    assert capfdbinary.readouterr().out == theirs


def test_on_a_real_terminal_it_is_numbered(any_redis_url: str, filled: object, key: str) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", PROGRAM, "redis", "-u", any_redis_url, "HKEYS", f"{key}:hash"]
    try:
        subprocess.run(command, env=program_environment(), stdout=theirs, check=True)
        os.close(theirs)
        assert os.read(ours, 4096) == b'1) "BTCUSDT:BOTH.positionAmt"\r\n2) "_count"\r\n'
    finally:
        os.close(ours)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_seen_enough_gets_no_traceback(redis_url: str, key: str, unbuffered: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set(key, b"x" * 1_000_000)
    environment = program_environment() | {"PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-c", PROGRAM, "redis", "-u", redis_url, "GET", key]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


class TestChoosingTheServer:
    def test_the_environment_names_it(
        self, say: Callable[..., Said], redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STATECAST_REDIS_URL", redis_url)
        assert say("PING") == (0, "PONG\n", "")

    def test_the_option_comes_before_the_environment(
        self, say: Callable[..., Said], redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STATECAST_REDIS_URL", "redis://127.0.0.1:1/0")
        assert say("-u", redis_url, "PING") == (0, "PONG\n", "")

    def test_a_file_of_settings_beside_names_it_as_for_all_commands(
        self, say: Callable[..., Said], redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / ".env").write_text(f"STATECAST_REDIS_URL={redis_url}\n")
        monkeypatch.chdir(tmp_path)
        assert say("PING") == (0, "PONG\n", "")

    def test_the_database_of_the_url_is_used(self, say: Callable[..., Said], redis_url: str, key: str) -> None:
        assert say("-u", redis_url.replace("/0", "/3"), "SET", key, "three")[0] == 0
        assert say("-u", redis_url, "GET", key) == (0, "\n", "")
        assert say("-u", redis_url.replace("/0", "/3"), "GET", key) == (0, "three\n", "")

    def test_a_newer_protocol_in_the_url_changes_no_output(self, say: Callable[..., Said], redis_url: str) -> None:
        assert say("-u", f"{redis_url}?protocol=3", "CONFIG", "GET", "port")[1].startswith("port\n")

    def test_embedded_is_somebody_elses(self, say: Callable[..., Said]) -> None:
        exit_code, out, error = say("-u", "embedded", "PING")
        assert (exit_code, out, error.count("\n")) == (2, "", 1)
        assert "private server of the program that started it; give the URL that this program printed" in error

    @pytest.mark.parametrize(
        "url",
        [
            "http://:s3cret@127.0.0.1:6379/0",
            "redis://:s3cret/tail@127.0.0.1:6379/0",
            "redis://127.0.0.1:6379/0?s3cret=1",
            "redis://127.0.0.1:s3cret/0",
            "s3cret",
        ],
    )
    def test_a_url_that_cannot_work_is_not_repeated(self, url: str, say: Callable[..., Said]) -> None:
        exit_code, out, error = say("-u", url, "PING")
        assert (exit_code, out, error.count("\n")) == (2, "", 1)
        assert "accepted: redis://HOST:PORT/DB" in error
        assert "s3cret" not in error


class TestFailing:
    def test_an_error_reply_is_told_and_counts_as_failure(
        self, say: Callable[..., Said], filled: object, any_redis_url: str, key: str
    ) -> None:
        assert say("-u", any_redis_url, "GET", f"{key}:hash") == (
            1,
            "",
            "(error) WRONGTYPE Operation against a key holding the wrong kind of value\n",
        )

    def test_a_server_that_is_not_there_is_named(self, say: Callable[..., Said], own_redis: EmbeddedServer) -> None:
        own_redis.kill()
        exit_code, out, error = say("-u", own_redis.url.replace("//", "//:s3cret@"), "PING")
        assert (exit_code, out, error.count("\n")) == (1, "", 1)
        assert error.startswith(f"Redis at 127.0.0.1:{own_redis.port}: ")
        assert "refused" in error
        assert "s3cret" not in error

    def test_a_wrong_password_is_not_repeated(self, say: Callable[..., Said], own_redis: EmbeddedServer) -> None:
        with redis.Redis.from_url(own_redis.url) as client:
            client.config_set("requirepass", "right")
        assert say("-u", own_redis.url.replace("//", "//:right@"), "PING") == (0, "PONG\n", "")
        exit_code, out, error = say("-u", own_redis.url.replace("//", "//:s3cret@"), "PING")
        assert (exit_code, out, error.count("\n")) == (1, "", 1)
        assert "password" in error.lower()
        assert "s3cret" not in error
        assert say("-u", own_redis.url, "PING") == (1, "", "(error) NOAUTH Authentication required.\n")

    def test_tls_with_a_server_that_speaks_none_ends_in_time(self, say: Callable[..., Said], redis_url: str) -> None:
        exit_code, out, error = say("-u", redis_url.replace("redis:", "rediss:") + HASTY, "PING")
        assert (exit_code, out, error.count("\n")) == (1, "", 1)
        assert error.startswith("Redis at 127.0.0.1:")

    def test_a_command_may_block_for_longer_than_connecting_may_take(
        self, say: Callable[..., Said], redis_url: str, key: str
    ) -> None:
        assert say("-u", redis_url + HASTY, "BLPOP", key, "0.5") == (0, "\n", "")

    @pytest.mark.parametrize(
        ("answer", "complaint"),
        [
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak the Redis protocol"),
            (b"", "closed the connection"),
            (b"$10\r\nhalf", "closed the connection"),
        ],
    )
    def test_what_is_no_redis_is_told(self, answer: bytes, complaint: str, say: Callable[..., Said]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve() -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass

            thread = threading.Thread(target=serve)
            thread.start()
            exit_code, out, error = say("-u", f"redis://127.0.0.1:{listener.getsockname()[1]}/0", "PING")
            thread.join()
        assert (exit_code, out, error.count("\n")) == (1, "", 1)
        assert complaint in error


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_subscriber_prints_message_after_message(any_redis_url: str, key: str, unbuffered: str) -> None:
    environment = program_environment() | {"PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-c", PROGRAM, "redis", "-u", any_redis_url, "subscribe", key]
    with (
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
        redis.Redis.from_url(any_redis_url) as client,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        assert [process.stdout.readline() for _ in range(3)] == ["subscribe\n", f"{key}\n", "1\n"]
        for text in ("one", "two"):
            client.publish(key, text)
            assert [process.stdout.readline() for _ in range(3)] == ["message\n", f"{key}\n", f"{text}\n"]
        process.send_signal(2)
        assert process.stderr.read() == ""
        assert process.wait() == 130


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    with pytest.raises(SystemExit):
        parser.parse_args(["redis", "--help"])
    text = capsys.readouterr().out
    assert "statecast redis HGET 'statecast:{binance:main}:positions' BTCUSDT:BOTH.positionAmt" in text
    assert "STATECAST_REDIS_URL" in text
    assert settings.DEFAULT_REDIS_URL in text
