"""Where the bus is, and how a question gets there and back."""

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import pytest

from reachmap_collector.cli import options, servers
from reachmap_collector.cli.servers import NATS_VARIABLE
from reachmap_collector.demo.deployment import free_port
from reachmap_shared.bus import DEFAULT_URL


@pytest.fixture
def contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the nats command line keeps its contexts."""
    folder = tmp_path / "nats" / "context"
    folder.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return folder


@pytest.mark.parametrize(
    ("nats", "expected"),
    [
        (None, [DEFAULT_URL]),
        ("", [DEFAULT_URL]),
        ("nats://a:1", ["nats://a:1"]),
        ("nats://a:1, tls://b:2", ["nats://a:1", "tls://b:2"]),
    ],
)
def test_the_bus_is_where_nats_says(nats: str | None, expected: list[str]) -> None:
    """One server or several of a cluster; else on this host."""
    assert servers.urls(nats, None) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("nats://a:1", ["nats://a:1"]),
        ("nats://a:1,nats://b:2", ["nats://a:1", "nats://b:2"]),
        ("nats://a:1, nats://b:2", ["nats://a:1", "nats://b:2"]),
    ],
)
def test_a_context_of_the_nats_command_line_is_read(
    contexts: Path, url: str, expected: list[str]
) -> None:
    """The file that `nats context add` writes."""
    content = {"description": "ours", "url": url, "token": "", "user": "", "nsc": ""}
    (contexts / "home.json").write_text(json.dumps(content))
    assert servers.urls(None, "home") == expected


def test_contexts_are_in_the_home_folder_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As XDG has it."""
    folder = tmp_path / ".config" / "nats" / "context"
    folder.mkdir(parents=True)
    (folder / "home.json").write_text('{"url": "nats://a:1"}')
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert servers.urls(None, "home") == ["nats://a:1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no context 'home': "),
        ("{}", "context 'home' names no server: "),
        ('{"url": ""}', "context 'home' names no server: "),
        ('{"url": null}', "context 'home' names no server: "),
        ("[]", "context 'home' names no server: "),
        ("not JSON", "context 'home' names no server: "),
        ("\ufffd", "context 'home' names no server: "),
    ],
)
def test_a_context_that_is_none_is_wrong_usage(
    contexts: Path, content: str | None, message: str
) -> None:
    """With the file that was looked for."""
    if content is not None:
        (contexts / "home.json").write_text(content)
    with pytest.raises(click.UsageError) as caught:
        servers.urls(None, "home")
    assert caught.value.message.startswith(message)
    assert str(contexts / "home.json") in caught.value.message


# Through a command, since who said what matters.


@pytest.fixture
def visited(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The servers that were connected to; whatever is asked there, no agent is known."""
    found: list[list[str]] = []

    class Connection:
        async def query(self, name: str, parameters: Mapping[str, Any]) -> Any:
            assert (name, dict(parameters)) == ("agents", {"after": None})
            return {"agents": []}

    @asynccontextmanager
    async def connected(urls: Sequence[str], _name: str) -> AsyncIterator[Connection]:
        found.append(list(urls))
        yield Connection()

    monkeypatch.setattr(options.bus, "connected", connected)
    return found


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ([], {}, DEFAULT_URL),
        (["--nats", "nats://a:1"], {}, "nats://a:1"),
        ([], {NATS_VARIABLE: "nats://b:2"}, "nats://b:2"),
        (["--nats", "nats://a:1"], {NATS_VARIABLE: "nats://b:2"}, "nats://a:1"),
        (["--context", "home"], {}, "nats://home:3"),
        (["--context", "home"], {NATS_VARIABLE: "nats://b:2"}, "nats://home:3"),
    ],
)
def test_what_is_typed_wins_over_the_environment(
    reachmap: Any,
    contexts: Path,
    visited: list[list[str]],
    arguments: list[str],
    environment: dict[str, str],
    expected: str,
) -> None:
    """A context too, since it was asked for by name."""
    (contexts / "home.json").write_text('{"url": "nats://home:3"}')
    result = reachmap("agents", *arguments, **environment)
    assert result.exit_code == 0
    assert visited == [[expected]]


@pytest.mark.parametrize("environment", [{}, {NATS_VARIABLE: "nats://b:2"}])
def test_two_answers_to_where_the_bus_is_are_one_too_many(
    reachmap: Any, contexts: Path, visited: list[list[str]], environment: dict[str, str]
) -> None:
    """Whatever the environment says besides."""
    (contexts / "home.json").write_text('{"url": "nats://home:3"}')
    result = reachmap("agents", "--nats", "nats://a:1", "--context", "home", **environment)
    assert result.exit_code == 2
    assert "--nats and --context both say where the bus is: give one" in result.stderr
    assert visited == []


@pytest.mark.parametrize(
    "command", [["agents"], ["map"], ["flows"], ["explain", "a", "b"], ["topology", "show"]]
)
def test_a_collector_that_is_away_is_told_soon(reachmap: Any, command: list[str]) -> None:
    """In less than five seconds, with what to check, and nothing that a program would read."""
    url = f"nats://127.0.0.1:{free_port('127.0.0.1')}"
    began = time.monotonic()
    result = reachmap(*command, "--nats", url, "--format", "json")
    assert time.monotonic() - began < 5
    assert (result.exit_code, result.stdout) == (3, "")
    first, second = result.stderr.splitlines()
    assert first.startswith(f"reachmap: no NATS server answers at {url}")
    assert "is the collector running" in second
    assert "--nats" in second and NATS_VARIABLE in second


def test_a_status_without_a_collector_is_unknown_soon(reachmap: Any) -> None:
    """A monitoring system waits for no more than it has to, and reads standard output."""
    url = f"nats://127.0.0.1:{free_port('127.0.0.1')}"
    began = time.monotonic()
    result = reachmap("status", "--nats", url)
    assert time.monotonic() - began < 5
    assert (result.exit_code, result.stderr) == (3, "")
    assert result.stdout.startswith(f"REACHMAP UNKNOWN - no NATS server answers at {url} (")
    assert result.stdout.count("\n") == 1


def test_a_bus_without_a_collector_is_told(reachmap: Any, nats_server: Any) -> None:
    """The server is there, and nobody behind it answers."""
    result = reachmap("agents", "--nats", nats_server.url)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("reachmap: no collector is on this bus\n")


def test_flows_are_asked_for_page_after_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over one connection, each page from where the last ended, with the same filters."""
    asked: list[Any] = []
    pages = [
        {"flows": [{"n": 1}, {"n": 2}], "next": ["x", 2], "total": 3, "rows": None},
        {"flows": [{"n": 3}], "next": None, "total": 3, "rows": None},
    ]

    class Connection:
        async def query(self, name: str, parameters: Mapping[str, Any]) -> Any:
            asked.append((name, json.loads(json.dumps(parameters))))
            return pages[len(asked) - 1]

    @asynccontextmanager
    async def connected(urls: Sequence[str], _name: str) -> AsyncIterator[Connection]:
        assert list(urls) == ["nats://a:1"]
        yield Connection()

    monkeypatch.setattr(options.bus, "connected", connected)
    found = options.ask_for_flows("nats://a:1", None, {"source": "pc-1", "state": None})
    assert found == {
        "flows": [{"n": 1}, {"n": 2}, {"n": 3}],
        "next": None,
        "total": 3,
        "rows": None,
    }
    filters = {"source": "pc-1", "state": None}
    assert asked == [
        ("flows", {"filters": filters, "details": False, "after": None}),
        ("flows", {"filters": filters, "details": False, "after": ["x", 2]}),
    ]


def test_agents_are_asked_for_page_after_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a collector that knows no pages gives all of them at once."""
    asked: list[Any] = []
    pages = [{"agents": [1, 2], "next": "b"}, {"agents": [3]}]

    class Connection:
        async def query(self, name: str, parameters: Mapping[str, Any]) -> Any:
            asked.append((name, dict(parameters)))
            return pages[len(asked) - 1]

    @asynccontextmanager
    async def connected(_urls: Sequence[str], _name: str) -> AsyncIterator[Connection]:
        yield Connection()

    monkeypatch.setattr(options.bus, "connected", connected)
    assert options.ask_for_agents("nats://a:1", None) == [1, 2, 3]
    assert asked == [("agents", {"after": None}), ("agents", {"after": "b"})]
