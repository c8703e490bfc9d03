"""From a file to outlets that can be used, or every problem with its place."""

from pathlib import Path
from typing import Any

import pytest

from reachmap_collector.alerts.load import NOTHING, Configuration, load_configuration
from reachmap_collector.errors import InvalidFile


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def loaded(text: str) -> Configuration:
        path = tmp_path / "collector.toml"
        path.write_text(text)
        return load_configuration(path)

    return loaded


def refusal(load: Any, text: str) -> list[str]:
    with pytest.raises(InvalidFile) as caught:
        load(text)
    return [str(problem) for problem in caught.value.problems]


def test_where_there_is_none_the_defaults_hold() -> None:
    """And nobody but the bus is told."""
    assert not NOTHING.places


async def test_secrets_come_from_files_and_the_environment(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative to the file's own folder."""
    monkeypatch.setenv("REACHMAP_TEST_URL", "http://127.0.0.1:1/x")
    (tmp_path / "token").write_text("sesame\n")
    text = """[[alerts.outlets]]
name = "hook"
kind = "webhook"
url_env = "REACHMAP_TEST_URL"
token_file = "token"
min_severity = "critical"
"""
    configuration = load(text)
    place = configuration.places["hook"]
    assert place.min_severity == "critical"
    assert "sesame" not in repr(configuration)
    await place.outlet.close()


def test_every_problem_has_its_place(load: Any, tmp_path: Path) -> None:
    """Without the secret itself."""
    (tmp_path / "empty").write_text("\n")
    text = """
[[alerts.rules]]
outlets = ["nobody"]
[[alerts.outlets]]
name = "one"
kind = "webhook"
url = "http://127.0.0.1:1"
token_file = "gone"
[[alerts.outlets]]
name = "two"
kind = "webhook"
url_env = "REACHMAP_TEST_NOT_THERE"
secret_file = "empty"
[[alerts.outlets]]
name = "bus"
kind = "heartbeat"
url = "http://127.0.0.1:1"
"""
    assert refusal(load, text) == [
        "alerts.outlets[0].token_file: gone cannot be read: No such file or directory",
        "alerts.outlets[1].url_env: REACHMAP_TEST_NOT_THERE is not in the environment",
        "alerts.outlets[1].secret_file: empty is empty",
        "alerts.outlets[2].name: bus is taken already",
        "alerts.rules[0].outlets[0]: unknown outlet 'nobody'",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("alerts = 3", "alerts: input should be a valid dictionary"),
        ("[alerts]\nholds = 3", "alerts.holds: unknown key"),
        ('[[alerts.rules]]\nkinds = ["flood"]', "alerts.rules[0].kinds[0]: "),
        ('[[alerts.rules]]\nfor = "soon"', "alerts.rules[0].for: 'soon': expected a time"),
        (
            '[[alerts.outlets]]\nname = "a"\nkind = "webhook"\nurl = "http://x"\nurls = 1',
            "alerts.outlets[0].urls: unknown key",
        ),
        (
            '[[alerts.outlets]]\nname = "a"\nkind = "webhook"\nurl = "http://x"\nca_file = "gone"',
            "alerts.outlets[0]: cannot be made: ",
        ),
    ],
)
def test_a_wrong_value_is_found_by_its_path(load: Any, text: str, problem: str) -> None:
    """In the words of whoever wrote the file."""
    [found] = refusal(load, text)
    assert found.startswith(problem)


@pytest.mark.parametrize("url", ["sesame://nonsense", "mailto://user:sesame@", "tgram://sesame/x"])
def test_an_apprise_url_that_nobody_knows_is_refused(
    load: Any, tmp_path: Path, url: str, capfd: pytest.CaptureFixture[str], caplog: Any
) -> None:
    """When the file is read, and not when something is wrong; without a word of it."""
    (tmp_path / "urls").write_text(url)
    text = '[[alerts.outlets]]\nname = "a"\nkind = "apprise"\nurl_file = "urls"'
    assert refusal(load, text) == ["alerts.outlets[0]: URL 1 is none that Apprise knows"]
    out, err = capfd.readouterr()
    assert "sesame" not in out + err + caplog.text
