"""What runs on the lab's hosts besides agents: services that work, until they do not."""

import asyncio
import contextlib
import datetime
import errno
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from faults import DROPPED
from lab import Lab, Server, _bound

from reachmap_shared.vocabulary import Transport

Json = dict[str, Any]

NEAR: Final = 9000
"""A port that always works."""
ELSEWHERE: Final = 7002
"""Where the routers have a server of their own."""
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
PATIENCE_S: Final = 5.0
NOISE_S: Final = 0.005
DROPPED_S: Final = 0.02
"""How often something is sent that a firewall drops."""
ANYWHERE: Final = ("0.0.0.0", "::")


class Services:
    """The services of one lab.

    Args:
        lab: Where they are.
        row: Says which there are.
        certificate: What clients show where the service wants to see it.
    """

    def __init__(self, lab: Lab, row: Json, certificate: Path) -> None:
        self._lab = lab
        self._row = row
        self._certificate = certificate
        self._transport = Transport(row["transport"])
        self._bound: list[socket.socket] = []
        self._servers: list[Server] = []
        self._in_queue: list[socket.socket] = []
        self._others: list[socket.socket] = []
        self._secure: list[asyncio.Server] = []
        self._noises: list[threading.Thread] = []
        self._quiet = threading.Event()

    async def start(self) -> None:
        """All of them work."""
        places = [("r", ELSEWHERE), ("r2", ELSEWHERE), ("b", NEAR)]
        for host, port in places:
            self._others += await asyncio.to_thread(self._bind, host, port, Transport.TCP)
        self._kept = [Server("answers", one, Transport.TCP) for one in self._others]
        if self._row["server"]:
            await self._open()
        if self._row["noise"]:
            self._noises.append(threading.Thread(target=self._make_noise))
        if self._row["drops_much"]:
            self._noises.append(threading.Thread(target=self._have_dropped))
        for noise in self._noises:
            noise.start()

    async def turn(self) -> None:
        """The service becomes what the row says."""
        kind = self._row["turns"]
        if kind == "nothing":
            await self._shut()
        elif kind == "full":
            await asyncio.to_thread(self._fill)
        elif kind:
            for server in self._servers:
                server.kind = kind

    async def heal(self) -> None:
        """It works again."""
        if self._row["turns"]:
            await self._shut()
            await self._open()

    async def stop(self) -> None:
        """Away with all of them."""
        await self._shut()
        for one in self._others:
            asyncio.get_running_loop().remove_reader(one)
            one.close()
        self._quiet.set()
        for noise in self._noises:
            await asyncio.to_thread(noise.join)

    def _bind(self, host: str, port: int, transport: Transport) -> list[socket.socket]:
        with self._lab.inside(host):
            return [self._bind_one(address, port, transport) for address in ANYWHERE]

    def _bind_one(self, address: str, port: int, transport: Transport) -> socket.socket:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return _bound(address, port, transport)
            except OSError as error:
                # A process that is just being started still holds what was closed here.
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    async def _open(self) -> None:
        row = self._row
        self._bound = await asyncio.to_thread(
            self._bind, row["serves"], row["port"], self._transport
        )
        if row["protocol"] == "https":
            context = _demanding(self._certificate)
            self._secure = [
                await asyncio.start_server(_respond, sock=one, ssl=context) for one in self._bound
            ]
        else:
            self._servers = [
                Server(row["server"], one, self._transport, ANSWER) for one in self._bound
            ]

    async def _shut(self) -> None:
        loop = asyncio.get_running_loop()
        for secure in self._secure:
            secure.close()
        for server in self._servers:
            server.hang_up()
        for one in (*self._bound, *self._in_queue):
            if one.fileno() >= 0:
                loop.remove_reader(one)
            one.close()
        self._bound, self._servers, self._secure, self._in_queue = [], [], [], []

    def _fill(self) -> None:
        """Accept nobody any more, and have the queue full."""
        loop = self._servers[0].loop
        for one in self._bound:
            loop.call_soon_threadsafe(loop.remove_reader, one)
            one.listen(0)
        with self._lab.inside(self._row["serves"]):
            for own in ("127.0.0.1", "::1"):
                first = socket.socket(socket.AF_INET6 if ":" in own else socket.AF_INET)
                first.settimeout(1)
                with contextlib.suppress(TimeoutError):
                    first.connect((own, self._row["port"]))
                self._in_queue.append(first)

    def _make_noise(self) -> None:
        with self._lab.inside("b"):
            while not self._quiet.wait(NOISE_S):
                stir()

    def _have_dropped(self) -> None:
        with self._lab.inside(self._row["drops_much"]), contextlib.ExitStack() as held:
            senders = senders_to_itself(held)
            while not self._quiet.wait(DROPPED_S):
                send(senders)


Senders = list[tuple[socket.socket, tuple[str, int]]]


def senders_to_itself(held: contextlib.ExitStack) -> Senders:
    """What sends to the host that this thread is on, where nobody listens."""
    families = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
    return [
        (held.enter_context(socket.socket(family, socket.SOCK_DGRAM)), (host, DROPPED))
        for family, host in families
    ]


def send(senders: Senders) -> None:
    """Datagrams that the host's own firewall drops: they went to no socket."""
    for sender, address in senders:
        sender.sendto(b"", address)


def stir() -> None:
    """Move the counters of the host that this thread is on: refused connections and lost routes."""
    for host in ("127.0.0.1", "::1"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as dialler:
            dialler.connect_ex((host, 1))
    for host in ("203.0.113.9", "2001:db8::9"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as dialler, contextlib.suppress(OSError):
            dialler.connect((host, 9))


async def _respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        await writer.drain()
    writer.close()


def _demanding(certificate: Path) -> ssl.SSLContext:
    """TLS for a server that wants to see the client's certificate; it shows the same one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def write_certificate(path: Path) -> None:
    """A certificate with its key, for many names: longer than any packet."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName(f"host-{number:040d}.lab.example") for number in range(60)]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoded = made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.touch(mode=0o600)
    path.write_bytes(encoded)
