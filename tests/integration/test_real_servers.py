"""Every protocol against servers that others wrote: found open, and not a word of it in their logs.

The servers are started here, on loopback. One that is not installed skips its tests; in CI, which
installs them all, that is a failure.
"""

import asyncio
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from ports import free_port

from reachmap_agent import clock
from reachmap_agent.credentials import Contexts
from reachmap_agent.engine.engine import Engine
from reachmap_agent.prober import Job, Prober
from reachmap_collector.embedded import find_server
from reachmap_shared.messages import CheckSpec, Observation, Plan
from reachmap_shared.vocabulary import AnsweredBy, Outcome, Transport

TIMES = 50
PATIENCE_S = 20.0
CALM_S = 0.25
"""A log that grows no more for that long has said all."""

KEY = "0123456789abcdef" * 4
"""An agent is on the server's host, too: so servers hear our challenge."""
NAME = "server.example"
TCP, UDP = Transport.TCP, Transport.UDP
ROOT = os.geteuid() == 0


@dataclass
class Server:
    """One that runs, with the port of each of its services and the log that it writes."""

    log: Path
    ports: dict[str, int] = field(default_factory=dict)
    usual: str = r"(?!)"
    """What its log may say of clients that come and go, as a regular expression."""

    def complaints(self, since: int) -> list[str]:
        """What it logged besides, once it logs no more."""
        wait_for_calm(self.log)
        lines = self.log.read_bytes()[since:].decode(errors="replace").splitlines()
        return [line for line in lines if not re.search(self.usual, line)]


def wait_for_calm(log: Path) -> None:
    """Wait until a log grows no more."""
    size = -1
    while size != (size := log.stat().st_size):
        time.sleep(CALM_S)


def needed(program: str, package: str) -> str:
    """Where a program is; one that is missing skips the test, or fails it in CI."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return found or missing(f"{program} is not installed (Debian's package {package})")


def missing(reason: str) -> str:
    """Skip the test, or fail it in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def running(command: list[str], log: Path, answers: Callable[[], bool]) -> Iterator[None]:
    """A program that runs, from when it answers until the block ends."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not answers():
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.02)
        wait_for_calm(log)
        yield
    finally:
        # The whole session, since some work through children.
        for number in (signal.SIGINT, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(timeout=5)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        process.wait()


def holds(port: int, transport: Transport = TCP) -> Callable[[], bool]:
    """Whether something has a port of loopback; asked without a connection, which logs may tell."""
    where = f" 0100007F:{port:04X} "
    return lambda: where in Path(f"/proc/net/{transport}").read_text()


def check(
    protocol: str,
    port: int,
    transport: Transport = TCP,
    *,
    times: int = TIMES,
    tls: ssl.SSLContext | None = None,
) -> list[Observation]:
    """Check a port of loopback again and again, as the agent does."""
    spec = CheckSpec("server", f"role:{port}", "127.0.0.1", port, transport, protocol, KEY)
    context = tls or Contexts.from_pem("").client
    plan = Plan("pc-17", "1", 10, 3, "", KEY, KEY, (), ())
    contexts = Contexts(context, None, b"")

    async def checks() -> list[Observation]:
        loop = asyncio.get_running_loop()
        engine = Engine(loop)
        seen = []
        try:
            prober = Prober(engine, clock.system())
            for slot in range(times):
                ended: asyncio.Future[Observation] = loop.create_future()
                job = Job.of(slot, spec, plan, contexts)
                job = replace(job, spec=replace(spec, address=NAME))  # as it names the server
                prober.start(job, 3.0, ended.set_result)
                seen.append(await ended)
        finally:
            engine.close()
        return seen

    return asyncio.run(checks())


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A place that servers can read which are not started as root."""
    with tempfile.TemporaryDirectory(prefix="reachmap-servers-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def identity(folder: Path) -> Identity:
    """A certificate for NAME that is its own authority."""
    made = Identity(folder / "certificate.pem", folder / "key.pem")
    subprocess.run(
        [
            *[needed("openssl", "openssl"), "req", "-x509", "-nodes", "-newkey", "ec"],
            *["-pkeyopt", "ec_paramgen_curve:P-256", "-days", "30", "-subj", f"/CN={NAME}"],
            *["-addext", f"subjectAltName=DNS:{NAME}"],
            *["-out", str(made.certificate), "-keyout", str(made.key)],
        ],
        check=True,
        capture_output=True,
    )
    return made


@contextmanager
def nats(folder: Path, name: str, options: str, *services: str) -> Iterator[Server]:
    """A NATS server; `PORT_OF_x` in its options is the port of the service x."""
    log = folder / f"{name}.log"
    server = Server(log, {service: free_port() for service in ("client", *services)})
    text = f'listen: "127.0.0.1:{server.ports["client"]}"\n{options}\n'
    for service, port in server.ports.items():
        text = text.replace(f"PORT_OF_{service}", str(port))
    configuration = folder / f"{name}.conf"
    configuration.write_text(text)
    binary = str(asyncio.run(find_server()))
    command = [binary, "--config", str(configuration)]
    with running(command, log, lambda: "Server is ready" in log.read_text()):
        yield server


def tls_options(identity: Identity, more: str = "") -> str:
    """NATS's options for TLS."""
    return f'tls {{ cert_file: "{identity.certificate}", key_file: "{identity.key}", {more} }}'


@pytest.fixture(scope="module")
def nats_plain(folder: Path) -> Iterator[Server]:
    """In plain text, open to all, and a member of a cluster."""
    options = """
        cluster { name: c, listen: "127.0.0.1:PORT_OF_cluster" }
        leafnodes { listen: "127.0.0.1:PORT_OF_leaf" }
        websocket { listen: "127.0.0.1:PORT_OF_websocket", no_tls: true }
    """
    with nats(folder, "nats-plain", options, "cluster", "leaf", "websocket") as server:
        # It tells of every connection between servers, however it ends.
        server.usual = r"\[INF\] .* (Route|Router|Leafnode) connection (created|closed: \w+ Closed)"
        yield server


@pytest.fixture(scope="module")
def nats_guarded(folder: Path) -> Iterator[Server]:
    """In plain text, for those who log in."""
    with nats(folder, "nats-guarded", 'authorization { token: "secret" }') as server:
        yield server


@pytest.fixture(scope="module")
def nats_tls(folder: Path, identity: Identity) -> Iterator[Server]:
    """TLS required, and open to all."""
    options = (
        tls_options(identity)
        + f"""
        websocket {{ listen: "127.0.0.1:PORT_OF_websocket", {tls_options(identity)} }}
    """
    )
    with nats(folder, "nats-tls", options, "websocket") as server:
        yield server


@pytest.fixture(scope="module")
def nats_tls_guarded(folder: Path, identity: Identity) -> Iterator[Server]:
    """TLS for those who want it, for those who log in."""
    options = tls_options(identity) + '\nallow_non_tls: true\nauthorization { token: "secret" }'
    with nats(folder, "nats-tls-guarded", options) as server:
        yield server


@pytest.fixture(scope="module")
def nats_mutual(folder: Path, identity: Identity) -> Iterator[Server]:
    """TLS on both sides, as OpenUEM has it."""
    options = tls_options(identity, f'ca_file: "{identity.certificate}", verify: true')
    with nats(folder, "nats-mutual", options) as server:
        yield server


def as_nobody(command: list[str], folder: Path) -> list[str]:
    """The command, so that it runs as an ordinary user who owns the folder."""
    if not ROOT:
        return command
    shutil.chown(folder, "nobody")
    return [needed("runuser", "util-linux"), "-u", "nobody", "--", *command]


@pytest.fixture(scope="module")
def database(folder: Path, identity: Identity) -> Path:
    """A PostgreSQL cluster's data."""
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3])
    )
    initdb = versions[-1] if versions else missing("PostgreSQL is not installed (postgresql)")
    home = folder / "postgres"
    home.mkdir()
    data = home / "data"
    command = [str(initdb), "--pgdata", str(data), "--no-sync", "--auth", "trust", "--locale", "C"]
    subprocess.run(as_nobody(command, home), check=True, capture_output=True, cwd="/")
    for source, name in ((identity.certificate, "server.crt"), (identity.key, "server.key")):
        copy = data / name
        shutil.copy(source, copy)
        copy.chmod(0o600)
        if ROOT:
            shutil.chown(copy, "nobody")
    (data / "bin").symlink_to(Path(initdb).parent)
    return data


@contextmanager
def postgres(data: Path, tls: str) -> Iterator[Server]:
    """A PostgreSQL server."""
    server = Server(data.parent / f"tls-{tls}.log", {"server": free_port()})
    options = {"listen_addresses": "127.0.0.1", "port": server.ports["server"], "ssl": tls}
    options |= {"unix_socket_directories": "", "fsync": "off", "shared_buffers": "1MB"}
    command = [str((data / "bin").resolve() / "postgres"), "-D", str(data)]
    command += [f"--{name}={value}" for name, value in options.items()]
    ready = "ready to accept connections"
    with running(
        as_nobody(command, data.parent), server.log, lambda: ready in server.log.read_text()
    ):
        yield server


@pytest.fixture
def postgres_plain(database: Path) -> Iterator[Server]:
    """Unwilling to speak TLS."""
    with postgres(database, "off") as server:
        yield server


@pytest.fixture
def postgres_tls(database: Path) -> Iterator[Server]:
    """Willing to."""
    with postgres(database, "on") as server:
        yield server


@pytest.fixture(scope="module")
def sshd(folder: Path) -> Iterator[Server]:
    """OpenSSH's."""
    binary = needed("sshd", "openssh-server")
    key = folder / "host-key"
    keygen = needed("ssh-keygen", "openssh-client")
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    if ROOT:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it locks up what it has not let in yet
    server = Server(folder / "sshd.log", {"server": free_port()})
    # What it says at INFO of each who comes: for us, that we left, by name.
    server.usual = r"(Received disconnect from .*: reachmap|Disconnected from .*) \[preauth\]"
    options = ["ListenAddress=127.0.0.1", "PidFile=none", "UsePAM=no", "MaxStartups=1000"]
    command = [binary, "-D", "-e", "-f", "/dev/null", "-h", str(key)]
    command += ["-p", str(server.ports["server"]), *(f"-o{option}" for option in options)]
    with running(command, server.log, lambda: "Server listening" in server.log.read_text()):
        yield server


@pytest.fixture(scope="module")
def responder(folder: Path, identity: Identity) -> Iterator[Server]:
    """OpenSSL's OCSP responder, which takes one request a connection."""
    index = folder / "index.txt"
    index.touch()
    server = Server(folder / "ocsp.log", {"server": free_port()})
    server.usual = "ocsp: Received request, 1st line: GET /.*health.*reachmap"
    command = [needed("openssl", "openssl"), "ocsp", "-index", str(index)]
    command += ["-port", str(server.ports["server"]), "-CA", str(identity.certificate)]
    command += ["-rsigner", str(identity.certificate), "-rkey", str(identity.key)]
    with running(command, server.log, lambda: "waiting for" in server.log.read_text()):
        yield server


WEB = """
import http.server, ssl, sys
port, *certificate = sys.argv[1:]
handler = http.server.SimpleHTTPRequestHandler
with http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), handler) as server:
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        # The handshake is for the connection's thread, with its traceback.
        plain, late = server.socket, {"do_handshake_on_connect": False}
        server.socket = context.wrap_socket(plain, server_side=True, **late)
    server.serve_forever()
"""


@contextmanager
def web(folder: Path, name: str, *certificate: Path) -> Iterator[Server]:
    """Python's web server, which prints a traceback for whatever it dislikes."""
    server = Server(folder / f"{name}.log", {"server": free_port()}, r'"GET / HTTP/1.1" 200')
    port = server.ports["server"]
    command = [sys.executable, "-c", WEB, str(port), *map(str, certificate)]
    with running(command, server.log, holds(port)):
        yield server


@pytest.fixture(scope="module")
def web_plain(folder: Path) -> Iterator[Server]:
    """In plain text."""
    with web(folder, "http") as server:
        yield server


@pytest.fixture(scope="module")
def web_tls(folder: Path, identity: Identity) -> Iterator[Server]:
    """Inside TLS."""
    with web(folder, "https", identity.certificate, identity.key) as server:
        yield server


@pytest.fixture(scope="module")
def dnsmasq(folder: Path) -> Iterator[Server]:
    """A resolver that knows no other."""
    binary = needed("dnsmasq", "dnsmasq-base")
    server = Server(folder / "dnsmasq.log", {"server": free_port()})
    port = server.ports["server"]
    options = ["no-daemon", "no-resolv", "no-hosts", "bind-interfaces", "conf-file=/dev/null"]
    options += [f"port={port}", "listen-address=127.0.0.1", "pid-file=", "user=", "group="]
    command = [binary, *(f"--{option}" for option in options)]
    with running(command, server.log, holds(port)):
        yield server


@pytest.fixture(scope="module")
def chronyd(folder: Path) -> Iterator[Server]:
    """A time server that leaves this machine's clock alone."""
    binary = needed("chronyd", "chrony")
    server = Server(folder / "chronyd.log", {"server": free_port()})
    port = server.ports["server"]
    configuration = folder / "chrony.conf"
    configuration.write_text(
        f"port {port}\nbindaddress 127.0.0.1\nlocal stratum 8\nallow\ncmdport 0\n"
        f"pidfile {folder}/chronyd.pid\n"
    )
    user = "root" if ROOT else os.environ.get("USER", "nobody")
    command = [binary, "-x", "-d", "-U", "-4", "-u", user, "-f", str(configuration)]
    with running(command, server.log, holds(port, UDP)):
        yield server


@pytest.fixture(scope="module")
def mail(folder: Path) -> Iterator[Server]:
    """An SMTP server that takes offence at those who leave without a hello."""
    binary = needed("msmtpd", "msmtp-mta")
    server = Server(folder / "smtp.log", {"server": free_port()}, r"\] info: ")
    server.log.touch()
    port = server.ports["server"]
    command = [binary, f"--port={port}", f"--log={server.log}", "--command=/bin/false"]
    with running(command, folder / "smtp.out", holds(port)):
        yield server


@pytest.mark.parametrize(
    ("server", "service", "protocol", "transport", "said"),
    [
        ("nats_plain", "client", "nats", TCP, "answered PING with PONG"),
        ("nats_plain", "cluster", "nats", TCP, "answered with a NATS INFO line"),
        ("nats_plain", "leaf", "nats", TCP, "answered with a NATS INFO line"),
        ("nats_plain", "websocket", "websocket", TCP, "answered with a websocket"),
        ("nats_guarded", "client", "nats", TCP, "answered with a NATS INFO line"),
        ("nats_tls", "client", "nats", TCP, f"certificate of {NAME}, valid until"),
        ("nats_tls", "client", "nats", TCP, "answered PING with PONG"),
        ("nats_tls", "websocket", "wss", TCP, "answered with a websocket"),
        ("nats_tls_guarded", "client", "nats", TCP, "shook hands over TLSv1.3"),
        ("postgres_plain", "server", "postgres", TCP, "answer to SSLRequest (unwilling)"),
        ("postgres_tls", "server", "postgres", TCP, f"certificate of {NAME}, valid until"),
        ("sshd", "server", "ssh", TCP, "answered with an SSH identification"),
        ("responder", "server", "ocsp", TCP, "answered with OCSP status successful"),
        ("web_plain", "server", "http", TCP, "answered with HTTP status 200"),
        ("web_tls", "server", "https", TCP, f"certificate of {NAME}, valid until"),
        ("web_tls", "server", "tls", TCP, f"certificate of {NAME}, valid until"),
        ("dnsmasq", "server", "dns", UDP, "answered with a DNS response ("),
        ("dnsmasq", "server", "dns", TCP, "answered with a DNS response ("),
        ("chronyd", "server", "ntp", UDP, "answered with an NTP reply, stratum 8"),
        ("mail", "server", "smtp", TCP, "answered with an SMTP greeting"),
    ],
)
def test_a_real_server_is_open_and_its_log_stays_calm(
    request: pytest.FixtureRequest,
    server: str,
    service: str,
    protocol: str,
    transport: Transport,
    said: str,
) -> None:
    """Fifty checks, one after the other: each open, by the service, and the log does not mind."""
    running_one: Server = request.getfixturevalue(server)
    before = running_one.log.stat().st_size
    observations = check(protocol, running_one.ports[service], transport)
    for seen in observations:
        assert (seen.outcome, seen.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE), seen.evidence
        assert seen.healthy, seen.evidence
        assert any(said in fact for fact in seen.evidence), seen.evidence
        assert not any("not for" in fact for fact in seen.evidence), seen.evidence
    left = running_one.complaints(before)
    assert not left, "\n".join(left[:25])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_wants_our_certificate_is_open_and_says_so_in_its_log(
    nats_mutual: Server, version: ssl.TLSVersion
) -> None:
    """Without one no check can be silent there: one line each, and the check knows why."""
    context = Contexts.from_pem("").client
    context.maximum_version = version
    before = nats_mutual.log.stat().st_size
    for seen in check("nats", nats_mutual.ports["client"], tls=context, times=5):
        assert (seen.outcome, seen.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
        assert "it lets in only clients that show a certificate" in seen.evidence
    complaints = nats_mutual.complaints(before)
    assert len(complaints) == 5
    assert all("client didn't provide a certificate" in line for line in complaints)


def test_a_certificate_of_ours_is_shown_where_one_is_wanted(
    nats_mutual: Server, identity: Identity
) -> None:
    """As an agent's settings name it; then the log is calm there, too."""
    context = Contexts.from_pem("", Path(identity.certificate), Path(identity.key)).client
    before = nats_mutual.log.stat().st_size
    for seen in check("nats", nats_mutual.ports["client"], tls=context):
        assert seen.outcome is Outcome.OPEN
        assert "answered PING with PONG" in seen.evidence
    assert nats_mutual.complaints(before) == []


@pytest.mark.parametrize(
    ("server", "service", "protocol"),
    [
        ("nats_plain", "client", "http"),
        ("nats_plain", "client", "smtp"),
        ("nats_plain", "client", "ssh"),
        ("nats_plain", "websocket", "ocsp"),
        ("nats_plain", "client", "dns"),
        ("web_plain", "server", "ocsp"),
        ("web_plain", "server", "websocket"),
        ("sshd", "server", "postgres"),
        ("sshd", "server", "nats"),
        ("mail", "server", "nats"),
    ],
)
def test_a_real_server_of_another_kind_is_the_wrong_service(
    request: pytest.FixtureRequest, server: str, service: str, protocol: str
) -> None:
    """Something answers there, and it is not what was asked for."""
    port = request.getfixturevalue(server).ports[service]
    (seen,) = check(protocol, port, times=1)
    assert seen.outcome is Outcome.WRONG_SERVICE, seen.evidence
