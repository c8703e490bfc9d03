"""`reachmap store`, on a store that a collector is at."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from reachmap_collector.planner import FlowKey
from reachmap_collector.store import default_url, open_store
from reachmap_collector.store.api import Batch, Transition
from reachmap_collector.store.sql import SqlStore
from reachmap_shared.vocabulary import Outcome, Transport

Reachmap = Callable[..., Result]
FLOW = FlowKey("a", "b", "10.0.0.1", 80, Transport.TCP)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A collector's data directory."""
    return tmp_path


@pytest.fixture
def running(data: Path) -> Iterator[SqlStore]:
    """The store as the collector has it open."""
    store = open_store(default_url(data))
    store.commit(Batch((Transition("a", "x", 0, FLOW, "web:80", 1.0, Outcome.OPEN, True, b"x"),)))
    yield store
    store.close()


def test_check_says_what_there_is(data: Path, running: SqlStore, reachmap: Reachmap) -> None:
    """Where, in which schema, how much, and that nothing is damaged."""
    result = reachmap("store", "check", "--data", str(data))
    assert result.exit_code == 0, result.output
    first, *rest = result.output.splitlines()
    assert first.startswith(f"sqlite:///{data}/reachmap.sqlite: schema {running.schema()}, ")
    assert [line.split() for line in rest][:2] == [["transitions", "1"], ["flows", "1"]]
    assert rest[-1].strip() == "no damage found"


def test_check_exits_1_on_damage(
    data: Path, running: SqlStore, reachmap: Reachmap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says what it is."""
    monkeypatch.setattr(SqlStore, "flaws", lambda _self: ("row 1 missing from index a",))
    result = reachmap("store", "check", "--data", str(data))
    assert result.exit_code == 1
    assert "row 1 missing from index a" in result.stderr


def test_backup_writes_a_store(
    data: Path, running: SqlStore, reachmap: Reachmap, tmp_path: Path
) -> None:
    """And never over another."""
    copy = tmp_path / "copy.sqlite"
    assert reachmap("store", "backup", str(copy), "--data", str(data)).exit_code == 0
    result = reachmap("store", "check", "--store", f"sqlite:///{copy}")
    assert result.exit_code == 0, result.output
    assert reachmap("store", "check", REACHMAP_STORE=f"sqlite:///{copy}").output == result.output
    again = reachmap("store", "backup", str(copy), "--data", str(data))
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_no_store_is_made_by_looking(data: Path, reachmap: Reachmap) -> None:
    """Where none is, that is said."""
    result = reachmap("store", "check", "--data", str(data))
    assert result.exit_code == 1
    assert "there is no such file" in result.stderr
    assert list(data.iterdir()) == []


def test_a_wrong_url_is_wrong_usage(reachmap: Reachmap) -> None:
    """Told without its password."""
    result = reachmap("store", "check", "--store", "mysql://me:geheim@db/map")
    assert result.exit_code == 2
    assert "expected sqlite:///PATH or postgresql://" in result.stderr
    assert "geheim" not in result.output + result.stderr
