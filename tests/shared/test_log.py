"""How a process speaks: events on standard error, for a program or for a person."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from reachmap_shared import log


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    """Leave the process's logging as it was."""
    ours = logging.getLogger("reachmap")
    before = ours.handlers[:], ours.level
    yield
    ours.handlers[:], level = before
    ours.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_event_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Who logs, what, how grave and when, on standard error; standard output stays clean."""
    log.configure()
    log.get("part").warning("it\nhappened", reason="é\n", port=80)
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.count("\n") == 1
    event = json.loads(errors)
    when = datetime.fromisoformat(event.pop("timestamp"))
    assert when.utcoffset() == timedelta(0)
    assert event == {
        "event": "it\nhappened",
        "level": "warning",
        "component": "part",
        "reason": "é\n",
        "port": 80,
    }


def test_an_exception_is_part_of_its_event(capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback is in the same line, so that no log collector tears it apart."""
    log.configure()
    try:
        raise ValueError("odd")
    except ValueError:
        log.get("part").exception("failed")
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "ValueError: odd" in json.loads(line)["exception"]


@pytest.mark.parametrize(
    ("verbose", "quiet", "expected"),
    [
        (False, False, ["info", "warning", "error"]),
        (True, False, ["debug", "info", "warning", "error"]),
        (False, True, ["error"]),
    ],
)
def test_how_much_is_shown(
    capsys: pytest.CaptureFixture[str], verbose: bool, quiet: bool, expected: list[str]
) -> None:
    """Verbose adds what only developers want; quiet leaves errors alone."""
    log.configure(verbose=verbose, quiet=quiet)
    logger = log.get("part")
    for level in ("debug", "info", "warning", "error"):
        getattr(logger, level)("event")
    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["level"] for line in lines] == expected


def test_a_person_reads_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal an event is a line of words."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    log.configure()
    log.get("part").info("something happened", port=80)
    line = terminal.getvalue()
    assert line.count("\n") == 1
    assert line.endswith(" info    part: something happened  port=80\n")


def test_what_strangers_said_does_nothing_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it begin a line that is not ours."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    log.configure()
    log.get("part").warning("refused", reason="\x1b[2J\nall is well")
    assert terminal.getvalue().endswith("reason='\\x1b[2J\\nall is well'\n")


def test_an_exception_is_below_its_line_for_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads along wants it in lines."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    log.configure()
    try:
        raise ValueError("odd")
    except ValueError:
        log.get("part").exception("failed")
    first, *_, last = terminal.getvalue().splitlines()
    assert first.endswith("error   part: failed") and last == "ValueError: odd"


def test_a_value_of_any_kind_can_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A log that fails at a path would hide what went wrong; a per cent sign is one."""
    log.configure()
    log.get("part").error("100 % gone", path=Path("/nowhere"), found={1})
    told = json.loads(capsys.readouterr().err)
    assert told["event"] == "100 % gone" and "/nowhere" in told["path"] and told["found"] == "{1}"


def test_it_can_go_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    """A service of some systems has no standard error."""
    stream = io.StringIO()
    log.configure(stream=stream)
    log.get("part").info("something happened")
    assert json.loads(stream.getvalue())["event"] == "something happened"
    assert capsys.readouterr().err == ""


def test_setting_it_up_again_says_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    """The last word holds."""
    log.configure(quiet=True)
    log.configure()
    log.get("part").info("something happened")
    assert capsys.readouterr().err.count("\n") == 1


def test_asyncio_is_not_heard_on_its_own_streams(capfd: pytest.CaptureFixture[str]) -> None:
    """Its other warnings are."""
    program = (
        "import logging; from reachmap_shared import log; log.configure()\n"
        "asyncio = logging.getLogger('asyncio')\n"
        "asyncio.warning('returning true from eof_received() has no effect when using ssl')\n"
        "asyncio.warning('something else')"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert capfd.readouterr().err == "something else\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_a_log_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a file on the disk that is full, which the program wants to tell of."""
    with Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        log.configure()
        for _ in range(3):
            log.get("part").warning("the disk is full")
        with pytest.raises(OSError):  # what is in its buffer still
            full.flush()
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
