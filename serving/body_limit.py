"""A limit on the size of a request, enforced while it is read."""

import asyncio
import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# How much of a body that is too large is read and thrown away, in limits: a list of a million ids
# still gets its answer.
DISCARDED_LIMITS = 32


class BodyLimit:
    """Refuses a request whose body is larger or slower than allowed, and never holds more of it.

    The body is counted while it arrives, so a wrong or absent Content-Length makes no difference.

    Args:
        app: What answers requests that pass.
        max_bytes: Largest body.
        seconds: Longest time a body may take to arrive.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, seconds: float = 30.0) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body of an HTTP request within the limits, then pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = bytearray()
        try:
            async with asyncio.timeout(self.seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    body += message.get("body", b"")
                    if len(body) > self.max_bytes:
                        if message.get("more_body", False):
                            await _discard(receive, DISCARDED_LIMITS * self.max_bytes)
                        await _refuse(
                            send,
                            413,
                            f"the request is larger than {self.max_bytes} "
                            "bytes; send fewer ids in history, deny, allow or boosts.",
                        )
                        return
                    more = message.get("more_body", False)
        except TimeoutError:
            await _refuse(
                send,
                408,
                f"the request took longer than {self.seconds:g} seconds to arrive; send it again.",
            )
            return
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        await self.app(scope, replay, send)


async def _discard(receive: Receive, limit: int) -> None:
    """Read and forget the rest of a body, up to so many bytes.

    A client that is still sending when the connection closes often loses the answer with it; this
    lets one that is somewhat too large finish first.
    """
    read, more = 0, True
    while more and read < limit:
        message = await receive()
        read += len(message.get("body", b""))
        more = message.get("more_body", False)


async def _refuse(send: Send, status: int, detail: str) -> None:
    """Answer with a JSON error and close."""
    content = json.dumps({"detail": detail}).encode("ascii")
    headers = [
        (b"content-type", b"application/json"),
        (b"connection", b"close"),
        (b"content-length", str(len(content)).encode("ascii")),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
