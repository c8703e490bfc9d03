"""What every outlet is to its queue, and what those that speak HTTP share."""

import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

import httpx

from reachmap_collector.alerts.groups import Kind
from reachmap_collector.alerts.lifecycle import Severity
from reachmap_collector.alerts.notices import Notice
from reachmap_collector.alerts.secrets import Secrets
from reachmap_shared import __version__
from reachmap_shared.access import trusting
from reachmap_shared.errors import ReachmapError

# It would log each URL, and a URL may be a secret.
logging.getLogger("httpx").setLevel(logging.WARNING)

_SHOWN: Final = 200
"""Characters of an answer that people are shown."""

_WORTH_ANOTHER_TRY: Final = frozenset({401, 403, 404, 405, 407, 408, 421, 423, 425, 429})
"""Refusals that are about the place or the moment, and not about what was sent."""


class OutletFailed(ReachmapError):
    """It did not take what it was told; the reason holds no secret."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final
        """Whether it would never take it, however often it is told."""


@dataclass(frozen=True, slots=True)
class Ongoing:
    """The alerts that go on, of those that an outlet was told."""

    count: int
    worst: Severity | None
    """That of the gravest; None where there is none."""
    kinds: frozenset[Kind]
    notices: Sequence[Notice]
    """Those that were told first, no more than were asked for."""

    @classmethod
    def of(cls, notices: Sequence[Notice], most: int | None = None) -> Self:
        """From all of them."""
        grave = max((one.severity for one in notices), key=[*Severity].index, default=None)
        kinds = frozenset(one.kind for one in notices)
        return cls(len(notices), grave, kinds, notices[:most])


Active = Callable[[int | None], Ongoing]
"""Gives what goes on, and so many notices of it at most; None for all. To ask costs as much as
there are of both: alerts, and notices above all."""


class Outlet(Protocol):
    """A place where alerts go. It keeps nothing: whoever tells it remembers what it was told."""

    @property
    def tells_all(self) -> bool:
        """Whether a word tells it all that goes on, so that one will do for all that wait."""

    @property
    def repeat_s(self) -> float | None:
        """How often it wants to be told again what goes on; None for never."""

    async def send(self, told: Notice, active: Active) -> str:
        """Tell it of one alert, and return what it said; raises OutletFailed.

        `active` is for places that know of no single alerts.
        """

    async def repeat(self, active: Active) -> None:
        """Tell it again of all that goes on; raises OutletFailed."""

    async def close(self) -> None:
        """Let go of its connections."""


class Web:
    """HTTP to one URL, without a word of it in any error: it may be a secret itself."""

    def __init__(
        self, settings: Any, secrets: Secrets, *, headers: Mapping[str, str] | None = None
    ) -> None:
        self._secrets = secrets
        self.url = settings.url or secrets.get("url") or ""
        given = dict(headers or {})
        if (token := secrets.get("token")) is not None:
            given["Authorization"] = f"Bearer {token}"
        try:
            trusted = trusting(settings.ca_file)
            self._client = httpx.AsyncClient(
                timeout=settings.timeout_s,
                verify=trusted,
                headers={"User-Agent": f"reachmap/{__version__}", **given},
                # A proxy or a password that lies about in the environment is none of ours.
                trust_env=False,
            )
            httpx.URL(self.url)
        except (OSError, ValueError, httpx.InvalidURL) as error:
            raise OutletFailed(f"cannot be made: {_reason(error)}", is_final=True) from None

    async def call(self, method: str, url: str | None = None, **what: Any) -> str:
        """Make one request, and return what came back; raises OutletFailed."""
        try:
            answer = await self._client.request(method, url or self.url, **what)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise OutletFailed(self._secrets.redacted(_reason(error))) from None
        said = self._secrets.redacted(" ".join(answer.text[:_SHOWN].split()))
        line = f"{answer.status_code} {answer.reason_phrase}"
        if answer.is_success:
            return f"{line}: {said}" if said else line
        refused = 400 <= answer.status_code < 500
        is_final = refused and answer.status_code not in _WORTH_ANOTHER_TRY
        raise OutletFailed(f"answered {line}: {said}", is_final=is_final)

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()


def _reason(error: Exception) -> str:
    """What went wrong, in words that never hold the URL."""
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.InvalidURL | ValueError):
        return "its URL is none"
    if isinstance(error, ssl.SSLError):
        return "its certificates cannot be used"
    return str(error) or type(error).__name__
