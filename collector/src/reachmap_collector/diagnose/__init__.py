"""From both ends' evidence of a broken flow to who broke it: cause, device, and how sure. Pure."""

from reachmap_collector.diagnose.facts import is_passing, steps
from reachmap_collector.diagnose.finding import Diagnosed, Finding, find

__all__ = ["Diagnosed", "Finding", "find", "is_passing", "steps"]
