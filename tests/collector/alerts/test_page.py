"""The page on alerts says what the code does: every example loads, every kind and outlet is there."""

import re
from pathlib import Path

import pytest

from reachmap_collector.alerts.groups import Kind
from reachmap_collector.alerts.lifecycle import SEVERITIES
from reachmap_collector.alerts.load import load_configuration

PAGE = Path(__file__).parents[3] / "docs" / "alerts.md"

if not PAGE.is_file():
    pytest.skip("only a checkout has the pages", allow_module_level=True)

EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
FILES = {
    "hook.secret": "sesame",
    "hook.token": "sesame",
    "apprise.urls": "mailto://user:password@mail.example?to=oncall@example.com",
    "icinga.password": "sesame",
    "heartbeat.url": "https://beat.example/ping",
}


@pytest.mark.parametrize("example", EXAMPLES)
async def test_an_example_is_a_configuration(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands there, with the files that it names beside it."""
    monkeypatch.setenv("HOOK_URL", "https://hook.example/x")
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    path = tmp_path / "collector.toml"
    path.write_text(example)
    for place in load_configuration(path).places.values():
        await place.outlet.close()


def test_every_kind_of_outlet_has_an_example() -> None:
    """Or nobody would find it."""
    kinds = set(re.findall(r'^kind = "(\w+)"', "\n".join(EXAMPLES), re.MULTILINE))
    assert kinds == {"alertmanager", "apprise", "heartbeat", "icinga", "webhook"}


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_alert_is_told_of(kind: Kind) -> None:
    """With the severity that it has where nobody says otherwise."""
    assert f"| `{kind}` | {SEVERITIES[kind]} | " in PAGE.read_text()


def test_the_packaged_configuration_is_one() -> None:
    """And so is what stands in it behind the marks."""
    packaged = PAGE.parent.parent / "packaging" / "collector" / "collector.toml"
    assert not load_configuration(packaged).places
    assert "kind = " in packaged.read_text()
