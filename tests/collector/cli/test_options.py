"""Where the bus is, and how a question gets there and back."""

import json
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import pytest

from reachmap_collector.cli import access, options
from reachmap_collector.cli.access import NATS_VARIABLE
from reachmap_collector.demo.deployment import free_port
from reachmap_collector.identity.servers import Mode
from reachmap_collector.identity.store import Place, Store
from reachmap_collector.topology.load import parse_topology
from reachmap_collector.topology.rows import find_rows
from reachmap_shared.access import ANYBODY, Access
from reachmap_shared.urls import DEFAULT_URL


class Found:
    """A connection to a bus with a collector on it."""

    async def find_collector(self, _timeout_s: float) -> None:
        pass


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
    assert access.server(nats, None).urls == expected


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
    assert access.server(None, "home").urls == expected


@pytest.mark.parametrize(
    "command", [["flows"], ["watch"], ["export", "--format", "json"], ["explain", "a", "b"]]
)
def test_what_is_no_address_of_a_server_is_wrong_usage(
    reachmap: Any, contexts: Path, command: list[str]
) -> None:
    """Whoever said it: it is told with what one looks like, and no password."""
    (contexts / "home.json").write_text('{"url": "http://me:secret@c"}')
    for options_, environment, origin, shown in (
        (("--nats", "garbage:://x"), {}, "--nats", "garbage:://x"),
        (("--nats", "nats://a:1,b c"), {}, "--nats", "b c"),
        ((), {NATS_VARIABLE: "nats://me:secret@a:x"}, NATS_VARIABLE, "nats://a:x"),
        (("--context", "home"), {}, str(contexts / "home.json"), "http://c"),
    ):
        result = reachmap(*command, *options_, **environment)
        assert (result.exit_code, result.stdout) == (2, ""), options_
        said = result.stderr.splitlines()[-1]
        assert f"{origin}: '{shown}' is not a NATS URL such as {DEFAULT_URL}" in said
        assert "secret" not in result.stderr


def test_contexts_are_in_the_home_folder_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As XDG has it."""
    folder = tmp_path / ".config" / "nats" / "context"
    folder.mkdir(parents=True)
    (folder / "home.json").write_text('{"url": "nats://a:1"}')
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert access.server(None, "home").urls == ["nats://a:1"]


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
        access.server(None, "home")
    assert caught.value.message.startswith(message)
    assert str(contexts / "home.json") in caught.value.message


# Through a command, since who said what matters.


@pytest.fixture
def visited(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The servers that were connected to; whatever is asked there, no agent is known."""
    found: list[list[str]] = []

    class Connection(Found):
        async def query(self, name: str, parameters: Mapping[str, Any]) -> Any:
            assert (name, dict(parameters)) == ("agents", {"after": None})
            return {"agents": []}

    @asynccontextmanager
    async def connected(
        urls: Sequence[str], _name: str, _access: Access, _timeout_s: float
    ) -> AsyncIterator[Connection]:
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

    class Connection(Found):
        async def query(self, name: str, parameters: Mapping[str, Any]) -> Any:
            asked.append((name, json.loads(json.dumps(parameters))))
            return pages[len(asked) - 1]

    @asynccontextmanager
    async def connected(
        urls: Sequence[str], _name: str, _access: Access, _timeout_s: float
    ) -> AsyncIterator[Connection]:
        assert list(urls) == ["nats://a:1"]
        yield Connection()

    monkeypatch.setattr(options.bus, "connected", connected)
    found = options.ask_for_flows("nats://a:1", None, {"source": "pc-1", "state": None})
    assert found == {
        "flows": [{"n": 1}, {"n": 2}, {"n": 3}],
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

    class Connection(Found):
        async def query(self, name: str, parameters: Mapping[str, Any]) -> Any:
            asked.append((name, dict(parameters)))
            return pages[len(asked) - 1]

    @asynccontextmanager
    async def connected(
        _urls: Sequence[str], _name: str, _access: Access, _timeout_s: float
    ) -> AsyncIterator[Connection]:
        yield Connection()

    monkeypatch.setattr(options.bus, "connected", connected)
    assert options.ask_for_agents("nats://a:1", None) == [1, 2, 3]
    assert asked == [("agents", {"after": None}), ("agents", {"after": "b"})]


# How one connects.


def test_a_context_s_credentials_are_used(contexts: Path) -> None:
    """All that the nats command line knows, and what it does not know is passed over."""
    content = {
        "url": "tls://a:1",
        "creds": "~/a.creds",
        "nkey": "",
        "cert": "/c.pem",
        "key": "/k.pem",
        "ca": "/ca.pem",
        "user": "me",
        "password": "word",
        "token": "t",
        "inbox_prefix": "_INBOX.me",
        "nsc": "nsc://o/a/u",
        "jetstream_domain": 7,
    }
    (contexts / "home.json").write_text(json.dumps(content))
    assert access.server(None, "home").access == Access(
        credentials=Path.home() / "a.creds",
        certificate=Path("/c.pem"),
        key=Path("/k.pem"),
        ca=Path("/ca.pem"),
        user="me",
        password="word",
        token="t",
        inbox="_INBOX.me",
    )


def test_a_context_of_odd_values_is_wrong_usage(contexts: Path) -> None:
    """Named by the key."""
    (contexts / "home.json").write_text('{"url": "nats://a", "creds": 7}')
    with pytest.raises(click.UsageError, match="creds: expected a string"):
        access.server(None, "home")


@pytest.mark.parametrize(
    ("given", "folder"),
    [("/var/lib/a", "/var/lib/a"), ("/var/lib/a:/var/lib/b", "/var/lib/a"), ("", "/home/me/state")],
)
def test_a_service_keeps_its_state_where_systemd_says(
    given: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where root looks for it, and not in a home; others in theirs."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("STATE_DIRECTORY", given)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/me/state")
    assert access.default_data() == Path(folder, "" if given else "reachmap")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """What this user's collector keeps of its bus."""
    monkeypatch.setattr(access, "default_data", lambda: tmp_path)
    store = Store(tmp_path)
    store.prepare()
    store.place = Place(Mode.JWT, ("nats://127.0.0.1:4777",))
    return store


def test_the_collector_s_own_user_needs_to_say_nothing(own: Store) -> None:
    """The bus is found, and what to show to it."""
    found = access.server(None, None)
    assert found.urls == ["nats://127.0.0.1:4777"]
    assert found.access.credentials == own.folder / "operator.creds"
    assert access.server("nats://127.0.0.1:4777", None) == found


def test_what_is_kept_here_is_shown_to_no_other_server(own: Store) -> None:
    """Whoever runs that one could use it."""
    assert access.server("nats://elsewhere:4222", None).access == ANYBODY
    assert access.server("nats://127.0.0.1:4777,nats://b", None).access == ANYBODY


def test_options_and_environment_say_what_to_show(
    reachmap: Any, own: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a context, and before what is kept here."""
    shown: list[Access] = []

    class Connection(Found):
        async def query(self, _name: str, _parameters: Mapping[str, Any]) -> Any:
            return {"agents": []}

    @asynccontextmanager
    async def connected(
        _urls: Sequence[str], _name: str, access: Access, _timeout_s: float
    ) -> AsyncIterator[Connection]:
        shown.append(access)
        yield Connection()

    monkeypatch.setattr(options.bus, "connected", connected)
    assert reachmap("agents", "--creds", "a", "--ca", "b").exit_code == 0
    assert reachmap("agents", REACHMAP_NATS_CREDENTIALS="c").exit_code == 0
    assert reachmap("agents", "--certificate", "d", "--key", "e", "--nkey", "f").exit_code == 0
    assert reachmap("agents").exit_code == 0
    assert shown == [
        Access(credentials=Path("a"), ca=Path("b")),
        Access(credentials=Path("c")),
        Access(certificate=Path("d"), key=Path("e"), nkey=Path("f")),
        Access(credentials=own.folder / "operator.creds"),
    ]


def test_a_bus_that_does_not_let_one_in_is_told(
    reachmap: Any, nats_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to show instead, and not as a bus that is away."""
    monkeypatch.setattr(access, "default_data", lambda: tmp_path / "none")
    nats_server.stop()
    nats_server.configure('authorization { user: "a", password: "b" }')
    nats_server.start()
    result = reachmap("agents", "--nats", nats_server.url)
    assert (result.exit_code, result.stdout) == (3, "")
    first, second = result.stderr.splitlines()
    assert "does not let us in" in first
    assert "--creds" in second and "REACHMAP_NATS_CREDENTIALS" in second
    assert "is the collector running" not in result.stderr


def test_the_rows_that_help_speaks_of_are_rows() -> None:
    """Of the table that is built in: who tries the example gets an answer."""
    rows = parse_topology('profiles = ["openuem"]', Path("topology.toml")).rows
    command = options.filtered(click.Command("any"))
    told = next(
        one.help for one in command.params if isinstance(one, click.Option) if one.name == "row"
    )
    examples = re.findall(r"(?<= )(?:openuem:)?\d+(?=,)|(?<=')[^']+(?=')", told or "")
    assert len(examples) == 3
    assert all(find_rows(rows, example) for example in examples)
