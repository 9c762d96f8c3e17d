"""A copy of an account in the process, kept current through the changes stream: reads cost no I/O.

The copy joins hashes and stream in one transaction, and applies each commit in order. About once a second it asks
Redis, in one transaction, for what is still missing, for the status and for the time: that proves that it holds
everything up to the status's commit, and how old the publisher's last word is. Between two answers it ages by the
monotonic clock, so that a mirror that receives nothing becomes stale by itself.

    account_mirror.py  AccountMirror, what users see
    follower.py        joins, follows and checks the copy
    view.py            the copy as of one commit, and what a commit makes of it. Pure
    last_changes.py    when each part of the account changed last. Pure
    callbacks.py       calls what users want called
"""

from consumers.mirror.account_mirror import AccountMirror, What
from consumers.mirror.callbacks import Callback
from consumers.mirror.view import Rejoin

__all__ = ["AccountMirror", "Callback", "Rejoin", "What"]
