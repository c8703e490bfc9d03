"""Ceded ports: once is for good, whatever happens to the process or the file."""

import json
from pathlib import Path

import pytest

from reachmap_agent.ceded import Ceded
from reachmap_shared.vocabulary import Transport

WEB = Transport.TCP, 80
DNS = Transport.UDP, 53


def test_a_ceded_port_stays_ceded_over_a_restart(tmp_path: Path) -> None:
    """What one process ceded, the next one knows; the directory is made when it is needed."""
    path = tmp_path / "state" / "ceded.json"
    first = Ceded(path)
    assert WEB not in first
    first.add(WEB)
    first.add(DNS)
    again = Ceded(path)
    assert list(again) == [WEB, DNS]
    assert (Transport.UDP, 80) not in again


def test_an_operator_takes_a_port_back_from_a_running_agent(tmp_path: Path) -> None:
    """The agent notices at its next look, and keeps the others."""
    path = tmp_path / "ceded.json"
    running = Ceded(path)
    running.add(WEB)
    running.add(DNS)
    assert Ceded(path).remove(WEB)
    running.reload()
    assert list(running) == [DNS]
    assert not Ceded(path).remove(WEB)


@pytest.mark.parametrize("text", ["", "{", "[1]", '["tcp"]', '["sctp/1"]', "null", '"tcp/80"'])
def test_what_cannot_be_read_cedes_every_port(tmp_path: Path, text: str) -> None:
    """A damaged file must not let the agent take a port that it had given up."""
    path = tmp_path / "ceded.json"
    path.write_text(text)
    assert WEB in Ceded(path)
    path.write_text(json.dumps(["udp/53"]))
    mended = Ceded(path)
    assert WEB not in mended
    assert DNS in mended


def test_a_port_that_cannot_be_written_down_is_ceded_all_the_same(tmp_path: Path) -> None:
    """Until the agent ends at least."""
    (tmp_path / "file").write_text("")
    ceded = Ceded(tmp_path / "file" / "ceded.json")
    ceded.add(WEB)
    assert WEB in ceded
