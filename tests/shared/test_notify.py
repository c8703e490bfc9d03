"""What systemd hears: the right words on its socket, and nothing where there is none."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reachmap_shared.notify import Notifier


class Systemd:
    """The receiving end: a datagram socket, as systemd has it."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def heard(self) -> list[list[str]]:
        """Every message since the last call, each as its lines."""
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "notify")


@pytest.fixture
def systemd(path: str) -> Iterator[Systemd]:
    there = Systemd(path)
    yield there
    there.close()


def test_a_life_in_systemd_s_words(systemd: Systemd, path: str) -> None:
    """Ready, reloading with the time that Type=notify-reload wants, and stopping."""
    notifier = Notifier({"NOTIFY_SOCKET": path})
    notifier.ready()
    notifier.reloading()
    notifier.ready()
    notifier.stopping()
    ready, reloading, again, stopping = systemd.heard()
    assert ready == again == ["READY=1"]
    assert reloading[0] == "RELOADING=1"
    assert reloading[1].startswith("MONOTONIC_USEC=") and reloading[1][15:].isdigit()
    assert stopping == ["STOPPING=1"]


def test_a_status_is_told_when_it_is_news(systemd: Systemd, path: str) -> None:
    """`systemctl status` shows the last one; to say it again tells nobody anything."""
    notifier = Notifier({"NOTIFY_SOCKET": path})
    for status in ("one", "one", "two"):
        notifier.status(status)
    assert systemd.heard() == [["STATUS=one"], ["STATUS=two"]]


def test_an_abstract_socket_is_meant_by_an_at_sign() -> None:
    """Containers have one, and no file."""
    name = f"reachmap-test-{os.getpid()}"
    there = Systemd(f"\0{name}")
    try:
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert there.heard() == [["READY=1"]]
    finally:
        there.close()


async def test_signs_of_life_come_three_times_a_period(
    systemd: Systemd, path: str, eventually: Any
) -> None:
    """From the event loop itself, until it is cancelled."""
    watched = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000", "WATCHDOG_PID": str(os.getpid())}
    heard: list[list[str]] = []

    def signs() -> bool:
        heard.extend(systemd.heard())
        return heard.count(["WATCHDOG=1"]) >= 4

    async with asyncio.TaskGroup() as tasks:
        telling = tasks.create_task(Notifier(watched).keep_telling(lambda: "fine", 3600))
        await eventually(signs)
        telling.cancel()
    assert heard.count(["STATUS=fine"]) == 1


@pytest.mark.parametrize(
    "environment",
    [
        {"WATCHDOG_USEC": "30000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "nonsense"},
        {},
    ],
    ids=["meant for another process", "nonsense", "not watched"],
)
async def test_who_is_not_watched_gives_no_signs(
    systemd: Systemd, path: str, environment: dict[str, str], eventually: Any
) -> None:
    """The status is told all the same."""
    notifier = Notifier({"NOTIFY_SOCKET": path, **environment})
    texts = iter(("one", "two", "three"))
    heard: list[list[str]] = []

    def three() -> bool:
        heard.extend(systemd.heard())
        return len(heard) >= 3

    async with asyncio.TaskGroup() as tasks:
        telling = tasks.create_task(notifier.keep_telling(lambda: next(texts, "three"), 0.01))
        await eventually(three)
        telling.cancel()
    assert heard == [["STATUS=one"], ["STATUS=two"], ["STATUS=three"]]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
async def test_where_nobody_listens_nothing_happens(environment: dict[str, str]) -> None:
    """Run by hand, or with a socket that is gone: the work goes on."""
    notifier = Notifier(environment)
    notifier.ready()
    notifier.status("fine")
    notifier.stopping()
    if not environment:
        await notifier.keep_telling(lambda: "fine", 1)
