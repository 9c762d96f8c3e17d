"""Calls to Redis that are made until it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from publisher.logs import Log
from statecast.clock import Clock
from statecast.errors import StoreRefused, StoreUnreachable
from statecast.store.writer import Holder

T = TypeVar("T")


class RedisRetry:
    """Repeats calls of one account, and logs one line when Redis cannot be written and one when it can again."""

    def __init__(self, clock: Clock, log: Log) -> None:
        self._clock = clock
        self._log = log
        self._trouble = ""

    async def until_answered(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until Redis has answered; what is called must be harmless to repeat.

        Passes on LeaseLost, StoreDiverged and ContractMismatch, which repeating does not change.
        """
        result: T = await AsyncRetrying(
            sleep=self._clock.sleep,
            wait=wait_exponential(multiplier=0.05, max=1.0),
            retry=retry_if_exception_type((StoreUnreachable, StoreRefused)),
            before_sleep=self._failed,
        )(call)
        # Where another publisher holds the lease, this one cannot write yet.
        if self._trouble and not isinstance(result, Holder):
            self._log.info("can_write_again", after=self._trouble)
            self._trouble = ""
        return result

    def _failed(self, attempt: RetryCallState) -> None:
        assert attempt.outcome is not None
        trouble = str(attempt.outcome.exception())
        if trouble != self._trouble:
            self._log.warning("cannot_write", reason=trouble)
            self._trouble = trouble
