"""One call: what the receiving and the sending side know of its stream."""

import asyncio

from runtime.http2.headers import Head
from runtime.http2.inbox import Inbox
from runtime.steps import Steps


class Call:
    """A stream from its HEADERS until its handler has ended.

    Defaults stand on the class: most calls end without ever setting them.
    """

    #: All of the request has come.
    is_half_closed = False
    #: It is answered or reset; what a handler still says is dropped.
    is_closed = False
    has_begun = False
    #: What the peer lets us send beyond the initial window; negative when sent.
    credit = 0
    inbox: Inbox | None = None
    #: What its handler runs in, until it has ended.
    run: asyncio.Task[None] | Steps[bytes] | None = None
    #: Somebody waits for that.
    ended: asyncio.Future[None] | None = None
    #: By the loop's clock.
    deadline: float | None = None

    def __init__(self, stream_id: int, head: Head) -> None:
        self.id = stream_id
        self.head = head
