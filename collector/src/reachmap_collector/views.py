"""The map as people and programs look at it: plain data, ready for JSON. Pure.

The fields of a flow are a promise to other people's scripts: add to them, never take away.
"""

import datetime
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from reachmap_collector.fold import FlowRecord
from reachmap_collector.judge import Judgement
from reachmap_collector.planner import NO_ADDRESS, Member
from reachmap_collector.roster import AgentState, Instance, Roster
from reachmap_collector.topology.model import Connection, TableRow, Topology
from reachmap_shared.vocabulary import Expectation, State

Json = dict[str, Any]

WORST_FIRST: Final = (State.BROKEN, State.EXPOSED, State.DEGRADED, State.UNKNOWN, State.OK)


class By(StrEnum):
    """What the rows of the matrix are."""

    ROLE = "role"
    HOST = "host"
    ROW = "row"
    """Rows of the port tables that the profiles were made from."""


def flow(judgement: Judgement) -> Json:
    """One flow, as `reachmap flows --format json` shows it."""
    record = judgement.record
    key, seen = record.key, judgement.seen
    return {
        "source": key.source,
        "destination": key.destination,
        "service": str(record.expected.service),
        "address": None if key.address == NO_ADDRESS else key.address,
        "port": key.port,
        "transport": key.transport,
        "protocol": record.expected.protocol,
        "expect": record.expected.expect,
        "state": judgement.state,
        "outcome": seen.outcome if seen else None,
        "answered_by": seen.answered_by if seen else None,
        "cause": judgement.cause,
        "at": judgement.at,
        "confidence": judgement.confidence,
        "evidence": list(judgement.evidence),
        "since": timestamp(judgement.since),
        "checked": timestamp(record.checked) if seen else None,
        "latency_ms": record.latency_ms,
        "reasons": [*_reasons(record)],
    }


def matrix(judgements: Iterable[Judgement], by: By) -> Json:
    """Roles or hosts against services: how many flows of each state meet in each cell."""
    cells: dict[str, dict[str, Counter[State]]] = {}
    columns: dict[tuple[str, int], str] = {}
    for judgement in judgements:
        service = judgement.record.expected.service
        columns[service.role, service.port] = str(service)
        for name in _row_names(judgement.record, by):
            row = cells.setdefault(name, {})
            row.setdefault(str(service), Counter())[judgement.state] += 1
    return {
        "by": by,
        "columns": [columns[key] for key in sorted(columns)],
        "rows": [
            {"name": name, "cells": {column: dict(count) for column, count in row.items()}}
            for name, row in sorted(cells.items())
        ],
    }


def table(topology: Topology, judgements: Sequence[Judgement]) -> Json:
    """Every row of the profiles' port tables, with the flows that it stands for."""
    by_row: dict[TableRow, Counter[State]] = {row: Counter() for row in topology.rows}
    for judgement in judgements:
        expected = judgement.record.expected
        if expected.expect is Expectation.BLOCKED:
            continue
        listener = topology.listener(expected.service)
        meant = {connection.table_row for connection in expected.connections}
        for row in meant | {listener.table_row}:
            if row is not None:
                by_row[row][judgement.state] += 1
    return {
        "by": By.ROW,
        "rows": [
            {
                "profile": row.profile,
                "row": row.number,
                "port": row.row.port,
                "component": row.row.component,
                "traffic": row.row.traffic,
                "description": row.row.description,
                "flows": count.total(),
                "states": dict(count),
                "state": worst(count),
            }
            for row, count in by_row.items()
        ],
    }


def topology(deployment: Topology, hosts: Mapping[str, Member]) -> Json:
    """A topology: its roles with what they listen on and connect to, its hosts, its deny rules."""
    return {
        "roles": [
            {
                "role": role.name,
                "title": role.title,
                "listens": [
                    {
                        "service": str(service),
                        "protocol": listener.detail.protocol,
                        "transport": listener.detail.transport,
                        "basis": listener.detail.basis,
                        "row": _row(listener.table_row),
                        "note": listener.detail.note,
                    }
                    for service, listener in role.listeners.items()
                ],
                "connects": [_connection(connection) for connection in role.connections],
            }
            for role in deployment.roles.values()
        ],
        "hosts": [
            {
                "host": member.name,
                "roles": list(member.roles),
                "addresses": list(member.addresses),
                "ports": dict(member.ports),
                "agent": member.has_agent,
                "listed": member.name in deployment.hosts,
            }
            for member in hosts.values()
        ],
        "deny": [
            {"role": deny.role, "service": str(deny.service), "note": deny.note}
            for deny in deployment.denies
        ],
        "checks": deployment.checks.model_dump(),
    }


def agents(roster: Roster, members: Mapping[str, Member], now: float) -> Json:
    """Who reports, from where, how fresh; a name that two processes use stands there twice."""
    rows: list[Json] = []
    expected = {name for name, member in members.items() if member.has_agent}
    for name in sorted({*expected, *roster.agents()}):
        state = roster.state(name, now)
        instances = roster.living(name, now)
        if not instances and state is not AgentState.ABSENT:
            instances = [roster.current(name)]
        about = {
            "agent": name,
            "state": state,
            "in_topology": name in members,
            "roles": list(members[name].roles) if name in members else [],
        }
        rows += [about | _instance(instance, now) for instance in instances]
        if not instances:
            rows.append(about)
    return {"agents": rows}


def status(judgements: Iterable[Judgement], agent_rows: Sequence[Json], trouble: Json) -> Json:
    """The whole in one line's worth: flows by state, agents by state, and the worst of all."""
    flows = Counter(judgement.state for judgement in judgements)
    # By name: one that two processes use is still one agent of the deployment.
    by_state = Counter({row["agent"]: row["state"] for row in agent_rows}.values())
    return {
        "flows": {state: flows.get(state, 0) for state in State},
        "agents": {state: by_state.get(state, 0) for state in AgentState},
        "state": worst(flows),
        "refused_messages": trouble,
    }


def worst(states: Mapping[State, int]) -> State | None:
    """The worst state that occurs; None when there is no flow at all."""
    return next((state for state in WORST_FIRST if states.get(state)), None)


def timestamp(seconds: float) -> str:
    """RFC 3339, in UTC, to the millisecond."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def selected(judgements: Iterable[Judgement], filters: Mapping[str, str]) -> Iterable[Judgement]:
    """Those judgements that fit every filter; the keys are FILTERS."""
    tests = [(FILTERS[name], value) for name, value in filters.items()]
    return (
        judgement
        for judgement in judgements
        if all(test(judgement, value) for test, value in tests)
    )


FILTERS: Final[Mapping[str, Callable[[Judgement, str], bool]]] = {
    "source": lambda judgement, name: judgement.record.key.source == name,
    "destination": lambda judgement, name: judgement.record.key.destination == name,
    "service": lambda judgement, name: str(judgement.record.expected.service) == name,
    "role": lambda judgement, name: name in roles(judgement.record),
    "state": lambda judgement, name: judgement.state == name,
}
"""What queries can filter by; a role may stand on either end of a flow."""


def roles(record: FlowRecord) -> set[str]:
    """The roles on both ends for whose sake a flow is there."""
    return {record.expected.service.role, *_row_names(record, By.ROLE)}


def _row_names(record: FlowRecord, by: By) -> Iterable[str]:
    if by is By.HOST:
        return (record.key.source,)
    expected = record.expected
    because = expected.connections or expected.denies
    return dict.fromkeys(reason.role for reason in because)


def _reasons(record: FlowRecord) -> Iterable[Json]:
    expected = record.expected
    for connection in expected.connections:
        row = connection.table_row
        yield {
            "role": connection.role,
            "service": str(connection.service),
            "basis": connection.basis,
            "row": None
            if row is None
            else {"profile": row.profile, "row": row.number, "text": str(row)},
            "note": connection.note,
        }
    if not expected.connections:
        for deny in expected.denies:
            yield {
                "role": deny.role,
                "service": str(deny.service),
                "basis": "deny",
                "row": None,
                "note": deny.note,
            }


def _connection(connection: Connection) -> Json:
    return {
        "role": connection.role,
        "service": str(connection.service),
        "basis": connection.basis,
        "row": _row(connection.table_row),
        "note": connection.note,
    }


def _row(row: TableRow | None) -> Json | None:
    if row is None:
        return None
    return {"profile": row.profile, "row": row.number, "text": str(row)}


def _instance(instance: Instance, now: float) -> Json:
    hello = instance.hello
    return {
        "heard": timestamp(instance.last_heard),
        "age_s": round(max(0.0, now - instance.last_heard), 1),
        "joined": timestamp(instance.first_heard),
        "boot": hello.boot,
        "hostname": hello.hostname,
        "addresses": list(hello.addresses),
        "announced_roles": list(hello.roles),
        "version": hello.version,
        "platform": hello.platform,
        "capabilities": list(hello.capabilities),
        "plan": hello.plan,
        "plan_refused": hello.plan_refused,
        "listeners": [
            {
                "service": report.service,
                "port": report.port,
                "transport": report.transport,
                "state": report.state,
                "detail": report.detail,
            }
            for report in hello.listeners
        ],
        "checks_done": hello.checks_done,
        "checks_late_ms": hello.checks_late_ms,
        "observations_dropped": hello.observations_dropped,
    }
