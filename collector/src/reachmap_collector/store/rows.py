"""A batch as the rows of its tables, names as the numbers that the store has for them."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from reachmap_collector.store.api import (
    DeadLetter,
    PackedRollUp,
    PlanSlots,
    Received,
    Transition,
)
from reachmap_collector.store.interning import Names, by_source
from reachmap_collector.store.packing import (
    OUTCOMES,
    milliseconds,
    pack_ranges,
    pack_slots,
    text,
)

TRANSITION = ("flow", "at", "boot", "number", "service", "outcome", "is_open", "detail")
ROLLUP = ("boot", "sequence", "plan", "begins", "ends", "blob")
DEAD_LETTER = ("subject", "reason", "payload", "at")


def of_transitions(given: Sequence[Transition], names: Names) -> list[tuple[Any, ...]]:
    """As `TRANSITION`; raises KeyError where `names` has no number for one."""
    flows, boots, services = names.flows, names.boots, names.services
    # All at hand here, without a call: there are a hundred thousand a second.
    rows = [
        (
            flows[(key := one.flow).source][key.destination, key.address, key.port, key.transport],
            round(one.at * 1000),
            boots[one.agent, one.boot],
            one.number,
            services[one.service],
            OUTCOMES[one.outcome],
            1 if one.is_open else 0,
            one.detail,
        )
        for one in given
    ]
    # By flow, each one's as they came: so neighbours in the indexes are written together, which
    # halves what a burst from everywhere costs.
    rows.sort(key=itemgetter(0))
    return rows


def of_rollups(given: Sequence[PackedRollUp], names: Names) -> list[tuple[Any, ...]]:
    """As `ROLLUP`; raises KeyError where `names` has no number for one."""
    return [
        (
            names.boots[one.agent, one.boot],
            one.sequence,
            names.plans[one.agent, one.plan],
            milliseconds(one.begins),
            milliseconds(one.ends),
            one.blob,
        )
        for one in given
    ]


def of_dead_letters(given: Sequence[DeadLetter]) -> list[tuple[Any, ...]]:
    """As `DEAD_LETTER`."""
    return [
        (text(one.subject), text(one.reason), one.payload, milliseconds(one.at)) for one in given
    ]


def of_plans(given: Sequence[PlanSlots], names: Names) -> list[dict[str, Any]]:
    """By column; raises KeyError where `names` has no number for a name in one."""
    return [
        {
            "host": names.hosts[one.agent],
            "revision": text(one.revision),
            "at": milliseconds(one.at),
            "slots": pack_slots(
                [
                    names.flows[source][place]
                    for source, places in by_source(one.flows)
                    for place in places
                ],
                [names.services[service] for service in one.services],
            ),
        }
        for one in given
    ]


def of_received(given: Sequence[Received], names: Names) -> list[dict[str, Any]]:
    """By column, the last of each boot; raises KeyError where `names` has no number for one."""
    last = {names.boots[one.agent, one.boot]: one for one in given}
    return [
        {
            "boot": boot,
            "ranges": pack_ranges(one.ranges),
            "observations": one.observations,
            "heard": one.heard,
            "last": milliseconds(one.last),
        }
        for boot, one in last.items()
    ]
