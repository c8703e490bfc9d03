"""What is a URL of a NATS server, and which host it names."""

import pytest

from reachmap_shared.urls import host_of, is_nats_url


@pytest.mark.parametrize(
    ("url", "is_one"),
    [
        ("nats://a:1", True),
        ("tls://a", True),
        ("a", True),
        ("a:4222", True),
        ("nats://[fd00::5]:4222", True),
        ("nats://user:secret@a:1", True),
        ("", False),
        ("nats://", False),
        ("http://a:1", False),
        ("nats://a:0", False),
        ("nats://a:x", False),
        ("nats://a:70000", False),
        ("nats://[fd00::5", False),
        ("garbage:://x", False),
        ("a b", False),
        ("nats://a\n:1", False),
    ],
)
def test_what_a_nats_url_is(url: str, is_one: bool) -> None:
    """What the client can make sense of, and nothing that it would wait for in vain."""
    assert is_nats_url(url) == is_one


@pytest.mark.parametrize(
    ("url", "host"),
    [("nats://a:1", "a"), ("a:1", "a"), ("tls://me:secret@[fd00::5]:1", "fd00::5"), ("", None)],
)
def test_the_host_of_a_url(url: str, host: str | None) -> None:
    """Without port, brackets, user and password; with a scheme or not."""
    assert host_of(url) == host
