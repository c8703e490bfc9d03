"""What was found out about broken flows, as the store keeps it: the latest of each flow. Pure."""

import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from reachmap_collector.diagnose import Diagnosed, find
from reachmap_collector.flowmap.fold import FlowMap, renamed
from reachmap_collector.planner import FlowKey
from reachmap_collector.store.api import Kept
from reachmap_shared import codec
from reachmap_shared.diagnosis import Diagnosis
from reachmap_shared.errors import MalformedMessage

DIAGNOSES: Final = "diagnoses"
"""The store's area for them."""


@dataclass(frozen=True, slots=True)
class KeptDiagnosis:
    """One, by what its hosts were called then."""

    at: float
    named: str
    """What the plan has for an address."""
    service: str
    diagnosis: Diagnosis

    @property
    def flow(self) -> FlowKey:
        """Whose it is."""
        found = self.diagnosis
        return FlowKey(found.source, found.destination, self.named, found.port, found.transport)

    @property
    def key(self) -> str:
        """Where in its area the store has it."""
        flow = self.flow
        ends = (flow.source, flow.destination, flow.address, self.diagnosis.address)
        text = "\0".join((*ends, str(flow.port), flow.transport))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def told(self, flows: FlowMap) -> bool:
        """Put it on the map; returns whether its flow is there."""
        diagnosed = Diagnosed(self.at, self.diagnosis, find(self.diagnosis))
        return flows.diagnose(self.flow, self.service, diagnosed)

    def kept(self) -> Kept:
        """For the store to keep."""
        return Kept(DIAGNOSES, self.key, codec.encode(self))

    def over(self) -> Kept:
        """For the store to keep no longer."""
        return Kept(DIAGNOSES, self.key, None)


def recall(rows: Iterable[Kept], former: Mapping[str, str], flows: FlowMap) -> tuple[Kept, ...]:
    """Put those on the map that the store has; returns what it is to have instead.

    Args:
        rows: What it has.
        former: What hosts are called now that had another name.
        flows: The map.
    """
    before = {row.key: row.value for row in rows}
    known = []
    for value in before.values():
        with contextlib.suppress(MalformedMessage):  # kept by another version
            known.append(_called_now(codec.decode(KeptDiagnosis, value or b""), former))
    after: dict[str, bytes | None] = {}
    for one in sorted(known, key=lambda one: one.at):
        if one.told(flows):
            after[one.key] = codec.encode(one)
    return tuple(
        Kept(DIAGNOSES, key, after.get(key))
        for key in before | after
        if before.get(key) != after.get(key)
    )


def _called_now(kept: KeptDiagnosis, former: Mapping[str, str]) -> KeptDiagnosis:
    flow = renamed(kept.flow, former)
    found = replace(kept.diagnosis, source=flow.source, destination=flow.destination)
    return replace(kept, diagnosis=found)
