"""The HTTP API: read-only, off unless asked for, served from the same queries as the bus."""

from reachmap_collector.http.server import serving
from reachmap_collector.http.settings import HttpSettings, http_settings

__all__ = ["HttpSettings", "http_settings", "serving"]
