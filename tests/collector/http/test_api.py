"""The API's answers and refusals, over a real connection."""

import json
from typing import Any

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from reachmap_collector import documents
from reachmap_collector import queries as queries_module
from reachmap_collector.errors import StoreError
from reachmap_collector.http import http_settings
from reachmap_collector.http.openapi import description
from reachmap_collector.http.server import MAX_HEAD
from reachmap_collector.planner import FlowKey
from reachmap_collector.queries import Queries
from reachmap_collector.store.api import Batch, Transition
from reachmap_collector.views import timestamp
from reachmap_shared import codec
from reachmap_shared.vocabulary import Outcome, Transport

T = 1_700_000_000.0
TOKEN = "0123456789abcdef"
GUARDS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


@pytest.fixture
def collector(collector_of: Any, openuem: Any, hello: Any, told: Any) -> Any:
    made = collector_of(openuem(2))
    now = made.now()
    for name in made.members:
        made.roster.hear(hello(name), now)
    for number, record in enumerate(made.flows):
        if number % 7:
            record.fold(told(now, [*Outcome][number % len(Outcome)]))
    return made


@pytest.fixture
def settings(port: int) -> Any:
    return http_settings(f"127.0.0.1:{port}")


def validated(answer: Any, path: str) -> Any:
    """An answer's JSON, which is as the API's own description says."""
    document = description(needs_token=False)
    content = document["paths"][path]["get"]["responses"][str(answer.status)]["content"]
    schema = content[answer.headers["content-type"]]["schema"]
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(
        answer.json
    )
    return answer.json


def problem(answer: Any, status: int) -> str:
    """The detail of an error, which is one as RFC 9457 has it."""
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    documents.Problem.model_validate(answer.json, strict=True)
    assert (answer.json["status"], answer.json["type"]) == (status, "about:blank")
    assert GUARDS.items() <= answer.headers.items()
    detail: str = answer.json["detail"]
    return detail


async def test_every_query_is_answered_as_on_the_bus(
    served: Any, settings: Any, collector: Any
) -> None:
    """The same JSON, as described, with headers that keep a browser from making more of it."""
    queries = Queries(collector)
    async with served(settings, collector) as client:
        for name, parameters, target in (
            ("map", {}, "/api/v1/map"),
            ("map", {"by": "row", "filters": {"row": "7"}}, "/api/v1/map?by=row&row=7"),
            ("topology", {}, "/api/v1/topology"),
            ("flows", {"filters": {"state": "broken"}}, "/api/v1/flows?state=broken"),
            ("flows", {"details": True}, "/api/v1/flows?details=true"),
            (
                "explain",
                {"source": "console-1", "destination": "agent-1", "port": 2022},
                "/api/v1/explain?source=console-1&destination=agent-1&port=2022",
            ),
        ):
            answer = await client.get(target)
            assert answer.status == 200
            assert GUARDS.items() <= answer.headers.items()
            assert "server" not in answer.headers
            found = validated(answer, target.partition("?")[0])
            assert found == json.loads(json.dumps(await queries.endpoints()[name](parameters)))
        for path in ("/api/v1/agents", "/api/v1/status"):  # which tell ages
            validated(await client.get(path), path)


async def test_flows_come_page_after_page(served: Any, settings: Any, collector_of: Any) -> None:
    """By a word that is passed on, until there is no more."""
    rows = "\n".join(
        f'pc-{n} = {{ roles = ["pc"], addresses = ["10.0.{n >> 8}.{n & 255}"] }}'
        for n in range(1200)
    )
    collector = collector_of(
        '[roles.console]\nconnects = ["pc:22"]\n[roles.pc]\nlistens = { "pc:22" = {} }\n'
        f'[hosts]\nconsole-1 = {{ roles = ["console"] }}\n{rows}'
    )
    async with served(settings, collector) as client:
        found: list[str] = []
        target = "/api/v1/flows"
        pages = 0
        while target:
            page = validated(await client.get(target), "/api/v1/flows")
            assert page["total"] == 1200
            found += [flow["destination"] for flow in page["flows"]]
            pages += 1
            target = f"/api/v1/flows?after={page['next']}" if page["next"] else ""
    assert pages == 3
    assert sorted(found) == sorted(f"pc-{n}" for n in range(1200))


@pytest.fixture
def with_past(collector_of: Any, store: Any, office_text: str, observation: Any) -> Any:
    """A collector whose store tells of a flow that was open and is not, three times over."""
    made = collector_of(office_text, store=store)
    key = FlowKey("pc-1", "web-1", "10.0.0.1", 8080, Transport.TCP)
    for number in range(6):
        outcome = (Outcome.OPEN, Outcome.TIMEOUT)[number % 2]
        detail = codec.encode(observation(outcome))
        at, is_open = T + number, outcome is Outcome.OPEN
        store.commit(
            Batch((Transition("pc-1", "b", number, key, "web:8080", at, outcome, is_open, detail),))
        )
    yield made
    made._keeper.close()


async def test_the_past_is_told(served: Any, settings: Any, with_past: Any) -> None:
    """History page by page, what changed between two times, and changes from where one was."""
    async with served(settings, with_past) as client:

        async def get(target: str) -> Any:
            answer = await client.get(f"/api/v1/{target}")
            assert answer.status == 200, answer.body
            return validated(answer, f"/api/v1/{target.partition('?')[0]}")

        found, more = [], "history?source=pc-1&limit=4"
        while more:
            page = await get(more)
            found += [one["change"] for one in page["transitions"]]
            more = f"history?limit=4&after={page['next']}" if page["next"] else ""
        assert found == ["broke", "healed", "broke", "healed", "broke", "appeared"]
        since, until = timestamp(T + 0.5), timestamp(T + 3.5)
        differs = await get(f"diff?since={since}&until={until}&service=web:8080")
        assert {change: count for change, count in differs["counts"].items() if count} == {
            "broke": 1
        }
        assert differs["next"] is None
        stands = await get("changes")
        assert stands["changes"] == []
        first = await get("changes?after=0&destination=web-1")
        assert [one["outcome"] for one in first["changes"]] == ["open", "timeout"] * 3
        assert first["last"] == stands["last"]
        assert (await get(f"changes?after={stands['last'] + 1}"))["reset"]
        trend = await get("trend?source=pc-1&destination=web-1&port=8080&steps=3")
        assert trend["flows"] == []


async def test_a_store_that_cannot_be_read_is_said(
    served: Any, settings: Any, with_past: Any, store: Any, monkeypatch: Any
) -> None:
    """And it is no fault of the question's."""

    def fail(*_: Any, **__: Any) -> Any:
        raise StoreError("disk I/O error")

    monkeypatch.setattr(store, "entries", fail)
    async with served(settings, with_past) as client:
        answer = await client.get("/api/v1/history")
        assert problem(answer, 503) == "the past cannot be read now: disk I/O error"
        validated(answer, "/api/v1/history")


async def test_metrics_are_prometheus_s(served: Any, settings: Any, collector: Any) -> None:
    """With the process's own; of each flow only on request."""
    async with served(settings, collector) as client:
        for target, name, is_there in (
            ("/metrics", "reachmap_flows", True),
            ("/metrics", "process_resident_memory_bytes", True),
            ("/metrics", "reachmap_alerts", True),
            ("/metrics", "probe_success", False),
            ("/metrics?per_flow=false", "probe_success", False),
            ("/metrics?per_flow=true", "probe_success", True),
            ("/metrics?per_flow=true", "reachmap_flows", True),
            ("/metrics?per_flow=true", "reachmap_alerts", True),
            ("/metrics?per_flow=true&state=ok", "probe_success", True),
            ("/metrics?state=ok", "probe_success", False),
        ):
            answer = await client.get(target)
            assert answer.status == 200
            assert answer.headers["content-type"].startswith("text/plain; version=")
            names = {one.name for one in text_string_to_metric_families(answer.body.decode())}
            assert (name in names) == is_there


async def test_series_of_flows_are_bounded_and_narrowed(
    served: Any, settings: Any, collector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scrape of too many is refused before any of it is sent."""
    async with served(settings, collector) as client:
        answer = await client.get("/metrics?per_flow=true&destination=nats-server-1")
        families = {one.name: one for one in text_string_to_metric_families(answer.body.decode())}
        found = {one.labels["destination"] for one in families["probe_success"].samples}
        assert found == {"nats-server-1"}
        assert (await client.get("/metrics?per_flow=true", "HEAD")).body == b""
        monkeypatch.setattr(queries_module, "MOST_FLOWS", 3)
        detail = problem(await client.get("/metrics?per_flow=true"), 400)
        assert "series for at most 3: narrow it by source" in detail
        assert problem(await client.get("/metrics?per_flow=true&source=x"), 404)
        assert (await client.get("/metrics")).status == 200


async def test_the_process_says_that_it_lives_and_is_ready(
    served: Any, settings: Any, collector: Any
) -> None:
    """Ready is connected to the bus."""
    connected = [False]
    async with served(settings, collector, lambda: connected[0]) as client:
        assert (await client.get("/healthz")).json == {"status": "ok"}
        assert problem(await client.get("/readyz"), 503)
        connected[0] = True
        assert (await client.get("/readyz")).status == 200


@pytest.mark.parametrize(
    ("target", "status", "detail"),
    [
        ("/", 404, "Not Found"),
        ("/api/v1/nothing", 404, "Not Found"),
        ("/api/v1/map/", 404, "Not Found"),
        ("/api/v1/map?by=colour", 400, "by: expected one of role, host, row"),
        ("/api/v1/flows?source=agent-11", 404, "unknown host 'agent-11'; did you mean agent-1"),
        ("/api/v1/flows?row=99", 404, "unknown row '99': there are 21"),
        ("/api/v1/flows?after=x", 404, "after: expected what a page gave as `next`"),
        ("/api/v1/flows?after=WyJ4Il0", 400, "after: expected what the page before gave as `next`"),
        ("/api/v1/explain?source=agent-1", 400, "destination: expected it"),
        ("/api/v1/diff", 400, "since: expected it"),
        ("/api/v1/history?since=yesterday", 400, "since: expected RFC 3339 with a time zone"),
        ("/api/v1/history?limit=+5", 400, "limit: expected a number from 1 to 500"),
        ("/api/v1/history?state=ok", 400, "unknown parameter 'state'"),
        ("/api/v1/changes?after=-1", 400, "after: expected a number from 0"),
        ("/healthz?x=1", 400, "unknown parameter 'x': expected none"),
    ],
)
async def test_a_wrong_question_is_refused(
    served: Any, settings: Any, collector: Any, target: str, status: int, detail: str
) -> None:
    """In one form, with what was expected."""
    async with served(settings, collector) as client:
        assert problem(await client.get(target), status).startswith(detail)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_nothing_can_be_changed(
    served: Any, settings: Any, collector: Any, method: str
) -> None:
    """It is read-only."""
    async with served(settings, collector) as client:
        answer = await client.get("/api/v1/map", method)
        problem(answer, 405)
        assert "GET" in answer.headers["allow"]


async def test_the_head_of_an_answer_can_be_had(served: Any, settings: Any, collector: Any) -> None:
    async with served(settings, collector) as client:
        answer = await client.get("/api/v1/map", "HEAD")
        assert (answer.status, answer.body) == (200, b"")


async def test_what_is_sent_is_bounded(served: Any, settings: Any, collector: Any) -> None:
    """No body, and no endless head; the connection ends, and nobody else notices."""
    async with served(settings, collector) as client:
        big = f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {'x' * MAX_HEAD}"
        assert (await client.raw(big.encode())).startswith(b"HTTP/1.1 400")
        for lines in (
            "Content-Length: 5\r\n\r\nhello",
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ):
            told = await client.raw(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}".encode())
            assert told.startswith(b"HTTP/1.1 413")
        assert (await client.raw(b"\x16\x03\x01 nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400")
        assert (await client.get("/healthz")).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:8686", 200),
        ("LOCALHOST", 200),
        ("[::1]:8686", 200),
        ("evil.example", 421),
        ("evil.example:8686", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ],
)
async def test_a_page_on_the_web_cannot_read_it(
    served: Any, settings: Any, collector: Any, host: str, status: int
) -> None:
    """Whose own name leads to loopback: without a token, only names of this host are heard."""
    async with served(settings, collector) as client:
        answer = await client.get("/api/v1/status", Host=host)
        assert answer.status == status
        if status != 200:
            problem(answer, status)


@pytest.mark.parametrize(
    "shown",
    [
        None,
        "",
        "Bearer",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \xfc",
    ],
)
async def test_without_the_token_nothing_is_told(
    served: Any, port: int, tmp_path: Any, collector: Any, shown: str | None
) -> None:
    """But that somebody is there."""
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(TOKEN)
    settings = http_settings(f"127.0.0.1:{port}", path)
    headers = {} if shown is None else {"Authorization": shown}
    async with served(settings, collector) as client:
        for target in ("/api/v1/map", "/metrics", "/openapi.json", "/nothing"):
            answer = await client.get(target, **headers)
            assert "expected Authorization: Bearer" in problem(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
            told = await client.get(target, Authorization=f"Bearer {TOKEN}")
            assert told.status == (404 if target == "/nothing" else 200)
        for target in ("/healthz", "/readyz"):
            assert (await client.get(target, **headers)).status == 200
        # Any name will do, since no page on the web has the token.
        answer = await client.get("/api/v1/map", Host="x.example", Authorization=f"Bearer {TOKEN}")
        assert answer.status == 200


async def test_a_failure_is_the_log_s_and_not_the_client_s(
    served: Any, settings: Any, collector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is told, and the next question is answered."""

    def fail() -> Any:
        raise RuntimeError("a secret of the collector's")

    async with served(settings, collector) as client:
        with monkeypatch.context() as patch:
            patch.setattr(collector, "agents", fail)
            answer = await client.get("/api/v1/agents")
        assert problem(answer, 500) == "the collector failed; its log says why"
        assert (await client.get("/api/v1/agents")).status == 200
