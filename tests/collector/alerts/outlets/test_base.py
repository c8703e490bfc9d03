"""What all that speak HTTP share: what is worth another try, and that no secret gets out."""

import logging
from typing import Any

import pytest

from reachmap_collector.alerts.outlets import OutletFailed

HOOK = 'kind = "webhook"\nurl_file = "url"\ntoken_file = "token"\ntimeout_s = 5'


@pytest.fixture
def hook(outlet: Any, server: Any) -> Any:
    return outlet(HOOK, url=f"{server.url}/hidden-path", token="sesame")


async def test_a_token_is_shown(hook: Any, server: Any, told: Any, caplog: Any) -> None:
    """As a bearer's; and what came back is told."""
    caplog.set_level(logging.INFO)
    assert await hook.send(told(), list) == "200 OK: thanks"
    assert server.requests[0].headers["authorization"] == "Bearer sesame"
    assert server.requests[0].path == "/hidden-path"
    assert "hidden" not in caplog.text
    await hook.close()


@pytest.mark.parametrize(
    ("status", "is_final"),
    [
        (400, True),
        (413, True),
        (401, False),
        (404, False),
        (429, False),
        (500, False),
        (302, False),
    ],
)
async def test_only_what_would_never_be_taken_is_given_up(
    hook: Any, server: Any, told: Any, status: int, is_final: bool
) -> None:
    """A wrong token may be mended, a message that it does not like may not."""
    server.status, server.says = status, b"no: sesame is no word of mine"
    with pytest.raises(OutletFailed) as caught:
        await hook.send(told(), list)
    assert caught.value.is_final is is_final
    assert "sesame" not in str(caught.value)
    assert "*** is no word of mine" in str(caught.value)
    await hook.close()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/hidden", "http://hidden.invalid/", "nonsense"])
async def test_a_url_is_in_no_error(outlet: Any, told: Any, url: str) -> None:
    """It may be all that it takes to send messages."""
    made = outlet(HOOK, url=url, token="sesame")
    with pytest.raises(OutletFailed) as caught:
        await made.send(told(), list)
    assert "hidden" not in str(caught.value) and "nonsense" not in str(caught.value)
    await made.close()
