"""How many file descriptors there are: asked of the kernel, and raised as far as it permits."""

import subprocess
import sys

import pytest

from reachmap_agent import descriptors

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no such limits")

PROGRAM = """
import resource, sys
from reachmap_agent import descriptors
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
descriptors.allow(256)
print(descriptors.allowed(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [(256, 1024, "1024 1024 1024"), (1024, 1024, "1024 1024 1024"), (700, 900, "900 900 900")],
)
def test_as_many_as_the_hard_limit_permits(soft: int, hard: int, expected: str) -> None:
    """In a process of its own: a limit once lowered cannot be raised again."""
    command = [sys.executable, "-c", PROGRAM, str(soft), str(hard)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (1024, 1 << 20, (4480, 1 << 20)),
        (1024, -1, (4480, -1)),
        (20_000, 1 << 20, None),
        (-1, -1, None),
    ],
)
def test_no_more_than_will_be_needed(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, expected: tuple[int, int] | None
) -> None:
    """And what is more already stays so."""
    import resource

    set_: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_.append(limits))
    descriptors.allow(256)
    assert set_ == ([expected] if expected else [])


def test_no_limit_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux writes it as -1, which is not a limit of less than none."""
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, -1))
    assert descriptors.allowed() >= descriptors.FOR_CHECKS + descriptors.KEPT


def test_windows_watches_no_more_than_select_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks and visitors share what there is; one more, and the loop would fail."""
    monkeypatch.setattr(sys, "platform", "win32")
    assert descriptors.allowed() == 512
