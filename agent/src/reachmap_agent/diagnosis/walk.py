"""The way of a flow's packets, hop by hop, on the flow's very own port.

One packet for each hop, a few hops at a time. The kernels of routers answer a burst of six to one
peer and then one a second (ip(7), icmp_ratelimit), so no device is asked for more than that; TCP
sends its SYN a second time after one second, so that each hop has two chances.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from reachmap_agent.diagnosis.probe import (
    FIRST_WORDS,
    Subject,
    hop,
    is_passing,
    lasts,
    payload_hop,
)
from reachmap_shared.diagnosis import MAX_HOPS, Hop, Met
from reachmap_shared.vocabulary import Transport

_AT_ONCE: Final = 4
"""Hops asked at the same time; so many in a row that stay silent end the walk."""
_LISTEN_S: Final = 1.4
"""For the answer: TCP sends its SYN again after one second."""

Ask = Callable[[int], Awaitable[Hop | None]]


async def walk(subject: Subject, most: int = MAX_HOPS) -> tuple[Hop, ...]:
    """How far the flow's first packets get, in at most so many hops."""

    async def ask(ttl: int) -> Hop | None:
        seen = await hop(subject, ttl, _LISTEN_S)
        if subject.transport is Transport.UDP and seen.met is Met.SILENCE:
            return await hop(subject, ttl, _LISTEN_S)
        return seen

    return await _walked(ask, most)


async def walk_payload(
    subject: Subject, most: int = MAX_HOPS, size: int = FIRST_WORDS
) -> tuple[Hop, ...]:
    """How far the first payload gets, where connections are made; of the size, if it has it."""
    return await _walked(lambda ttl: payload_hop(subject, ttl, _LISTEN_S, size), most)


async def lasts_unasked(subject: Subject) -> bool:
    """Whether a connection on which nothing is said lasts, as long as a walk listens."""
    return await lasts(subject, _LISTEN_S)


async def _walked(ask: Ask, most: int) -> tuple[Hop, ...]:
    found: list[Hop] = []
    while len(found) < most:
        first = len(found) + 1
        some = await _all(ask, range(first, min(first + _AT_ONCE, most + 1)))
        for one in some:
            if one is None:
                return tuple(found)
            found.append(one)
            if one.met is not Met.SILENCE and not is_passing(one):
                return tuple(found)
        if all(one is not None and one.met is Met.SILENCE for one in some):
            break
    return tuple(found)


async def _all(ask: Ask, ttls: range) -> list[Hop | None]:
    found: dict[int, Hop | None] = {}

    async def one(ttl: int) -> None:
        found[ttl] = await ask(ttl)

    async with asyncio.TaskGroup() as tasks:
        for ttl in ttls:
            tasks.create_task(one(ttl))
    return [found[ttl] for ttl in ttls]
