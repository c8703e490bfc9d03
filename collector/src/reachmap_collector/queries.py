"""What can be asked of a running collector: the endpoints of its micro service.

Each takes a JSON object and gives one back. A wrong question is refused with code 400, an unknown
name with 404 and the names nearest to it.
"""

import asyncio
import difflib
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from reachmap_collector import pages, rules, views
from reachmap_collector.advice import what_to_do, what_would_settle
from reachmap_collector.collector import Collector
from reachmap_collector.evidence import looked_into
from reachmap_collector.judge import Judgement
from reachmap_collector.overview import Filters, Overview
from reachmap_collector.planner import FlowKey
from reachmap_collector.recall import Recall, moment, named, unknown
from reachmap_collector.states import States
from reachmap_collector.topology.model import TableRow
from reachmap_collector.topology.rows import find_rows
from reachmap_collector.views import By, Json
from reachmap_collector.whose import meant
from reachmap_shared.bus import Query
from reachmap_shared.errors import QueryRefused
from reachmap_shared.vocabulary import State, Transport

PAGE: Final = 500
"""Flows in one answer, where they are of common size."""

_HOSTS: Final = 1000
"""Of a topology, or rows of the matrix by host, in one answer, where they are of common size."""

ROW: Final = "row"
"""The filter by row of a port table."""

FILTERS: Final = ("source", "destination", "service", "role", "state", ROW)
"""What flows and the map can be filtered by."""

MOST_FLOWS: Final = 20_000
"""That have series of their own in one scrape: some ten megabytes of them."""

_IN_A_TURN: Final = 200
"""Flows judged before all else has its turn."""

_BEGINS_S: Final = 0.8
"""How long a question waits for the map of a collector that has just started."""

_BEGINS: Final = (
    "the collector has just started, and still reads what its store has: ask again in a moment"
)


@dataclass(frozen=True, slots=True)
class Moment:
    """The whole deployment at one moment."""

    states: States
    heard: Sequence[float]
    """When each agent that is fresh was heard of last."""
    status: Json


class Queries:
    """Answers from one collector's state."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._recall = Recall(collector)

    def endpoints(self) -> Mapping[str, Query]:
        """Every query by its name, which is also the end of its subject."""
        queries: dict[str, Query] = {
            "agents": self.agents,
            "changes": self._recall.changes,
            "diff": self._recall.diff,
            "explain": self.explain,
            "flows": self.flows,
            "history": self._recall.history,
            "map": self.map,
            "progress": self.progress,
            "status": self.status,
            "topology": self.topology,
            "trend": self._recall.trend,
        }
        return {name: partial(self._answer, query) for name, query in queries.items()}

    async def _answer(self, query: Query, parameters: Json) -> Any:
        await self.ready()
        return await query(parameters)

    async def ready(self) -> None:
        """See that there is a map yet: after a start that takes its time, and is not waited for."""
        if not await self._collector.settled(_BEGINS_S):
            raise QueryRefused("503", _BEGINS)

    async def flows(self, parameters: Json) -> Json:
        """One page of flows: `{filters, after, details}` to `{flows, next, total, rows}`.

        `details` adds to each flow what `explain` adds; `rows` are those of the port tables that
        the filter means, null without one.
        """
        details = parameters.get("details", False)
        if not isinstance(details, bool):
            raise QueryRefused("400", "details: expected true or false")
        overview, rows = self._selected(parameters)
        after = parameters.get("after")
        found, more = overview.part(PAGE, None if after is None else _key(after))
        page: list[Json] = []
        size, last = 0, None
        for judgement in await self._judged(found):
            flow = self._flow(judgement, details=details)
            size += len(json.dumps(flow))
            if last is not None and size > pages.OCTETS and judgement.record.key != last.record.key:
                more = True
                break
            page.append(flow)
            last = judgement
        return {
            "flows": page,
            "next": _cursor(last) if more and last is not None else None,
            "total": len(overview),
            "rows": None if rows is None else [views.table_row(row) for row in rows],
        }

    async def _judged(self, found: Iterable[int]) -> list[Judgement]:
        """Flows in full: what the map does not have of them is in the store."""
        records = [*map(self._collector.flows.at, found)]
        await self._collector.recall(records)
        judge = self._collector.judge()
        return [judge.judge(record) for record in records]

    def moment(self) -> Moment:
        """All at once, for those within this process."""
        collector = self._collector
        states = collector.states()
        agents = collector.agents().census()
        status = collector.status(states.counts(), agents)
        now = {"now": views.timestamp(collector.now())}
        return Moment(states, agents.heard, status | now)

    async def series(self, parameters: Json) -> list[Json]:
        """What the series of each flow need, in turns, for those within this process: `{filters}`.

        More than MOST_FLOWS are refused: no scrape ends soon that brings a million.
        """
        flows = self._collector.flows
        while True:
            overview, _ = self._selected(parameters)
            if len(overview) > MOST_FLOWS:
                raise QueryRefused("400", _too_many(len(overview)))
            expected, judge = flows.expected, self._collector.judge()
            found: list[Json] = []
            for some in _in_parts(overview.page(), _IN_A_TURN):
                there = filter(flows.is_there, some)
                found += (views.series(judge.judge(flows.at(number))) for number in there)
                await asyncio.sleep(0)
                if flows.expected is not expected:  # then numbers mean others
                    break
            else:
                return found

    async def map(self, parameters: Json) -> Json:
        """The matrix: `{filters, by, after}`, where `by` is role, host or row.

        By host there may be pages: then `next` says what to pass as `after`.
        """
        try:
            by = By(parameters.get("by", By.ROLE))
        except ValueError:
            raise QueryRefused("400", f"by: expected one of {', '.join(By)}") from None
        overview, rows = self._selected(parameters)
        if by is By.ROW:
            return views.table(self._collector.topology, overview.tallies(by), rows)
        if by is By.HOST:
            return _by_host(overview, _after(parameters))
        return views.matrix(overview.tallies(by), by)

    async def explain(self, parameters: Json) -> Json:
        """Everything known of the flows from one host to another: `{source, destination, port}`.

        Hosts may be given by an address of theirs; `hosts` says then whose that is.
        """
        port = parameters.get("port")
        if port is not None and type(port) is not int:
            raise QueryRefused("400", "port: expected a number")
        source, destination = ends = named(parameters, self._collector.members)
        filters = {"source": source.host, "destination": destination.host}
        overview, _ = self._selected({"filters": filters})
        judgements = await self._judged(overview.page())
        # Where a name is dialled, no flow is to the address that somebody gives.
        to_it = [one for one in judgements if one.record.key.address == destination.address]
        judgements = to_it or judgements
        found = [one for one in judgements if port in (None, one.record.key.port)]
        if not found:
            ports = sorted({one.record.key.port for one in judgements})
            known = f"; it does on {', '.join(map(str, ports))}" if ports else ""
            where = f" on port {port}" if port is not None else ""
            raise QueryRefused(
                "404",
                f"the topology has no flow from {source.host} to {destination.host}{where}{known}",
            )
        return {
            "flows": [self._flow(one, details=True) for one in found],
            "hosts": {end.address: end.host for end in ends if end.address},
        }

    async def agents(self, parameters: Json) -> Json:
        """One page of who reports, from where, how fresh: `{after}` to `{agents, next}`."""
        after = _after(parameters)
        page: list[Json] = []
        size = 0
        # Those of one name stay together, since the next page begins after a name.
        for _, of_name in self._collector.agents().rows(after):
            size += len(json.dumps(of_name))
            if page and size > pages.OCTETS:
                return {"agents": page, "next": page[-1]["agent"]}
            page += of_name
        return {"agents": page, "next": None}

    async def status(self, _parameters: Json) -> Json:
        """How many flows and agents are in each state."""
        collector = self._collector
        status = collector.status(collector.overview().counts(), collector.agents().census())
        return status | {"now": views.timestamp(collector.now())}

    async def progress(self, parameters: Json) -> Json:
        """How far a deployment is: `{since}`, from which time on a check counts.

        Gives how many `flows` there are and were `checked`, in which `states` they are, how many
        agents are `expected` and `fresh`, some that are `missing`, the `topology`'s fingerprint,
        and `now`.
        """
        since = moment(parameters, "since") or 0.0
        overview = self._collector.overview()
        census = self._collector.agents().census()
        members = self._collector.members
        missing = [name for name in census.missing if name in members and members[name].has_agent]
        return {
            "flows": len(overview),
            "checked": overview.checked(since),
            "states": {state: count for state, count in overview.counts().items() if count},
            "expected": census.expected,
            "fresh": census.expected - len(missing),
            "missing": missing[:PAGE],
            "topology": views.fingerprint(self._collector.topology),
            "now": views.timestamp(self._collector.now()),
        }

    async def topology(self, parameters: Json) -> Json:
        """The topology in force: `{after}` to its roles and rules, and a page of its hosts.

        Hosts come with what their agents announced. `next` says what to pass as `after`.
        """
        members = self._collector.members
        names, after = [*members], _after(parameters)
        if after is not None and after not in members:
            raise QueryRefused("404", f"after: the topology has no host {after!r} any more")
        begin = 0 if after is None else names.index(after) + 1
        some = {name: members[name] for name in names[begin : begin + _HOSTS]}
        shown = views.topology(self._collector.topology, some)
        fit = _fitting(shown["hosts"])
        shown["hosts"] = shown["hosts"][:fit]
        more = begin + fit < len(names)
        return shown | {"next": names[begin + fit - 1] if more else None}

    def _flow(self, judgement: Judgement, *, details: bool) -> Json:
        """A flow with the rows that it stands for, and with what to do about it if asked."""
        rows = views.table_rows(self._collector.topology, judgement.record.expected)
        flow = views.flow(judgement) | {"rows": [views.table_row(row) for row in rows]}
        if details:
            source = self._collector.members.get(judgement.record.key.source)
            request = rules.request_for(judgement, source.addresses if source else ())
            flow |= {
                "advice": what_to_do(judgement),
                "settled_by": what_would_settle(judgement),
                "requests": rules.texts(request),
                "diagnosis": looked_into(judgement),
            }
        return flow

    def _selected(self, parameters: Json) -> tuple[Overview, list[TableRow] | None]:
        """The flows that fit the filters, and the rows that one of them means."""
        filters: dict[str, Any] = self._filters(parameters)
        wanted = filters.pop(ROW, None)
        rows = None if wanted is None else find_rows(self._collector.topology.rows, wanted)
        if "state" in filters:
            filters["state"] = State(filters["state"])
        return self._collector.overview(Filters(**filters, rows=rows)), rows

    def _filters(self, parameters: Json) -> dict[str, str]:
        """The filters that are set, each known to name something."""
        given = parameters.get("filters", {})
        if not isinstance(given, dict):
            raise QueryRefused("400", "filters: expected an object")
        filters: dict[str, str] = {}
        for name, value in given.items():
            if name not in FILTERS:
                known = ", ".join(FILTERS)
                raise QueryRefused("400", f"unknown filter {name!r}: expected one of {known}")
            if value is None:
                continue
            if not isinstance(value, str):
                raise QueryRefused("400", f"{name}: expected a string")
            if name in ("source", "destination"):
                value = meant(value, self._collector.members).host
            self._must_exist(name, value)
            filters[name] = value
        return filters

    def _must_exist(self, kind: str, value: str) -> None:
        topology = self._collector.topology
        if kind == ROW:
            if not find_rows(topology.rows, value):
                raise QueryRefused("404", _unknown_row(value, topology.rows))
            return
        hosts: Mapping[str, Any] = self._collector.members
        known: Iterable[str] = {
            "source": hosts,
            "destination": hosts,
            "role": topology.roles,
            "state": list(State),
            "service": [
                str(service) for role in topology.roles.values() for service in role.listeners
            ],
        }[kind]
        if value not in known:
            what = "host" if kind in ("source", "destination") else kind
            raise unknown(what, value, known)


def _too_many(flows: int) -> str:
    return (
        f"per_flow: {flows:,} flows fit, and one scrape has series for at most {MOST_FLOWS:,}: "
        f"narrow it by {', '.join(FILTERS)}"
    )


def _in_parts(items: Iterable[int], size: int) -> Iterator[list[int]]:
    """So many at a time."""
    remaining = [*items]
    for begin in range(0, len(remaining), size):
        yield remaining[begin : begin + size]


def _by_host(overview: Overview, after: str | None) -> Json:
    """The matrix by host, from after one on: as many as fit, for each has a cell a service."""
    sources = overview.sources()
    begin = 0 if after is None else bisect_right(sources, after)
    some = sources[begin : begin + _HOSTS]
    shown = views.matrix(overview.tallies(By.HOST, some), By.HOST)
    rows = shown["rows"][: _fitting(shown["rows"])]
    following = None
    if len(rows) < len(shown["rows"]):
        following = rows[-1]["name"]
    elif begin + _HOSTS < len(sources):
        following = some[-1]
    every = views.matrix(overview.tallies(By.ROLE), By.ROLE)["columns"]
    return {"by": By.HOST, "columns": every, "rows": rows, "next": following}


def _fitting(rows: Sequence[Json]) -> int:
    """How many of some rows fit into one answer: one at least, if there is any."""
    size = 0
    for number, row in enumerate(rows):
        size += len(json.dumps(row))
        if number and size > pages.OCTETS:
            return number
    return len(rows)


def _after(parameters: Json) -> str | None:
    """The name after which a page begins."""
    after = parameters.get("after")
    if after is not None and not isinstance(after, str):
        raise pages.no_page()
    return after


def _unknown_row(text: str, rows: Sequence[TableRow]) -> str:
    """What to type instead of something that means no row."""
    if not rows:
        return f"unknown row {text!r}: no profile of this topology has a port table"
    shown = {f"{row.row.component} {row.row.port}".casefold(): row for row in rows}
    near = difflib.get_close_matches(text.casefold(), shown, n=3, cutoff=0.5)
    hints = [f"{shown[one].number} ({shown[one]})" for one in near]
    hint = f"; did you mean {', or '.join(hints)}?" if hints else ""
    return f"unknown row {text!r}: there are {len(rows)}, see `reachmap map --by row`{hint}"


def _cursor(judgement: Judgement) -> list[str | int]:
    key = judgement.record.key
    return [key.source, key.destination, key.address, key.port, key.transport]


def _key(cursor: Any) -> FlowKey:
    try:
        source, destination, address, port, transport = cursor
        return FlowKey(str(source), str(destination), str(address), int(port), Transport(transport))
    except (TypeError, ValueError, OverflowError):
        raise pages.no_page() from None
