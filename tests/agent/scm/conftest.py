"""A Windows that is pretended."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reachmap_agent import scm

PRETEND = Path(__file__).with_name("pretend.py")
NEEDS_PYWIN32 = ("command", "control", "host")


@pytest.fixture(scope="session")
def pretend() -> Any:
    """The module that pretends."""
    spec = importlib.util.spec_from_file_location("pretend_windows", PRETEND)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def manager(pretend: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A service control manager, in place of Windows's."""
    made = pretend.Manager()
    for name, module in made.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    _forget()
    monkeypatch.setenv("PROGRAMDATA", str(tmp_path / "ProgramData"))
    yield made
    _forget()


def _forget() -> None:
    """Have what holds the pretended modules imported anew."""
    for name in NEEDS_PYWIN32:
        sys.modules.pop(f"reachmap_agent.scm.{name}", None)
        vars(scm).pop(name, None)
