"""Real servers to fall ill: certificates of every kind, made by openssl."""

import contextlib
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reachmap_agent.doctor import table
from reachmap_agent.doctor.patient import Patient, Server
from reachmap_agent.doctor.steps import Diagnosis, Step, walk
from reachmap_agent.settings import Settings

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Authority:
    """Who vouches for certificates, with the list that its responder goes by."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.ca, self.key = self.folder / "ca.pem", self.folder / "ca.key"
        self.index = self.folder / "index.txt"
        self.index.touch()
        self._serial = 0x10
        self._openssl(
            *("req", "-x509", *_KEY, "-days", "2", "-subj", f"/CN={name}"),
            *("-keyout", str(self.key), "-out", str(self.ca)),
        )

    def issue(
        self,
        name: str = "DNS:localhost,IP:127.0.0.1",
        days: int = 90,
        responder: str = "",
        status: str = "V",
    ) -> tuple[Path, Path]:
        """A certificate and its key; `status` as openssl has it: Valid, Revoked."""
        self._serial += 1
        made = [self.folder / f"{self._serial}.{kind}" for kind in ("pem", "key", "csr", "ext")]
        path, key, request, extensions = made
        self._openssl(
            "req", *_KEY, "-subj", "/CN=server", "-keyout", str(key), "-out", str(request)
        )
        key.chmod(0o600)
        text = f"subjectAltName={name}\n"
        if responder:
            text += f"authorityInfoAccess=OCSP;URI:{responder}\n"
        extensions.write_text(text)
        self._openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(self.ca), "-CAkey", str(self.key)),
            *("-days", str(days), "-set_serial", str(self._serial)),
            *("-extfile", str(extensions), "-out", str(path)),
        )
        revoked = "260101000000Z" if status == "R" else ""
        with self.index.open("a") as file:
            file.write(
                f"{status}\t361231235959Z\t{revoked}\t{self._serial:X}\tunknown\t/CN={self._serial}\n"
            )
        return path, key

    @contextlib.contextmanager
    def responding(self, port: int) -> Iterator[None]:
        """Its responder, on a port of loopback's."""
        command = ["openssl", "ocsp", "-port", str(port), "-index", str(self.index)]
        command += ["-CA", str(self.ca), "-rsigner", str(self.ca), "-rkey", str(self.key)]
        process = subprocess.Popen(
            [*command, "-nmin", "5"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "waiting for OCSP client connections" in line:
                    break
            else:
                pytest.fail("openssl's responder did not start")
            yield
        finally:
            process.kill()
            process.communicate()

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The one that the settings name."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing; on Debian: apt install openssl")
    return Authority(tmp_path, "authority")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """One that nobody named."""
    return Authority(tmp_path, "stranger")


@dataclass
class TlsServer:
    """A real nats-server that is given certificates."""

    server: Any

    @property
    def url(self) -> str:
        """By the name that its certificate is for."""
        return f"nats://localhost:{self.server.port}"

    def shows(self, pair: tuple[Path, Path], more: str = "", tls: str = "") -> None:
        """Start it anew, by a certificate and its key."""
        self.server.stop()
        self.server.configure(
            f'tls {{ cert_file: "{pair[0]}", key_file: "{pair[1]}" {tls} }}\n{more}'
        )
        self.server.start()


@pytest.fixture
def tls_server(nats_server: Any) -> TlsServer:
    """It has none yet."""
    return TlsServer(nats_server)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Those of a host whose bus is away."""
    return Settings(
        nats=("nats://127.0.0.1:1",), id="pc-1", addresses=("127.0.0.1",), state=tmp_path / "state"
    )


Look = Callable[[Settings], Awaitable[dict[str, Diagnosis]]]
Take = Callable[..., Awaitable[dict[str, Diagnosis]]]


@pytest.fixture
def look() -> Look:
    """All that the doctor finds, by name; the last where there are several."""

    async def run(settings: Settings) -> dict[str, Diagnosis]:
        return {one.name: one for one in await table.run(settings)}

    return run


@pytest.fixture
def take() -> Take:
    """Some steps alone, by name."""

    async def run(settings: Settings, steps: tuple[Step, ...] = table.WAY) -> dict[str, Diagnosis]:
        async with contextlib.AsyncExitStack() as leaving:
            patient = Patient(settings, leaving, Server.of(settings.nats[0]))
            return {one.name: one async for one in walk(steps, patient, {})}

    return run
