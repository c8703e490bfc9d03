"""What alerting remembers, each thing by its shape: alerts, what was told, what operators said."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from reachmap_collector.alerts import kept
from reachmap_collector.alerts.kept import Memory
from reachmap_collector.alerts.lifecycle import Alert
from reachmap_collector.alerts.muting import Acknowledgement, Silence
from reachmap_shared import log

_log = log.get("alerts")


@dataclass(frozen=True, slots=True)
class Told:
    """What was told of an alert, and to whom."""

    labels: dict[str, str]
    face: tuple[str, ...]
    outlets: tuple[str, ...] = ()
    advice: str = ""


_SHAPES: Final[Mapping[str, TypeAdapter[Any]]] = {
    kept.ALERTS: TypeAdapter(Alert),
    kept.TOLD: TypeAdapter(Told),
    kept.ACKS: TypeAdapter(Acknowledgement),
    kept.SILENCES: TypeAdapter(Silence),
}


class Archive:
    """Has everything at hand, and in the memory."""

    def __init__(self, memory: Memory) -> None:
        self.told: dict[str, Told] = {}
        """By alert, as are acknowledgements."""
        self.acknowledged: dict[str, Acknowledgement] = {}
        self.silences: dict[str, Silence] = {}
        self._memory = memory

    def restore(self, alerts: dict[str, Alert]) -> None:
        """Begin where the process before this one ended; alerts go into what is given."""
        known: Mapping[str, dict[str, Any]] = {
            kept.ALERTS: alerts,
            kept.TOLD: self.told,
            kept.ACKS: self.acknowledged,
            kept.SILENCES: self.silences,
        }
        for area, into in known.items():
            for key, value in self._memory.kept(area).items():
                try:
                    into.setdefault(key, _SHAPES[area].validate_json(value))
                except ValidationError:
                    # Of another version: rather told twice than never.
                    _log.warning("forgotten, since it cannot be read", area=area, key=key)
                    self._memory.keep(area, key, None)

    def keep_alerts(self, before: Mapping[str, Alert], after: Mapping[str, Alert]) -> Iterator[int]:
        """Write down which alerts have changed, and forget those that are no more.

        Gives for each, when that is done, how much work it was: in flows and agents.
        """
        for ident, alert in after.items():
            if alert is not before.get(ident):
                if alert != before.get(ident):
                    self._write(kept.ALERTS, ident, alert)
                yield len(alert.members)
        for ident in before.keys() - after.keys():
            self._write(kept.ALERTS, ident, None)
            self.keep_acknowledgement(ident, None)
            yield 1

    def keep_told(self, ident: str, told: Told | None) -> None:
        """Remember what was told of an alert; None forgets it."""
        self._keep(kept.TOLD, self.told, ident, told)

    def keep_acknowledgement(self, ident: str, ack: Acknowledgement | None) -> None:
        """Remember who looks after an alert; None forgets it."""
        self._keep(kept.ACKS, self.acknowledged, ident, ack)

    def keep_silence(self, ident: str, silence: Silence | None) -> None:
        """Remember a silence; None forgets it."""
        self._keep(kept.SILENCES, self.silences, ident, silence)

    def _keep(self, area: str, known: dict[str, Any], key: str, value: Any) -> None:
        if value is None:
            known.pop(key, None)
        else:
            known[key] = value
        self._write(area, key, value)

    def _write(self, area: str, key: str, value: Any) -> None:
        data = None if value is None else _SHAPES[area].dump_json(value)
        self._memory.keep(area, key, data)
