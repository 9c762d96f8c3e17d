"""What the server and the control API know of an exchange: the face that every venue's dialect has.

An exchange is a ledger behind a venue's own protocol, without the network. Time comes in as `now_ms`, chance is the
`Random` that it was made with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from statecast.simulator.events import Event, OrderChanged
from statecast.simulator.ledger import Ledger

if TYPE_CHECKING:
    from random import Random

Json = dict[str, Any]

ABNORMAL_CLOSURE = 1006
"""The close code of a connection that ends without a close frame; never sent (RFC 6455, 7.4.1)."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer to a REST call, to be given `delay_ms` late."""

    status: int
    headers: dict[str, str]
    body: bytes
    delay_ms: int = 0


class Stream(Protocol):
    """One websocket, without the socket."""

    @property
    def close_code(self) -> int:
        """When not zero, the owner closes the socket with it; `ABNORMAL_CLOSURE` drops the connection."""

    @property
    def next_due_ms(self) -> int | None:
        """When the next frame may be sent; `None` when none waits."""

    def on_wake(self, call: Callable[[], None]) -> None:
        """Have `call` made whenever a frame is put into the outbox or the socket is to be closed."""

    def take(self, now_ms: int) -> list[bytes]:
        """The frames that are due, in order; they leave the outbox."""

    def receive(self, text: str | bytes, now_ms: int) -> None:
        """The client sent a text frame."""

    def count_frame(self, now_ms: int) -> None:
        """The client sent a ping or a pong, which counts against its limit."""

    def close(self, code: int) -> None:
        """Ask the owner of the socket to close it."""


class Exchange(Protocol):
    """A venue's exchange with one account."""

    @property
    def ledger(self) -> Ledger: ...

    @property
    def rng(self) -> Random: ...

    @property
    def streams(self) -> Sequence[Stream]:
        """The websockets that are open."""

    def server_ms(self, now_ms: int) -> int:
        """The exchange's own clock, which a fault may have moved."""

    def request(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, now_ms: int
    ) -> Response:
        """Answer a REST call; `query` is the raw query string."""

    def connect(self, path: str, query: str, now_ms: int) -> Stream | Response:
        """Open a websocket; an HTTP answer instead when there is none to open."""

    def disconnect(self, stream: Any) -> None:
        """The socket of `stream`, which `connect` made, is gone."""

    def publish(self, events: Iterable[Event], now_ms: int) -> None:
        """Send what has happened on the ledger to everybody who follows the account."""

    def send_event(self, name: str, body: Json | None, now_ms: int) -> None:
        """Send a user frame that no ledger event makes; without a body the documented one, if there is one."""

    def move_marks(self, now_ms: int) -> None:
        """Let every mark price take a step, with all that follows on the ledger."""

    def publish_marks(self, now_ms: int) -> None:
        """Send a round of mark prices."""

    def tick(self, now_ms: int) -> None:
        """Do what falls due by itself."""

    def fault(self, name: str, args: Mapping[str, object], now_ms: int) -> None:
        """Switch a fault on; names and fields are in `faults`. Raises `FaultError`."""

    def order_event(self, event: OrderChanged) -> Json:
        """An order event as the venue's frame has it."""

    def activity(self) -> Json:
        """What clients did, for `GET /simulate/requests`."""
