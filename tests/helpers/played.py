"""What a test plays itself on the bus: a server, word by word, one who listens, one who answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


@asynccontextmanager
async def playing(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A server that the test plays itself, at the URL given; it ends with its last connection."""
    connections: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            await handler(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.wait_for(asyncio.gather(*filter(None, connections)), 15)


INFO = b'INFO {"server_id":"x","version":"2.10.0","max_payload":1048576}\r\n'
"""The first word of a server that the test plays itself."""


class Inbox:
    """A handler that keeps what it was given."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []

    async def __call__(self, subject: str, payload: bytes) -> None:
        self.messages.append((subject, payload))


async def shout(_subject: str, payload: bytes) -> bytes:
    """A handler that answers, and is heard."""
    return payload.upper()
