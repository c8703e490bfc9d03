"""What can happen to a file, and what becomes of the store then."""

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reachmap_collector.errors import StoreRefused, StoreUnavailable
from reachmap_collector.store import open_store, sqlite
from reachmap_collector.store.api import Batch, Transition
from reachmap_collector.store.sql import SqlStore

Make = Callable[..., Transition]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reachmap.sqlite"


@pytest.fixture
def file_store(path: Path, opened: Any) -> SqlStore:
    store: SqlStore = opened(f"sqlite:///{path}")
    return store


def test_the_file_is_its_owner_s_alone(path: Path, file_store: SqlStore, transition: Make) -> None:
    """With all that SQLite puts beside it: it says which ports are open where."""
    file_store.commit(Batch((transition(),)))
    files = list(path.parent.iterdir())
    assert len(files) > 1
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_acknowledged_is_on_the_disk(file_store: SqlStore) -> None:
    """The log is forced out with each commit, and rows refer to rows that are there."""
    with file_store._engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    full = 2
    assert found == {
        "journal_mode": "wal",
        "synchronous": full,
        "foreign_keys": 1,
        "busy_timeout": 5000,
    }


def test_a_full_or_read_only_disk_is_told_and_outlived(tmp_path: Path) -> None:
    """In a mount namespace: what was committed is there, and it goes on by itself."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode
    ):
        reason = "no mount namespace can be made here"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    script = Path(__file__).with_name("small.py")
    done = subprocess.run(
        [*unshare, sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *told, end = done.stdout.splitlines()
    assert end == "done"
    assert len(told) == 2
    assert all(f"store sqlite:///{tmp_path}/store: " in line for line in told)


def test_a_file_that_is_gone_is_not_made_anew(
    path: Path, file_store: SqlStore, transition: Make, tmp_path: Path
) -> None:
    """A fresh one would look like a history that never was; when it is back, it goes on."""
    file_store.commit(Batch((transition(0),)))
    away = tmp_path / "away"
    path.rename(away)
    for call in (
        lambda: file_store.commit(Batch((transition(1),))),
        lambda: list(file_store.beginning().latest),
    ):
        with pytest.raises(StoreUnavailable, match="the file is gone"):
            call()
    assert not path.exists()
    away.rename(path)
    file_store.commit(Batch((transition(1),)))
    assert file_store.size().transitions == 2


def test_a_file_that_was_replaced_is_noticed(
    path: Path, file_store: SqlStore, transition: Make, tmp_path: Path
) -> None:
    """A backup that was put back under a running collector is used from then on."""
    file_store.commit(Batch((transition(0),)))
    copy = tmp_path / "copy"
    file_store.backup(copy)
    file_store.commit(Batch((transition(1, service="another:1"),)))
    copy.replace(path)
    with pytest.raises(StoreUnavailable, match="another one now"):
        file_store.commit(Batch((transition(2, service="another:1"),)))
    file_store.commit(Batch((transition(2, service="another:1"),)))
    assert sorted(one.number for one in file_store.history().transitions) == [0, 2]
    assert file_store.flaws() == ()
    # What was in no other place yet is not thrown away.
    assert path.with_name(path.name + "-wal.replaced").stat().st_size > 0


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """And used as soon as it is."""
    folder = tmp_path / "later"
    store = open_store(f"sqlite:///{folder / 'store'}")
    with pytest.raises(StoreUnavailable, match="No such file or directory"):
        store.open()
    folder.mkdir()
    store.open()
    store.close()


def test_whoever_only_looks_makes_no_file(path: Path) -> None:
    """A mistyped path is told, and stays empty."""
    store = open_store(f"sqlite:///{path}", migrate=False)
    with pytest.raises(StoreUnavailable, match="there is no such file"):
        store.open()
    assert not path.exists()


def test_what_is_no_database_is_refused(path: Path, opened: Any) -> None:
    """And left as it is."""
    content = b"A letter to my grandmother, and no database.\n" * 100
    path.write_bytes(content)
    with pytest.raises(StoreRefused, match="not a database"):
        opened(f"sqlite:///{path}")
    assert path.read_bytes() == content


def test_damage_is_found(path: Path, file_store: SqlStore, transition: Make) -> None:
    """Wherever it is told: as a flaw, or as a refusal."""
    file_store.commit(Batch(tuple(transition(n, detail=b"x" * 500) for n in range(2000))))
    file_store.close()
    with path.open("r+b") as file:
        size = path.stat().st_size
        file.seek(size // 2)
        file.write(b"\xa5" * 40_000)
    try:
        flaws = file_store.flaws()
    except StoreRefused as refused:
        flaws = (str(refused),)
    assert flaws


def test_another_writer_is_waited_for(
    path: Path, opened: Any, transition: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a while; then it is told, and tried anew by the next call. Readers do not wait."""
    pragmas = ("busy_timeout = 100", *sqlite._PRAGMAS[1:])
    monkeypatch.setattr(sqlite, "_PRAGMAS", pragmas)
    store: SqlStore = opened(f"sqlite:///{path}")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        store.commit(Batch((transition(),)))
    assert list(store.beginning().latest) == []
    other.execute("ROLLBACK")
    other.close()
    store.commit(Batch((transition(),)))
    assert store.size().transitions == 1
