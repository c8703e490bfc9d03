"""Times as one octet, by a logarithm: exact to a few percent from 1 us to 40 s. Pure."""

import math
from typing import Final

_STEPS_PER_DOUBLING: Final = 10
"""A step is 7.2 percent, so a time is at most 3.6 percent off."""

NONE: Final = 0
"""No time at all."""


def code(us: int) -> int:
    """The octet for a time in microseconds; 0 when it is 0 or less."""
    if us <= 0:
        return NONE
    return min(255, 1 + round(_STEPS_PER_DOUBLING * math.log2(us)))


def us(octet: int) -> int:
    """The time in microseconds that an octet stands for."""
    return 0 if octet == NONE else round(2 ** ((octet - 1) / _STEPS_PER_DOUBLING))
