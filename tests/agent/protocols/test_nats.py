"""NATS: the INFO line proves a server, and a listener writes one that is as good."""

import json
from typing import Any

import pytest

from reachmap_agent.protocols import nats
from reachmap_shared.messages import CheckSpec
from reachmap_shared.vocabulary import AnsweredBy, Outcome, Transport


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b'INFO {"server_id":"X","version":"2.10.24"} \r\n', id="2.10"),
        pytest.param(b'INFO {"server_id":"X","version":"2.12.1"}\r\n', id="2.12"),
        pytest.param(b"INFO {" + b'"connect_urls":["10.0.0.1:4222"],' * 400 + b"}\r\n", id="long"),
        pytest.param(
            b"INFO {" + b'"connect_urls":["10.0.0.1:4222"],' * 900 + b"}\r\n", id="endless"
        ),
    ],
)
def test_an_info_line_is_a_server(wire: Any, line: bytes) -> None:
    """Of any release and cluster size; a very long one need not be read to its end."""
    chunks = [line[i : i + 1000] for i in range(0, len(line), 1000)]
    verdict = wire.feed(nats.check(wire.target()), chunks).result
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)


@pytest.mark.parametrize(
    "line", [b"INFO \r\n", b"INFO []\r\n", b"info {}\r\n", b"-ERR 'x'\r\n", b"PING\r\n"]
)
def test_another_line_is_none(wire: Any, line: bytes) -> None:
    """A client would not understand it either."""
    assert wire.feed(nats.check(wire.target()), [line]).result.outcome is Outcome.WRONG_SERVICE


def test_nothing_is_sent(wire: Any) -> None:
    """The server notes nobody who leaves after its INFO line."""
    assert wire.feed(nats.check(wire.target()), [b"INFO {}\r\n"]).sent == b""


def test_the_stand_in_s_line_is_one_that_clients_read(wire: Any) -> None:
    """INFO, one JSON object, line end, with the fields that the protocol asks for."""
    line = wire.feed(nats.stand_in(wire.offer())).sent
    assert line.startswith(b"INFO ") and line.endswith(b"\r\n") and line.count(b"\r\n") == 1
    info = json.loads(line.removeprefix(b"INFO "))
    assert info["server_id"] == "reachmap"
    assert {"server_name", "version", "proto", "headers", "max_payload"} <= set(info)


async def test_a_real_server_is_one(wire: Any, nats_server: Any) -> None:
    """Over a real socket, and it is none the worse for it."""
    spec = CheckSpec(
        "nats-1", "nats:4222", "127.0.0.1", nats_server.port, Transport.TCP, "nats", ""
    )
    seen = await wire.probe(spec, 5, host="db-1.example")
    assert (seen.outcome, seen.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
