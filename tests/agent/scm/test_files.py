"""Whose the service's folders are, by the commands that would say so; Windows has not run them."""

from pathlib import Path

from reachmap_agent.scm import files


def test_others_are_kept_out_and_the_service_is_let_in() -> None:
    """Strangers' folders are taken from them first; the service writes state and log alone."""
    folder = Path("D")
    owner, reset, close, *open_ = (command[1:] for command in files.commands(folder))
    assert owner == ["D", "/setowner", "*S-1-5-32-544", "/T", "/Q"]
    assert reset == ["D", "/reset", "/T", "/Q"]
    assert close == [
        *("D", "/inheritance:r", "/grant:r", "*S-1-5-18:(OI)(CI)F", "*S-1-5-32-544:(OI)(CI)F"),
        r"NT SERVICE\reachmap-agent:(OI)(CI)RX",
    ]
    assert open_ == [
        [str(folder / name), "/grant:r", r"NT SERVICE\reachmap-agent:(OI)(CI)M"]
        for name in ("state", "log")
    ]


def test_the_program_is_windows_s_own() -> None:
    """Not one of that name that lies on the way."""
    assert all(
        command[0].endswith("icacls.exe") and "System32" in command[0]
        for command in files.commands(Path("D"))
    )
