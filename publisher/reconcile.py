"""The venue's answer against the state that the stream has built. Pure."""

from __future__ import annotations

from statecast.domain.changes import Refresh
from statecast.domain.fold import Account

GRACE_MS = 5_000
"""An answer may be this much behind the stream, or ahead of it, without either being wrong."""


def differences(account: Account, answer: Refresh) -> list[str]:
    """What `answer` says otherwise than `account`, and the stream can no longer explain, in words.

    Compared are wallets and position amounts. A row whose venue time is not the same in both is news on its way from
    one side or the other, not a difference; a position that only one side has counts once it is older than the grace.
    """
    found: list[str] = []
    for balance in answer.balances:
        known = account.balances.get(balance.asset)
        if known is None or known.stamp.venue_time_ms != balance.stamp.venue_time_ms:
            continue
        if known.wallet_balance != balance.wallet_balance:
            found.append(f"{balance.asset} wallet balance {known.wallet_balance}, venue {balance.wallet_balance}")
    listed = {row.key: row for row in answer.positions}
    for key, row in account.positions.items():
        told = listed.get(key)
        if told is None:
            if row.stamp.venue_time_ms < answer.taken_ms - GRACE_MS:
                found.append(f"{key.symbol} {key.position_side} {row.position_amt}, venue none")
        elif told.stamp.venue_time_ms == row.stamp.venue_time_ms and told.position_amt != row.position_amt:
            found.append(f"{key.symbol} {key.position_side} {row.position_amt}, venue {told.position_amt}")
    for key, told in listed.items():
        if key not in account.positions and told.stamp.venue_time_ms < answer.taken_ms - GRACE_MS:
            found.append(f"{key.symbol} {key.position_side} none, venue {told.position_amt}")
    return found
