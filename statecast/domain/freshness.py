"""Stamps and "now" → whether the state may be acted on, and the reason. Pure; both times are by Redis's clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Verdict(NamedTuple):
    """Whether what Redis holds is fresh: one word, and why. Only `live` needs no mark on every line."""

    fresh: bool
    word: str
    why: str
    other_contract: bool = False

    def __str__(self) -> str:
        return f"{self.word}: {self.why}" if self.why else self.word

    @property
    def mark(self) -> str:
        """What stands at every line of a state that is not simply live."""
        return "" if self.word == "live" else self.word

    @property
    def never_published(self) -> bool:
        return self.word == "NEVER PUBLISHED"


def age_ms(status: Mapping[str, str], now_ms: int) -> int | None:
    """Milliseconds since the state was last verified; None for never.

    The one question of a reader: it does not stand still when the publisher is gone.
    """
    verified = status.get("verifiedAtMs")
    return now_ms - int(verified) if verified else None


def judge(
    status: Mapping[str, str],
    now_ms: int,
    max_age_ms: float,
    *,
    contract: str,
    asked: Sequence[str],
    missing: Sequence[str],
) -> Verdict:
    """Judge by the status and Redis's clock. `contract` is the version that the reader understands, `asked` the hashes
    that were looked for, `missing` those of them that are not there or not complete: what was never published, or not
    wholly, is unknown, which is not flat.
    """
    state, age = status.get("state"), age_ms(status, now_ms)
    if state is None and len(missing) == len(asked):
        return Verdict(False, "NEVER PUBLISHED", "no publisher has written this account; it is unknown, not flat")
    if state is None:
        return Verdict(False, "UNKNOWN", "the status is missing, so nothing else is verified")
    said = publisher_says(status)
    if (written := status.get("contract", contract)) != contract:
        return Verdict(False, "UNKNOWN", f"written in contract version {written}; this program reads {contract}", True)
    if missing:
        return Verdict(False, "UNKNOWN", f"no complete state ({', '.join(missing)} missing), not flat; {said}")
    if age is None:
        return Verdict(False, "STALE", f"never verified; {said}")
    if age < 0:
        return Verdict(False, "STALE", f"verified {-age / 1000:.1f} s in the future: Redis's clock was set back")
    verified = f"verified {age / 1000:.1f} s ago"
    if age > max_age_ms and state == "live":
        return Verdict(False, "STALE", f"last {verified}; the publisher said live and is gone or cut off since")
    if age > max_age_ms:
        return Verdict(False, "STALE", f"last {verified}; {said}")
    return (
        Verdict(True, "live", verified) if state == "live" else Verdict(True, state.upper(), f"last {verified}; {said}")
    )


def publisher_says(status: Mapping[str, str]) -> str:
    """The publisher's own word, with its reason."""
    reason = status.get("reason")
    return f"the publisher is {status.get('state')}" + (f" ({reason})" if reason else "")
