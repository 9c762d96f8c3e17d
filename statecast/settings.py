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
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dotenv import dotenv_values

from statecast.errors import ConfigError
from statecast.secret import Secret

PREFIX = "STATECAST_"

COMMON = (
    "REDIS_URL",
    "VENUE",
    "ACCOUNT",
    "RECONCILE_S",
    "LEASE_S",
    "SHARED_STREAM",
    "MARK_PRICE_INTERVAL_S",
    "EVENTS_RETENTION_S",
    "GROUP_EXPIRY_S",
    "MAX_AGE_S",
    "NOFX_MODE",
)
"""Settings that do not depend on the venue."""

SHARED = frozenset({"REDIS_URL"})
"""Settings of the program, not of one account."""

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"


class Names(NamedTuple):
    """What may be set as well as `COMMON`: the settings and the credentials of venues (`venues.registry.names`)."""

    venues: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    """Each may be given as the file that holds it."""

    @property
    def of_credentials(self) -> tuple[str, ...]:
        """The settings that hold a credential, or the name of its file."""
        return tuple(name + end for name in self.credentials for end in ("", "_FILE"))

    @property
    def all(self) -> tuple[str, ...]:
        """Everything that may be set."""
        return (*COMMON, *self.of_credentials, *self.venues)


@dataclass(frozen=True, slots=True)
class Settings:
    """What was set, by name without the prefix; what was not is absent. Empty text counts as not set."""

    values: Mapping[str, str]
    accounts: tuple[Mapping[str, str], ...]
    """One mapping per account, the shared values included; a single one without a file's `[[accounts]]`."""

    def get(self, name: str, default: str) -> str:
        """A common setting."""
        assert name in COMMON
        return self.values.get(name, default)


def load(
    names: Names,
    options: Mapping[str, str | None],
    environ: Mapping[str, str],
    config_file: Path | None = None,
    directory: Path | None = None,
) -> Settings:
    """Collect the settings; `options` go by these names. `.env` is read from `directory`.

    Raises:
        ConfigError: the file cannot be read, or names a setting that does not exist.
    """
    shared, accounts = _file(config_file, names.all) if config_file is not None else ({}, [])
    dotenv = dotenv_values((directory or Path()) / ".env", interpolate=False)
    over = _joined(
        names,
        {name: text for name in names.all if (text := dotenv.get(PREFIX + name))},
        {name: text for name in names.all if (text := environ.get(PREFIX + name))},
        {name: text for name in names.all if (text := options.get(name))},
    )
    if len(accounts) <= 1:
        values = _joined(names, shared, *accounts, over)
        return Settings(values, (values,))
    # What distinguishes several accounts of a file cannot be said once for all of them.
    own = {"ACCOUNT", "VENUE", *names.of_credentials}
    for_all = {name: value for name, value in over.items() if name not in own}
    return Settings(
        _joined(names, shared, over), tuple(_joined(names, shared, account, for_all) for account in accounts)
    )


def _joined(names: Names, *sources: Mapping[str, str]) -> dict[str, str]:
    """The later source counts. A credential is one setting in two forms: where a source has one of them, what earlier
    ones have of it in the other form does not count either."""
    values: dict[str, str] = {}
    for source in sources:
        for name in names.credentials:
            forms = name, f"{name}_FILE"
            if any(form in source for form in forms):
                for form in forms:
                    values.pop(form, None)
        values |= source
    return values


def _file(path: Path, names: Collection[str]) -> tuple[dict[str, str], list[dict[str, str]]]:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError("--config", str(path), f"a TOML file that can be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("--config", str(path), f"a TOML file ({error})") from error
    accounts = document.pop("accounts", [])
    if not isinstance(accounts, list) or not all(isinstance(account, dict) for account in accounts):
        raise ConfigError("accounts", None, "one [[accounts]] table for each account")
    of_account = [name for name in names if name not in SHARED]
    return _table(document, "", names), [_table(account, "accounts.", of_account) for account in accounts]


def _table(table: Mapping[str, object], where: str, names: Collection[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for key, value in table.items():
        name = key.upper()
        if name not in names:
            known = ", ".join(sorted(name.lower() for name in names))
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
        ConfigError: one source gave both, or the file cannot be read or is empty.
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


def credentials(values: Mapping[str, str], wanted: Mapping[str, str]) -> tuple[Secret, ...] | None:
    """The credentials of these names, which go with what they are; None where none of them is given.

    Raises ConfigError where one is given and another is not, and as `secret` does.
    """
    found = [secret(values, name) for name in wanted]
    if not any(found):
        return None
    for (name, what), credential in zip(wanted.items(), found, strict=True):
        if credential is None:
            raise missing(name, what)
    return tuple(credential for credential in found if credential is not None)


def missing(name: str, what: str) -> ConfigError:
    """The error for a credential that is needed and not there; `what` it is, in words."""
    accepted = f"{what}, or {PREFIX}{name}_FILE; without keys, try `statecast demo`"
    return ConfigError(f"{PREFIX}{name}", None, accepted)


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
