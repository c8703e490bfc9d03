"""How long a command looks for somebody who answers."""

import subprocess
import sys
import time

import pytest

from reachmap_collector.cli import patience


@pytest.mark.parametrize(
    ("age_s", "left_s"),
    [(0.0, 3.0), (1.0, 3.0), (1.5, 3.0), (2.0, 2.5), (3.4, 1.1), (4.0, 1.0), (60.0, 1.0)],
)
def test_what_the_start_took_is_not_waited_for_besides(age_s: float, left_s: float) -> None:
    """Below five seconds in all, if the start leaves one of them."""
    assert patience.remaining_s(age_s) == pytest.approx(left_s)


def test_a_process_of_many_commands_counts_none_of_its_age() -> None:
    """As these tests are."""
    assert patience.left_s() == 3.0


def test_a_process_knows_its_age() -> None:
    """From its start, and not just from where the first of our modules was loaded."""
    program = (
        "import time; time.sleep(1.5)\n"
        "from reachmap_collector.cli import patience\n"
        "patience.count_from_start()\n"
        "print(3.0 - patience.left_s(), patience._age_s())"
    )
    started = time.monotonic()
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    took_s = time.monotonic() - started
    spent_s, age_s = map(float, said.split())
    assert 1.5 < age_s < took_s + 0.1  # the kernel counts in hundredths
    assert spent_s == pytest.approx(min(max(age_s - 1.5, 0), 2.0), abs=0.1)
