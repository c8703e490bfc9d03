"""From both ends' evidence of a broken flow to who broke it: cause, device, and how sure. Pure."""

from reachmap_collector.diagnose.finding import Finding, find

__all__ = ["Finding", "find"]
