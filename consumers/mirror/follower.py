"""Joins the account, follows its commits, and checks once a second whether the copy is complete and how old it is."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from consumers.mirror.view import Copy, Names, Rejoin, View, what_is_missing
from statecast.clock import Clock
from statecast.errors import ContractMismatch, StoreError
from statecast.store.client import Client
from statecast.store.feed import Change, read_changes, wait_for_changes
from statecast.store.keys import AccountId
from statecast.store.reader import read_account

LOG = logging.getLogger("statecast.consumers")

CHECK_S = 1.0
"""How often Redis is asked how old the state is: as often as the publisher verifies it."""

MAX_PAUSE_S = 1.0
"""Between two attempts to reach Redis; the first comes after a twentieth of it."""

REJOINS_KEPT = 100


class OnView(Protocol):
    def __call__(self, before: View, after: View, names: Names | None, rejoins: tuple[Rejoin, ...]) -> None:
        """The view was replaced. `names` are the entities that a commit, or joining, changed; None if neither was."""


class Follower:
    """Keeps the copy of one account current. `join` once, then `run`."""

    def __init__(
        self, client: Client, account_id: AccountId, clock: Clock, *, check_s: float, refusal: str, on_view: OnView
    ) -> None:
        """`check_s` is how often to check, `refusal` why the copy cannot be read before it has joined."""
        self.view = View(refusal=refusal)
        """The copy as it may be read, from any thread."""
        self.trouble = ""
        """What hinders reading on; empty while nothing does."""
        self.rejoins: deque[Rejoin] = deque(maxlen=REJOINS_KEPT)
        self._client = client
        self._account_id = account_id
        self._clock = clock
        self._check_s = check_s
        self._on_view = on_view
        self._texts = Copy().texts
        self._last_id = "0-0"
        self._next_check_mono_s = -math.inf

    async def join(self) -> None:
        """Read the account, and from where to follow it.

        Raises:
            StoreUnreachable, StoreRefused: Redis does not answer, or refuses.
        """
        asked_mono_s = self._clock.monotonic()
        stored = await read_account(self._client, self._account_id, last_change=True)
        before = Copy(self.view, self._texts)
        after = before.joined(self._account_id, stored)
        self._last_id = stored.last_change
        self._next_check_mono_s = asked_mono_s + self._check_s
        rejoins: tuple[Rejoin, ...] = ()
        if before.view.incomplete:
            rejoins = (Rejoin(before.view.seq, int(stored.status.get("seq", 0)), before.view.incomplete),)
            self.rejoins += rejoins
            LOG.warning("the mirror of %s read the account again: %s", self._account_id, before.view.incomplete)
        self._texts = after.texts
        self._show(after.view.verified(stored.status, stored.now_ms, asked_mono_s), before.differing(after), rejoins)

    async def run(self) -> None:
        """Keep the copy current, until cancelled."""
        pause_s = MAX_PAUSE_S / 20
        while True:
            try:
                await self._step()
            except ContractMismatch as error:
                self._must_read_again(str(error))
            except StoreError as error:
                self._note_trouble(str(error))
            except Exception as error:  # the outermost loop: the copy is in doubt, and is read again
                LOG.exception("the mirror of %s made a mistake", self._account_id)
                self._must_read_again(f"a mistake of this program: {type(error).__name__}")
            else:
                self._note_trouble("")
                pause_s = MAX_PAUSE_S / 20
                continue
            self._next_check_mono_s = -math.inf
            await self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    def refuse(self, reason: str) -> None:
        """The mirror does not run: the copy cannot be read any more."""
        self._show(self.view.refused(reason))

    async def _step(self) -> None:
        wait_s = self._next_check_mono_s - self._clock.monotonic()
        if self.view.incomplete:
            await self.join()
        elif not self.view.followable:
            await self._clock.sleep(wait_s)
            await self.join()
        elif wait_s > 0:
            block_ms = math.ceil(min(wait_s, CHECK_S) * 1000)
            self._apply(await wait_for_changes(self._client, self._account_id, self._last_id, block_ms=block_ms))
        else:
            await self._check()

    async def _check(self) -> None:
        """Ask whether the copy is complete, and how old it is."""
        asked_mono_s = self._clock.monotonic()
        page = await read_changes(self._client, self._account_id, self._last_id)
        self._apply(page.changes)
        if self.view.incomplete or not page.complete:
            return
        if reason := what_is_missing(self.view, page.status):
            self._must_read_again(reason)
            return
        self._show(self.view.verified(page.status, page.now_ms, asked_mono_s))
        self._next_check_mono_s = asked_mono_s + self._check_s

    def _apply(self, changes: Iterable[Change]) -> None:
        """Apply commits, up to the first that does not fit."""
        for change in changes:
            try:
                after, names = Copy(self.view, self._texts).applied(change)
            except ValueError as error:
                self._must_read_again(str(error))
                return
            self._last_id = change.entry_id
            self._texts = after.texts
            self._show(after.view, names)

    def _note_trouble(self, trouble: str) -> None:
        """Log once that reading on is hindered, and once that it is not any more."""
        if trouble and not self.trouble:
            LOG.warning("the mirror of %s cannot read on: %s", self._account_id, trouble)
        elif self.trouble and not trouble:
            LOG.info("the mirror of %s reads on", self._account_id)
        self.trouble = trouble

    def _must_read_again(self, reason: str) -> None:
        self._show(self.view.as_incomplete(reason))

    def _show(self, view: View, names: Names | None = None, rejoins: tuple[Rejoin, ...] = ()) -> None:
        before, self.view = self.view, view
        self._on_view(before, view, names, rejoins)
