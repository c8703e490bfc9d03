"""Errors of the HTTP API. Pure."""

from typing import Annotated

from pydantic import Field

from reachmap_collector.documents.base import Document


class Problem(Document):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
