"""An OCSP responder: its health page says whether its database is there."""

from typing import Any

import pytest

from reachmap_agent.protocols import ocsp
from reachmap_shared.vocabulary import AnsweredBy, Outcome


def test_it_asks_for_health(wire: Any) -> None:
    """Not for the root, which a responder answers with an error."""
    heard = wire.feed(ocsp.check(wire.target()), closes=True)
    assert heard.sent.startswith(b"GET /health HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("status", "healthy"),
    [
        pytest.param(200, True, id="well"),
        pytest.param(400, True, id="of a version without the page"),
        pytest.param(500, False, id="its database is away"),
    ],
)
def test_what_its_status_means(wire: Any, status: int, healthy: bool) -> None:
    """Open in any case: that it is not well is another matter."""
    response = b"HTTP/1.1 %d x\r\n\r\n" % status
    verdict = wire.feed(ocsp.check(wire.target()), [response]).result
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
    assert verdict.healthy is healthy
