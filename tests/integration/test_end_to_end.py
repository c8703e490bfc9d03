"""From a port table to a live map, with real processes, a real NATS server and real sockets."""

import signal
import socket
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

PORTS = Path(__file__).parent.parent / "collector" / "topology" / "openuem-ports.md"


@pytest.fixture
def small(deployment: Any, port: int) -> Any:
    """One server, one client, one flow; collector and agents run, and the flow is ok."""
    deployment.write_small(port)
    deployment.collector = deployment.serve()
    deployment.server = deployment.agent("server", "127.77.1.1")
    deployment.client = deployment.agent("client", "127.77.1.2")
    deployment.until(lambda: deployment.states() == {"ok": 1}, "the flow is ok")
    return deployment


def test_a_port_table_in_markdown_becomes_a_live_map(deployment: Any) -> None:
    """Import, topology, collector, agents: every row of the table is dialled and found open."""
    profile = deployment.folder / "ports.toml"
    imported = deployment.reachmap("topology", "import", str(PORTS), "-o", str(profile))
    assert imported.returncode == 0, imported.stderr
    hosts = {
        "servers": [
            "nats-server",
            "ocsp-responder",
            "postgres",
            "console",
            "agent-worker",
            "cert-manager-worker",
            "notification-worker",
            "server-updater",
        ],
        "pc": ["agent", "agent-updater"],
    }
    moved = free_ports(profile)
    text = 'profiles = ["ports.toml"]\nchecks = { interval_s = 0.5, timeout_s = 0.5 }\n'
    for number, (name, roles) in enumerate(hosts.items(), start=1):
        ports = {s: p for s, p in moved.items() if s.partition(":")[0] in roles}
        text += f'[hosts.{name}]\nroles = {roles}\naddresses = ["127.77.1.{number}"]\n'
        text += "ports = { " + ", ".join(f'"{s}" = {p}' for s, p in ports.items()) + " }\n"
    deployment.topology.write_text(text)
    deployment.serve()
    deployment.agent("servers", "127.77.1.1")
    deployment.agent("pc", "127.77.1.2")
    deployment.until(
        lambda: (
            set(deployment.states()) == {"ok"} and deployment.ask("status")["agents"]["fresh"] == 2
        ),
        "all flows are ok",
    )
    rows = deployment.ask("map", by="row")["rows"]
    assert len(rows) == 21
    dialled = [row for row in rows if row["traffic"] == "outbound"]
    assert len(dialled) == 14
    assert all(row["state"] == "ok" for row in dialled)


def free_ports(profile: Path) -> dict[str, int]:
    """A free port for each service, so that the test shares a machine with anything."""
    found = {}
    for role in tomllib.loads(profile.read_text())["roles"].values():
        for service in role.get("listens", ()):
            found[service] = free_port()
    return found


def test_an_open_flow_says_who_answered(small: Any) -> None:
    """The stand-in proves itself, and the flow's fields are those that scripts rely on."""
    flow = small.flow()
    assert flow["state"] == "ok"
    assert flow["outcome"] == "open"
    assert flow["answered_by"] == "listener"
    assert flow["cause"] is None
    assert flow["latency_ms"] > 0


def test_a_stopped_agent_breaks_its_flows_and_a_new_one_mends_them(small: Any) -> None:
    """What listens no longer is refused, with a cause; a restart heals it without a conflict."""
    assert small.server.poll() is None
    small.server.send_signal(signal.SIGTERM)
    assert small.server.wait(timeout=5) == 0
    small.until(lambda: small.states() == {"broken": 1}, "the flow breaks")
    flow = small.flow()
    assert flow["outcome"] == "refused"
    assert flow["cause"] == "service"
    assert any("was stopped" in fact for fact in flow["evidence"])
    told = small.reachmap("explain", "client", "server")
    assert "to do" in told.stdout
    assert small.reachmap("status").returncode == 2
    small.agent("server", "127.77.1.1")
    small.until(lambda: small.states() == {"ok": 1}, "the flow is ok again")
    assert {agent["state"] for agent in small.agents()} == {"fresh"}


def test_a_silent_agent_is_told_of_and_its_flows_turn_unknown(small: Any) -> None:
    """No flow stays green for ever because nobody looks any more."""
    small.client.kill()
    small.client.wait()
    small.until(lambda: small.states() == {"unknown": 1}, "the flow is unknown")
    assert small.reachmap("status").returncode == 1


def test_the_bus_may_go_and_come_back(small: Any) -> None:
    """Agents outlive the collector and its NATS server, and report again when they are back."""
    assert small.collector.poll() is None
    small.collector.send_signal(signal.SIGTERM)
    assert small.collector.wait(timeout=10) == 0
    assert small.reachmap("status").returncode == 3
    assert small.server.poll() is None
    assert small.client.poll() is None
    small.serve()
    small.until(lambda: small.states() == {"ok": 1}, "the flow is ok again")


def test_an_agent_may_be_there_before_its_bus(deployment: Any, port: int) -> None:
    """It waits for the NATS server as long as it takes, and reports once it is there."""
    deployment.write_small(port)
    for name, address in (("server", "127.77.1.1"), ("client", "127.77.1.2")):
        deployment.agent(name, address)
        log = deployment.folder / f"{len(list(deployment.folder.glob('*.log'))) - 1}.log"
        deployment.until(lambda log=log: "bus trouble" in log.read_text(), "it misses the bus")
    deployment.serve()
    deployment.until(lambda: deployment.states() == {"ok": 1}, "the flow is ok")


def test_a_collector_that_is_killed_leaves_no_server_behind(small: Any) -> None:
    """The embedded NATS server ends with its collector, however that ends; both can come back."""
    small.collector.kill()
    small.collector.wait()
    small.serve()
    small.until(lambda: small.states() == {"ok": 1}, "the flow is ok again")


def test_two_agents_of_one_name_are_both_named(small: Any) -> None:
    """Neither is believed, and both are shown with where they are."""
    small.agent("client", "127.77.1.3")
    small.until(
        lambda: [agent["state"] for agent in small.agents()].count("conflict") == 2,
        "the conflict shows",
    )
    both = [agent for agent in small.agents() if agent["agent"] == "client"]
    assert {tuple(agent["addresses"]) for agent in both} == {("127.77.1.2",), ("127.77.1.3",)}
    assert small.flow()["state"] == "unknown"
    assert "give each its own --id" in small.reachmap("agents").stdout


def test_a_malformed_id_does_not_start(deployment: Any) -> None:
    """The agent says why, and that starting again will not help."""
    process = deployment.agent("not.a.name")
    assert process.wait(timeout=10) == 2
    said = (deployment.folder / "0.log").read_text()
    assert "--id: 'not.a.name' cannot name a host" in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("profiles = [", "not TOML"),
        ('[hosts.a]\nroles = ["nobody"]', "hosts.a.roles[0]: unknown role 'nobody'"),
        ("[hosts.a]\n[hosts.a]", "each name may stand once"),
        ('profiles = ["openuem"]\n[hosts.a]\nroles=["agent"]\nports={"agent:2022"=70000}', "70000"),
    ],
)
def test_a_wrong_topology_starts_nothing(deployment: Any, text: str, expected: str) -> None:
    """The collector refuses it whole, with file and place, and starts no server."""
    deployment.topology.write_text(text)
    answer = deployment.reachmap(
        *("serve", "--topology", str(deployment.topology)),
        *("--data", str(deployment.folder / "data"), "--nats", "embedded"),
        *("--nats-port", str(deployment.nats_port)),
    )
    assert answer.returncode == 2
    assert expected in answer.stderr
    assert str(deployment.topology) in answer.stderr
    assert not (deployment.folder / "data").exists()


def test_a_changed_topology_takes_hold_on_hangup(small: Any, port: int) -> None:
    """A wrong one changes nothing; a right one changes plan and map without a restart."""
    good = small.topology.read_text()
    small.topology.write_text(good + "[hosts.client.nonsense]\n")
    small.collector.send_signal(signal.SIGHUP)
    log = small.folder / "0.log"
    small.until(lambda: "topology refused" in log.read_text(), "the wrong one is refused")
    assert small.states() == {"ok": 1}
    small.topology.write_text(good.replace('roles = ["browser"]', 'roles = ["browser", "web"]'))
    small.collector.send_signal(signal.SIGHUP)
    small.until(lambda: small.states() == {"ok": 2}, "the client listens too")
    small.topology.write_text(good.partition("[hosts.client]")[0])
    small.collector.send_signal(signal.SIGHUP)
    small.until(lambda: small.states() == {}, "no flow is expected any more")
    with socket.socket() as probe:
        small.until(
            lambda: probe.connect_ex(("127.77.1.2", port)) != 0, "the client's listener is closed"
        )


def test_an_agent_that_is_not_listed_waits_until_it_is_admitted(small: Any) -> None:
    """A stranger is shown, and takes part only when the topology lets its roles in."""
    small.agent("guest", "127.77.1.4", "--roles", "browser")
    small.until(
        lambda: any(agent["agent"] == "guest" for agent in small.agents()), "the guest shows"
    )
    assert "is not in the topology" in small.reachmap("agents").stdout
    assert small.states() == {"ok": 1}
    small.topology.write_text('admit = ["browser"]\n' + small.topology.read_text())
    small.collector.send_signal(signal.SIGHUP)
    small.until(lambda: small.states() == {"ok": 2}, "the guest's flow is ok")


def test_a_port_that_a_service_holds_is_left_to_it(deployment: Any, port: int) -> None:
    """The agent does not take it when the service goes: the service finds it free again."""
    deployment.write_small(port)
    deployment.serve()
    web = deployment.start_program(*web_server(port))
    deployment.until(lambda: is_open(port), "the web server listens")
    deployment.agent("server", "127.77.1.1")
    deployment.agent("client", "127.77.1.2")
    deployment.until(lambda: deployment.states() == {"ok": 1}, "the flow is ok")
    assert deployment.flow()["answered_by"] == "service"
    web.kill()
    web.wait()
    deployment.until(lambda: deployment.states() == {"broken": 1}, "the flow breaks")
    flow = deployment.flow()
    assert (flow["outcome"], flow["cause"]) == ("refused", "service")
    deployment.start_program(*web_server(port))
    deployment.until(lambda: deployment.states() == {"ok": 1}, "the service is back on its port")


def test_a_wrong_service_on_the_port_is_seen(deployment: Any, port: int) -> None:
    """Something that answers in another protocol is not taken for the service."""
    deployment.write_small(port, protocol="nats")
    deployment.serve()
    with socket.create_server(("127.77.1.1", port)) as other:
        other.settimeout(30)
        deployment.agent("client", "127.77.1.2")
        while (flow := deployment.flow())["outcome"] != "wrong-service":
            connection, _ = other.accept()
            with connection:
                connection.sendall(b"SSH-2.0-Go\r\n")
    assert any("got 'SSH-2.0-Go'" in fact for fact in flow["evidence"])


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.77.1.1", port)) == 0


def web_server(port: int) -> tuple[str, ...]:
    """A web server of the standard library, as a program."""
    return (sys.executable, "-m", "http.server", str(port), "--bind", "127.77.1.1")
