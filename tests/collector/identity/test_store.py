"""What is kept of the bus: made once, whoever comes first, and for its owner alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from reachmap_collector.errors import InvalidFile
from reachmap_collector.identity.servers import Mode
from reachmap_collector.identity.store import Place, Store
from reachmap_shared.errors import InvalidName
from reachmap_shared.permissions import Party


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "data")
    made.prepare()
    return made


def test_keys_are_made_once(store: Store) -> None:
    """And are those of a deployment from then on."""
    assert store.seeds() == Store(store.folder.parent).seeds()
    assert Store(store.folder.parent).authority().certificate == store.authority().certificate


def test_who_comes_first_makes_the_keys(store: Store) -> None:
    """However many come at once: a host enrolled by the loser's keys would never get in."""
    look = (
        "import sys; from pathlib import Path; "
        "from reachmap_collector.identity.store import Store; "
        "print(Store(Path(sys.argv[1])).seeds().account)"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", look, str(store.folder.parent)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    assert {racer.communicate()[0].strip() for racer in racers} == {store.seeds().account}
    assert [file.name for file in store.folder.iterdir()] == ["keys.json"]


def test_where_the_bus_is_is_kept(store: Store) -> None:
    """For the command line; a file that is none is no place."""
    assert store.place == Place()
    place = Place(Mode.NKEY, ("a",), ("b", "c"), "/ca.pem", "name")
    store.place = place
    assert Store(store.folder.parent).place == place
    before = (store.folder / "place.json").stat().st_ino
    store.place = place
    assert (store.folder / "place.json").stat().st_ino == before, "nothing is written in vain"
    (store.folder / "place.json").write_text("{}")
    assert store.place == Place()


@pytest.mark.parametrize("mode", list(Mode))
def test_everything_is_for_its_owner_alone(store: Store, mode: Mode) -> None:
    """Whatever was made."""
    store.enroll("pc-1", mode)
    store.access(Party.COLLECTOR, mode)
    store.access(Party.OPERATOR, mode)
    store.tokens()
    assert store.folder.parent.stat().st_mode & 0o077 == 0
    for file in (store.folder, *store.folder.iterdir()):
        assert file.stat().st_mode & 0o077 == 0, file


@pytest.mark.parametrize("mode", list(Mode))
def test_each_enrolment_is_another(store: Store, mode: Mode) -> None:
    """So that one can be revoked, and the next stays good."""
    first, second = store.enroll("pc-1", mode), store.enroll("pc-1", mode)
    assert first != second
    one, two = store.enrolled()
    assert one.identity != two.identity
    store.revoke([one])
    assert list(store.enrolled("pc-1")) == [two]
    listed = [user.identity for user in store.users(mode) if user.party is Party.AGENT]
    assert listed == [two.identity]


def test_no_secret_of_a_host_is_kept(store: Store) -> None:
    """It is in the bundle alone: whoever reads a backup of the list gets nobody's."""
    for mode in Mode:
        bundle = store.enroll("pc-1", mode)
        secrets = [text for text in (bundle.credentials, bundle.nkey, bundle.key) if text]
        kept = "".join(file.read_text() for file in store.folder.iterdir())
        assert not any(secret in kept for secret in secrets)


def test_a_host_s_name_is_one_token(store: Store) -> None:
    """Or it would be a pattern."""
    with pytest.raises(InvalidName):
        store.enroll("*", Mode.JWT)
    assert list(store.enrolled()) == []


def test_a_file_that_was_torn_is_told(store: Store) -> None:
    """By name."""
    (store.folder / "keys.json").write_text("{")
    with pytest.raises(InvalidFile, match=r"keys\.json"):
        store.seeds()
