"""`reachmap export`: every format, whole or not at all."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from reachmap_collector.export import EXPORTERS
from reachmap_shared.vocabulary import Outcome


@pytest.fixture
def collector(asked: Any, openuem: Any, told: Any) -> Any:
    made = asked(openuem(1))
    now = made.now()
    for record in made.flows:
        record.fold(told(now, Outcome.OPEN))
    return made


@pytest.mark.parametrize("style", EXPORTERS)
def test_every_format_comes_to_standard_output(reachmap: Any, collector: Any, style: str) -> None:
    """And nothing beside it."""
    result = reachmap("export", "--format", style)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith("\n")


def test_it_has_what_the_filters_leave(reachmap: Any, collector: Any) -> None:
    """The same as those of `flows`."""
    found = json.loads(reachmap("export", "--format", "json", "--row", "7").stdout)
    assert found == json.loads(reachmap("flows", "--format", "json", "--row", "7").stdout)
    assert [flow["source"] for flow in found] == ["agent-worker-1"]


def test_the_csv_is_that_of_flows(reachmap: Any, collector: Any) -> None:
    """To the letter."""
    told = reachmap("export", "--format", "csv", "--role", "console").stdout
    assert told == reachmap("flows", "--format", "csv", "--role", "console").stdout


def test_a_graph_is_by_role_or_by_host(reachmap: Any, collector: Any) -> None:
    assert 'label="agent-worker"' in reachmap("export", "--format", "dot").stdout
    assert "agent-worker-1<br/>" in reachmap("export", "--format", "mermaid", "--by", "host").stdout


def test_a_file_is_replaced_whole(reachmap: Any, collector: Any, tmp_path: Path) -> None:
    """Readable as any other new file; the old one stays until the new one is complete."""
    path = tmp_path / "map.html"
    path.write_text("old")
    with path.open() as reader:
        result = reachmap("export", "--format", "html", "--output", str(path))
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
        assert reader.read() == "old"
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    other = tmp_path / "other"
    other.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)
    assert sorted(tmp_path.iterdir()) == [path, other]


def test_a_file_that_cannot_be_written_is_told(
    reachmap: Any, collector: Any, tmp_path: Path
) -> None:
    """And nothing is left of it."""
    path = tmp_path / "missing" / "map.html"
    result = reachmap("export", "--format", "html", "--output", str(path))
    assert result.exit_code == 2
    assert result.stderr == f"reachmap: {path}: cannot be written: No such file or directory\n"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "within").touch()
    result = reachmap("export", "--format", "csv", "--output", str(tmp_path / "folder"))
    assert result.exit_code == 2
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]


def test_an_unknown_name_is_wrong_usage(reachmap: Any, collector: Any) -> None:
    result = reachmap("export", "--format", "csv", "--source", "agent-11")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "did you mean agent-1" in result.stderr
