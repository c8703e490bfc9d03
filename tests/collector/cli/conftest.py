"""A command line to type at, and a collector that answers it without a bus."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from click.testing import CliRunner, Result

from reachmap_collector.cli import export, main, query, status, topology
from reachmap_collector.cli.access import NATS_VARIABLE
from reachmap_collector.cli.options import STORE_VARIABLE
from reachmap_collector.collector import Collector
from reachmap_collector.queries import Queries
from reachmap_shared.vocabulary import Outcome

Reachmap = Callable[..., Result]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test's logging outlives its standard error, and no setting of the caller's counts."""
    monkeypatch.setattr("reachmap_shared.log.configure", lambda **_: None)
    for variable in (NATS_VARIABLE, STORE_VARIABLE):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def reachmap() -> Reachmap:
    """Runs a command in this process; its errors are the test's, unless a person is told."""

    def run(*arguments: str, **environment: str) -> Result:
        result = CliRunner().invoke(main, arguments, env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def without_next(page: dict[str, Any]) -> dict[str, Any]:
    """An answer of one page as what all of it comes to."""
    assert page.pop("next", None) is None
    return page


@pytest.fixture
def asked(collector_of: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Collector]:
    """Have every question answered by a collector of a deployment, which is returned."""

    def answering(text: str) -> Collector:
        collector: Collector = collector_of(text)
        queries = Queries(collector).endpoints()

        def ask(
            _nats: str | None,
            _context: str | None,
            name: str,
            parameters: Mapping[str, Any] | None = None,
        ) -> Any:
            given = json.loads(json.dumps(parameters or {}))
            return json.loads(json.dumps(asyncio.run(queries[name](given))))

        def ask_for_flows(
            nats: str | None,
            context: str | None,
            filters: Mapping[str, Any],
            *,
            details: bool = False,
        ) -> Any:
            return ask(nats, context, "flows", {"filters": filters, "details": details})

        for module in (export, query, status):
            monkeypatch.setattr(module, "ask", ask)

        def ask_for_map(nats: str | None, context: str | None, parameters: Any) -> Any:
            return without_next(ask(nats, context, "map", parameters))

        def ask_for_topology(nats: str | None, context: str | None) -> Any:
            return without_next(ask(nats, context, "topology"))

        monkeypatch.setattr(query, "ask_for_map", ask_for_map)
        monkeypatch.setattr(topology, "ask_for_topology", ask_for_topology)

        def ask_for_agents(nats: str | None, context: str | None) -> Any:
            return ask(nats, context, "agents")["agents"]

        for module in (export, query):
            monkeypatch.setattr(module, "ask_for_flows", ask_for_flows)
            monkeypatch.setattr(module, "ask_for_agents", ask_for_agents)
        return collector

    return answering


@pytest.fixture
def office(asked: Callable[[str], Collector], office_text: str, hello: Any, told: Any) -> Collector:
    """A collector of which pc-1 reports that all it may reach is open, but for the shop."""
    collector = asked(office_text)
    now = collector.now()
    collector.roster.hear(hello("pc-1", addresses=("10.0.1.1",)), now)
    for record in collector.flows:
        if record.key.source == "pc-1" and record.key.destination == "web-1":
            outcome = Outcome.OPEN if record.key.port == 8080 else Outcome.REFUSED
            record.fold(told(now, outcome))
    return collector
