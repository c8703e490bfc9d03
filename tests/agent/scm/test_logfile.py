"""A log file that does not grow for ever."""

from pathlib import Path

from reachmap_agent.scm.logfile import LogFile


def test_whole_lines_and_no_more_files_than_four(tmp_path: Path) -> None:
    """As a log handler writes them: a text, its end, a flush."""
    path = tmp_path / "agent.log"
    file = LogFile(path, size=100)
    for number in range(50):
        print(f"line {number:04} é", file=file, flush=True)
    file.close()
    found = sorted(tmp_path.iterdir())
    assert [one.name for one in found] == ["agent.log", *(f"agent.log.{n}" for n in (1, 2, 3))]
    lines = [
        line for one in reversed(found) for line in one.read_text(encoding="utf-8").splitlines()
    ]
    assert lines == sorted(lines)
    assert lines[-1] == "line 0049 é"
    assert all(one.stat().st_size <= 100 for one in found)
    assert not file.isatty()
