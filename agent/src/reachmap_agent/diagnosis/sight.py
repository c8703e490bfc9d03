"""What one end's kernel shows of the time of a check: the same on both ends."""

from reachmap_agent.diagnosis import counters, host
from reachmap_agent.diagnosis.packets import Packet
from reachmap_agent.diagnosis.tap import Tap
from reachmap_shared.diagnosis import Sight
from reachmap_shared.vocabulary import Transport


class Looking:
    """Looks from its making to its end.

    Args:
        transport: The flow's.
        address: What is dialled.
        port: Likewise.
        block: The first of the source ports.
        mark: The MSS that SYNs of the diagnosis announce.
        serves: Whether this is the end that is dialled.
    """

    def __init__(
        self,
        transport: Transport,
        address: str,
        port: int,
        block: int,
        mark: int,
        *,
        serves: bool,
    ) -> None:
        self._version = 6 if ":" in address else 4
        self._before = host.read_counters()
        self._tap = Tap(transport, port, block, mark, serves=serves)

    @property
    def taps(self) -> bool:
        """Whether packets are looked at."""
        return self._tap.is_open

    def answers(self) -> tuple[Packet, ...]:
        """The answers to SYNs of the check that were seen to leave so far."""
        return tuple(self._tap.answers.values())

    def end(self) -> Sight:
        """What was seen."""
        state, missed, packets = self._tap.tell()
        self._tap.close()
        after = host.read_counters()
        grown = None
        if self._before is not None and after is not None:
            grown = counters.grown(self._before, after, self._version)
        return Sight(grown, state, missed, packets, host.is_hooked())

    def close(self) -> None:
        """Look no more."""
        self._tap.close()
