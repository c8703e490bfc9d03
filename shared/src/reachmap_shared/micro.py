"""The collector's queries as a NATS micro service (NATS architecture record 32)."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from reachmap_shared import __version__, log, subjects
from reachmap_shared.client import GuardedClient, errors
from reachmap_shared.errors import QueryRefused
from reachmap_shared.waits import cancellable

if TYPE_CHECKING:
    from nats.micro.request import Request

_BEGIN_S: Final = 3
"""For the server to confirm that there is a service."""

Query = Callable[[dict[str, Any]], Awaitable[Any]]
"""Is given a query's parameters and returns its answer, both JSON; may raise QueryRefused."""

ERROR_CODE: Final = "Nats-Service-Error-Code"
ERROR: Final = "Nats-Service-Error"
"""The headers of an answer that is none."""

_log = log.get("bus")


async def begin(client: GuardedClient, queries: Mapping[str, Query]) -> None:
    """Answer queries from now on; whether the server knows is for the caller to find out."""
    # Here, since no agent needs them.
    from nats.micro.service import EndpointConfig, Service, ServiceConfig

    service = Service(
        client,
        ServiceConfig(
            name=subjects.QUERY_SERVICE,
            version=__version__,
            description="reachmap's collector: what can reach what, and why not",
        ),
    )
    # It ends with a flush of the client's own, and has subscribed by then.
    with contextlib.suppress(TimeoutError, errors.FlushTimeoutError):
        async with asyncio.timeout(_BEGIN_S):
            await cancellable(service.start())
    for name, query in queries.items():
        await service.add_endpoint(
            EndpointConfig(
                name=name, subject=subjects.query(name), handler=_answer_with(name, query)
            )
        )


def _answer_with(name: str, query: Query) -> "Callable[[Request], Awaitable[None]]":
    async def answer(request: "Request") -> None:
        try:
            result = json.dumps(await query(_parameters(request.data))).encode()
        except QueryRefused as refusal:
            await request.respond_error(refusal.code, str(refusal))
        except Exception:  # noqa: BLE001  one bad query must not take the others' answers away
            _log.exception("query failed", query=name)
            await request.respond_error("500", f"the query {name} failed in the collector")
        else:
            await request.respond(result)

    return answer


def _parameters(data: bytes) -> dict[str, Any]:
    try:
        parameters = json.loads(data or b"{}")
    except (ValueError, RecursionError) as error:
        raise QueryRefused("400", f"not a JSON object: {error}") from error
    if not isinstance(parameters, dict):
        raise QueryRefused("400", "a query's parameters are a JSON object")
    return parameters
