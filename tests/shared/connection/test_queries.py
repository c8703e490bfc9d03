"""Questions to the collector: answered in JSON, or refused with a code, or nobody is there."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client

from reachmap_shared import bus, subjects
from reachmap_shared.errors import BusUnavailable, QueryRefused


async def _echo(parameters: dict[str, Any]) -> Any:
    return parameters


async def _refuse(_parameters: dict[str, Any]) -> Any:
    raise QueryRefused("404", "no such host\r\nwas found, é")


async def _fail(_parameters: dict[str, Any]) -> Any:
    raise ValueError("a secret detail")


async def _odd(_parameters: dict[str, Any]) -> Any:
    return {"not": object()}


async def _huge(_parameters: dict[str, Any]) -> Any:
    return "x" * (2 << 20)


async def _sleep(_parameters: dict[str, Any]) -> Any:
    await asyncio.sleep(60)


QUERIES = {
    "echo": _echo,
    "refuse": _refuse,
    "fail": _fail,
    "odd": _odd,
    "huge": _huge,
    "sleep": _sleep,
}


@pytest.fixture
async def service(nats_server: Any) -> AsyncIterator[str]:
    """The URL of a bus on which somebody answers queries."""
    async with bus.staying([nats_server.url], "service") as connection:
        await connection.serve_queries(QUERIES)
        yield nats_server.url


async def test_a_query_comes_back_with_its_answer(service: str) -> None:
    """JSON in, JSON out, whatever it holds."""
    parameters = {"text": "é\n\0", "list": [1, 2.5, None, True], "deep": {"er": {}}}
    async with bus.connected([service], "test") as connection:
        assert await connection.query("echo", parameters) == parameters
        assert await connection.query("echo", {}) == {}


@pytest.mark.parametrize(
    ("name", "code", "description"),
    [
        pytest.param("refuse", "404", "no such host", id="refused"),
        pytest.param("fail", "500", "the query fail failed in the collector", id="failed"),
        pytest.param("odd", "500", "the query odd failed in the collector", id="no JSON"),
        pytest.param("huge", "500", "", id="too large"),
    ],
)
async def test_an_error_comes_back_with_its_code(
    service: str, name: str, code: str, description: str
) -> None:
    """The asker learns at once whose fault it is; details of a failure stay in the log."""
    async with bus.connected([service], "test") as connection:
        with pytest.raises(QueryRefused) as caught:
            await connection.query(name, {})
        assert caught.value.code == code
        assert str(caught.value).startswith(description)
        assert "secret" not in str(caught.value)
        assert await connection.query("echo", {"still": "there"}) == {"still": "there"}


@pytest.mark.parametrize(
    "payload", [b"[]", b"7", b"null", b"{", b"\xff", b"{}{}", b"[" * 100_000, b'{"a": 1e999'],
    ids=lambda payload: repr(payload[:10]),
)  # fmt: skip
async def test_what_is_no_json_object_is_a_wrong_question(
    service: str, other: Client, payload: bytes
) -> None:
    """Code 400, and the service goes on."""
    assert service
    reply = await other.request(subjects.query("echo"), payload, timeout=5)
    assert reply.headers is not None
    assert reply.headers["Nats-Service-Error-Code"] == "400"
    assert "JSON object" in reply.headers["Nats-Service-Error"]


async def test_no_parameters_are_as_good_as_none(service: str, other: Client) -> None:
    """`nats request reachmap.query.status ''` works."""
    assert service
    reply = await other.request(subjects.query("echo"), b"", timeout=5)
    assert json.loads(reply.data) == {}


async def test_nats_micro_sees_the_service(service: str, other: Client) -> None:
    """`nats micro info reachmap` shows it with all its queries (ADR-32)."""
    assert service
    reply = await other.request(f"$SRV.INFO.{subjects.QUERY_SERVICE}", b"", timeout=5)
    info = json.loads(reply.data)
    assert {endpoint["subject"] for endpoint in info["endpoints"]} == {
        subjects.query(name) for name in QUERIES
    }


async def test_without_a_collector_a_query_fails_at_once(nats_server: Any) -> None:
    """The server knows that nobody listens; nobody waits for a timeout."""
    async with bus.connected([nats_server.url], "test") as connection:
        started = time.monotonic()
        with pytest.raises(BusUnavailable, match="no collector is on this bus"):
            await connection.query("status", {}, timeout_s=60)
        assert time.monotonic() - started < 10


async def test_a_collector_that_does_not_answer_is_not_waited_for(service: str) -> None:
    """The asker gives up in the time it said."""
    async with bus.connected([service], "test") as connection:
        with pytest.raises(BusUnavailable, match=r"did not answer in 0\.1 s"):
            await connection.query("sleep", {}, timeout_s=0.1)
