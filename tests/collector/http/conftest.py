"""A served API on loopback, and a client that sees all of an answer."""

import asyncio
import http.client
import json
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reachmap_collector.alerts.metrics import exposition
from reachmap_collector.http import HttpSettings, serving
from reachmap_collector.queries import Queries


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Asks one server, each time over a connection of its own."""

    def __init__(self, settings: HttpSettings) -> None:
        self.settings = settings

    async def get(self, target: str, method: str = "GET", **headers: str) -> Answer:
        return await asyncio.to_thread(self._ask, target, method, headers)

    def _ask(self, target: str, method: str, headers: dict[str, str]) -> Answer:
        place = str(self.settings.address), self.settings.port
        if self.settings.tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection: Any = http.client.HTTPSConnection(*place, timeout=10, context=context)
        else:
            connection = http.client.HTTPConnection(*place, timeout=10)
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, target, headers=names)
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, fields, answer.read())
        finally:
            connection.close()

    async def raw(self, octets: bytes) -> bytes:
        """Send some octets, and read until the server closes."""
        reader, writer = await asyncio.open_connection(
            str(self.settings.address), self.settings.port
        )
        try:
            writer.write(octets)
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()


@asynccontextmanager
async def serve(
    settings: HttpSettings, collector: Any, is_ready: Callable[[], bool] = lambda: True
) -> AsyncIterator[Client]:
    """Serve a collector's API, and wait until it answers."""
    async with serving(settings, Queries(collector), is_ready, lambda: exposition([])):
        async with asyncio.timeout(10):
            while True:
                try:
                    socket.create_connection((str(settings.address), settings.port), 1).close()
                    break
                except OSError:
                    await asyncio.sleep(0.01)
        yield Client(settings)


@pytest.fixture(scope="session")
def served() -> Any:
    return serve


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory, tool: Any) -> Path:
    """Certificate and key in one file."""
    path: Path = tmp_path_factory.mktemp("tls") / "both.pem"
    key = path.with_name("key.pem")
    command = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=test -keyout {key} -out {path}"
    subprocess.run([tool("openssl", "openssl"), *command.split()], check=True, capture_output=True)
    with path.open("a") as both:
        both.write(key.read_text())
    return path
