"""The map as people and programs look at it: plain data, ready for JSON. Pure.

The fields of a flow are a promise to other people's scripts: add to them, never take away.
"""

import datetime
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from reachmap_collector.flowmap.records import FlowRecord
from reachmap_collector.judge import Judgement
from reachmap_collector.ledger import Ledger
from reachmap_collector.planner import NO_ADDRESS, ExpectedFlow, Member, Target, members
from reachmap_collector.roster import AgentState
from reachmap_collector.topology.model import Connection, TableRow, Topology
from reachmap_shared.messages import Observation
from reachmap_shared.vocabulary import Expectation, State

Json = dict[str, Any]

END_OF_TIME: Final = 253_402_300_799
"""9999-12-31, in seconds since the epoch: the last moment that a certificate can name."""

WORST_FIRST: Final = (State.BROKEN, State.EXPOSED, State.DEGRADED, State.UNKNOWN, State.OK)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How reports come in and are kept."""

    trouble: str = ""
    """What keeps reports from coming, or plans from going; empty while nothing does."""
    lag: int = 0
    """Reports on the bus that were not delivered to the collector yet."""
    in_stream: int = 0
    stream_octets: int = 0
    redelivered: int = 0
    """Reports that wait for the store and were delivered again."""
    taken: int = 0
    """Reports since the collector's start."""
    duplicates: int = 0
    """Those of them that had come before."""
    clock_offset_s: float = 0.0
    """How far the bus's clock is ahead of the collector's."""
    store_trouble: str = ""
    """Why the store takes nothing; empty while it does."""
    store_waiting: int = 0
    """Messages that are not kept yet."""
    dead_letters: int = 0
    """Messages that could not be used, and were kept as they came, since the collector's start."""


@dataclass(frozen=True, slots=True)
class Census:
    """The agents that report or should, counted; a name that two processes use is one agent."""

    states: Mapping[AgentState, int]
    missing: Sequence[str] = ()
    """Names of those that should be there and are not, or not clearly."""
    expected: int = 0
    """How many the topology has."""
    waiting: int = 0
    """Observations that wait with them for their delivery."""
    dropped: int = 0
    """Observations that they dropped."""
    heard: Sequence[float] = ()
    """When each process that is fresh was heard of last."""


class By(StrEnum):
    """What the rows of the matrix are."""

    ROLE = "role"
    HOST = "host"
    ROW = "row"
    """Rows of the port tables that the profiles were made from."""


def flow(judgement: Judgement) -> Json:
    """One flow, as `reachmap flows --format json` shows it."""
    record, seen = judgement.record, judgement.seen
    return {
        **_which(record),
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
        "duration_ms": _duration_ms(seen) if seen else None,
        "reasons": [*_reasons(record)],
        "certificate_until": _certificate_until(seen) if seen else None,
        "seen_as": (seen.seen_as or None) if seen else None,
        "checks": {
            "made": record.checks_made,
            "open": record.checks_open,
            "local_error": record.checks_failed_locally,
        },
    }


def series(judgement: Judgement) -> Json:
    """Of what `flow` shows, what metrics say of each flow."""
    record, seen = judgement.record, judgement.seen
    return {
        **_which(record),
        "state": judgement.state,
        "duration_ms": _duration_ms(seen) if seen else None,
        "certificate_until": _certificate_until(seen) if seen else None,
    }


@dataclass(frozen=True, slots=True)
class Tally:
    """Flows that are counted together."""

    source: str
    """Empty where they have several."""
    towards: Target | ExpectedFlow
    """Where they lead, and why."""
    states: Mapping[State, int]

    @classmethod
    def of(cls, judgement: Judgement) -> "Tally":
        """Of one flow."""
        record = judgement.record
        return cls(record.key.source, record.expected, {judgement.state: 1})


def matrix(tallies: Iterable[Tally], by: By) -> Json:
    """Roles or hosts against services: how many flows of each state meet in each cell."""
    cells: dict[str, dict[str, Counter[State]]] = {}
    columns: dict[tuple[str, int], str] = {}
    for tally in tallies:
        service = tally.towards.service
        columns[service.role, service.port] = str(service)
        for name in (tally.source,) if by is By.HOST else source_roles(tally.towards):
            row = cells.setdefault(name, {})
            row.setdefault(str(service), Counter()).update(tally.states)
    return {
        "by": by,
        "columns": [columns[key] for key in sorted(columns)],
        "rows": [
            {"name": name, "cells": {column: dict(count) for column, count in row.items()}}
            for name, row in sorted(cells.items())
        ],
    }


def table(
    topology: Topology,
    tallies: Iterable[Tally],
    wanted: Sequence[TableRow] | None = None,
) -> Json:
    """Every row of the profiles' port tables, or those wanted, with the flows it stands for."""
    by_row: dict[TableRow, Counter[State]] = {row: Counter() for row in topology.rows}
    for tally in tallies:
        for row in table_rows(topology, tally.towards):
            by_row[row].update(tally.states)
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
            if wanted is None or row in wanted
        ],
    }


def table_rows(topology: Topology, expected: Target | ExpectedFlow) -> Sequence[TableRow]:
    """The rows of port tables that a flow stands for: its connections' and its listener's."""
    if expected.expect is Expectation.BLOCKED:
        return ()
    meant = [connection.table_row for connection in expected.connections]
    meant.append(topology.listener(expected.service).table_row)
    return [row for row in dict.fromkeys(meant) if row is not None]


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
                "was": list(deployment.names(member.name)[1:]),
            }
            for member in hosts.values()
        ],
        "deny": [
            {"role": deny.role, "service": str(deny.service), "note": deny.note}
            for deny in deployment.denies
        ],
        "checks": deployment.checks.model_dump(),
    }


def fingerprint(deployment: Topology) -> str:
    """The same for two topologies that say the same, whatever agents announce."""
    said = topology(deployment, members(deployment, {}))
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def status(
    flows: Mapping[State, int],
    agents: Census,
    refused: Json,
    delivery: Delivery,
    ledger: Ledger,
) -> Json:
    """The whole in one line's worth: flows by state, agents by state, and the worst of all."""
    return {
        "flows": {state: flows.get(state, 0) for state in State},
        "agents": {state: agents.states.get(state, 0) for state in AgentState},
        "agents_missing": len(agents.missing),
        "state": worst(flows),
        "refused_messages": refused,
        "delivery": {
            "trouble": delivery.trouble or None,
            "lag": delivery.lag,
            "in_stream": delivery.in_stream,
            "stream_octets": delivery.stream_octets,
            "redelivered": delivery.redelivered,
            "taken": delivery.taken,
            "duplicates": delivery.duplicates,
            "reports_missing": sum(account.sequences.gaps for account in ledger),
            "bus_clock_offset_s": round(delivery.clock_offset_s, 3),
        },
        "store": {
            "trouble": delivery.store_trouble or None,
            "waiting": delivery.store_waiting,
            "dead_letters": delivery.dead_letters,
        },
        "observations": {
            "received": sum(account.observations for account in ledger),
            "refused": sum(account.refused for account in ledger),
            "waiting": agents.waiting,
            "vanished": sum(losses.vanished_in_all for losses in ledger.losses.values()),
            "dropped": agents.dropped + sum(losses.lost for losses in ledger.losses.values()),
        },
    }


def table_row(row: TableRow) -> Json:
    """A row of a port table, as flows and topologies refer to it."""
    return {"profile": row.profile, "row": row.number, "text": str(row)}


def worst(states: Mapping[State, int]) -> State | None:
    """The worst state that occurs; None when there is no flow at all."""
    return next((state for state in WORST_FIRST if states.get(state)), None)


def timestamp(seconds: float) -> str:
    """RFC 3339, in UTC, to the millisecond."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def roles(expected: Target | ExpectedFlow) -> set[str]:
    """The roles on both ends for whose sake a flow is there."""
    return {expected.service.role, *source_roles(expected)}


def source_roles(expected: Target | ExpectedFlow) -> Iterable[str]:
    """The roles of its source for whose sake a flow is there."""
    because = expected.connections or expected.denies
    return dict.fromkeys(reason.role for reason in because)


def _which(record: FlowRecord) -> Json:
    """What tells a flow from all others, and what it should be."""
    key, expected = record.key, record.expected
    return {
        "source": key.source,
        "destination": key.destination,
        "service": str(expected.service),
        "address": None if key.address == NO_ADDRESS else key.address,
        "port": key.port,
        "transport": key.transport,
        "protocol": expected.protocol,
        "expect": expected.expect,
    }


def _reasons(record: FlowRecord) -> Iterable[Json]:
    expected = record.expected
    yield from map(_connection, expected.connections)
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
    return None if row is None else table_row(row)


def _duration_ms(seen: Observation) -> float:
    """How long a check took, from the name to the verdict."""
    taken = (seen.name_us, seen.connect_us, seen.answer_us)
    return round(sum(max(0, us) for us in taken) / 1000, 3)


def _certificate_until(seen: Observation) -> str | None:
    """As a timestamp; null too for what no certificate can say, whoever sent it."""
    until = seen.certificate_until
    return None if until is None or not 0 <= until <= END_OF_TIME else timestamp(until)
