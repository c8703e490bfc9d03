"""Certificates that end soon, as causes of their own. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from reachmap_collector.alerts.causes import Cause, Member
from reachmap_collector.alerts.groups import Kind, Sight

DAY_S = 86_400.0


def expiries(
    flows: Iterable[Sight], now: float, warning_s: float, critical_s: float
) -> Iterator[Cause]:
    """One for each place whose certificate ends within `warning_s`; urgent within `critical_s`.

    Where several are shown at one place, as behind a balancer, the first to end counts.
    """
    places: dict[str, list[Sight]] = defaultdict(list)
    for sight in flows:
        until = sight.certificate_until
        if until is not None and until - now <= warning_s:
            key = sight.key
            places[f"{key.destination}:{key.port}/{key.transport}"].append(sight)
    for place, sights in places.items():
        ends = min(sight.certificate_until or now for sight in sights)
        explains: frozenset[Member] = frozenset(sight.key for sight in sights)
        urgent = ends - now <= critical_s
        yield Cause(Kind.CERTIFICATE, place, sights[0].service, explains, urgent=urgent, ends=ends)
