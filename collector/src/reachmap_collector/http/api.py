"""The application: routes, and errors in one form."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from reachmap_collector.export.prometheus import Metrics, of_each
from reachmap_collector.export.scrape import of_states
from reachmap_collector.http.endpoints import (
    ENDPOINTS,
    METRICS,
    PER_FLOW,
    Endpoint,
    Json,
    read,
    to_cursor,
)
from reachmap_collector.http.guard import Guard, problem
from reachmap_collector.http.openapi import description
from reachmap_collector.http.settings import HttpSettings
from reachmap_collector.queries import Queries
from reachmap_shared import log
from reachmap_shared.errors import QueryRefused

Handler = Callable[[Request], Awaitable[Response]]

_FAILED: Final = "the collector failed; its log says why"

_log = log.get("http")


def application(
    queries: Queries,
    settings: HttpSettings,
    is_ready: Callable[[], bool],
    more_metrics: Callable[[], str],
) -> ASGIApp:
    """The API of one collector.

    Args:
        queries: What answers.
        settings: Who may ask.
        is_ready: Whether the collector hears its agents right now.
        more_metrics: Further series for Prometheus, in its text form.
    """
    document = description(needs_token=settings.token is not None)
    app = Starlette(
        routes=[
            *(Route(one.path, _answering(queries, one)) for one in ENDPOINTS),
            Route("/metrics", _metrics(queries, more_metrics)),
            Route("/openapi.json", _always(document)),
            Route("/healthz", _always({"status": "ok"})),
            Route("/readyz", _ready(is_ready)),
        ],
        exception_handlers={
            HTTPException: _refused_by_starlette,
            QueryRefused: _refused_by_query,
            Exception: _failed,
        },
    )
    app.router.redirect_slashes = False
    return Guard(app, settings)


def _answering(queries: Queries, endpoint: Endpoint) -> Handler:
    query = queries.endpoints()[endpoint.query]

    async def answer(request: Request) -> Response:
        result = await query(read(endpoint.parameters, request.query_params.multi_items()))
        if "next" in result:
            result = result | {"next": to_cursor(result["next"])}
        return JSONResponse(result)

    return answer


def _metrics(queries: Queries, more: Callable[[], str]) -> Handler:
    async def metrics(request: Request) -> Response:
        asked = read(METRICS, request.query_params.multi_items())
        per_flow = asked.pop(PER_FLOW, False)
        await queries.ready()
        flows = await queries.series(asked) if per_flow else ()
        moment = queries.moment()
        registry = CollectorRegistry(auto_describe=False)
        groups = of_states(moment.states)
        registry.register(Metrics(groups, moment.heard, moment.status, certificates=not per_flow))
        ProcessCollector(registry=registry)
        text = generate_latest(registry) + more().encode()
        if not per_flow:
            return Response(text, media_type=CONTENT_TYPE_LATEST)
        return StreamingResponse(_in_turns(text, flows), media_type=CONTENT_TYPE_LATEST)

    return metrics


async def _in_turns(text: bytes, flows: Sequence[Json]) -> AsyncIterator[bytes]:
    """Metrics, and those of each flow a part after the other."""
    yield text
    for part in of_each(flows):
        yield part
        await asyncio.sleep(0)


def _always(content: object) -> Handler:
    async def answer(request: Request) -> Response:
        read((), request.query_params.multi_items())
        return JSONResponse(content)

    return answer


def _ready(is_ready: Callable[[], bool]) -> Handler:
    async def answer(request: Request) -> Response:
        read((), request.query_params.multi_items())
        if is_ready():
            return JSONResponse({"status": "ok"})
        return problem(503, "the collector is not connected to its bus")

    return answer


async def _refused_by_starlette(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, error.detail, error.headers)


async def _refused_by_query(_request: Request, error: Exception) -> Response:
    assert isinstance(error, QueryRefused)
    return problem(int(error.code), str(error))


async def _failed(request: Request, error: Exception) -> Response:
    # Starlette raises it again after the answer, for the server to log: it does not.
    _log.error("request failed", path=request.url.path, exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, _FAILED)
