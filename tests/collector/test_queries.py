"""What can be asked of a collector, and how wrong questions are refused."""

import asyncio
import json
from typing import Any

import pytest

from reachmap_collector import queries as queries_module
from reachmap_collector import views
from reachmap_collector.collector import Collector
from reachmap_collector.diagnose import Diagnosed, find
from reachmap_collector.overview import Filters, Overview
from reachmap_collector.planner import ExpectedFlow
from reachmap_collector.queries import PAGE, Queries
from reachmap_collector.topology.load import parse_topology
from reachmap_collector.views import By
from reachmap_shared import codec, subjects
from reachmap_shared.errors import QueryRefused
from reachmap_shared.vocabulary import Outcome


@pytest.fixture
def collector(collector_of: Any) -> Collector:
    return collector_of()


@pytest.fixture
def queries(collector: Collector) -> Queries:
    return Queries(collector)


def crowd(hosts: int) -> str:
    """Two consoles, and so many hosts that both dial at two addresses each."""
    rows = [
        f'pc-{n} = {{ roles = ["pc"], addresses = ["10.0.{n >> 8}.{n & 255}", "fd00::{n:x}"] }}'
        for n in range(hosts)
    ]
    return "\n".join(
        [
            '[roles.console]\nconnects = ["pc:2022"]',
            '[roles.pc]\nlistens = { "pc:2022" = { protocol = "ssh" } }',
            '[hosts]\nconsole-1 = { roles = ["console"] }\nconsole-2 = { roles = ["console"] }',
            *rows,
        ]
    )


async def all_pages(queries: Queries, filters: dict[str, Any] | None = None) -> list[Any]:
    """Every page, as a command line asks for them: through JSON and back."""
    pages: list[Any] = []
    after: Any = None
    while True:
        asked = json.loads(json.dumps({"filters": filters or {}, "after": after}))
        text = json.dumps(await queries.flows(asked))
        assert len(text) < codec.MAX_MESSAGE
        pages.append(json.loads(text))
        after = pages[-1]["next"]
        if after is None:
            return pages


def keys(pages: list[Any]) -> list[tuple[Any, ...]]:
    return [
        (flow["source"], flow["destination"], flow["address"], flow["port"], flow["transport"])
        for page in pages
        for flow in page["flows"]
    ]


def flow_key(expected: ExpectedFlow) -> tuple[Any, ...]:
    key = expected.key
    return key.source, key.destination, key.address, key.port, key.transport


async def refusal(answer: Any) -> tuple[str, str]:
    with pytest.raises(QueryRefused) as caught:
        await answer
    return caught.value.code, str(caught.value)


def test_every_query_has_a_name_that_a_subject_can_bear(queries: Queries) -> None:
    """And all of them are answered with JSON objects."""
    assert sorted(queries.endpoints()) == [
        "agents",
        "changes",
        "diff",
        "explain",
        "flows",
        "history",
        "map",
        "progress",
        "status",
        "topology",
        "trend",
    ]
    for name in queries.endpoints():
        assert subjects.query(name) == f"reachmap.query.{name}"


@pytest.mark.parametrize("name", ["agents", "flows", "map", "progress", "status", "topology"])
async def test_a_question_without_parameters_is_answered(queries: Queries, name: str) -> None:
    """With something that JSON can carry."""
    answer = await queries.endpoints()[name]({})
    assert isinstance(answer, dict)
    assert json.loads(json.dumps(answer))


# Pages.


async def test_every_flow_is_on_one_page_in_order(collector_of: Any) -> None:
    """However many there are, none is lost between pages, and none comes twice."""
    collector = collector_of(crowd(300))
    pages = await all_pages(Queries(collector))
    assert len(collector.flows) == 1200
    assert [len(page["flows"]) for page in pages] == [PAGE, PAGE, 200]
    assert {page["total"] for page in pages} == {1200}
    assert keys(pages) == sorted(flow_key(record.expected) for record in collector.flows)


async def test_explain_says_what_would_settle_an_unknown_cause(
    queries: Queries, collector: Collector, hello: Any, told: Any
) -> None:
    """Beside what to do; a cause that is known needs nothing."""
    now = collector.now()
    collector.roster.hear(hello("pc-1"), now)
    for record in collector.flows:
        outcome = Outcome.TIMEOUT if record.key.port == 8080 else Outcome.REFUSED
        record.fold(told(now, outcome))
    answer = await queries.explain({"source": "pc-1", "destination": "web-1"})
    told = {flow["port"]: (flow["cause"], flow["settled_by"]) for flow in answer["flows"]}
    assert told == {
        8080: (
            "unknown",
            "an agent on web-1 that says whether anything listens on port 8080 there",
        ),
        9090: ("service", None),
    }


async def test_pages_that_just_fit_are_the_last(collector_of: Any) -> None:
    """No empty page follows."""
    queries = Queries(collector_of(crowd(PAGE // 4)))
    assert [len(page["flows"]) for page in await all_pages(queries)] == [PAGE]
    assert [len(page["flows"]) for page in await all_pages(queries, {"source": "console-2"})] == [
        PAGE // 2
    ]


async def test_a_page_of_flows_with_much_to_tell_is_shorter(collector_of: Any, told: Any) -> None:
    """Evidence as long as agents may make it still fits the bus's messages."""
    collector = collector_of(crowd(40))
    evidence = ("\u20ac" * 300,) * 16
    for record in collector.flows:
        record.fold(told(collector.now(), Outcome.TIMEOUT, evidence=evidence))
    pages = await all_pages(Queries(collector))
    assert len(pages) > 1
    assert keys(pages) == sorted(flow_key(record.expected) for record in collector.flows)


async def test_flows_that_go_between_two_pages_spoil_nothing(collector_of: Any) -> None:
    """The page after is that of the flows that are there by then."""
    collector = collector_of(crowd(300))
    queries = Queries(collector)
    first = await queries.flows({})
    gone = tuple(first["flows"][-1][name] for name in ("source", "destination"))
    records = [record.expected for record in collector.flows]
    kept = [one for one in records if (one.key.source, one.key.destination) != gone]
    collector.flows.expect(kept, collector.now())
    second = await queries.flows({"after": first["next"]})
    assert keys([second])[0] == next(
        flow_key(one) for one in kept if flow_key(one) > keys([first])[-1]
    )


@pytest.mark.parametrize(
    "after",
    [
        "here",
        7,
        True,
        [],
        ["a", "b", "c", 1],
        ["a", "b", "c", 1, "tcp", 2],
        ["a", "b", "c", "port", "tcp"],
        ["pc-1", "web-1", "10.0.0.1", 8080, "carrier pigeon"],
        ["pc-1", "web-1", "10.0.0.1", 8080, None],
        ["pc-1", "web-1", "10.0.0.1", float("inf"), "tcp"],
        ["pc-1", "web-1", "10.0.0.1", float("nan"), "tcp"],
        {"source": "a", "destination": "b", "address": "c", "port": 1, "transport": "tcp"},
    ],
)
async def test_a_cursor_that_is_none_is_refused(queries: Queries, after: Any) -> None:
    """Only what a page before gave as `next` leads on."""
    assert await refusal(queries.flows({"after": after})) == (
        "400",
        "after: expected what the page before gave as `next`",
    )


# Filters.


@pytest.mark.parametrize(
    ("filters", "code", "message"),
    [
        (
            {"colour": "red"},
            "400",
            "unknown filter 'colour': expected one of source, destination, service, role, state, row",
        ),
        ({"source": 7}, "400", "source: expected a string"),
        ({"source": ["pc-1"]}, "400", "source: expected a string"),
        ("source", "400", "filters: expected an object"),
        ([], "400", "filters: expected an object"),
        ({"source": "pc-2"}, "404", "unknown host 'pc-2'; did you mean pc-1?"),
        (
            {"destination": "elsewhere"},
            "404",
            "unknown host 'elsewhere'; did you mean db-1, pc-1, web-1?",
        ),
        ({"role": "browsr"}, "404", "unknown role 'browsr'; did you mean browser?"),
        ({"service": "web:8081"}, "404", "unknown service 'web:8081'; did you mean web:8080?"),
        ({"state": "broke"}, "404", "unknown state 'broke'; did you mean broken, ok?"),
    ],
)
@pytest.mark.parametrize("name", ["flows", "map"])
async def test_a_wrong_filter_is_refused(
    queries: Queries, name: str, filters: Any, code: str, message: str
) -> None:
    """With what was expected, or the names nearest to what was asked for."""
    answer = queries.endpoints()[name]({"filters": filters})
    assert await refusal(answer) == (code, message)


async def test_a_name_is_unknown_where_there_is_none_at_all(collector_of: Any) -> None:
    """Nothing is near, so nothing is suggested."""
    queries = Queries(collector_of(""))
    assert await refusal(queries.flows({"filters": {"source": "pc-1"}})) == (
        "404",
        "unknown host 'pc-1': there is none",
    )


async def test_filters_leave_what_fits_all_of_them(queries: Queries) -> None:
    """One that is null is not set."""
    answer = await queries.flows(
        {"filters": {"source": "pc-1", "service": "web:8080", "state": None}}
    )
    assert (answer["total"], answer["next"]) == (1, None)
    assert answer["flows"][0]["destination"] == "web-1"


# The map.


@pytest.mark.parametrize("by", ["role", "host", "row"])
async def test_the_map_can_be_had_by(collector_of: Any, openuem: Any, by: str) -> None:
    """Roles, hosts, or the rows of the port table."""
    answer = await Queries(collector_of(openuem())).map({"by": by})
    assert answer["by"] == by
    assert answer["rows"]


@pytest.mark.parametrize("by", ["colour", "", None, 7, ["role"], {}])
async def test_the_map_by_anything_else_is_refused(queries: Queries, by: Any) -> None:
    """With what it can be had by."""
    assert await refusal(queries.map({"by": by})) == ("400", "by: expected one of role, host, row")


async def test_filters_hold_for_the_port_table_too(collector_of: Any, openuem: Any) -> None:
    """Rows that no flow is left of stay, and say so."""
    queries = Queries(collector_of(openuem()))
    answer = await queries.map({"by": "row", "filters": {"source": "console-1"}})
    assert len(answer["rows"]) == 21
    assert {row["row"] for row in answer["rows"] if row["flows"]} == {2, 10, 15, 19}


# Explain.


async def test_explain_tells_every_flow_between_two_hosts(queries: Queries) -> None:
    """With all the fields of a flow, and what to do."""
    answer = await queries.explain({"source": "pc-1", "destination": "web-1"})
    assert [flow["service"] for flow in answer["flows"]] == ["web:8080", "shop:9090"]
    assert {flow["advice"] for flow in answer["flows"]} == {
        "see whether the agent on pc-1 runs and reaches the NATS server"
    }


async def test_explain_tells_what_was_looked_into(
    queries: Queries, collector: Collector, hello: Any, told: Any, diagnosis: Any
) -> None:
    """Beside the flow; null where nobody looked."""
    now = collector.now()
    collector.roster.hear(hello("pc-1"), now)
    for record in collector.flows:
        record.fold(told(now - 5, Outcome.TIMEOUT))
        if record.key.port == 8080:
            made = diagnosis()
            record.diagnosed = Diagnosed(now - 2, made, find(made))
    answer = await queries.explain({"source": "pc-1", "destination": "web-1"})
    checks = {flow["port"]: flow["diagnosis"] for flow in answer["flows"]}
    assert (checks[9090], checks[8080]["check"]) == (None, "c0")


async def test_explain_can_be_asked_of_one_port(queries: Queries) -> None:
    """The one that is dialled."""
    answer = await queries.explain({"source": "pc-1", "destination": "web-1", "port": 9090})
    assert [flow["service"] for flow in answer["flows"]] == ["shop:9090"]


async def test_explain_knows_hosts_by_their_addresses(queries: Queries) -> None:
    """And says whose those are."""
    by_name = await queries.explain({"source": "pc-1", "destination": "web-1"})
    assert by_name["hosts"] == {}
    answer = await queries.explain({"source": "10.0.1.1", "destination": "10.0.0.1"})
    assert answer["flows"] == by_name["flows"]
    assert answer["hosts"] == {"10.0.1.1": "pc-1", "10.0.0.1": "web-1"}


@pytest.mark.parametrize("query", ["flows", "history", "map"])
async def test_filters_know_hosts_by_their_addresses(
    queries: Queries, collector: Collector, query: str
) -> None:
    """Of now and of the past; an address that nobody has is refused as by `explain`."""
    ask = queries.endpoints()[query]
    if query != "history":  # without a store there is none
        by_name = await ask({"filters": {"source": "pc-1", "destination": "web-1"}})
        by_address = await ask({"filters": {"source": "10.0.1.1", "destination": "10.0.0.1"}})
        assert by_address == by_name
    code, message = await refusal(ask({"filters": {"source": "10.0.1.2"}}))
    assert (code, message.partition(";")[0]) == ("404", "no host has the address 10.0.1.2")


async def test_explain_tells_of_the_address_that_was_given(collector_of: Any) -> None:
    """If that is dialled; else of all."""
    two = collector_of(OFFICE_OF_TWO)
    queries = Queries(two)

    async def dialled(destination: str) -> list[str]:
        answer = await queries.explain({"source": "pc-1", "destination": destination})
        return [flow["address"] for flow in answer["flows"]]

    assert await dialled("web-1") == ["10.0.0.1", "fd00::5"]
    assert await dialled("fd00:0::5") == ["fd00::5"]


OFFICE_OF_TWO = """
[roles.web]
listens = { "web:8080" = {} }
[roles.browser]
connects = ["web:8080"]
[hosts.web-1]
roles = ["web"]
addresses = ["10.0.0.1", "fd00::5"]
[hosts.pc-1]
roles = ["browser"]
"""


@pytest.mark.parametrize(
    ("asked", "code", "message"),
    [
        ({}, "400", "source: expected a host"),
        ({"source": "pc-1"}, "400", "destination: expected a host"),
        ({"destination": "web-1"}, "400", "source: expected a host"),
        ({"source": 7, "destination": "web-1"}, "400", "source: expected a host"),
        (
            {"source": "pc-1", "destination": "web-1", "port": "8080"},
            "400",
            "port: expected a number",
        ),
        (
            {"source": "pc-1", "destination": "web-1", "port": True},
            "400",
            "port: expected a number",
        ),
        (
            {"source": "pc-2", "destination": "web-1"},
            "404",
            "unknown host 'pc-2'; did you mean pc-1?",
        ),
        (
            {"source": "pc-1", "destination": "10.0.0.9"},
            "404",
            "no host has the address 10.0.0.9; the nearest are 10.0.0.2 (db-1), 10.0.0.1 (web-1), "
            "10.0.1.1 (pc-1)",
        ),
        (
            {"source": "db-1", "destination": "pc-1"},
            "404",
            "the topology has no flow from db-1 to pc-1",
        ),
        (
            {"source": "pc-1", "destination": "web-1", "port": 80},
            "404",
            "the topology has no flow from pc-1 to web-1 on port 80; it does on 8080, 9090",
        ),
    ],
)
async def test_what_cannot_be_explained_is_refused(
    queries: Queries, asked: dict[str, Any], code: str, message: str
) -> None:
    """With what is wrong, or the ports on which there are flows."""
    assert await refusal(queries.explain(asked)) == (code, message)


# The rest.


async def test_the_topology_is_the_one_in_force(queries: Queries) -> None:
    """With its hosts as topology and announcements make them."""
    answer = await queries.topology({})
    assert [host["host"] for host in answer["hosts"]] == ["web-1", "db-1", "pc-1"]


async def test_agents_and_status_count_the_same(queries: Queries) -> None:
    """Nobody has reported yet."""
    agents = (await queries.agents({}))["agents"]
    status = await queries.status({})
    assert status["agents"]["absent"] == len(agents) == 3
    assert status["flows"]["unknown"] == 4
    assert status["refused_messages"] == {}


async def test_queries_are_answered_while_a_topology_is_taken_up(
    collector_of: Any, openuem: Any, tmp_path: Any
) -> None:
    """The flows of the one before are still there for a moment, and their services are not."""
    collector = collector_of(openuem())
    queries = Queries(collector)
    collector.adopt(parse_topology("[hosts.x]\nroles = []", tmp_path / "topology.toml"))
    for by in ("role", "host", "row"):
        assert "rows" in await queries.map({"by": by})
    for name in ("agents", "flows", "status", "topology"):
        assert await queries.endpoints()[name]({})


# Rows of port tables, and details.


@pytest.fixture
def openuem_queries(collector_of: Any, openuem: Any) -> Queries:
    return Queries(collector_of(openuem(2)))


async def test_a_row_is_a_filter_and_is_named(openuem_queries: Queries) -> None:
    """Beside others, and also where no flow is left of it."""
    answer = await openuem_queries.flows({"filters": {"row": "7", "destination": "nats-server-2"}})
    assert [flow["source"] for flow in answer["flows"]] == ["agent-worker-1", "agent-worker-2"]
    assert [row["row"] for row in answer["rows"]] == [7]
    none = await openuem_queries.flows({"filters": {"row": "7", "source": "console-1"}})
    assert (none["flows"], none["rows"]) == ([], answer["rows"])
    assert (await openuem_queries.flows({}))["rows"] is None


async def test_the_map_of_a_row_is_of_its_flows(openuem_queries: Queries) -> None:
    """By role, and as the rows of the table that are meant."""
    matrix = await openuem_queries.map({"filters": {"row": "7"}})
    assert [row["name"] for row in matrix["rows"]] == ["agent-worker"]
    table = await openuem_queries.map({"by": "row", "filters": {"row": "5432"}})
    assert [row["row"] for row in table["rows"]] == [13, 14, 15, 16, 17, 18]
    assert {row["flows"] for row in table["rows"]} == {4}


@pytest.mark.parametrize("row", ["22", "nonsense", ""])
async def test_a_row_that_is_none_is_refused(openuem_queries: Queries, row: str) -> None:
    code, message = await refusal(openuem_queries.flows({"filters": {"row": row}}))
    assert code == "404"
    assert message.startswith(f"unknown row {row!r}: there are 21, see `reachmap map --by row`")


async def test_details_are_what_explain_adds(queries: Queries) -> None:
    """To each flow, and to none unless asked."""
    ends = {"source": "pc-1", "destination": "web-1"}
    explained = (await queries.explain(ends))["flows"]
    assert (await queries.flows({"filters": ends, "details": True}))["flows"] == explained
    plain = (await queries.flows({"filters": ends}))["flows"]
    added = {"advice", "settled_by", "requests", "diagnosis"}
    assert [explained[0].keys() - flow.keys() for flow in plain] == [added, added]
    code, message = await refusal(queries.flows({"details": "yes"}))
    assert (code, message) == ("400", "details: expected true or false")


async def every_page(query: Any, parameters: dict[str, Any], rows: str) -> tuple[Any, int]:
    """What the pages of an answer come to, which are alike but for their rows; how many."""
    pages: list[Any] = []
    after: Any = None
    while not pages or after is not None:
        pages.append(await query({**parameters, "after": after}))
        after = pages[-1].pop("next")
    found = [row for page in pages for row in page.pop(rows)]
    assert all(page == pages[0] for page in pages)
    return pages[0] | {rows: found}, len(pages)


@pytest.mark.parametrize("filters", [{}, {"role": "browser"}, {"state": "exposed"}])
async def test_the_matrix_by_host_has_each_host_on_one_page(
    queries: Queries, collector: Collector, monkeypatch: pytest.MonkeyPatch, filters: Any
) -> None:
    """However many fit; the columns are those of all pages on each."""
    asked = {"by": "host", "filters": filters}
    whole = await queries.map(asked)
    assert whole.pop("next") is None
    assert whole == views.matrix(
        Overview(collector.states(), collector.topology, Filters(**filters)).tallies(By.HOST),
        By.HOST,
    )
    monkeypatch.setattr("reachmap_collector.queries._HOSTS", 1)
    assert await every_page(queries.map, asked, "rows") == (whole, max(1, len(whole["rows"])))
    monkeypatch.setattr("reachmap_collector.queries._HOSTS", 1000)
    monkeypatch.setattr("reachmap_collector.pages.OCTETS", 1)
    assert (await every_page(queries.map, asked, "rows"))[0] == whole


@pytest.mark.parametrize(("name", "bound"), [("queries._HOSTS", 1), ("pages.OCTETS", 1)])
async def test_a_topology_of_many_hosts_comes_in_pages(
    queries: Queries, monkeypatch: pytest.MonkeyPatch, name: str, bound: int
) -> None:
    """Ten thousand of them are more than the bus takes at once."""
    whole = await queries.topology({})
    assert whole.pop("next") is None
    monkeypatch.setattr(f"reachmap_collector.{name}", bound)
    assert await every_page(queries.topology, {}, "hosts") == (whole, 3)
    code, message = await refusal(queries.topology({"after": "gone-1"}))
    assert (code, message) == ("404", "after: the topology has no host 'gone-1' any more")


async def test_a_moment_is_all_of_it_at_once(
    queries: Queries, collector: Collector, hello: Any
) -> None:
    """The same as one by one."""
    collector.roster.hear(hello("pc-1"), collector.now())
    moment = queries.moment()
    assert len(moment.states) == (await queries.flows({}))["total"]
    assert moment.heard == [collector.roster.current("pc-1").last_heard]
    status = await queries.status({})
    assert moment.status | {"now": status["now"]} == status


async def test_the_series_of_flows_are_what_their_answers_say(
    queries: Queries, collector: Collector, hello: Any, told: Any
) -> None:
    """Of those that fit the filters, in the same order."""
    collector.roster.hear(hello("pc-1"), collector.now())
    for number, record in enumerate(collector.flows):
        if number % 3:
            outcome = [*Outcome][number % len(Outcome)]
            record.fold(told(collector.now(), outcome, certificate_until=2_000_000_000 + number))
    for filters in ({}, {"source": "pc-1"}, {"role": "shop"}, {"state": "unknown"}):
        flows = (await queries.flows({"filters": filters}))["flows"]
        found = await queries.series({"filters": filters})
        assert found and found == [{name: one[name] for name in found[0]} for one in flows]


async def test_no_more_series_are_given_than_a_scrape_bears(
    queries: Queries, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for more hears how many there are, and how to ask for less; nothing is judged."""
    count = len(collector.flows)
    monkeypatch.setattr(queries_module, "MOST_FLOWS", count)
    assert len(await queries.series({})) == count
    monkeypatch.setattr(queries_module, "MOST_FLOWS", count - 1)
    code, message = await refusal(queries.series({}))
    assert code == "400"
    assert message.startswith(f"per_flow: {count} flows fit, and one scrape has series for at most")
    assert message.endswith("narrow it by source, destination, service, role, state, row")
    assert len(await queries.series({"filters": {"source": "pc-1"}})) < count


async def test_series_are_of_one_map(
    queries: Queries, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it has other flows before all are judged, it begins anew with those."""
    monkeypatch.setattr(queries_module, "_IN_A_TURN", 1)
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(queries.series({}))
        await asyncio.sleep(0)
        fewer = [*collector.flows.expected][1:]
        collector.flows.expect(fewer, collector.now())
    found = [(one["source"], one["destination"], one["port"]) for one in asking.result()]
    assert found == [(one.key.source, one.key.destination, one.key.port) for one in fewer]


async def test_a_rule_names_the_only_address_that_its_source_has(
    queries: Queries, collector: Collector, told: Any, hello: Any
) -> None:
    """Where the check did not say which it came from."""
    for record in collector.flows:
        record.fold(told(collector.now(), Outcome.REJECTED, local=""))
    collector.roster.hear(hello("pc-1"), collector.now())
    [flow] = (await queries.explain({"source": "pc-1", "destination": "web-1", "port": 8080}))[
        "flows"
    ]
    assert flow["requests"]["plain"].startswith(
        "allow tcp from 10.0.1.1 (pc-1) to 10.0.0.1 (web-1)"
    )


async def test_every_agent_is_on_one_page(collector_of: Any, hello: Any) -> None:
    """However many there are, none is lost between pages, and both of one name are on one."""
    collector = collector_of("")
    now = collector.now()
    names = [f"pc-{number}" for number in range(2000)]
    for name in names:
        collector.roster.hear(hello(name, capabilities=("x" * 400,)), now)
    for name in names[::3]:
        for later, boot in enumerate(("boot-2", "boot-1"), 1):
            collector.roster.hear(hello(name, boot, capabilities=("x" * 400,)), now + later)
    queries = Queries(collector)
    pages: list[Any] = []
    after: Any = None
    while not pages or after is not None:
        text = json.dumps(await queries.agents({"after": after}))
        assert len(text) < codec.MAX_MESSAGE
        pages.append(json.loads(text))
        after = pages[-1]["next"]
    assert len(pages) > 3
    found = [row["agent"] for page in pages for row in page["agents"]]
    assert found == sorted([*names, *names[::3]])
    of_page = [{row["agent"] for row in page["agents"]} for page in pages]
    assert sum(map(len, of_page)) == len(names)


async def test_a_page_of_agents_that_nobody_gave_is_refused(queries: Queries) -> None:
    for query in (queries.agents, queries.topology):
        code, message = await refusal(query({"after": ["x"]}))
        assert (code, message) == ("400", "after: expected what the page before gave as `next`")


# How far a deployment is.


async def test_progress_counts_agents_and_checks(
    queries: Queries, collector: Collector, hello: Any, told: Any
) -> None:
    """Of expected agents those that are fresh, and of flows those that were checked since then."""
    begin = await queries.progress({})
    assert (begin["flows"], begin["checked"]) == (4, 0)
    assert (begin["expected"], begin["fresh"], begin["missing"]) == (
        3,
        0,
        ["db-1", "pc-1", "web-1"],
    )
    collector.roster.hear(hello("pc-1"), collector.now())
    first, second, *_ = collector.flows
    first.fold(told(collector.now() - 60, Outcome.OPEN))
    second.fold(told(collector.now() + 1, Outcome.OPEN))
    now = await queries.progress({"since": begin["now"]})
    assert (now["checked"], now["fresh"], now["missing"]) == (1, 1, ["db-1", "web-1"])
    assert (await queries.progress({}))["checked"] == 2
    assert sum(now["states"].values()) == 4
    assert (await refusal(queries.progress({"since": "soon"})))[0] == "400"


async def test_a_topology_has_the_same_fingerprint_whatever_agents_say(
    queries: Queries, collector: Collector, collector_of: Any, hello: Any, office_text: str
) -> None:
    """And another one when anything in it differs."""
    before = (await queries.progress({}))["topology"]
    collector.roster.hear(hello("pc-1", addresses=("10.9.9.9",)), collector.now())
    collector.planning.compile()
    assert (await queries.progress({}))["topology"] == before
    for old, new in (("10.0.0.1", "10.0.0.3"), ("only the shop", "just the shop")):
        other = Queries(collector_of(office_text.replace(old, new)))
        assert (await other.progress({}))["topology"] != before
