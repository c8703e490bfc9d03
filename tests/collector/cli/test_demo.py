"""`reachmap demo`: how it is started, and how it ends."""

import asyncio
import os
import signal
from typing import Any

import pytest

from reachmap_collector.demo import story
from reachmap_collector.errors import ServerError


@pytest.mark.parametrize(("arguments", "keep"), [([], False), (["--keep"], True)])
def test_the_story_is_told(
    reachmap: Any, monkeypatch: pytest.MonkeyPatch, arguments: list[str], keep: bool
) -> None:
    """To its end, or until one has seen enough."""
    told: list[bool] = []

    async def tell(*, keep: bool) -> None:
        told.append(keep)

    monkeypatch.setattr(story, "tell", tell)
    assert reachmap("demo", *arguments).exit_code == 0
    assert told == [keep]


@pytest.mark.parametrize(("arguments", "code"), [([], 130), (["--keep"], 0)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_story_says_so(
    reachmap: Any, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, number: int
) -> None:
    """But one that is kept is meant to be ended so; either way it cleans up first."""
    ended: list[str] = []

    async def tell(*, keep: bool) -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.sleep(30)
        finally:
            ended.append("cleaned up")

    monkeypatch.setattr(story, "tell", tell)
    assert reachmap("demo", *arguments).exit_code == code
    assert ended == ["cleaned up"]


def test_a_demo_that_cannot_be_shown_says_why(
    reachmap: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a line."""

    async def tell(*, keep: bool) -> None:
        raise ServerError("the demo needs loopback addresses")

    monkeypatch.setattr(story, "tell", tell)
    result = reachmap("demo")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "reachmap: the demo needs loopback addresses\n"
