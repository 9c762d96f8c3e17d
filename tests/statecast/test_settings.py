from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from statecast.errors import ConfigError
from statecast.settings import (
    DEFAULT_REDIS_URL,
    Names,
    Settings,
    credentials,
    flag,
    load,
    missing,
    seconds,
    secret,
)

NAMES = Names(("TESTNET", "REST_URL", "WS_URL", "DELETE_LISTEN_KEY"), ("API_KEY", "API_SECRET", "ADDRESS"))
"""What a few venues may have."""


def loaded(
    directory: Path,
    *,
    options: Mapping[str, str | None] | None = None,
    environ: Mapping[str, str] | None = None,
    dotenv: str = "",
    config: str | None = None,
) -> Settings:
    if dotenv:
        (directory / ".env").write_text(dotenv, "utf-8")
    path = None
    if config is not None:
        path = directory / "statecast.toml"
        path.write_text(config, "utf-8")
    return load(NAMES, options or {}, environ or {}, path, directory)


def expect_refused(directory: Path, config: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(directory, config=config)
    assert sentence in str(refused.value)


# Where a value comes from


def test_nothing_set_is_nothing_said(tmp_path: Path) -> None:
    found = loaded(tmp_path)
    assert found == Settings({}, ({},))
    assert found.get("REDIS_URL", DEFAULT_REDIS_URL) == "redis://127.0.0.1:6379/0"


def test_options_come_before_the_environment_before_dotenv_before_the_file(tmp_path: Path) -> None:
    where = ("VENUE", "ACCOUNT", "REST_URL", "WS_URL")
    found = loaded(
        tmp_path,
        config="".join(f'{name.lower()} = "file"\n' for name in where),
        dotenv="".join(f"STATECAST_{name}=dotenv\n" for name in where[:3]),
        environ={f"STATECAST_{name}": "environment" for name in where[:2]},
        options={"VENUE": "option", "ACCOUNT": None},
    )
    assert [found.values[name] for name in where] == ["option", "environment", "dotenv", "file"]
    assert found.accounts == (found.values,)


@pytest.mark.parametrize("name", NAMES.all)
def test_every_setting_can_be_set_in_every_way(tmp_path: Path, name: str) -> None:
    told = Settings({name: "x"}, ({name: "x"},))
    assert loaded(tmp_path, options={name: "x"}) == told
    assert loaded(tmp_path, environ={f"STATECAST_{name}": "x"}) == told
    assert loaded(tmp_path, config=f'{name.lower()} = "x"') == told
    assert loaded(tmp_path, dotenv=f"STATECAST_{name}=x") == told


KEY_FILE, KEY = {"API_KEY_FILE": "/a/file"}, {"API_KEY": "a key"}
"""A credential in its two forms."""


@pytest.mark.parametrize(("under", "over"), [(KEY_FILE, KEY), (KEY, KEY_FILE)], ids=["key over file", "file over key"])
def test_a_credential_counts_in_the_form_that_the_first_source_gives(
    tmp_path: Path, under: Mapping[str, str], over: Mapping[str, str]
) -> None:
    def lines(prefix: str, values: Mapping[str, str]) -> str:
        return "".join(f'{prefix}{name if prefix else name.lower()} = "{value}"\n' for name, value in values.items())

    def environ(values: Mapping[str, str]) -> dict[str, str]:
        return {f"STATECAST_{name}": value for name, value in values.items()}

    assert loaded(tmp_path, config=lines("", under), environ=environ(over)).values == over
    assert loaded(tmp_path, config="[[accounts]]\n" + lines("", under), environ=environ(over)).values == over
    assert loaded(tmp_path, environ=environ(under), options=over).values == over
    both = loaded(tmp_path, config=lines("", under) + "[[accounts]]\n[[accounts]]\n" + lines("", over))
    assert both.accounts == (under, over), "an account's own over the shared ones"
    assert loaded(tmp_path, dotenv=lines("STATECAST_", under), environ=environ(over)).values == over


def test_one_source_that_gives_both_forms_of_a_credential_is_refused(tmp_path: Path) -> None:
    found = loaded(tmp_path, environ={"STATECAST_API_KEY": "a key", "STATECAST_API_KEY_FILE": "/a/file"})
    with pytest.raises(ConfigError, match="one of STATECAST_API_KEY and STATECAST_API_KEY_FILE, not both"):
        secret(found.values, "API_KEY")


def test_empty_text_counts_as_not_set(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        config='venue = "binance"\nws_url = ""',
        dotenv="STATECAST_VENUE=\n",
        environ={"STATECAST_VENUE": ""},
        options={"VENUE": ""},
    )
    assert found.values == {"VENUE": "binance"}


def test_other_variables_are_none_of_ours(tmp_path: Path) -> None:
    assert loaded(tmp_path, environ={"HOME": "/root", "VENUE": "okx", "STATECAST_UNKNOWN": "1"}).values == {}


def test_a_dollar_in_dotenv_is_a_dollar(tmp_path: Path) -> None:
    """A secret may hold one."""
    assert loaded(tmp_path, dotenv="STATECAST_API_SECRET='a${HOME}b$c'\n").values == {"API_SECRET": "a${HOME}b$c"}


def test_numbers_and_truth_of_the_file_become_text(tmp_path: Path) -> None:
    found = loaded(tmp_path, config="testnet = true\ndelete_listen_key = false\nreconcile_s = 30.5\naccount = 7")
    assert found.values == {"TESTNET": "true", "DELETE_LISTEN_KEY": "false", "RECONCILE_S": "30.5", "ACCOUNT": "7"}


# Several accounts


TWO = """
redis_url = "redis://file"
rest_url = "http://shared"
[[accounts]]
account = "main"
api_key = "k1"
[[accounts]]
account = "hedge"
api_key = "k2"
rest_url = "http://own"
"""


def test_each_account_of_the_file_has_its_own_values_over_the_shared_ones(tmp_path: Path) -> None:
    found = loaded(tmp_path, config=TWO)
    shared = {"REDIS_URL": "redis://file", "REST_URL": "http://shared"}
    assert found.values == shared
    assert found.accounts == (
        shared | {"ACCOUNT": "main", "API_KEY": "k1"},
        shared | {"ACCOUNT": "hedge", "API_KEY": "k2", "REST_URL": "http://own"},
    )


def test_what_tells_accounts_apart_cannot_be_said_for_all_of_them(tmp_path: Path) -> None:
    """One API_KEY in the environment must not become that of every account."""
    found = loaded(
        tmp_path,
        config=TWO,
        environ={"STATECAST_API_KEY": "wrong", "STATECAST_ACCOUNT": "wrong", "STATECAST_API_SECRET_FILE": "/wrong"},
        options={"TESTNET": "true", "REST_URL": "http://option"},
    )
    assert [account["API_KEY"] for account in found.accounts] == ["k1", "k2"]
    assert [account["ACCOUNT"] for account in found.accounts] == ["main", "hedge"]
    assert all("API_SECRET_FILE" not in account for account in found.accounts)
    assert {account["REST_URL"] for account in found.accounts} == {"http://option"}
    assert {account["TESTNET"] for account in found.accounts} == {"true"}


# Files that cannot work


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    absent = tmp_path / "missing.toml"
    with pytest.raises(ConfigError) as refused:
        load(NAMES, {}, {}, absent, tmp_path)
    assert str(refused.value) == (
        f"--config is {str(absent)!r}; accepted: a TOML file that can be read (No such file or directory)"
    )


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    expect_refused(tmp_path, "venue = binance", "accepted: a TOML file (Invalid value (at line 1, column 9))")
    broken = tmp_path / "broken.toml"
    broken.write_bytes(b"venue = '\xff'")
    with pytest.raises(ConfigError, match="a TOML file"):
        load(NAMES, {}, {}, broken, tmp_path)


def test_a_setting_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path) -> None:
    expect_refused(
        tmp_path, 'veneu = "binance"', "the setting veneu is 'not known'; accepted: one of account, address,"
    )
    expect_refused(
        tmp_path,
        '[[accounts]]\nnick = "x"',
        "the setting accounts.nick is 'not known'; accepted: one of account, address,",
    )


def test_one_account_cannot_have_a_redis_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, config='[[accounts]]\nredis_url = "redis://x"')
    assert str(refused.value).startswith("the setting accounts.redis_url")
    assert "redis_url," not in refused.value.accepted


def test_a_table_where_a_value_belongs_is_refused(tmp_path: Path) -> None:
    expect_refused(tmp_path, "[venue]\nname = 'binance'", "venue is 'a table or list'; accepted: text, a number")
    expect_refused(tmp_path, "accounts = 'main'", "accounts is not set; accepted: one [[accounts]] table for each")
    expect_refused(tmp_path, "accounts = ['main']", "accounts is not set; accepted: one [[accounts]] table for each")


# Credentials


def test_a_credential_is_given_as_such_or_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("  from-file\n", "utf-8")
    given = secret({"API_KEY": "as-such"}, "API_KEY")
    read = secret({"API_KEY_FILE": str(path)}, "API_KEY")
    assert given is not None
    assert read is not None
    assert (given.reveal(), read.reveal()) == ("as-such", "from-file")
    assert secret({}, "API_KEY") is None


def test_a_credential_given_twice_is_refused_without_showing_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        secret({"API_SECRET": "hunter2", "API_SECRET_FILE": str(tmp_path / "s")}, "API_SECRET")
    assert "one of STATECAST_API_SECRET and STATECAST_API_SECRET_FILE, not both" in str(refused.value)
    assert "hunter2" not in repr(refused.value)


@pytest.mark.parametrize(
    ("content", "accepted"),
    [
        (None, "a text file that can be read"),
        (b"\xff\xfe", "a text file that can be read"),
        (b" \n", "a file with the credential in it; this one is empty"),
    ],
)
def test_a_credential_file_that_cannot_work_is_named(tmp_path: Path, content: bytes | None, accepted: str) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        secret({"API_KEY_FILE": str(path)}, "API_KEY")
    assert str(refused.value) == f"STATECAST_API_KEY_FILE is {str(path)!r}; accepted: {accepted}"


def test_one_account_of_a_file_may_get_its_credentials_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "statecast.toml"
    file.write_text('[[accounts]]\naccount = "main"\nreconcile_s = 30\n')
    environ = {"STATECAST_API_KEY": "from-the-environment", "STATECAST_RECONCILE_S": "5"}
    loaded = load(NAMES, {}, environ, file, tmp_path)
    assert loaded.accounts == ({"ACCOUNT": "main", "RECONCILE_S": "5", "API_KEY": "from-the-environment"},)


def test_credentials_go_by_the_names_of_a_venue() -> None:
    wanted = {"ADDRESS": "the address of an account", "API_KEY": "a key"}
    assert credentials({}, wanted) is None
    given = credentials({"ADDRESS": "0x1", "API_KEY": "k", "API_SECRET": "of another venue"}, wanted)
    assert given is not None
    assert [one.reveal() for one in given] == ["0x1", "k"]
    with pytest.raises(ConfigError) as refused:
        credentials({"API_KEY": "k"}, wanted)
    assert str(refused.value) == str(missing("ADDRESS", "the address of an account"))
    assert str(refused.value) == (
        "STATECAST_ADDRESS is not set; accepted: the address of an account, or STATECAST_ADDRESS_FILE; "
        "without keys, try `statecast demo`"
    )


# Flags and durations


@pytest.mark.parametrize(
    ("text", "on"),
    [
        *((text, True) for text in ("true", "TRUE", "1", "yes", "on")),
        *((text, False) for text in ("false", "False", "0", "no", "OFF")),
    ],
)
def test_a_flag_is_on_or_off(text: str, on: bool) -> None:
    assert flag({"TESTNET": text}, "TESTNET") is on


def test_a_flag_that_was_not_given_is_off() -> None:
    assert flag({}, "TESTNET") is False


def test_a_flag_that_is_neither_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        flag({"TESTNET": "Perhaps"}, "TESTNET")
    assert str(refused.value) == "STATECAST_TESTNET is 'perhaps'; accepted: true or false"


@pytest.mark.parametrize(("text", "number"), [("2", 2.0), ("0.5", 0.5), ("1e2", 100.0), ("86400", 86_400.0)])
def test_a_duration_is_a_number_of_seconds(text: str, number: float) -> None:
    assert seconds({"MAX_AGE_S": text}, "MAX_AGE_S", 10.0, least=0.5) == number


def test_a_duration_that_was_not_given_is_the_default() -> None:
    assert seconds({}, "MAX_AGE_S", 10.0, least=0.5) == 10.0


@pytest.mark.parametrize("text", ["0.49", "-1", "nan", "inf", "86401", "10s", "ten"])
def test_a_duration_that_cannot_be_kept_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        seconds({"MAX_AGE_S": text}, "MAX_AGE_S", 10.0, least=0.5)
    assert str(refused.value) == f"STATECAST_MAX_AGE_S is '{text}'; accepted: seconds, from 0.5 to 86400"
