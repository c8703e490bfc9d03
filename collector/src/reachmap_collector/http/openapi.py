"""The API's description in OpenAPI 3.1, made of the same table and models as the API. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from reachmap_collector import documents
from reachmap_collector.http.endpoints import ENDPOINTS, METRICS, Endpoint, Parameter
from reachmap_shared import __version__

Json = dict[str, Any]

PROBLEM_TYPE: Final = "application/problem+json"
METRICS_TYPE: Final = "text/plain"

_REFUSALS: Final[Mapping[str, str]] = {
    "400": "The question is wrong.",
    "404": "It names something that is not there.",
    "500": "The collector failed.",
    "503": "Its store cannot be read right now.",
}


def description(*, needs_token: bool) -> Json:
    """The whole document."""
    models: list[type[BaseModel]] = [
        documents.Problem,
        *(model for one in ENDPOINTS for model in one.gives),
    ]
    _, schemas = models_json_schema(
        [(model, "serialization") for model in models],
        ref_template="#/components/schemas/{model}",
    )
    paths: dict[str, Json] = {one.path: _answers_json(one) for one in ENDPOINTS}
    paths["/metrics"] = _get("Metrics, for Prometheus.", METRICS, _content({METRICS_TYPE: {}}))
    paths["/openapi.json"] = _get("This document.", (), _content({"application/json": {}}))
    made: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "reachmap",
            "version": __version__,
            "description": "What can reach what, and why not. Read-only.",
        },
        "paths": paths,
        "components": {"schemas": schemas["$defs"]},
    }
    if needs_token:
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{"token": []}]
        for path in paths.values():
            path["get"]["responses"]["401"] = _problem("The token is missing or wrong.")
    # Whoever watches the process has no token, and learns no more than that it is there.
    for open_path, what in (
        ("/healthz", "Whether the process answers."),
        ("/readyz", "Whether it is connected to its bus."),
    ):
        paths[open_path] = _get(what, (), _content({"application/json": {"schema": _READY}}))
        paths[open_path]["get"]["security"] = []
    paths["/readyz"]["get"]["responses"]["503"] = _problem("It is not, right now.")
    return made


_READY: Final = {
    "type": "object",
    "required": ["status"],
    "properties": {"status": {"const": "ok"}},
}


def _answers_json(endpoint: Endpoint) -> Json:
    refs = [{"$ref": f"#/components/schemas/{one.__name__}"} for one in endpoint.gives]
    schema: Json = refs[0] if len(refs) == 1 else {"anyOf": refs}
    content = _content({"application/json": {"schema": schema}})
    return _get(endpoint.what, endpoint.parameters, content)


def _get(what: str, parameters: Iterable[Parameter], content: Json) -> Json:
    return {
        "get": {
            "summary": what,
            "parameters": [
                {
                    "name": parameter.name,
                    "in": "query",
                    "description": parameter.what,
                    "required": parameter.required,
                    "schema": dict(parameter.schema),
                }
                for parameter in parameters
            ],
            "responses": {
                "200": {"description": "The answer.", **content},
                **{code: _problem(why) for code, why in _REFUSALS.items()},
            },
        }
    }


def _content(content: Json) -> Json:
    return {"content": content}


def _problem(what: str) -> Json:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": what, "content": {PROBLEM_TYPE: {"schema": schema}}}
