"""Settings as text, from options, the environment, `.env` and a TOML file, in this order.

One account's settings come from any of these; several accounts from `[[accounts]]` tables of the file, whose own
entries then stand in for the shared ones:

    redis_url = "redis://127.0.0.1:6379/0"

    [[accounts]]
    account = "main"
    api_key_file = "/run/secrets/main_key"
    api_secret_file = "/run/secrets/main_secret"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from statecast.errors import ConfigError
from statecast.secret import Secret

PREFIX = "STATECAST_"

CREDENTIALS = ("API_KEY", "API_SECRET", "API_PASSPHRASE")
"""What any venue may take; each may be given as the file that holds it."""

CREDENTIAL_NAMES = tuple(name + end for name in CREDENTIALS for end in ("", "_FILE"))

NAMES = (
    "REDIS_URL",
    "VENUE",
    "ACCOUNT",
    *CREDENTIAL_NAMES,
    "TESTNET",
    "REST_URL",
    "WS_URL",
    "MARKET_WS_URL",
    "RECONCILE_S",
    "LEASE_S",
    "SHARED_STREAM",
    "MARK_PRICE_INTERVAL_S",
    "DELETE_LISTEN_KEY",
    "BINANCE_PRIVATE_PATH",
    "EVENTS_RETENTION_S",
    "GROUP_EXPIRY_S",
    "MAX_AGE_S",
    "NOFX_MODE",
)
"""All settings, those of single venues included (`Venue.settings`)."""

SHARED = frozenset({"REDIS_URL"})
"""Settings of the program, not of one account."""

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"


@dataclass(frozen=True, slots=True)
class Settings:
    """What was set, by name without the prefix; what was not is absent. Empty text counts as not set."""

    values: Mapping[str, str]
    accounts: tuple[Mapping[str, str], ...]
    """One mapping per account, the shared values included; a single one without a file's `[[accounts]]`."""

    def get(self, name: str, default: str) -> str:
        assert name in NAMES
        return self.values.get(name, default)


def load(
    options: Mapping[str, str | None],
    environ: Mapping[str, str],
    config_file: Path | None = None,
    directory: Path | None = None,
) -> Settings:
    """Collect the settings; `options` go by the names in `NAMES`. `.env` is read from `directory`.

    Raises:
        ConfigError: the file cannot be read, or names a setting that does not exist.
    """
    shared, accounts = _file(config_file) if config_file is not None else ({}, [])
    dotenv = dotenv_values((directory or Path()) / ".env", interpolate=False)
    over: dict[str, str] = {}
    for name in NAMES:
        for source in (dotenv, environ):
            if text := source.get(PREFIX + name):
                over[name] = text
        if text := options.get(name):
            over[name] = text
    values = {**shared, **over}
    if not accounts:
        return Settings(values, (values,))
    if len(accounts) == 1:
        values |= accounts[0] | over
        return Settings(values, (values,))
    # What distinguishes several accounts of a file cannot be said once for all of them.
    return Settings(values, tuple({**shared, **account, **_shared_only(over)} for account in accounts))


def _shared_only(values: Mapping[str, str]) -> dict[str, str]:
    own = {"ACCOUNT", "VENUE", *CREDENTIAL_NAMES}
    return {name: value for name, value in values.items() if name not in own}


def _file(path: Path) -> tuple[dict[str, str], list[dict[str, str]]]:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError("--config", str(path), f"a TOML file that can be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("--config", str(path), f"a TOML file ({error})") from error
    accounts = document.pop("accounts", [])
    if not isinstance(accounts, list) or not all(isinstance(account, dict) for account in accounts):
        raise ConfigError("accounts", None, "one [[accounts]] table for each account")
    return _table(document, ""), [_table(account, "accounts.") for account in accounts]


def _table(table: Mapping[str, object], where: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for key, value in table.items():
        name = key.upper()
        if name not in NAMES or (where and name in SHARED):
            known = ", ".join(sorted(n.lower() for n in NAMES if not (where and n in SHARED)))
            raise ConfigError(f"the setting {where}{key}", "not known", f"one of {known}")
        if isinstance(value, bool):
            values[name] = "true" if value else "false"
        elif isinstance(value, (str, int, float)):
            values[name] = str(value)
        else:
            raise ConfigError(f"{where}{key}", "a table or list", "text, a number, true or false")
    return {name: value for name, value in values.items() if value}


def secret(values: Mapping[str, str], name: str) -> Secret | None:
    """A credential, given as such or as the file that holds it; None where it was not given.

    Raises:
        ConfigError: both were given, or the file cannot be read or is empty.
    """
    text, path = values.get(name), values.get(f"{name}_FILE")
    setting = f"{PREFIX}{name}_FILE"
    if path is None:
        return Secret(text) if text else None
    if text is not None:
        raise ConfigError(setting, path, f"one of {PREFIX}{name} and {setting}, not both")
    try:
        content = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(setting, path, "a text file that can be read") from error
    if not content:
        raise ConfigError(setting, path, "a file with the credential in it; this one is empty")
    return Secret(content)


def credentials(values: Mapping[str, str], names: Sequence[str]) -> tuple[Secret, ...] | None:
    """The credentials of these names; None where none of them is given.

    Raises ConfigError where one is given and another is not, and as `secret` does.
    """
    found = [secret(values, name) for name in names]
    if not any(found):
        return None
    for name, credential in zip(names, found, strict=True):
        if credential is None:
            raise missing(name)
    return tuple(credential for credential in found if credential is not None)


def missing(name: str) -> ConfigError:
    """The error for a credential that is needed and not there."""
    accepted = f"the {name.removeprefix('API_').lower()} of a reading-only API key, or {PREFIX}{name}_FILE"
    return ConfigError(f"{PREFIX}{name}", None, f"{accepted}; without keys, try `statecast demo`")


def flag(values: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """A setting that is on or off."""
    text = values.get(name, str(default)).lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise ConfigError(f"{PREFIX}{name}", text, "true or false")


def seconds(values: Mapping[str, str], name: str, default: float, least: float, most: float = 86_400) -> float:
    """A setting that is a duration."""
    text = values.get(name)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not least <= number <= most:
        raise ConfigError(f"{PREFIX}{name}", text, f"seconds, from {least:g} to {most:.0f}")
    return number
