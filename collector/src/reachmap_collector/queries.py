"""What can be asked of a running collector: the endpoints of its micro service.

Each takes a JSON object and gives one back. A wrong question is refused with code 400, an unknown
name with 404 and the names nearest to it.
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from reachmap_collector import views
from reachmap_collector.advice import what_to_do, what_would_settle
from reachmap_collector.collector import Collector
from reachmap_collector.evidence import looked_into
from reachmap_collector.judge import Judgement
from reachmap_collector.planner import FlowKey
from reachmap_collector.views import By, Json
from reachmap_shared import codec
from reachmap_shared.bus import Query
from reachmap_shared.errors import QueryRefused
from reachmap_shared.vocabulary import State, Transport

PAGE: Final = 500
"""Flows in one answer, where they are of common size."""

_PAGE_BYTES: Final = codec.MAX_MESSAGE // 2
"""Of flows in one answer: agents may send much evidence, and an answer has to fit the bus."""


class Queries:
    """Answers from one collector's state."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def endpoints(self) -> Mapping[str, Query]:
        """Every query by its name, which is also the end of its subject."""
        return {
            "agents": self.agents,
            "explain": self.explain,
            "flows": self.flows,
            "map": self.map,
            "status": self.status,
            "topology": self.topology,
        }

    async def flows(self, parameters: Json) -> Json:
        """One page of flows: `{filters, after}` to `{flows, next, total}`."""
        judgements = list(views.selected(self._collector.judgements(), self._filters(parameters)))
        rest = judgements
        if (after := parameters.get("after")) is not None:
            rest = [one for one in judgements if one.record.key > _key(after)]
        page: list[Json] = []
        size = 0
        for judgement in rest[:PAGE]:
            flow = views.flow(judgement)
            size += len(json.dumps(flow))
            if page and size > _PAGE_BYTES:
                break
            page.append(flow)
        more = len(rest) > len(page)
        return {
            "flows": page,
            "next": _cursor(rest[len(page) - 1]) if more else None,
            "total": len(judgements),
        }

    async def map(self, parameters: Json) -> Json:
        """The matrix: `{filters, by}`, where `by` is role, host or row."""
        try:
            by = By(parameters.get("by", By.ROLE))
        except ValueError:
            raise QueryRefused("400", f"by: expected one of {', '.join(By)}") from None
        judgements = list(views.selected(self._collector.judgements(), self._filters(parameters)))
        if by is By.ROW:
            return views.table(self._collector.topology, judgements)
        return views.matrix(judgements, by)

    async def explain(self, parameters: Json) -> Json:
        """Everything known of the flows from one host to another: `{source, destination, port}`."""
        port = parameters.get("port")
        if port is not None and type(port) is not int:
            raise QueryRefused("400", "port: expected a number")
        ends = {name: parameters.get(name) for name in ("source", "destination")}
        for name, host in ends.items():
            if not isinstance(host, str):
                raise QueryRefused("400", f"{name}: expected a host")
        filters = self._filters({"filters": ends})
        judgements = list(views.selected(self._collector.judgements(), filters))
        found = [one for one in judgements if port in (None, one.record.key.port)]
        if not found:
            ports = sorted({one.record.key.port for one in judgements})
            known = f"; it does on {', '.join(map(str, ports))}" if ports else ""
            where = f" on port {port}" if port is not None else ""
            raise QueryRefused(
                "404",
                f"the topology has no flow from {ends['source']} to {ends['destination']}"
                f"{where}{known}",
            )
        return {
            "flows": [
                views.flow(one)
                | {"advice": what_to_do(one), "settled_by": what_would_settle(one)}
                | {"diagnosis": looked_into(one)}
                for one in found
            ]
        }

    async def agents(self, _parameters: Json) -> Json:
        """Who reports, from where, how fresh."""
        return self._collector.agents()

    async def status(self, _parameters: Json) -> Json:
        """How many flows and agents are in each state."""
        return self._collector.status()

    async def topology(self, _parameters: Json) -> Json:
        """The topology in force: hosts with what their agents announced, and roles."""
        return views.topology(self._collector.topology, self._collector.members)

    def _filters(self, parameters: Json) -> dict[str, str]:
        """The filters that are set, each known to name something."""
        given = parameters.get("filters", {})
        if not isinstance(given, dict):
            raise QueryRefused("400", "filters: expected an object")
        filters: dict[str, str] = {}
        for name, value in given.items():
            if name not in views.FILTERS:
                known = ", ".join(views.FILTERS)
                raise QueryRefused("400", f"unknown filter {name!r}: expected one of {known}")
            if value is None:
                continue
            if not isinstance(value, str):
                raise QueryRefused("400", f"{name}: expected a string")
            self._must_exist(name, value)
            filters[name] = value
        return filters

    def _must_exist(self, kind: str, value: str) -> None:
        topology = self._collector.topology
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
            near = difflib.get_close_matches(value, known, n=3, cutoff=0.5) or sorted(known)[:8]
            hint = f"; did you mean {', '.join(near)}?" if near else ": there is none"
            what = "host" if kind in ("source", "destination") else kind
            raise QueryRefused("404", f"unknown {what} {value!r}{hint}")


def _cursor(judgement: Judgement) -> list[str | int]:
    key = judgement.record.key
    return [key.source, key.destination, key.address, key.port, key.transport]


def _key(cursor: Any) -> FlowKey:
    try:
        source, destination, address, port, transport = cursor
        return FlowKey(str(source), str(destination), str(address), int(port), Transport(transport))
    except (TypeError, ValueError, OverflowError):
        raise QueryRefused("400", "after: expected what the page before gave as `next`") from None
