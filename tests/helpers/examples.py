"""How many examples hypothesis tries of a property: as its test says, or EXAMPLES times as many."""

import os
from collections.abc import Iterable
from typing import Any

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("EXAMPLES", "1"))


def load_profile() -> None:
    """What holds for all properties, whatever they say themselves."""
    settings.register_profile(
        "ours",
        # How long an example takes is the machine's business: on a loaded one any takes long.
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        max_examples=100 * TIMES,
        # Many are wanted for what is new in them, in CI as elsewhere.
        derandomize=settings.default.derandomize and TIMES == 1,
        print_blob=True,
    )
    settings.load_profile("ours")


def examples(
    usual: int = 100, suppress_health_check: Iterable[HealthCheck] = (), **more: Any
) -> settings:
    """The settings of a property that is tried so often in an ordinary run."""
    suppressed = [*settings.default.suppress_health_check, *suppress_health_check]
    return settings(max_examples=usual * TIMES, suppress_health_check=suppressed, **more)
