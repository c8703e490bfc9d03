"""A webhook: JSON, and signed by who has the key, with the moment."""

import time
from typing import Any

from reachmap_collector.alerts.outlets.webhook import signature


async def test_a_body_is_signed_with_its_moment(outlet: Any, server: Any, told: Any) -> None:
    """So that whoever receives it can tell an old one from a new one."""
    made = outlet(f'kind = "webhook"\nurl = "{server.url}"\nsecret_file = "key"', key="sesame")
    await made.send(told(), list)
    [request] = server.requests
    at = request.headers["reachmap-timestamp"]
    assert abs(time.time() - int(at)) < 10
    expected = signature("sesame", at, request.body)
    assert request.headers["reachmap-signature"] == f"sha256={expected}"
    assert request.json["summary"].startswith("web:443 is down")
    await made.close()


def test_the_signature_is_the_one_that_is_documented() -> None:
    """As any other program works it out: printf '1700000000.{}' | openssl dgst -sha256 -hmac k."""
    assert signature("k", "1700000000", b"{}") == (
        "c6ef4734033cee2367414a0939385eca0397754aa7a59716da7463a9298b5146"
    )


async def test_without_a_key_nothing_is_signed(outlet: Any, server: Any, told: Any) -> None:
    """And nothing says that it was."""
    made = outlet(f'kind = "webhook"\nurl = "{server.url}"')
    await made.send(told(), list)
    assert "reachmap-signature" not in server.requests[0].headers
    await made.close()
