"""Stores to test with: a SQLite file, and a database of a real PostgreSQL server.

The server is started once for the run, and ends with it. In CI it must be there.
"""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ports import free_port
from postgres_server import Postgres
from sqlalchemy import create_engine, text

from reachmap_collector.planner import FlowKey
from reachmap_collector.store import open_store
from reachmap_collector.store.api import Transition
from reachmap_collector.store.sql import SqlStore
from reachmap_shared.vocabulary import Outcome, Transport

PASSWORD = "Sesam-öffne/dich@1"
"""With all that a URL has to quote."""
QUOTED = "Sesam-%C3%B6ffne%2Fdich%401"


class Server(Postgres):
    """A PostgreSQL server with databases for the tests."""

    def url(self, database: str, password: str = QUOTED) -> str:
        """Where one of its databases is."""
        return f"postgresql://tester:{password}@127.0.0.1:{self.port}/{database}"

    def do(self, statement: str, database: str = "postgres") -> None:
        """Run one statement, outside of a transaction."""
        url = self.url(database).replace("postgresql:", "postgresql+psycopg:")
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server that runs; whoever stops it starts it again."""
    server = Server(free_port(), password=PASSWORD)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def database(postgres: Server) -> Iterator[str]:
    """The name of a fresh database of the server's."""
    name = f"test_{uuid.uuid4().hex}"
    postgres.do(f"CREATE DATABASE {name}")
    yield name
    postgres.do(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store may be made, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'reachmap.sqlite'}"
    server: Server = request.getfixturevalue("postgres")
    return server.url(request.getfixturevalue("database"))


Opener = Callable[..., SqlStore]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens stores, and closes them when the test ends."""
    stores: list[SqlStore] = []

    def opening(url: str, *, migrate: bool = True) -> SqlStore:
        stores.append(open_store(url, migrate=migrate))
        stores[-1].open()
        return stores[-1]

    yield opening
    for store in stores:
        store.close()


@pytest.fixture
def store(url: str, opened: Opener) -> SqlStore:
    """An open store, of each kind."""
    return opened(url)


@pytest.fixture(scope="session")
def flow() -> Callable[..., FlowKey]:
    """Builds a flow; say what matters of it."""

    def build(
        source: str = "pc-1",
        destination: str = "web-1",
        address: str = "10.0.0.1",
        port: int = 8080,
        transport: Transport = Transport.TCP,
    ) -> FlowKey:
        return FlowKey(source, destination, address, port, transport)

    return build


@pytest.fixture(scope="session")
def transition(flow: Callable[..., FlowKey]) -> Callable[..., Transition]:
    """Builds a transition; say what matters of it."""

    def build(
        number: int = 0,
        at: float = 1000.0,
        key: FlowKey | None = None,
        *,
        boot: str = "boot-1",
        service: str = "web:8080",
        outcome: Outcome = Outcome.OPEN,
        detail: bytes = b"\x93detail",
    ) -> Transition:
        key = key or flow()
        is_open = outcome is Outcome.OPEN
        return Transition(key.source, boot, number, key, service, at, outcome, is_open, detail)

    return build
