"""The command as a whole: what it says of itself, and how its errors reach a person."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from reachmap_collector.cli import main, query
from reachmap_collector.errors import (
    InvalidFile,
    Problem,
    ServerError,
    StoreRefused,
    StoreUnavailable,
)
from reachmap_shared import __version__
from reachmap_shared.errors import (
    BusUnavailable,
    InvalidName,
    MalformedMessage,
    QueryRefused,
    ReachmapError,
)


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command there is, groups included, as one types it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def test_there_are_just_these_commands() -> None:
    """As the contract names them, so far."""
    assert sorted(" ".join(command) for command in commands()) == [
        "agents",
        "alerts",
        "alerts ack",
        "alerts silence",
        "alerts test",
        "bus",
        "bus certificate",
        "bus config",
        "completion",
        "demo",
        "diff",
        "enroll",
        "explain",
        "export",
        "flows",
        "history",
        "map",
        "preflight",
        "revoke",
        "schema",
        "serve",
        "status",
        "store",
        "store backup",
        "store check",
        "topology",
        "topology check",
        "topology import",
        "topology show",
        "trend",
        "watch",
    ]


@pytest.mark.parametrize("command", [(), *commands()], ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_explains_itself(
    reachmap: Any, command: tuple[str, ...], option: str
) -> None:
    """In a whole sentence, with an example where there is something to combine."""
    result = reachmap(*command, option)
    assert (result.exit_code, result.stderr) == (0, "")
    usage, blank, sentence, *_ = result.stdout.splitlines()
    assert usage.startswith(" ".join(["Usage: main", *command]))
    assert blank == ""
    assert sentence.strip()[0].isupper() and len(sentence.split()) > 3
    text = result.stdout
    if command in [
        (),
        ("map",),
        ("flows",),
        ("explain",),
        ("serve",),
        ("demo",),
        ("export",),
        ("schema",),
        ("completion",),
    ]:
        assert "reachmap " in text.partition("Options:")[0].replace("main ", "")


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_every_option_is_explained(command: tuple[str, ...]) -> None:
    """No option is left to be guessed."""
    found: Any = main
    for name in command:
        found = found.get_command(click.Context(found), name)
    for parameter in found.params:
        assert isinstance(parameter, click.Argument) or parameter.help


def test_the_version(reachmap: Any) -> None:
    """The one of the package."""
    assert reachmap("--version").stdout == f"reachmap, version {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-command",),
        ("map", "--by", "colour"),
        ("map", "--format", "xml"),
        ("flows", "--colour", "red"),
        ("flows", "extra"),
        ("explain",),
        ("explain", "pc-1"),
        ("explain", "pc-1", "web-1:http"),
        ("explain", "pc-1", "web-1:"),
        ("explain", "pc-1", "web-1:0"),
        ("explain", "pc-1", "web-1:65536"),
        ("explain", "pc-1", "web-1:123456"),
        ("explain", "pc-1", "web-1:-1"),
        ("agents", "extra"),
        ("explain", "pc-1", "web-1", "--row", "1"),
        ("explain", "pc-1", "--row", "1"),
        ("export",),
        ("export", "--format", "xml"),
        ("export", "--format", "csv", "--by", "host"),
        ("export", "--format", "html", "--per-flow"),
        ("schema",),
        ("schema", "nothing"),
        ("completion", "tcsh"),
        ("serve", "--http", "8686"),
        ("serve", "--http-key", "key.pem"),
        ("serve", "--http", "0.0.0.0:8686"),
        ("serve", "--nats-port", "0"),
        ("serve", "--nats-port", "70000"),
        ("topology",),
        ("topology", "check"),
        ("topology", "import"),
    ],
)
def test_wrong_usage_exits_2(reachmap: Any, arguments: tuple[str, ...]) -> None:
    """And says what is wrong on standard error."""
    result = reachmap(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (
            InvalidFile("t.toml", [Problem("a", "b"), Problem("", "c")]),
            2,
            ["t.toml: a: b", "t.toml: c"],
        ),
        (InvalidName("that is no name"), 2, ["that is no name"]),
        (QueryRefused("404", "unknown host 'x'"), 2, ["unknown host 'x'"]),
        (QueryRefused("400", "by: expected one of"), 2, ["by: expected one of"]),
        (QueryRefused("500", "the query map failed"), 1, ["the query map failed"]),
        (ServerError("port 4222 is taken"), 1, ["port 4222 is taken"]),
        (StoreUnavailable("the disk is full"), 1, ["the disk is full"]),
        (StoreRefused("it is a newer one's"), 2, ["it is a newer one's"]),
        (MalformedMessage("odd"), 1, ["odd"]),
        (ReachmapError("anything else"), 1, ["anything else"]),
        (
            BusUnavailable("no collector is on this bus"),
            3,
            [
                "no collector is on this bus",
                (
                    "is the collector running (reachmap serve)? Say where its NATS server is "
                    "with --nats URL or REACHMAP_NATS_URL."
                ),
            ],
        ),
    ],
)
@pytest.mark.parametrize("grouped", [False, True])
def test_an_error_of_ours_is_a_line_and_an_exit_code(
    reachmap: Any,
    monkeypatch: pytest.MonkeyPatch,
    error: ReachmapError,
    code: int,
    lines: list[str],
    grouped: bool,
) -> None:
    """On standard error, without a traceback, also when it comes out of a group of tasks."""
    raised: BaseException = error
    if grouped:
        inner = BaseExceptionGroup("inner", [error, KeyboardInterrupt()])
        raised = BaseExceptionGroup("outer", [ValueError("another"), inner])

    def ask(*_: Any) -> None:
        raise raised

    monkeypatch.setattr(query, "ask_for_map", ask)
    result = reachmap("map")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.splitlines() == [f"reachmap: {line}" for line in lines]


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), BaseExceptionGroup("of bugs", [ValueError("a bug")])]
)
def test_a_bug_is_not_hidden(
    reachmap: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """What is no error of ours keeps its traceback."""

    def ask(*_: Any) -> None:
        raise error

    monkeypatch.setattr(query, "ask_for_map", ask)
    with pytest.raises(type(error)):
        reachmap("map")


# Standard output, and Ctrl-C.


PROGRAM = (sys.executable, "-m", "reachmap_collector")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("topology", "show", "openuem"),
        ("topology", "show", "openuem", "--format", "json"),
        ("topology", "show", "openuem", "--format", "ndjson"),
        ("topology", "show", "openuem", "--format", "csv"),
    ],
    ids=" ".join,
)
def test_output_that_cannot_be_written_is_told(arguments: tuple[str, ...]) -> None:
    """In one line: a full disk is no bug, and an answer that is cut short no success."""
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            (*PROGRAM, *arguments), stdout=full, stderr=subprocess.PIPE, text=True, timeout=30,
            check=False,
        )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr == "reachmap: cannot write the output: No space left on device\n"


@pytest.mark.parametrize("style", ["table", "json"])
def test_a_reader_that_has_seen_enough_is_no_error(style: str) -> None:
    """As with `reachmap ... | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as output:
        result = subprocess.run(
            (*PROGRAM, "topology", "show", "openuem", "--format", style),
            stdout=output, stderr=subprocess.PIPE, text=True, timeout=30, check=False,
        )  # fmt: skip
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.parametrize(("code", "is_told"), [(errno.ENOSPC, True), (errno.ENOENT, False)])
def test_other_errors_of_the_system_keep_their_traceback(
    reachmap: Any, monkeypatch: pytest.MonkeyPatch, code: int, is_told: bool
) -> None:
    """They are no error of the output's, and nobody has said what they mean."""

    def ask(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(query, "ask_for_map", ask)
    with contextlib.nullcontext() if is_told else pytest.raises(OSError):
        assert reachmap("map").exit_code == 1


def test_an_error_that_names_a_file_is_not_the_output_s(
    reachmap: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opened that file should have said what is wrong with it."""

    def ask(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    monkeypatch.setattr(query, "ask_for_map", ask)
    with pytest.raises(OSError, match="somewhere"):
        reachmap("map")


def test_ctrl_c_ends_a_command_quietly(reachmap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the exit code that a shell gives it."""

    def ask(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(query, "ask_for_map", ask)
    result = reachmap("map")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "")


LOADING = """
import builtins, os, signal, sys
from reachmap_collector.__main__ import main
load = builtins.__import__
def interrupted(name, *rest):
    if name == "reachmap_collector.cli":
        os.kill(os.getpid(), signal.SIGINT)
    return load(name, *rest)
builtins.__import__ = interrupted
sys.argv = ["reachmap", "--version"]
main()
"""


def test_ctrl_c_while_it_loads_ends_it_quietly() -> None:
    """Loading takes a moment, and that is when people think better of it."""
    result = subprocess.run(
        (sys.executable, "-c", LOADING), capture_output=True, text=True, timeout=30, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


def test_the_package_runs_as_a_module() -> None:
    """`python -m reachmap_collector` is the same command."""
    command = [sys.executable, "-m", "reachmap_collector", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout.split()[-1] == __version__


def test_what_only_asks_loads_nothing_that_only_answers() -> None:
    """A monitoring system asks for the status each minute."""
    code = (
        "import sys\n"
        "from reachmap_collector.cli import alerts, past, query, status\n"
        "print(*sys.modules.keys() & {'numpy', 'sqlalchemy.orm', 'uvicorn', 'starlette', 'jinja2'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
