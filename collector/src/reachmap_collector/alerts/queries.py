"""What can be asked and said about alerts: more endpoints of the collector's micro service."""

import difflib
import json
import time
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from reachmap_collector import pages
from reachmap_collector.alerts import notices
from reachmap_collector.alerts.config import Filter, duration
from reachmap_collector.alerts.lifecycle import Alert, Phase
from reachmap_collector.alerts.muting import Acknowledgement, Silence
from reachmap_collector.alerts.outlets import Ongoing, OutletFailed
from reachmap_collector.alerts.service import Alerts, Watched
from reachmap_shared.bus import Query
from reachmap_shared.errors import QueryRefused

Json = dict[str, Any]

_FILTER: Final = ("kinds", "hosts", "roles", "services")
_LONGEST_S: Final = 366 * 86_400.0


class AlertQueries:
    """Answers about the alerts of one collector, and what operators say to them."""

    def __init__(self, alerts: Alerts, watched: Watched) -> None:
        self._alerts = alerts
        self._watched = watched

    def endpoints(self) -> Mapping[str, Query]:
        """Every query by its name."""
        return {
            "alerts": self.alerts,
            "alerts-ack": self.acknowledge,
            "alerts-silence": self.silence,
            "alerts-test": self.test,
        }

    async def alerts(self, parameters: Json) -> Json:
        """One page of what fires, with silences and how outlets do: `{all, after}`.

        `all` has also what pends or has ended. Gives `{alerts, next, silences, outlets}`.
        """
        now = self._watched.now()
        book = self._alerts.book
        after = _place(parameters.get("after"))
        wanted = book.alerts.values() if parameters.get("all") else book.active()
        page: list[Json] = []
        size, last = 0, None
        for alert in sorted((one for one in wanted if _order(one) > after), key=_order):
            document = notices.document(self._alerts.notice(alert, now))
            size += len(json.dumps(document))
            if page and size > pages.OCTETS:
                break
            page.append(document)
            last = alert
        else:
            last = None
        return {
            "alerts": page,
            "next": None if last is None else _order(last),
            "silences": [_silence(one) for one in self._alerts.archive.silences.values()],
            "outlets": [
                {
                    "outlet": name,
                    "waiting": len(queue.waiting),
                    "delivered": queue.delivered,
                    "refused": queue.refused,
                    "dropped": queue.dropped,
                    "trouble": queue.trouble,
                }
                for name, queue in sorted(self._alerts.queues.items())
            ],
        }

    async def acknowledge(self, parameters: Json) -> Json:
        """Say that somebody looks after an alert: `{id, by, comment}`."""
        ident, now = _text(parameters, "id"), self._watched.now()
        known = self._alerts.book.alerts
        alert = known.get(ident)
        if alert is None or alert.phase is not Phase.FIRING:
            raise QueryRefused("404", f"no alert {ident!r} fires{_hint(ident, known)}")
        by, comment = _text(parameters, "by"), _text(parameters, "comment", "")
        self._alerts.archive.keep_acknowledgement(ident, Acknowledgement(ident, by, comment, now))
        return notices.document(self._alerts.notice(alert, now))

    async def silence(self, parameters: Json) -> Json:
        """Begin a silence: `{kinds, hosts, roles, services, for, by, comment}`; or `{end}` one."""
        if (ending := parameters.get("end")) is not None:
            known = self._alerts.archive.silences
            if ending not in known:
                raise QueryRefused("404", f"no silence {ending!r}{_hint(str(ending), known)}")
            ended = _silence(known[ending])
            self._alerts.archive.keep_silence(ending, None)
            return ended
        given = {name: parameters[name] for name in _FILTER if parameters.get(name)}
        try:
            what = Filter.model_validate(given)
            lasts = duration(parameters.get("for"))
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            raise QueryRefused("400", f"{where}: {error.errors()[0]['msg']}") from None
        except ValueError as error:
            raise QueryRefused("400", f"for: {error}") from None
        if type(lasts) not in (int, float) or not 0 < lasts <= _LONGEST_S:
            raise QueryRefused("400", "for: expected a time of up to a year, such as 2h")
        if what.is_open():
            raise QueryRefused("400", f"expected one of {', '.join(_FILTER)}: what is to be silent")
        now = self._watched.now()
        by, comment = _text(parameters, "by"), _text(parameters, "comment", "")
        made = Silence(f"s{int(now * 1000):x}", what, now + lasts, by, comment)
        self._alerts.archive.keep_silence(made.id, made)
        return _silence(made)

    async def test(self, parameters: Json) -> Json:
        """Send a harmless alert through an outlet, and say what came back: `{outlet}`."""
        name = _text(parameters, "outlet")
        outlets = self._alerts.outlets()
        if name not in outlets:
            raise QueryRefused("404", f"unknown outlet {name!r}{_hint(name, outlets)}")
        began = time.monotonic()
        trial = notices.harmless(name, self._watched.now())
        try:
            said, is_good = await outlets[name].send(trial, lambda _: Ongoing.of([trial])), True
        except OutletFailed as error:
            said, is_good = str(error), False
        took_ms = round((time.monotonic() - began) * 1000, 1)
        return {"outlet": name, "delivered": is_good, "said": said, "took_ms": took_ms}


def _order(alert: Alert) -> tuple[float, str]:
    """By when it was told first."""
    return alert.told or 0.0, alert.id


def _place(after: Any) -> tuple[float, str]:
    """Where a page begins."""
    match after:
        case None:
            return -1.0, ""
        case [int() | float() as told, str() as ident]:
            return told, ident
        case _:
            raise pages.no_page()


def _silence(one: Silence) -> Json:
    what = one.what.model_dump(mode="json")
    return {
        "id": one.id,
        **what,
        "until": notices.timestamp(one.until),
        "by": one.by,
        "comment": one.comment,
    }


def _text(parameters: Json, name: str, otherwise: str | None = None) -> str:
    value = parameters.get(name, otherwise)
    if not isinstance(value, str) or (not value and otherwise is None):
        raise QueryRefused("400", f"{name}: expected a text")
    return value[:500]


def _hint(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or sorted(known)[:8]
    return f"; did you mean {', '.join(near)}?" if near else ": there is none"
