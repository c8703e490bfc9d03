"""The JSON that programs read, held to its published schemas: real answers and made-up ones."""

import json
from typing import Any

import jsonschema
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector import documents, rules, views
from reachmap_collector.advice import what_to_do, what_would_settle
from reachmap_collector.evidence import looked_into
from reachmap_collector.flowmap.records import Told
from reachmap_collector.queries import Queries
from reachmap_shared.messages import Observation
from reachmap_shared.vocabulary import AnsweredBy, ListenerState, Outcome

Json = dict[str, Any]


def closed(schema: Any) -> Any:
    """The schema, with nothing allowed that it does not name: what reachmap itself may give."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if "properties" in made and isinstance(made["properties"], dict) and "type" in made:
        made["additionalProperties"] = False
    return made


def validator(name: str) -> Any:
    """Of what a command gives, to the letter."""
    schema = closed(documents.schema(name))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


VALIDATORS = {name: validator(name) for name in documents.DOCUMENTS}


def holds(name: str, answer: Any) -> None:
    VALIDATORS[name].validate(json.loads(json.dumps(answer)))


@pytest.fixture
def queries(
    collector_of: Any, openuem: Any, hello: Any, listener: Any, told: Any, mishear: Any
) -> Queries:
    """Of a deployment in which everything occurs: every outcome, and agents in several states."""
    collector = collector_of(openuem(2))
    now = collector.now()
    for name in collector.members:
        if not name.startswith("postgres"):
            report = listener("nats-server:4433", ListenerState.CEDED, "x", "nats-server")
            collector.roster.hear(hello(name, listeners=(report,)), now)
    for later, boot in enumerate(("boot-2", "boot-1"), 1):  # two at once: the first speaks on
        collector.roster.hear(hello("agent-1", boot), now + later)
    for number, record in enumerate(collector.flows):
        if number % 7:
            outcome = list(Outcome)[number % len(Outcome)]
            until = 2_000_000_000
            record.fold(told(now, outcome, certificate_until=until, seen_as="10.9.9.9:1"))
    mishear(collector)
    return Queries(collector)


async def test_every_answer_is_what_its_schema_says(queries: Queries) -> None:
    """With no field besides."""
    flows = (await queries.flows({}))["flows"]
    assert {flow["outcome"] for flow in flows} >= set(Outcome)
    holds("flows", flows)
    explained = (await queries.flows({"details": True}))["flows"]
    holds("explain", explained)
    assert any(flow["requests"] for flow in explained)
    one = flows[0]
    ends = {"source": one["source"], "destination": one["destination"]}
    holds("explain", (await queries.explain(ends))["flows"])
    agents = (await queries.agents({}))["agents"]
    assert {row["state"] for row in agents} >= {"fresh", "absent", "conflict"}
    holds("agents", agents)
    holds("status", await queries.status({}))
    holds("topology", await queries.topology({}))
    for by in views.By:
        holds("map", await queries.map({"by": by}))


async def test_every_answer_of_an_empty_deployment_is_too(collector_of: Any) -> None:
    """Where nothing is, nothing is promised."""
    queries = Queries(collector_of(""))
    holds("flows", (await queries.flows({}))["flows"])
    holds("agents", (await queries.agents({}))["agents"])
    holds("status", await queries.status({}))
    holds("topology", await queries.topology({}))
    for by in views.By:
        holds("map", await queries.map({"by": by}))


numbers = st.integers(-(10**7), 10**7)

observations = st.builds(
    Observation,
    slot=st.just(0),
    at_ms=st.just(0),
    outcome=st.sampled_from(Outcome),
    answered_by=st.none() | st.sampled_from(AnsweredBy),
    healthy=st.booleans(),
    name_us=numbers,
    connect_us=numbers,
    answer_us=numbers,
    local=st.sampled_from(["", "10.0.1.1:40000", "[fd00::1]:4", "nonsense", "10.0.1.1"]),
    evidence=st.lists(st.text(max_size=20), max_size=3).map(tuple),
    window=st.booleans(),
    certificate_until=st.none() | st.integers(-(10**12), 10**14),
    seen_as=st.text(max_size=30),
)

pulses = st.fixed_dictionaries(
    dict.fromkeys(("made", "lost", "waiting", "late_ms", "told", "span_ms"), numbers)
)


@examples(150)
@given(seen=st.lists(observations, max_size=6), heard=st.sets(st.sampled_from(["pc-1", "web-1"])))
def test_whatever_is_seen_a_flow_is_what_its_schema_says(
    scene: Any, seen: list[Observation], heard: set[str]
) -> None:
    """Agents may send anything that a message can hold."""
    stage = scene()
    for agent in heard:
        stage.hear(agent, 100.0)
    for at, one in enumerate(seen):
        for record in stage.flows:
            record.fold(Told(90.0 + at, "boot-1", at, one))
    flows = []
    for judgement in stage.judgements(100.0):
        rows = [
            views.table_row(row)
            for row in views.table_rows(stage.topology, judgement.record.expected)
        ]
        flows.append(views.flow(judgement) | {"rows": rows})
        holds(
            "explain",
            [
                flows[-1]
                | {
                    "advice": what_to_do(judgement),
                    "settled_by": what_would_settle(judgement),
                    "requests": rules.texts(rules.request_for(judgement)),
                    "diagnosis": looked_into(judgement),
                }
            ],
        )
    holds("flows", flows)


@examples(50)
@given(said=pulses, changes_lost=numbers, skew_s=st.floats(-(10**9), 10**9))
def test_whatever_an_agent_says_its_row_is_what_its_schema_says(
    scene: Any, said: dict[str, int], changes_lost: int, skew_s: float
) -> None:
    """Nobody made fewer checks than none, whatever a pulse counts; nor does the status say so."""
    stage = scene()
    stage.hear("pc-1", 100.0, changes_lost=changes_lost)
    stage.pulse("pc-1", 100.0, skew_s, **said)
    holds("agents", stage.agents(100.0))
    holds("status", stage.status(100.0) | {"now": views.timestamp(100.0)})


@pytest.mark.parametrize("name", documents.DOCUMENTS)
def test_a_schema_bears_fields_of_later_versions(name: str) -> None:
    """Who validates with it is not broken by what is added; it says which dialect it is in."""
    schema = documents.schema(name)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "additionalProperties" not in {
        key
        for definition in schema.get("$defs", {}).values()
        if "properties" in definition
        for key in definition
    }


def test_a_validator_here_can_fail(scene: Any) -> None:
    """A field that is missing, one too many, and a word that is none."""
    good: Json = scene().status(100.0) | {"now": "2026-01-01T00:00:00.000Z"}
    holds("status", good)
    for wrong in (
        {**good, "more": 1},
        {key: value for key, value in good.items() if key != "state"},
        {**good, "state": "fine"},
        {**good, "flows": {"fine": 1}},
        {**good, "store": {**good["store"], "waiting": -1}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            holds("status", wrong)
