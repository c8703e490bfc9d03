"""A store on a disk that fills up and turns read-only, in a mount namespace of its own.

Prints `done` when all went as promised; what did not is an error. Run by test_sqlite.py.
"""

import subprocess
import sys
from pathlib import Path

from reachmap_collector.errors import StoreUnavailable
from reachmap_collector.planner import FlowKey
from reachmap_collector.store import open_store
from reachmap_collector.store.api import Batch, Transition
from reachmap_shared.vocabulary import Outcome, Transport


def batch(number: int) -> Batch:
    flow = FlowKey("a", f"host-{number}", "10.0.0.1", 1, Transport.TCP)
    return Batch(
        (Transition("a", "b", number, flow, "s", float(number), Outcome.OPEN, True, b"x" * 9000),)
    )


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def remount(mode: str, folder: Path) -> None:
    # With its source: else the options that it has are given anew, and an owner who is nobody in
    # this namespace of users is refused.
    mount("-o", f"remount,{mode}", "small", str(folder))


def main(folder: Path) -> None:
    mount("-t", "tmpfs", "-o", "size=8m", "small", str(folder))
    store = open_store(f"sqlite:///{folder / 'store'}")
    store.commit(batch(0))
    filler = folder / "filler"
    filler.write_bytes(b"x" * (4 << 20))
    kept = 0
    while True:
        try:
            store.commit(batch(kept + 1))
        except StoreUnavailable as error:
            said = str(error)
            break
        kept += 1
    assert "full" in said, said
    assert kept > 10, kept
    assert [one.number for one in store.history(limit=1).transitions] == [kept]  # it can be read
    filler.unlink()
    for number in range(kept + 1, kept + 5):  # the one that failed comes again
        store.commit(batch(number))
    assert store.size().transitions == kept + 5
    assert store.flaws() == ()
    store.close()

    remount("ro", folder)
    store = open_store(f"sqlite:///{folder / 'store'}")
    for _ in range(2):
        try:
            store.commit(batch(kept + 9))
        except StoreUnavailable as error:
            sys.stdout.write(f"{error}\n")
        else:
            raise AssertionError("it was read-only")
    remount("rw", folder)
    store.commit(batch(kept + 9))
    assert store.size().transitions == kept + 6
    store.close()
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
