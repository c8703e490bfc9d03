"""Whatever is killed, every observation that agents made is on the map or in a counter."""

import contextlib
import signal
import socket
from datetime import datetime, timedelta
from typing import Any

from reachmap_collector.store import open_store

SMALL = """
[checks]
interval_s = 0.5
timeout_s = 0.4
[roles.web]
listens = {{ "web:{port}" = {{ protocol = "http", listen = "always" }} }}
[roles.browser]
connects = ["web:{port}"]
[hosts.server]
roles = ["web"]
[hosts.client]
roles = ["browser"]
"""


def client(deployment: Any) -> Any:
    [row] = [row for row in deployment.agents() if row["agent"] == "client"]
    return row


def balances(deployment: Any) -> bool:
    """Whether all that the client's last pulse says it made is accounted for.

    What waited by then may have come since, so it may count twice here, and never not at all.
    """
    row = client(deployment)
    parts = ("received", "refused", "waiting", "dropped")
    found = sum(row.get(f"observations_{part}", 0) for part in parts)
    return bool(row["state"] == "fresh" and 0 < row["checks_done"] <= found)


def counts_nothing_twice(deployment: Any) -> bool:
    """Whether no more came than was made; to be asked when a pulse came after the last report."""
    row = client(deployment)
    return bool(0 < row["observations_received"] <= row["checks_done"])


def test_a_collector_that_is_killed_again_and_again_loses_nothing(
    deployment: Any, port: int
) -> None:
    """Its bus with it, at any moment; the account balances each time, and the map is as it was."""
    deployment.topology.write_text(SMALL.format(port=port))
    collector = deployment.serve()
    deployment.agent("server", "127.77.1.1")
    deployment.agent("client", "127.77.1.2")
    deployment.until(lambda: deployment.states() == {"ok": 1}, "the flow is ok")
    since = deployment.flow()["since"]
    boot = client(deployment)["boot"]
    for round_ in range(3):
        received = client(deployment).get("observations_received", 0)
        collector.send_signal(signal.SIGKILL)
        collector.wait()
        collector = deployment.serve()
        deployment.until(
            lambda received=received: (
                balances(deployment) and client(deployment)["observations_received"] > received
            ),
            f"the account balances, round {round_}",
        )
    row = client(deployment)
    assert (row["boot"], row["observations_dropped"], row["observations_refused"]) == (boot, 0, 0)
    deployment.until(lambda: counts_nothing_twice(deployment), "nothing counts twice")
    assert deployment.ask("status")["delivery"]["reports_missing"] == 0
    assert deployment.states() == {"ok": 1}
    told = datetime.fromisoformat(deployment.flow()["since"])
    assert abs(told - datetime.fromisoformat(since)) < timedelta(seconds=1)


def test_an_agent_that_is_killed_accounts_for_what_it_lost(deployment: Any, port: int) -> None:
    """The start after it tells: what was made is received or lost, and nothing is left over."""
    deployment.topology.write_text(SMALL.format(port=port))
    deployment.serve()
    deployment.agent("server", "127.77.1.1")
    process = deployment.agent("client", "127.77.1.2")
    deployment.until(lambda: balances(deployment), "the account balances")
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = client(deployment)
    deployment.agent("client", "127.77.1.2")
    deployment.until(
        lambda: balances(deployment) and client(deployment)["boot"] != before["boot"],
        "the next start's account balances",
    )
    now = client(deployment)
    status = deployment.ask("status")
    assert status["observations"]["refused"] == status["delivery"]["reports_missing"] == 0
    # All that the first start had made by its last pulse, and maybe some after it.
    came = status["observations"]["received"] - now["observations_received"]
    lost = status["observations"]["dropped"] - now["observations_dropped"]
    assert before["checks_done"] <= came + lost <= before["checks_done"] + 20
    assert deployment.states() == {"ok": 1}


def test_what_comes_while_nobody_listens_is_caught_up_with(deployment: Any, port: int) -> None:
    """A fault that began and ended while the collector and its bus were away is in the history."""
    deployment.topology.write_text(SMALL.format(port=port))
    collector = deployment.serve()
    server = deployment.agent("server", "127.77.1.1")
    deployment.agent("client", "127.77.1.2")
    deployment.until(lambda: deployment.states() == {"ok": 1}, "the flow is ok")
    collector.send_signal(signal.SIGTERM)
    collector.wait()
    server.send_signal(signal.SIGTERM)
    server.wait()
    with socket.create_server(("127.77.1.1", port)) as silent:
        silent.settimeout(30)
        for _ in range(4):  # checks that find nobody home: the change is confirmed by now
            silent.accept()[0].close()
    deployment.agent("server", "127.77.1.1")
    deployment.serve()
    store = open_store(f"sqlite:///{deployment.folder / 'data' / 'reachmap.sqlite'}", migrate=False)

    def history() -> list[bool]:
        with contextlib.closing(store):
            found = store.history(source="client").transitions
        changes[:] = found
        return [change.is_open for change in reversed(found)]

    changes: list[Any] = []
    # Until the agent is back on the bus, the map is as it was, and that was well, too.
    deployment.until(
        lambda: False in (outcomes := history()) and outcomes[0] and outcomes[-1],
        "the fault and its end are in the history",
    )
    deployment.until(
        lambda: deployment.states() == {"ok": 1} and balances(deployment), "all is well again"
    )
    assert [change.number for change in reversed(changes)] == list(range(len(changes)))
