"""What a connection shows, and whom it believes: files as they are, and secrets that stay such."""

import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from nkeys import PREFIX_BYTE_USER, encode_seed, from_seed

from reachmap_shared import access as access_module
from reachmap_shared.access import ANYBODY, Access, trusting, write_secret
from reachmap_shared.errors import InvalidSettings

SEED = encode_seed(b"s" * 32, PREFIX_BYTE_USER).decode()
PAIR = from_seed(bytearray(SEED.encode()))
JWT = "head.body.signature"
CREDENTIALS = (
    f"-----BEGIN NATS USER JWT-----\n{JWT}\n------END NATS USER JWT------\n\n"
    "************************* IMPORTANT *************************\n"
    f"-----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n"
)
URL = "nats://127.0.0.1:4222"


@pytest.fixture
def secret(tmp_path: Path) -> Any:
    """Writes a file that its owner alone may read."""

    def write(name: str, text: str) -> Path:
        path: Path = tmp_path / name
        write_secret(path, text)
        return path

    return write


def test_credentials_are_proved(secret: Any) -> None:
    """By the seed, with the token beside it, in the layout that nsc writes."""
    proof = Access(credentials=secret("a.creds", CREDENTIALS)).prove("nonce")
    assert proof is not None
    assert (proof.jwt, proof.public) == (JWT, PAIR.public_key.decode())
    access_module.base64.b64decode(proof.signature, validate=True)
    assert PAIR.verify(b"nonce", access_module.base64.b64decode(proof.signature))


@pytest.mark.parametrize(
    "text",
    [
        SEED,
        f"{SEED}\n",
        f"-----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n",
    ],
)
def test_a_key_is_proved(secret: Any, text: str) -> None:
    """Bare, or between the lines that other tools write."""
    proof = Access(nkey=secret("a.nk", text)).prove("nonce")
    assert proof is not None
    assert (proof.jwt, proof.public) == ("", PAIR.public_key.decode())


def test_who_shows_nothing_proves_nothing() -> None:
    """And needs no file."""
    assert ANYBODY.prove("nonce") is None
    ANYBODY.check([URL])


@pytest.mark.parametrize(
    "text",
    ["", "SU", "no seed", SEED[:-8], "SO" + SEED[2:], "é", CREDENTIALS.partition("\n\n")[0]],
)
@pytest.mark.parametrize("kind", ["credentials", "nkey"])
def test_what_is_no_key_is_told(secret: Any, kind: str, text: str) -> None:
    """With the file, and nothing of what stands in it; before anything is sent."""
    path = secret("a.key", text)
    with pytest.raises(InvalidSettings) as caught:
        Access(**{kind: path}).check([URL])
    assert str(path) in str(caught.value)
    assert SEED[4:20] not in str(caught.value)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o666])
@pytest.mark.parametrize("kind", ["credentials", "nkey", "certificate"])
def test_a_secret_that_everybody_can_read_is_refused(secret: Any, mode: int, kind: str) -> None:
    """With the command that mends it."""
    path = secret("a.key", CREDENTIALS)
    path.chmod(mode)
    with pytest.raises(InvalidSettings, match=f"chmod 600 {path}"):
        Access(**{kind: path}).check([URL])


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640])
def test_a_secret_may_be_a_group_s(secret: Any, mode: int) -> None:
    """As where a service reads keys that are root's."""
    path = secret("a.creds", CREDENTIALS)
    path.chmod(mode)
    Access(credentials=path).check([URL])


@pytest.mark.parametrize("kind", ["credentials", "nkey", "ca", "certificate"])
def test_a_file_that_is_not_there_is_told(tmp_path: Path, kind: str) -> None:
    """By name, with the reason."""
    with pytest.raises(InvalidSettings, match=rf"{tmp_path}/gone: .*No such file"):
        Access(**{kind: tmp_path / "gone"}).check([URL])


def test_two_ways_to_say_who_one_is_are_one_too_many(tmp_path: Path) -> None:
    """Nobody guesses which is meant."""
    both = Access(credentials=tmp_path / "a", nkey=tmp_path / "b")
    with pytest.raises(InvalidSettings, match="give one"):
        both.check([URL])
    with pytest.raises(InvalidSettings, match="of no use without its certificate"):
        Access(key=tmp_path / "a").check([URL])


def test_what_is_no_certificate_is_told(secret: Any) -> None:
    """Neither an authority's nor one's own."""
    path = secret("a.pem", "no certificate")
    with pytest.raises(InvalidSettings, match=f"{path}: cannot be used"):
        Access(ca=path).tls()
    with pytest.raises(InvalidSettings, match=f"{path} and its key cannot be used"):
        Access(certificate=path).tls()


def test_servers_are_believed_by_name() -> None:
    """Whatever the authority."""
    context = ANYBODY.tls()
    assert context.check_hostname is True
    assert context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("access", "url", "demanded"),
    [
        (ANYBODY, "nats://a", False),
        (ANYBODY, "a:4222", False),
        (ANYBODY, "ws://a", False),
        (ANYBODY, "tls://a", True),
        (ANYBODY, "wss://a", True),
        (Access(ca=Path("ca")), "nats://a", True),
        (Access(ca=Path("ca")), "a", True),
        (Access(certificate=Path("a")), "nats://a", True),
        (Access(credentials=Path("a")), "nats://a", False),
    ],
)
def test_when_tls_is_demanded(access: Access, url: str, demanded: bool) -> None:
    """By the URL, or by an authority or certificate that would be of no use else."""
    assert access.demands_tls(url) is demanded


def test_websockets_are_all_or_none() -> None:
    """The client mixes them with nothing."""
    with pytest.raises(InvalidSettings, match="all of websockets or none"):
        ANYBODY.check(["nats://a:1", "wss://b:2"])


def test_websockets_without_their_package_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With how to get it."""
    monkeypatch.setitem(access_module.sys.modules, "aiohttp", None)
    with pytest.raises(InvalidSettings, match=r"pip install 'reachmap-shared\[websocket\]'"):
        ANYBODY.check(["wss://a:1"])


def test_no_secret_is_shown() -> None:
    """Neither in what it says of itself nor in what a debugger prints."""
    access = Access(user="me", password="s3cret", token="t0ken")
    assert access.shown == "the user me and a token"
    assert "s3cret" not in repr(access)
    assert "t0ken" not in repr(access)


def test_who_shows_no_key_loads_nothing_for_it() -> None:
    """Of the bus's module alone: an endpoint that needs none of it pays nothing for it."""
    look = "import sys, reachmap_shared.bus as b; sys.exit('nacl' in sys.modules)"
    assert subprocess.run([access_module.sys.executable, "-c", look], check=False).returncode == 0


def test_an_authority_need_not_say_what_its_key_is_for() -> None:
    """Python 3.13 would have it say so, and refuse what works for everybody else."""
    assert not trusting(None).verify_flags & ssl.VERIFY_X509_STRICT
    assert not Access().tls().verify_flags & ssl.VERIFY_X509_STRICT
