"""The venue's answer against the state that the stream has built. Pure."""

from __future__ import annotations

from statecast.domain.changes import Refresh
from statecast.domain.fold import Account

GRACE_S = 5.0
"""So long, news may be on its way by one of the two before the other counts as wrong."""


def differences(account: Account, answer: Refresh) -> dict[str, str]:
    """What `answer` says otherwise than `account`, in words, by what the account says and since when.

    Compared are wallets, position amounts, and entry prices and isolated wallets where the venue's are younger. What
    the stream knows better is no difference. All else may be news on its way; but where the account still says the same
    after the grace, the stream has not told what it should have.
    """
    found: dict[str, str] = {}

    def note(what: str, ours: object, since_ms: int, theirs: object) -> None:
        found[f"{what} {ours} since {since_ms}"] = f"{what} {ours}, venue {theirs}"

    for balance in answer.balances:
        known = account.balances.get(balance.asset)
        if known is None:
            if balance.wallet_balance:
                note(f"{balance.asset} wallet balance", "unknown", 0, balance.wallet_balance)
        elif known.stamp.venue_time_ms <= balance.stamp.venue_time_ms:
            what, since_ms = f"{balance.asset} wallet balance", known.stamp.venue_time_ms
            if known.wallet_balance != balance.wallet_balance:
                note(what, known.wallet_balance, since_ms, balance.wallet_balance)
            elif known.cross_wallet_balance != balance.cross_wallet_balance:
                note(f"{what} (cross)", known.cross_wallet_balance, since_ms, balance.cross_wallet_balance)
    listed = {row.key: row for row in answer.positions}
    for key, row in account.positions.items():
        told = listed.get(key)
        what = f"{key.symbol} {key.position_side}"
        if told is None:
            note(what, row.position_amt, row.stamp.venue_time_ms, "none")
        elif told.position_amt != row.position_amt and row.stamp.venue_time_ms <= told.stamp.venue_time_ms:
            note(what, row.position_amt, row.stamp.venue_time_ms, told.position_amt)
        elif row.stamp.venue_time_ms < told.stamp.venue_time_ms:
            # The size is the same and the position is not: closed and opened again, or with other margin.
            for figure, our_own, the_venues in (
                ("entry price", row.entry_price, told.entry_price),
                ("isolated wallet", row.isolated_wallet, told.isolated_wallet),
            ):
                if our_own is not None and the_venues is not None and our_own != the_venues:
                    note(f"{what} {figure}", our_own, row.stamp.venue_time_ms, the_venues)
    for key, told in listed.items():
        if key not in account.positions:
            note(f"{key.symbol} {key.position_side}", "none", 0, told.position_amt)
    return found
