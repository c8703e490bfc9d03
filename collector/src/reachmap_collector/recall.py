"""Questions about the past: history, what changed between two times, what is new, and trends.

They are answered from the store, by the names of hosts and services, whatever addresses and names
the hosts had then.
"""

import contextlib
import datetime
import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from reachmap_collector import pages
from reachmap_collector.collector import Collector
from reachmap_collector.difference import Difference
from reachmap_collector.errors import StoreError
from reachmap_collector.flowmap.fold import renamed
from reachmap_collector.past import Expectations, row
from reachmap_collector.planner import FlowKey, Member
from reachmap_collector.store.api import (
    Cursor,
    Entry,
    PackedRollUp,
    PlanSlots,
    Selection,
    Standing,
    Store,
)
from reachmap_collector.trend import MAX_STEPS, Span, Trend
from reachmap_collector.views import Json, timestamp
from reachmap_collector.whose import Meant, meant
from reachmap_shared import codec
from reachmap_shared.errors import MalformedMessage, QueryRefused
from reachmap_shared.messages import RollUp

FILTERS: Final = ("source", "destination", "service", "role")
"""What the past can be filtered by."""

PAGE: Final = 500
"""Entries in one answer, where they are of common size."""

_LOOKED_AT: Final = 1000
"""Entries read at once, where a part of them may do."""

_MOST_LOOKED_AT: Final = 20_000
"""For one answer: with a filter that few fit, its page is short, or empty, and not the last."""

_READ_AT_ONCE_S: Final = 86_400.0
"""Of an agent's roll-ups, for the same reason."""

_KEPT_S: Final = 91 * 86_400.0
"""What began so long ago, no store has any more: whoever asks for all of time asks for that."""

_TREND_S: Final = 3600.0
_STEPS: Final = 12

Result = TypeVar("Result")


class Recall:
    """Answers about one collector's past."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    async def history(self, parameters: Json) -> Json:
        """One page of transitions, newest first: `{filters, since, until, after, limit}`."""
        filters = await self._filters(parameters)
        since, until = moment(parameters, "since"), moment(parameters, "until")
        if since is not None and until is not None:
            _must_be_a_span(since, until)
        limit = _limit(parameters)
        selection = self._selection(filters, since, until)
        after = _cursor(parameters.get("after"))
        page = _Page(self._expectations(), filters.get("role"), limit)
        found, following = await self._read(self._found(filters, selection, limit + 1, after))
        for entry in found:
            if not page.takes(entry):
                return {"transitions": page.rows, "next": _place(after)}
            after = entry.cursor
        return {"transitions": page.rows, "next": _place(following)}

    def _found(
        self, filters: Mapping[str, str], selection: Selection, limit: int, before: Cursor | None
    ) -> Callable[[Store], tuple[list[Entry], Cursor | None]]:
        """A part of history that fits, and where the rest begins, if there may be one."""
        role = filters.get("role")

        def all_of_it(store: Store) -> tuple[list[Entry], Cursor | None]:
            found = store.entries(selection, limit=limit, before=before)
            return found, found[-1].cursor if len(found) == limit else None

        if role is None:
            return all_of_it
        expectations = self._expectations()

        def fits(source: str, service: str) -> bool:
            return role in expectations.roles(expectations.current(source), service)

        return lambda store: store.fitting(
            fits, selection, look_at=_MOST_LOOKED_AT, limit=limit, before=before
        )

    async def diff(self, parameters: Json) -> Json:
        """What changed between two times: `{filters, since, until, after}`, a page of groups."""
        filters = await self._filters(parameters)
        since = moment(parameters, "since")
        if since is None:
            raise QueryRefused("400", "since: expected it")
        until = moment(parameters, "until")
        if until is None:
            until = self._collector.now()
        _must_be_a_span(since, until)
        begin = parameters.get("after") or 0
        if type(begin) is not int or begin < 0:
            raise pages.no_page()
        ends = self._selection(filters, None, None)
        expectations = self._expectations()
        topology = self._collector.topology

        def all_names(host: str) -> tuple[str, ...]:
            return topology.names(topology.current(host))

        def question(store: Store) -> Difference:
            shifts = store.shifts(since, until, ends)
            before: Iterable[Standing] = ()
            if len(fresh := shifts.fresh()):  # or of a host that got another address
                places = {shifts.ends(place)[:2] for place in fresh.tolist()}
                sources = {name for source, _ in places for name in all_names(source)}
                destinations = {name for _, to in places for name in all_names(to)}
                likely = Selection(sources=sources, destinations=destinations)
                before = store.standings(since, selection=likely)
            return Difference(shifts, before, expectations, filters.get("role"))

        found = await self._read(question)
        end = begin + PAGE
        return {
            "since": timestamp(since),
            "until": timestamp(until),
            "counts": found.counts(),
            "groups": found.groups(begin, end),
            "next": end if len(found) > end else None,
        }

    async def changes(self, parameters: Json) -> Json:
        """What was kept after an entry, oldest first: `{filters, after}` to `{changes, last}`.

        Without `after`, just where things stand: what comes next is after that `last`. `more` says
        that there is more already; `reset`, that this store never gave that `after`.
        """
        filters = await self._filters(parameters)
        after: int | None = parameters.get("after")
        if after is not None and (type(after) is not int or not 0 <= after < 1 << 63):
            raise QueryRefused("400", "after: expected the `last` of an answer before")
        last = await self._read(lambda store: store.last_sequence())
        if after is None or after > last:
            reset = after is not None
            return {"changes": [], "last": last, "more": False, "reset": reset}
        start: int = after
        found = await self._read(lambda store: store.entries_after(start, _LOOKED_AT))
        selection = self._selection(filters, None, None)
        page = _Page(self._expectations(), filters.get("role"), PAGE)
        for entry in found:
            if _fits(entry, selection) and not page.takes(entry):
                return {"changes": page.rows, "last": after, "more": True, "reset": False}
            after = entry.sequence
        more = len(found) == _LOOKED_AT
        return {"changes": page.rows, "last": after, "more": more, "reset": False}

    async def trend(self, parameters: Json) -> Json:
        """How flows between two hosts fared: `{source, destination, port, since, until, steps}`.

        `since` is an hour before `until` if it is not said, `until` now, and `steps` 12.
        """
        port = parameters.get("port")
        if port is not None and type(port) is not int:
            raise QueryRefused("400", "port: expected a number")
        topology = self._collector.topology
        given = named(parameters, self._collector.members)
        for end in given:
            await self._must_exist("source", end.host)
        source, destination = (topology.current(end.host) for end in given)

        def wanted(flow: FlowKey) -> FlowKey | None:
            now = renamed(flow, topology.former)
            fits = now.destination == destination and port in (None, flow.port)
            return now if fits else None

        span = _span(parameters, self._collector.now())
        trend = Trend(span, wanted)
        for agent in topology.names(source):
            for plan in await self._read(partial(_all_plans, agent)):
                trend.know(plan)
            for part in span.parts(_READ_AT_ONCE_S, self._collector.now() - _KEPT_S):
                for one in await self._read(partial(_rollups, agent, part)):
                    with contextlib.suppress(MalformedMessage):  # kept by another version
                        trend.take(agent, one.begins, codec.decode(RollUp, one.blob))
        return trend.shown()

    def _expectations(self) -> Expectations:
        return Expectations(self._collector.topology, self._collector.members)

    def _selection(
        self, filters: Mapping[str, str], since: float | None, until: float | None
    ) -> Selection:
        def names(kind: str) -> tuple[str, ...] | None:
            host = filters.get(kind)
            topology = self._collector.topology
            return None if host is None else topology.names(topology.current(host))

        services = (filters["service"],) if "service" in filters else None
        return Selection(since, until, names("source"), names("destination"), services)

    async def _read(self, question: Callable[[Store], Result]) -> Result:
        try:
            return await self._collector.look_up(question)
        except StoreError as error:
            raise QueryRefused("503", f"the past cannot be read now: {error}") from error

    async def _filters(self, parameters: Json) -> dict[str, str]:
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
            await self._must_exist(name, value)
            filters[name] = value
        return filters

    async def _must_exist(self, kind: str, value: str) -> None:
        """Refuse a name that neither the topology nor the past knows."""
        topology = self._collector.topology
        if kind == "role":
            known = {*topology.roles}
        elif kind == "service":
            known = {str(one) for role in topology.roles.values() for one in role.listeners}
            if value not in known:
                known |= await self._read(lambda store: store.services())
        else:
            known = {*self._collector.members, *topology.former}
            if value not in known:
                known |= await self._read(lambda store: store.hosts())
        if value not in known:
            what = kind if kind in ("role", "service") else "host"
            raise unknown(what, value, known)


class _Page:
    """Rows of one answer, as many as fit."""

    def __init__(self, expectations: Expectations, role: str | None, limit: int) -> None:
        self.rows: list[Json] = []
        self._expectations = expectations
        self._role = role
        self._limit = limit
        self._size = 0

    def takes(self, entry: Entry) -> bool:
        """Whether there was room for an entry; one that does not fit the role needs none."""
        made = row(entry, self._expectations)
        roles = self._expectations.roles(made["source"], made["service"])
        if self._role is not None and self._role not in roles:
            return True
        self._size += len(json.dumps(made))
        if self.rows and (len(self.rows) >= self._limit or self._size > pages.OCTETS):
            return False
        self.rows.append(made)
        return True


def named(parameters: Json, members: Mapping[str, Member]) -> tuple[Meant, Meant]:
    """The source and the destination that are asked about; whether there are any is not known."""
    ends = parameters.get("source"), parameters.get("destination")
    for name, host in zip(("source", "destination"), ends, strict=True):
        if not isinstance(host, str):
            raise QueryRefused("400", f"{name}: expected a host")
    source, destination = (meant(str(end), members) for end in ends)
    return source, destination


def unknown(what: str, value: str, known: Iterable[str]) -> QueryRefused:
    """The refusal of a name, with those that are near."""
    near = difflib.get_close_matches(value, known, n=3, cutoff=0.5) or sorted(known)[:8]
    hint = f"; did you mean {', '.join(near)}?" if near else ": there is none"
    return QueryRefused("404", f"unknown {what} {value!r}{hint}")


def _fits(entry: Entry, selection: Selection) -> bool:
    one = entry.transition
    return all(
        meant is None or name in meant
        for name, meant in (
            (one.flow.source, selection.sources),
            (one.flow.destination, selection.destinations),
            (one.service, selection.services),
        )
    )


def _all_plans(agent: str, store: Store) -> list[PlanSlots]:
    return store.plans(agent)


def _rollups(agent: str, part: tuple[float, float], store: Store) -> list[PackedRollUp]:
    return [*store.rollups(agent, *part)]


def _must_be_a_span(since: float, until: float) -> None:
    if until <= since:
        # No wrong form of anything: there is just no such span.
        raise QueryRefused("404", "until: expected a time after since")


def _span(parameters: Json, now: float) -> Span:
    until = moment(parameters, "until") or now
    since = moment(parameters, "since")
    since = until - _TREND_S if since is None else since
    _must_be_a_span(since, until)
    steps = parameters.get("steps", _STEPS)
    if type(steps) is not int or not 1 <= steps <= MAX_STEPS:
        raise QueryRefused("400", f"steps: expected a number from 1 to {MAX_STEPS}")
    return Span(since, until, steps)


def moment(parameters: Json, name: str) -> float | None:
    """A time among a query's parameters, in seconds since the epoch."""
    given = parameters.get(name)
    if given is None:
        return None
    try:
        found = datetime.datetime.fromisoformat(given)
        if found.tzinfo is None:
            raise ValueError("no time zone")
        return found.timestamp()
    except (TypeError, ValueError, OverflowError):
        wanted = "RFC 3339 with a time zone, as in 2026-11-24T14:00:00Z"
        raise QueryRefused("400", f"{name}: expected {wanted}") from None


def _limit(parameters: Json) -> int:
    limit = parameters.get("limit", PAGE)
    if type(limit) is not int or not 1 <= limit <= PAGE:
        raise QueryRefused("400", f"limit: expected a number from 1 to {PAGE}")
    return limit


def _cursor(after: Any) -> Cursor | None:
    if after is None:
        return None
    try:
        at_ms, sequence = after
        if type(at_ms) is not int or type(sequence) is not int or max(after) >= 1 << 63:
            raise ValueError(after)
        return Cursor(at_ms, sequence)
    except (TypeError, ValueError):
        raise pages.no_page() from None


def _place(cursor: Cursor | None) -> list[int] | None:
    return None if cursor is None else [cursor.at_ms, cursor.row]
