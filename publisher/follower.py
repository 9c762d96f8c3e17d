"""Follows one account, connection after connection: the private stream, REST next to it, and mark prices.

What a frame does is `publisher/intake.py`'s, the path to `live` is `publisher/sync.py`'s. Here is what a session is,
and what comes after one has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from publisher.connection import first_error
from publisher.intake import Intake
from publisher.lease import Lease
from publisher.logs import Log
from publisher.reconciler import Drift, Reconciler
from publisher.status import Status
from publisher.sync import Synchronizer
from publisher.tuning import Tuning
from publisher.user_stream import UserStream
from publisher.websocket import BACKOFF_S, Connector
from statecast.clock import Clock
from statecast.errors import AuthFailed, FrameError, RateLimited, VenueError
from statecast.venues.adapter import StreamEnded, Venue, VenueAccount

LOGGED_PAUSE_S = 2.0
"""A pause before the next connection is worth a line in the log if it is as long."""

KEY_CHECK_WITHIN_S = 3.0
"""For the question what the key may do, before a snapshot: a slow answer must not cost the snapshot."""


class Follower:
    """One account's sessions. `run` until cancelled."""

    def __init__(
        self,
        venue: Venue,
        account: VenueAccount,
        stream: UserStream,
        intake: Intake,
        sync: Synchronizer,
        reconciler: Reconciler,
        lease: Lease,
        status: Status,
        connector: Connector,
        clock: Clock,
        log: Log,
        tuning: Tuning,
        *,
        shared_stream: bool,
    ) -> None:
        self._venue = venue
        self._account = account
        self._stream = stream
        self._intake = intake
        self._sync = sync
        self._reconciler = reconciler
        self._lease = lease
        self._status = status
        self._connector = connector
        self._clock = clock
        self._log = log
        self._tuning = tuning
        self._shared_stream = shared_stream
        self._connected_mono_s: float | None = None
        """When this session's first stream was connected."""
        self._key_checked = False

    async def run(self) -> None:
        """Follow the account until cancelled: connect, and connect again."""
        if not self._shared_stream:
            await self._lease.acquired.wait()
        failures = 0
        while True:
            self._connected_mono_s = None
            pause_s = await self._session_and_pause_s()
            if self._was_steady():
                failures = 0
            pause_s = max(pause_s, self._connector.pause_s(failures))
            if pause_s >= LOGGED_PAUSE_S:
                self._log.info("connecting_again", in_s=round(pause_s, 1))
            await self._clock.sleep(pause_s)
            failures += 1

    async def _session_and_pause_s(self) -> float:
        """One session, and how long to wait after it at the least."""
        try:
            await _in_own_task(self._session())
        except Drift as drift:
            self._degrade(str(drift))
            # No good stream, however long it was: a difference that lasts must not be read again without end.
            self._connected_mono_s = None
        except StreamEnded as ended:
            self._degrade(str(ended))
        except AuthFailed as error:
            self._status.move("refused", f"{error}; {self._venue.advice(error)}")
            return self._tuning.refused_retry_s
        except RateLimited as error:
            self._degrade(str(error))
            return max(1.0, (error.retry_at_ms - self._account.clock.now_ms()) / 1000)
        except (VenueError, FrameError) as error:
            self._degrade(str(error))
        except Exception:  # noqa: BLE001 - the outermost loop: whatever it was, the state is in doubt, and we go on
            self._log.exception("unexpected")
            self._degrade("an error of this program, see its log")
            return BACKOFF_S[2]
        return 0.0

    def _degrade(self, reason: str) -> None:
        """Readers first: the state is in doubt from now on."""
        self._status.move("degrade", reason)

    def _was_steady(self) -> bool:
        return (
            self._connected_mono_s is not None
            and self._clock.monotonic() - self._connected_mono_s > self._tuning.steady_s
        )

    # One session

    async def _session(self) -> None:
        """Follow the stream until it has a gap, which an error says."""
        await self._check_key()
        self._sync.session_begins()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._stream.run(self._intake.take, self._connected))
                tasks.create_task(self._sync.run())
                tasks.create_task(self._reconciler.run())
        except BaseExceptionGroup as group:
            raise first_error(group) from None
        finally:
            self._sync.stream_ended(self._intake.last_event_ms)

    def _connected(self) -> None:
        self._status.stream_connected(self._clock.now_ms())
        self._intake.connected(self._stream.since_ms)
        if self._connected_mono_s is None:
            self._connected_mono_s = self._clock.monotonic()
        self._sync.stream_connected()

    async def _check_key(self) -> None:
        """A publisher needs to read and nothing else; a key that can do more is worth a line, once."""
        if self._key_checked:
            return
        try:
            async with asyncio.timeout(KEY_CHECK_WITHIN_S):
                report = await self._account.check_key()
        except AuthFailed:
            raise
        except (VenueError, FrameError, TimeoutError) as error:
            self._log.warning("permissions_unknown", reason=str(error) or "no answer in time")
            return
        self._key_checked = True
        if report is not None and report.may:
            self._log.warning(
                "key_can_do_too_much",
                may=list(report.may),
                advice="a publisher only reads: give it an API key with reading alone",
            )


async def _in_own_task(work: Coroutine[object, None, None]) -> None:
    """Await `work` in a task of its own. A task group that is ending by an error forgets a cancellation of the task
    that it is in, and passes no further one on: that must not be the task which goes on with something else."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait((task,))
    finally:
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
    if ended is not None:
        raise ended
