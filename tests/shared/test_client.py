"""The client's ways with servers that want to know who it is, and with those in between."""

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from played import playing

from reachmap_shared import bus
from reachmap_shared.access import Access, write_secret
from reachmap_shared.client import GuardedClient
from reachmap_shared.errors import AccessRefused, BusUnavailable

INFO = b'INFO {"server_id":"x","version":"2.10.0","max_payload":1048576%s}\r\n'


def certificate(folder: Path, name: str, *options: str) -> tuple[Path, Path]:
    """A self-signed certificate for `localhost`, and its key."""
    made = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", str(made[1])]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", str(made[0])]
    subprocess.run([*command, *options], check=True, capture_output=True)
    made[1].chmod(0o600)
    return made


@pytest.fixture
def pki(tmp_path: Path) -> Iterator[dict[str, tuple[Path, Path]]]:
    """Certificates of two who vouch for themselves."""
    return {name: certificate(tmp_path, name) for name in ("server", "other")}


@pytest.fixture
def tls_server(nats_server: Any, pki: Any) -> Any:
    """A NATS server that speaks TLS alone."""
    nats_server.stop()
    path, key = pki["server"]
    nats_server.configure(f'tls {{ cert_file: "{path}", key_file: "{key}" }}')
    nats_server.start()
    return nats_server


async def test_a_server_that_is_vouched_for_is_believed(tls_server: Any, pki: Any) -> None:
    """By the authority that was named."""
    access = Access(ca=pki["server"][0])
    async with bus.connected([tls_server.url], "test", access) as connection:
        await connection.flush()


async def test_a_server_that_nobody_vouches_for_is_not(tls_server: Any, pki: Any) -> None:
    """And the line says which authority was asked."""
    ca = pki["other"][0]
    with pytest.raises(AccessRefused, match=f"not one that {ca} vouches for"):
        async with bus.connected([tls_server.url], "test", Access(ca=ca)):
            pytest.fail("anybody could be the server")


async def test_a_bad_certificate_is_no_end_to_a_bus_that_stays(
    tls_server: Any, pki: Any, eventually: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tries again, and reads the authority's file again."""
    monkeypatch.setattr(bus, "_RECONNECT_WAIT_S", 0.05)
    ca = tmp_path / "ca.pem"
    ca.write_text(pki["other"][0].read_text())
    reasons: list[str] = []

    class Log:
        def error(self, _event: str, reason: str, **_more: Any) -> None:
            reasons.append(reason)

        info = warning = error

    monkeypatch.setattr(bus, "_log", Log())
    is_there = asyncio.Event()

    async def stay() -> None:
        async with bus.staying([tls_server.url], "test", access=Access(ca=ca)):
            is_there.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stay())
        await eventually(lambda: reasons)
        assert f"not one that {ca} vouches for" in reasons[0]
        draft = tmp_path / "new.pem"
        draft.write_text(pki["server"][0].read_text())
        draft.replace(ca)
        await asyncio.wait_for(is_there.wait(), 15)


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_nobody_talks_us_out_of_tls(
    nats_server: Any, pki: Any, scheme: str, tmp_path: Path
) -> None:
    """Who sits in between may take the offer away; then nothing is said at all."""
    access = Access(ca=pki["server"][0]) if scheme == "nats" else Access()
    words: list[bytes] = []

    async def strip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(INFO % b"")
        words.append(await reader.read())
        writer.close()

    async with await asyncio.start_server(strip, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(AccessRefused, match="does not offer TLS"):
            async with bus.connected([f"{scheme}://127.0.0.1:{port}"], "test", access):
                pytest.fail("it speaks in the clear")
        while not words:
            await asyncio.sleep(0.01)
    assert words == [b""]


async def test_a_server_that_only_offers_tls_is_taken_by_its_word(
    nats_server: Any, pki: Any
) -> None:
    """Where TLS is demanded."""
    nats_server.stop()
    path, key = pki["server"]
    tls = f'tls {{ cert_file: "{path}", key_file: "{key}" }}'
    nats_server.configure(f"allow_non_tls: true\n{tls}")
    nats_server.start()
    access = Access(ca=pki["server"][0])
    async with bus.connected([nats_server.url], "test", access) as connection:
        await connection.flush()


async def test_a_certificate_that_is_not_accepted_is_told(
    nats_server: Any, pki: Any, tmp_path: Path
) -> None:
    """As is none, where one is wanted."""
    nats_server.stop()
    path, key = pki["server"]
    files = f'cert_file: "{path}", key_file: "{key}", ca_file: "{path}"'
    nats_server.configure(f"tls {{ {files}, verify: true }}")
    nats_server.start()
    with pytest.raises(AccessRefused, match=r"wants to be shown a certificate \(mutual TLS\)"):
        async with bus.connected([nats_server.url], "test", Access(ca=path)):
            pytest.fail("a stranger is in")
    other = Access(ca=path, certificate=pki["other"][0], key=pki["other"][1])
    with pytest.raises(AccessRefused, match=f"does not accept the certificate {pki['other'][0]}"):
        async with bus.connected([nats_server.url], "test", other):
            pytest.fail("a stranger is in")
    own = Access(ca=path, certificate=path, key=key)
    async with bus.connected([nats_server.url], "test", own):
        pass


async def test_a_file_that_goes_bad_is_told_and_waited_for(
    nats_server: Any, eventually: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewal may leave it half-written for a moment; the bus that stays survives it."""
    import nkeys

    monkeypatch.setattr(bus, "_RECONNECT_WAIT_S", 0.05)
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode()
    public = nkeys.from_seed(bytearray(seed.encode())).public_key.decode()
    nats_server.stop()
    nats_server.configure(f'authorization {{ users: [ {{ nkey: "{public}" }} ] }}')
    nats_server.start()
    path = tmp_path / "a.nk"
    write_secret(path, seed)
    async with bus.staying([nats_server.url], "test", access=Access(nkey=path)) as connection:
        path.write_text("half a se")
        nats_server.stop()
        nats_server.start()
        await eventually(lambda: not connection.is_connected)
        write_secret(path, seed)
        await eventually(lambda: connection.is_connected)
        await connection.flush()


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_websockets_work(nats_server: Any, pki: Any, port: int, scheme: str) -> None:
    """In the clear and by TLS, with what a host shows."""
    path, key = pki["server"]
    tls = f'tls {{ cert_file: "{path}", key_file: "{key}" }}' if scheme == "wss" else "no_tls: true"
    nats_server.stop()
    nats_server.configure(
        f'websocket {{ listen: "127.0.0.1:{port}", {tls} }}\n'
        'authorization { user: "me", password: "word" }'
    )
    nats_server.start()
    ca = path if scheme == "wss" else None
    access = Access(ca=ca, user="me", password="word")
    async with bus.connected([f"{scheme}://localhost:{port}"], "test", access) as connection:
        await connection.flush()
    with pytest.raises(AccessRefused, match="does not accept the user me"):
        wrong = Access(ca=ca, user="me", password="wrong")
        async with bus.connected([f"{scheme}://localhost:{port}"], "test", wrong):
            pytest.fail("any password will do")


async def test_a_websocket_is_not_talked_out_of_tls(nats_server: Any, pki: Any, port: int) -> None:
    """An authority and ws:// do not go together."""
    nats_server.stop()
    nats_server.configure(f'websocket {{ listen: "127.0.0.1:{port}", no_tls: true }}')
    nats_server.start()
    with pytest.raises(AccessRefused, match="does not offer TLS"):
        async with bus.connected([f"ws://localhost:{port}"], "test", Access(ca=pki["server"][0])):
            pytest.fail("it speaks in the clear")


async def test_an_answer_that_comes_too_late_does_no_harm(
    nats_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was held up for a moment is still heard: nothing has to be connected anew."""
    monkeypatch.setattr("reachmap_shared.connection._FLUSH_S", 0.1)
    lost: list[str] = []

    async def back() -> None:
        lost.append("and back")

    async with bus.staying([nats_server.url], "test", back) as connection:
        with nats_server.held_up(), pytest.raises(BusUnavailable, match="flush timeout"):
            await connection.flush()
        monkeypatch.setattr("reachmap_shared.connection._FLUSH_S", 3)
        heard: list[bytes] = []

        async def hear(_subject: str, payload: bytes) -> None:
            heard.append(payload)

        await connection.subscribe("a", hear)
        await connection.publish("a", b"1")
        async with asyncio.timeout(5):
            while not heard:
                await connection.flush()
    assert lost == []


async def test_a_refusal_that_comes_before_our_first_word_is_told(
    nats_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server loses patience with a client on a busy machine, says why, and hangs up on it."""
    nats_server.stop()
    nats_server.configure('authorization { user: "a", password: "b", timeout: 0.1 }')
    nats_server.start()
    understand = GuardedClient._process_info

    async def late(self: GuardedClient, *arguments: Any, **options: Any) -> None:
        time.sleep(0.5)  # noqa: ASYNC251  as where the processor is somebody else's
        await understand(self, *arguments, **options)

    monkeypatch.setattr(GuardedClient, "_process_info", late)
    with pytest.raises(AccessRefused, match="authentication timeout"):
        async with bus.connected([nats_server.url], "test"):
            pytest.fail("it was too late")


async def test_a_server_that_hangs_up_without_a_word_is_told_of(
    monkeypatch: pytest.MonkeyPatch, eventually: Any
) -> None:
    """As one that lets nobody in, and not as a bus where no collector answers."""
    attempts: list[bytes] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(INFO % b"")
        attempts.append(await reader.readline() + await reader.readline())

    monkeypatch.setattr(bus, "_RECONNECT_WAIT_S", 0.01)
    async with playing(hang_up) as url:
        with pytest.raises(BusUnavailable, match="it hung up"):
            async with bus.connected([url], "test"):
                pytest.fail("it let us in")
        async with asyncio.TaskGroup() as tasks:

            async def stay() -> None:
                async with bus.staying([url], "test"):
                    pytest.fail("it let us in")

            staying = tasks.create_task(stay())
            await eventually(lambda: len(attempts) >= 4)
            staying.cancel()
