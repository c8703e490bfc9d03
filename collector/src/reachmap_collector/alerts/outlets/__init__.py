"""Where alerts go: one file for each kind of place, and one line in the registry."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from reachmap_collector.alerts import config
from reachmap_collector.alerts.outlets.alertmanager import Alertmanager
from reachmap_collector.alerts.outlets.apprise import Apprise
from reachmap_collector.alerts.outlets.base import Active, Ongoing, Outlet, OutletFailed
from reachmap_collector.alerts.outlets.bus import BUS, BusOutlet
from reachmap_collector.alerts.outlets.heartbeat import Heartbeat
from reachmap_collector.alerts.outlets.icinga import Icinga
from reachmap_collector.alerts.outlets.webhook import Webhook
from reachmap_collector.alerts.secrets import Secrets

_MAKERS: Final[Mapping[type[Any], Callable[[Any, Secrets], Outlet]]] = {
    config.AlertmanagerOutlet: Alertmanager,
    config.AppriseOutlet: Apprise,
    config.HeartbeatOutlet: Heartbeat,
    config.IcingaOutlet: Icinga,
    config.WebhookOutlet: Webhook,
}


def make(settings: config.Outlet, secrets: Secrets) -> Outlet:
    """The outlet that some settings mean; raises OutletFailed when it cannot be."""
    return _MAKERS[type(settings)](settings, secrets)


__all__ = ["BUS", "Active", "BusOutlet", "Ongoing", "Outlet", "OutletFailed", "make"]
