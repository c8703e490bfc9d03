"""What all documents are made of. Pure."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from reachmap_shared.vocabulary import State

_MOMENT: Final = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"

Moment = Annotated[
    str,
    Field(
        pattern=_MOMENT,
        description="RFC 3339, in UTC, to the millisecond",
        json_schema_extra={"format": "date-time"},
    ),
]
Count = Annotated[int, Field(ge=0)]
Port = Annotated[int, Field(ge=1, le=65535)]
Milliseconds = Annotated[float, Field(ge=0)]
States = Annotated[
    dict[State, Count], Field(description="how many flows there are of each state that occurs")
]


class Document(BaseModel):
    """One object of an answer; what stands below a field is its description."""

    model_config = ConfigDict(use_attribute_docstrings=True)
