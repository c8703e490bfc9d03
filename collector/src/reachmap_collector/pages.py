"""What all answers that come in pages have in common."""

from typing import Final

from reachmap_shared import codec
from reachmap_shared.errors import QueryRefused

OCTETS: Final = codec.MAX_MESSAGE // 2
"""Of rows in one answer: some say much, and an answer has to fit the bus."""


def no_page() -> QueryRefused:
    """A place to go on from is none."""
    return QueryRefused("400", "after: expected what the page before gave as `next`")
