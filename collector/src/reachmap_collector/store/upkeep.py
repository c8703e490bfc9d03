"""Pruning, and how much there is. Each part of pruning is bounded, so that no commit waits long."""

from typing import Final

from sqlalchemy import ColumnElement, Connection, Delete, Table, delete, func, select

from reachmap_collector.store.api import Keep, StoreSize
from reachmap_collector.store.packing import milliseconds
from reachmap_collector.store.tables import (
    boots,
    dead_letters,
    flows,
    plans,
    received,
    rollups,
    transitions,
)

_ROWS: Final = 5000
"""That go in one transaction, of each kind."""

_FLOWS: Final = 20_000
"""Whose histories are gone through in one transaction."""


class Pruner:
    """Lets go of what is too old, a part a call."""

    def __init__(self) -> None:
        self._next_flow = 0

    def step(self, connection: Connection, now: float, keep: Keep) -> bool:
        """One part of it; whether there is more."""
        return any(
            [
                self._transitions(connection, _horizon(now, keep.transitions_s)),
                _oldest_rollups(connection, _horizon(now, keep.rollups_s)),
                _received(connection, _horizon(now, keep.received_s)),
                _dead_letters(connection, keep.dead_letters),
                _plans(connection, keep.plans),
            ]
        )

    def _transitions(self, connection: Connection, horizon: int | None) -> bool:
        """Those that another one had followed by the horizon: what was so then, is still told."""
        if horizon is None:
            return False
        first, end = self._next_flow, self._next_flow + _FLOWS
        later = transitions.alias("later")
        followed = (
            select(func.max(later.c.at))
            .where(later.c.flow == transitions.c.flow, later.c.at <= horizon)
            .scalar_subquery()
        )
        old = transitions.c.at < followed
        mine = transitions.c.flow.between(first, end - 1)
        ids = select(transitions.c.id).where(mine, old).limit(_ROWS)
        if _removed(connection, delete(transitions).where(transitions.c.id.in_(ids))) == _ROWS:
            return True
        last = connection.execute(select(func.max(flows.c.id))).scalar() or 0
        self._next_flow = end if end <= last else 0
        return end <= last


def size(connection: Connection, octets: int) -> StoreSize:
    """Count all rows."""

    def count(table: Table, where: "ColumnElement[bool] | None" = None) -> int:
        asked = select(func.count()).select_from(table)
        return connection.execute(asked if where is None else asked.where(where)).scalar_one()

    agents = select(func.count(func.distinct(boots.c.host)))
    return StoreSize(
        octets=octets,
        transitions=count(transitions),
        flows=count(flows),
        agents=connection.execute(agents).scalar_one(),
        boots=count(boots),
        rollups=count(rollups),
        plans=count(plans, plans.c.slots.is_not(None)),
        dead_letters=count(dead_letters),
    )


def _horizon(now: float, kept_s: float | None) -> int | None:
    return None if kept_s is None else milliseconds(now - kept_s)


def _oldest_rollups(connection: Connection, horizon: int | None) -> bool:
    if horizon is None:
        return False
    ids = select(rollups.c.id).where(rollups.c.begins < horizon).limit(_ROWS)
    return _removed(connection, delete(rollups).where(rollups.c.id.in_(ids))) == _ROWS


def _received(connection: Connection, horizon: int | None) -> bool:
    """Of boots that were followed by others."""
    if horizon is None:
        return False
    other, its = received.alias("other"), boots.alias("its")
    followed = (
        select(other.c.boot)
        .join_from(other, its, its.c.id == other.c.boot)
        .where(its.c.host == boots.c.host, other.c.last > received.c.last)
        .exists()
    )
    ids = (
        select(received.c.boot)
        .join_from(received, boots, boots.c.id == received.c.boot)
        .where(received.c.last < horizon, followed)
        .limit(_ROWS)
    )
    return _removed(connection, delete(received).where(received.c.boot.in_(ids))) == _ROWS


def _dead_letters(connection: Connection, count: int) -> bool:
    latest = select(dead_letters.c.id).order_by(dead_letters.c.id.desc())
    ids = latest.offset(count).limit(_ROWS)
    return _removed(connection, delete(dead_letters).where(dead_letters.c.id.in_(ids))) == _ROWS


def _plans(connection: Connection, count: int) -> bool:
    """Those that no roll-up needs to be understood, but for the latest of each agent."""
    order = (plans.c.at.desc(), plans.c.id.desc())
    place = func.row_number().over(partition_by=plans.c.host, order_by=order).label("place")
    ranked = select(plans.c.id, place).subquery()
    needed = select(rollups.c.id).where(rollups.c.plan == ranked.c.id).exists()
    ids = select(ranked.c.id).where(ranked.c.place > count, ~needed).limit(_ROWS)
    return _removed(connection, delete(plans).where(plans.c.id.in_(ids))) == _ROWS


def _removed(connection: Connection, statement: Delete) -> int:
    return connection.execute(statement).rowcount
