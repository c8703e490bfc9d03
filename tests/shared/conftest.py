"""Anybody else on the bus, and a place where there is none."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client


@pytest.fixture
def dead_url(port: int) -> str:
    """Where nothing listens."""
    return f"nats://127.0.0.1:{port}"


@pytest.fixture
async def other(nats_server: Any) -> AsyncIterator[Client]:
    """Anybody else on the bus, with no code of ours between."""
    client = Client()
    await client.connect(nats_server.url)
    yield client
    await client.close()
