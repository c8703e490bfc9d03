"""What became of flows is told from a real store, by the names that hosts have now."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from reachmap_collector.collector import Collector
from reachmap_collector.planner import FlowKey
from reachmap_collector.queries import Queries
from reachmap_collector.recall import PAGE
from reachmap_collector.store.api import Batch, Transition
from reachmap_collector.views import timestamp
from reachmap_shared import codec
from reachmap_shared.errors import QueryRefused
from reachmap_shared.vocabulary import Outcome, Transport

OPEN, DOWN, REFUSED = Outcome.OPEN, Outcome.TIMEOUT, Outcome.REFUSED
T = 1_700_000_000.0

Past = Callable[..., None]


@pytest.fixture
def collector(collector_of: Any, store: Any, office_text: str) -> Any:
    made = collector_of(office_text, store=store)
    yield made
    made._keeper.close()


@pytest.fixture
def queries(collector: Collector) -> Queries:
    return Queries(collector)


@pytest.fixture
def past(store: Any, observation: Any) -> Past:
    """Writes one transition."""
    numbers = iter(range(1_000_000))

    def write(
        at: float,
        outcome: Outcome,
        source: str = "pc-1",
        destination: str = "web-1",
        service: str = "web:8080",
        address: str = "10.0.0.1",
        **changes: Any,
    ) -> None:
        key = FlowKey(source, destination, address, int(service.split(":")[1]), Transport.TCP)
        detail = codec.encode(observation(outcome, **changes))
        one = Transition(
            source, "b", next(numbers), key, service, T + at, outcome, outcome is OPEN, detail
        )
        store.commit(Batch(transitions=(one,)))

    return write


async def told(queries: Queries, **parameters: Any) -> list[tuple[Any, ...]]:
    """All pages of history, in short."""
    rows, after = [], None
    while True:
        page = await queries.endpoints()["history"]({**parameters, "after": after})
        rows += page["transitions"]
        after = page["next"]
        if after is None:
            return [(one["change"], one["was"], one["outcome"], one["source"]) for one in rows]


async def refusal(answer: Any) -> tuple[str, str]:
    with pytest.raises(QueryRefused) as caught:
        await answer
    return caught.value.code, str(caught.value)


async def test_history_is_newest_first_with_what_was_before(queries: Queries, past: Past) -> None:
    """Each change says what it was a change from, and what it means."""
    past(0, OPEN)
    past(10, DOWN)
    past(20, OPEN)
    past(5, REFUSED, service="shop:9090")
    assert await told(queries, filters={"service": "web:8080"}) == [
        ("healed", "timeout", "open", "pc-1"),
        ("broke", "open", "timeout", "pc-1"),
        ("appeared", None, "open", "pc-1"),
    ]
    since, until = timestamp(T + 5), timestamp(T + 20)
    found = await told(queries, since=since, until=until)
    assert [outcome for _, _, outcome, _ in found] == ["timeout", "refused"]


async def test_every_change_is_on_one_page(queries: Queries, past: Past, store: Any) -> None:
    """However many there are, also of one moment; and a role that few have is found all the same."""
    for number in range(30):
        past(number // 7, DOWN if number % 2 else OPEN)
    past(1, OPEN, "web-1", "db-1", "db:5432", "10.0.0.2")
    everything = await told(queries)
    assert len(everything) == 31
    assert await told(queries, limit=4) == everything
    assert await told(queries, filters={"role": "db"}) == [("appeared", None, "open", "web-1")]


async def test_a_page_of_much_to_tell_fits_the_bus(queries: Queries, past: Past) -> None:
    """Evidence as long as agents may make it."""
    for number in range(40):
        past(number, DOWN, evidence=("\u20ac" * 300,) * 16)
    page = await queries.endpoints()["history"]({})
    assert 0 < len(page["transitions"]) < 40
    assert len(await told(queries)) == 40


async def test_a_host_with_another_address_keeps_its_history(queries: Queries, past: Past) -> None:
    """It goes by the names of host and service; a comparison takes the addresses for one flow."""
    past(0, OPEN, address="10.9.9.9")
    past(10, DOWN, address="10.0.0.1")
    assert len(await told(queries, filters={"destination": "web-1"})) == 2
    answer = await queries.endpoints()["diff"](
        {"since": timestamp(T + 5), "until": timestamp(T + 20)}
    )
    [group] = answer["groups"]
    assert (group["change"], group["was"], group["outcome"]) == ("broke", "open", "timeout")


async def test_a_host_with_another_name_keeps_its_history(
    collector_of: Any, store: Any, past: Past, office_text: str
) -> None:
    """The topology says what it was called; the answer has both names."""
    text = office_text.replace("[hosts.pc-1]", '[hosts.pc-9]\nwas = ["pc-1"]')
    text = text.replace("[hosts.web-1]", '[hosts.www]\nwas = ["web-1", "web-0"]')
    collector = collector_of(text, store=store)
    queries = Queries(collector)
    with contextlib.closing(collector._keeper):
        past(0, OPEN, destination="web-0")
        past(10, DOWN)
        past(20, OPEN, "pc-9", "www")
        for asked in ({"source": "pc-9"}, {"source": "pc-1"}, {"destination": "www"}):
            page = await queries.endpoints()["history"]({"filters": asked})
            names = [
                (one["source"], one["destination"], one["source_then"], one["destination_then"])
                for one in page["transitions"]
            ]
            assert names == [
                ("pc-9", "www", "pc-9", "www"),
                ("pc-9", "www", "pc-1", "web-1"),
                ("pc-9", "www", "pc-1", "web-0"),
            ]
        answer = await queries.endpoints()["diff"](
            {"since": timestamp(T + 15), "until": timestamp(T + 30)}
        )
        [group] = answer["groups"]
        assert (group["change"], group["was"], group["sources"]) == ("healed", "timeout", ["pc-9"])


async def test_a_renamed_host_is_as_it_was_after_a_restart(
    collector_of: Any, store: Any, past: Past, office_text: str
) -> None:
    """The map begins from what was told under the name before."""
    past(0, OPEN)
    past(10, DOWN)
    text = office_text.replace("[hosts.pc-1]", '[hosts.pc-9]\nwas = ["pc-1"]')
    collector = collector_of(text, store=store)
    with contextlib.closing(collector._keeper):
        await collector.restore()
        [record] = [
            one
            for one in collector.flows
            if one.key.source == "pc-9" and str(one.expected.service) == "web:8080"
        ]
        assert record.last is not None
        assert (record.last.outcome, record.changed) == (DOWN, T + 10)


# Two times compared.


async def test_what_broke_healed_and_appeared_is_grouped_and_counted(
    queries: Queries, past: Past, collector: Collector
) -> None:
    """The gravest first; what changed and changed back is said too, and what did not is not."""
    past(0, OPEN)
    past(0, OPEN, "pc-2")
    past(0, DOWN, service="shop:9090")
    past(0, OPEN, "web-1", "db-1", "db:5432", "10.0.0.2")
    past(0, OPEN, "pc-3")
    past(10, DOWN)
    past(12, DOWN, "pc-2")
    past(11, OPEN, service="shop:9090")
    past(11, OPEN, "pc-1", "db-1", "db:5432", "10.0.0.2")  # forbidden
    past(11, DOWN, "web-1", "db-1", "db:5432", "10.0.0.2")
    past(12, OPEN, "web-1", "db-1", "db:5432", "10.0.0.2")
    past(13, OPEN, "pc-4")
    past(30, OPEN)
    answer = await queries.endpoints()["diff"](
        {"since": timestamp(T + 5), "until": timestamp(T + 20)}
    )
    assert {name: count for name, count in answer["counts"].items() if count} == {
        "broke": 2,
        "exposed": 1,
        "appeared": 1,
        "passing": 1,
        "healed": 1,
    }
    short = [
        (one["change"], one["service"], one["flows"], one["sources"]) for one in answer["groups"]
    ]
    assert short == [
        ("broke", "web:8080", 2, ["pc-1", "pc-2"]),
        ("exposed", "db:5432", 1, ["pc-1"]),
        ("appeared", "web:8080", 1, ["pc-4"]),
        ("passing", "db:5432", 1, ["web-1"]),
        ("healed", "shop:9090", 1, ["pc-1"]),
    ]
    assert answer["groups"][0]["first"] == timestamp(T + 10)
    assert answer["groups"][0]["last"] == timestamp(T + 12)
    narrowed = {"filters": {"role": "shop"}, "since": timestamp(T + 5), "until": timestamp(T + 20)}
    answer = await queries.endpoints()["diff"](narrowed)
    assert sum(answer["counts"].values()) == 2


async def test_the_end_of_a_span_is_in_it(queries: Queries, past: Past) -> None:
    """What came about at its beginning was so already; at its end, it is so now."""
    past(0, OPEN)
    past(10, DOWN)
    for since, until, counted in ((0, 10, 1), (0, 9.999, 0), (10, 20, 0), (-1, 10, 1)):
        answer = await queries.endpoints()["diff"](
            {"since": timestamp(T + since), "until": timestamp(T + until)}
        )
        assert sum(answer["counts"].values()) == counted


# What is new.


async def test_what_is_new_is_told_once_and_in_order(queries: Queries, past: Past) -> None:
    """After the place where the answer before ended, whatever the changes' own times are."""
    past(0, OPEN)
    begin = await queries.endpoints()["changes"]({})
    assert begin["changes"] == []
    past(10, DOWN)
    past(5, REFUSED, service="shop:9090")
    answer = await queries.endpoints()["changes"]({"after": begin["last"]})
    assert [one["outcome"] for one in answer["changes"]] == ["timeout", "refused"]
    assert answer["last"] == answer["changes"][-1]["sequence"]
    assert not answer["more"]
    again = await queries.endpoints()["changes"]({"after": answer["last"]})
    assert (again["changes"], again["last"]) == ([], answer["last"])


async def test_what_is_new_passes_over_what_the_filters_leave_out(
    queries: Queries, past: Past
) -> None:
    """Its place moves on all the same."""
    past(0, OPEN)
    past(1, OPEN, service="shop:9090")
    past(2, OPEN, "pc-2")
    answer = await queries.endpoints()["changes"]({"filters": {"source": "pc-1"}, "after": 0})
    assert [one["service"] for one in answer["changes"]] == ["web:8080", "shop:9090"]
    assert answer["last"] == (await queries.endpoints()["changes"]({}))["last"]


async def test_more_news_than_fit_come_page_by_page(
    queries: Queries, past: Past, store: Any, observation: Any
) -> None:
    """None is lost between pages, and none comes twice."""
    past(0, OPEN)
    first = store.history(limit=1).transitions[0]
    many = tuple(replace(first, number=1000 + n, at=T + n) for n in range(PAGE * 2 + 50))
    store.commit(Batch(transitions=many))
    found, after = [], 0
    while True:
        answer = await queries.endpoints()["changes"]({"after": after})
        found += [one["sequence"] for one in answer["changes"]]
        after = answer["last"]
        if not answer["more"]:
            break
    assert len(found) == len(set(found)) == len(many) + 1
    assert found == sorted(found)


async def test_a_place_of_another_store_is_told(queries: Queries, past: Past) -> None:
    """Whoever watched goes on from where this one stands."""
    past(0, OPEN)
    answer = await queries.endpoints()["changes"]({"after": 99})
    assert (answer["changes"], answer["last"], answer["reset"]) == ([], 1, True)


# Wrong questions.


@pytest.mark.parametrize("name", ["history", "diff", "changes"])
async def test_unknown_names_are_refused_with_those_that_are_near(
    queries: Queries, past: Past, name: str
) -> None:
    """What only the past knows is known."""
    past(0, OPEN, "pc-old", "gone-1", "old:1")
    query = queries.endpoints()[name]
    rest = {"since": timestamp(T)} if name == "diff" else {}
    for filters in ({"source": "pc-old"}, {"destination": "gone-1"}, {"service": "old:1"}):
        await query({"filters": filters, **rest})
    for kind, value, told in (
        ("source", "pc-2", "unknown host 'pc-2'; did you mean pc-1"),
        ("destination", "wbe-1", "unknown host 'wbe-1'; did you mean web-1"),
        ("service", "web:80", "unknown service 'web:80'; did you mean web:8080?"),
        ("role", "browsr", "unknown role 'browsr'; did you mean browser?"),
    ):
        code, text = await refusal(query({"filters": {kind: value}, **rest}))
        assert code == "404"
        assert told in text
    assert (await refusal(query({"filters": {"state": "ok"}, **rest})))[0] == "400"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("history", {"since": "yesterday"}),
        ("history", {"since": 7}),
        ("history", {"until": "2026-01-01T00:00:00"}),
        ("history", {"limit": 0}),
        ("history", {"limit": True}),
        ("history", {"after": [1]}),
        ("history", {"after": "x"}),
        ("history", {"after": [1 << 64, 0]}),
        ("history", {"filters": []}),
        ("history", {"filters": {"source": 1}}),
        ("diff", {}),
        ("diff", {"since": "2026-01-01T00:00:00Z", "after": -1}),
        ("changes", {"after": -1}),
        ("changes", {"after": "1"}),
        ("changes", {"after": 1 << 63}),
    ],
)
async def test_a_wrong_question_is_refused(
    queries: Queries, name: str, parameters: dict[str, Any]
) -> None:
    """With what was expected."""
    assert (await refusal(queries.endpoints()[name](parameters)))[0] == "400"


@pytest.mark.parametrize("name", ["history", "diff", "trend"])
async def test_a_span_that_ends_before_it_begins_is_refused(queries: Queries, name: str) -> None:
    """Rather than answered with nothing, as if nothing had happened."""
    asked = {"since": timestamp(T), "until": timestamp(T - 1), "source": "pc-1"}
    code, text = await refusal(queries.endpoints()[name](asked | {"destination": "web-1"}))
    assert (code, text) == ("404", "until: expected a time after since")


@pytest.mark.parametrize("name", ["history", "diff", "changes"])
async def test_a_store_that_is_away_is_said(queries: Queries, store: Any, name: str) -> None:
    """As the collector's trouble, and no wrong question."""
    store.is_away = True
    code, text = await refusal(queries.endpoints()[name]({"since": timestamp(T)}))
    assert (code, text) == ("503", "the past cannot be read now: the disk is full")


async def test_a_span_that_ends_before_it_begins_is_not_there(queries: Queries) -> None:
    """Both of its times are well-formed."""
    span = {"since": timestamp(T + 1), "until": timestamp(T)}
    code, text = await refusal(queries.endpoints()["diff"](span))
    assert (code, text) == ("404", "until: expected a time after since")


@pytest.mark.timeout(20)
async def test_a_trend_over_all_of_time_is_soon_told(queries: Queries) -> None:
    """Whoever asks so may be anybody with a browser."""
    ends = {"source": "pc-1", "destination": "web-1"}
    span = {"since": "0001-01-01T00:00:00Z", "until": "9999-12-31T23:59:59Z"}
    assert (await queries.endpoints()["trend"](ends | span))["flows"] == []
