"""Where a store is, and what of that people see."""

import subprocess
import sys
from pathlib import Path

import pytest

from reachmap_collector.errors import StoreRefused
from reachmap_collector.store import default_url, open_store
from reachmap_collector.store.backend import place_of

SECRET = "geheim"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///reachmap.sqlite", "reachmap.sqlite"),
        ("sqlite:////var/lib/a b/%41.sqlite", "/var/lib/a b/%41.sqlite"),
        (default_url(Path("/var/lib/reachmap")), "/var/lib/reachmap/reachmap.sqlite"),
    ],
)
def test_a_file_is_named_as_it_is(url: str, path: str) -> None:
    """Nothing in a path is taken for an option or an escape."""
    place = place_of(url)
    assert place.path == Path(path)
    assert place.url.database == path
    assert place.shown == url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://me:{SECRET}@db.example/map", "postgresql://db.example/map"),
        (f"postgresql+psycopg://me:{SECRET}@db:5433/map", "postgresql://db:5433/map"),
        (f"postgresql://me:{SECRET}/?{SECRET}@db/map", "postgresql://db/map"),
        (f"postgresql://db/map?user=me&password={SECRET}", "postgresql://db/map"),
        (f"postgresql://db/map?password=x@{SECRET}", "postgresql://db/map"),
        (f"postgresql://me:{SECRET}@[::1]:5433/map", "postgresql://[::1]:5433/map"),
        ("postgresql:///map", "postgresql:///map"),
    ],
)
def test_a_server_is_shown_without_its_password(url: str, shown: str) -> None:
    """Nor with its user, nor its options, where passwords may be too."""
    place = place_of(url)
    assert place.shown == shown
    assert place.path is None
    assert place.url.drivername == "postgresql+psycopg"
    assert SECRET not in repr(place)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "reachmap.sqlite",
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite://relative/path",
        "sqlite:///:memory:",
        "sqlite:///map.sqlite?mode=ro",
        f"mysql://me:{SECRET}@db/map",
        f"postgresql+asyncpg://me:{SECRET}@db/map",
        f"postgresql://me:{SECRET}@db:port/map",
        f"postgresql://me:{SECRET}@{SECRET}@db/map",
        f"postgres ql://me:{SECRET}@db/map",
    ],
)
def test_what_is_no_store_is_refused(url: str) -> None:
    """With what was expected, and without a password."""
    with pytest.raises(StoreRefused, match="expected sqlite:///PATH or postgresql://") as refused:
        open_store(url)
    assert SECRET not in str(refused.value)


def test_commands_that_need_no_store_do_not_load_its_libraries() -> None:
    """They take longer than all the rest."""
    code = "import sys, reachmap_collector.cli, reachmap_collector.store; "
    code += "print([name for name in ('sqlalchemy', 'alembic', 'psycopg') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With how to install it."""
    monkeypatch.setattr("reachmap_collector.store.postgresql.find_spec", lambda _name: None)
    with pytest.raises(StoreRefused, match=r"pip install 'reachmap-collector\[postgres\]'"):
        open_store(f"postgresql://me:{SECRET}@db/map")
