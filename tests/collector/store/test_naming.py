"""Names are looked up once each, as many at a time as come."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import event, select

from reachmap_collector.planner import FlowKey
from reachmap_collector.store import naming
from reachmap_collector.store.api import Batch, Transition
from reachmap_collector.store.sql import SqlStore
from reachmap_collector.store.tables import boots, hosts, services

MANY = 2500


def test_each_is_asked_for_once(
    store: SqlStore, transition: Callable[..., Transition], flow: Callable[..., FlowKey]
) -> None:
    """In parts that every database takes; what is known already costs no question."""
    changes = [transition(n, key=flow(f"pc-{n}"), boot=f"boot-{n % 2}") for n in range(MANY)]
    store.commit(Batch(tuple(changes)))
    asked: list[str] = []

    def note(_: object, __: object, statement: str, *___: Any) -> None:
        asked.append(statement)

    with store._engine.connect() as connection:
        every = {row.name: row.id for row in connection.execute(select(hosts))}
        starts = [row.id for row in connection.execute(select(boots))]
        served = [row.id for row in connection.execute(select(services))]
        event.listen(store._engine, "before_cursor_execute", note)
        named = naming.names(connection, hosts)
        named.meet([every["pc-7"], every["web-1"], every["pc-7"]])
        assert named == {every["pc-7"]: "pc-7", every["web-1"]: "web-1"}
        assert len(asked) == 1
        named.meet(every.values())
        assert named == {number: name for name, number in every.items()}
        assert len(asked) == 4
        named.meet(every.values())
        named.meet([])
        assert len(asked) == 4
        booted, serve = naming.named_boots(connection), naming.names(connection, services)
        booted.meet(starts)
        serve.meet(served)
    assert {*booted.values()} == {(f"pc-{n}", f"boot-{n % 2}") for n in range(MANY)}
    assert {*serve.values()} == {one.service for one in changes}
