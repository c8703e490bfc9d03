"""A start's numbers: kept at once, for whoever starts after it."""

import resource
from pathlib import Path

import pytest

from reachmap_agent.account import Account, shown_lost


def test_what_is_counted_is_kept(tmp_path: Path) -> None:
    """Each number by itself; a new file has none."""
    path = tmp_path / "a.account"
    account = Account(path)
    assert (account.made, account.told, account.delivered, account.sequence) == (0, 0, 0, 0)
    assert account.changes_delivered == 0 and not account.is_closed and account.noted is None
    account.made, account.told, account.sequence, account.closed_ms = 1 << 40, 7, 3, 9
    account.show_lost(5, 6)
    assert shown_lost(path.read_bytes()) == (5, 6), "there without closing, as after a kill"
    again = Account(path)
    assert (again.made, again.told, again.sequence, again.closed_ms) == (1 << 40, 7, 3, 9)
    assert again.is_closed
    account.close()
    again.close()


def test_a_note_holds_until_it_is_settled(tmp_path: Path) -> None:
    """Settled once or twice, before a crash or after, the sum is the same."""
    path = tmp_path / "a.account"
    account = Account(path)
    account.note(0, 2, made=10, changes=1)
    account.settle()
    account.note(4, 1, made=5, changes=2)
    assert (account.delivered, account.changes_delivered) == (10, 1)
    account.close()
    after = Account(path)
    assert after.noted == (4, 1)
    for _ in range(2):
        after.settle()
        assert (after.delivered, after.changes_delivered) == (15, 3)
    assert after.noted is None
    after.close()


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 4096, bytes(4096)])
def test_a_file_that_is_none_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    """Of another version, or torn."""
    path = tmp_path / "a.account"
    path.write_bytes(content)
    account = Account(path)
    assert (account.made, account.noted) == (0, None)
    account.close()
    assert path.stat().st_size == 4096


def test_a_disk_without_room_is_an_error_at_once(tmp_path: Path) -> None:
    """And not a signal at the first count."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"No space|too large"):
            Account(tmp_path / "a.account")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_without_a_file_it_counts_all_the_same() -> None:
    """For as long as the process lives."""
    account = Account(None)
    account.made = 3
    account.note(0, 1, 3, 0)
    account.settle()
    assert (account.made, account.delivered) == (3, 3)
    account.close()


@pytest.mark.parametrize("content", [b"", b"x" * 4095])
def test_what_is_no_account_shows_nothing(content: bytes) -> None:
    """The doctor looks at files that are just being made, too."""
    assert shown_lost(content) == (0, 0)
