"""What an agent keeps on disk: its plan, whole and for its owner only."""

from dataclasses import replace
from pathlib import Path

import pytest

from reachmap_agent.memory import ceded_path, load_plan, save_plan
from reachmap_agent.settings import Settings
from reachmap_shared.errors import MalformedMessage
from reachmap_shared.messages import Plan

PLAN = Plan("pc-1", "r1", 10.0, 3.5, "", "", "", (), ())


def test_a_plan_is_kept(tmp_path: Path) -> None:
    """The latest one; the directory is made when it is needed, and nothing else is left in it."""
    settings = Settings(id="pc-1", state=tmp_path / "state")
    save_plan(settings, PLAN)
    save_plan(settings, replace(PLAN, revision="r2"))
    assert load_plan(settings).revision == "r2"
    (kept,) = settings.state.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_agents_on_one_machine_keep_theirs_apart(tmp_path: Path) -> None:
    """By their names."""
    one, other = (Settings(id=name, state=tmp_path) for name in ("pc-1", "pc-2"))
    save_plan(one, PLAN)
    with pytest.raises(FileNotFoundError):
        load_plan(other)
    assert ceded_path(one) != ceded_path(other)


@pytest.mark.parametrize("content", [b"", b"\x00", b"\x93\x01\x02"])
def test_a_damaged_plan_is_none(tmp_path: Path, content: bytes) -> None:
    """It is refused as one from the bus would be."""
    settings = Settings(id="pc-1", state=tmp_path)
    save_plan(settings, PLAN)
    (tmp_path / "pc-1.plan").write_bytes(content)
    with pytest.raises(MalformedMessage):
        load_plan(settings)
