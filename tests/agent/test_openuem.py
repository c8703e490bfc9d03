"""OpenUEM's own settings: what this host is by them, and that no secret is ever taken from them."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent import openuem
from reachmap_agent.openuem import Found

SERVER = """\
; written by the installer
[Server]
ServerVersion = 0.9.0

[DB]
PostgresHost     = db.example
PostgresPort     = 5433
PostgresDatabase = openuem
PostgresUser     = openuem-user
PostgresPassword = s3cret=[DB]; "pa#ss"
DatabaseUrl      = postgres://openuem-user:urls3cret@db.example:5433/openuem

[Components]
NATS               = yes
OCSP               = yes
Console            = no
AgentWorker        = Yes
CertManagerWorker  = yes
NotificationWorker = no

[NATS]
NATSServer       = nats-1.example
NATSPort         = 14433
NATSServers      = tls://user:natss3cret@nats-1.example:14433, nats-2.example:4433
NATSClusterName  = one
NATSClusterPort  = 14444 ; the other ones
NATSOtherServers = "nats-2.example:4444,[fd00::5]:4444"

[OCSP]
OCSPPort = 8000

[Console]
port     = 1323
authport = 1324
JWTKey   = jwts3cret
"""

AGENT = """\
[Agent]
UUID                     = 6a2f-uuids3cret
Enabled                  = true
SFTPPort                 = 2222
VNCProxyPort             = 1433
SFTPDisabled             = false
RemoteAssistanceDisabled = false
IPAddress                = 10.0.0.17
VNCPassword              = vncs3cret

[Certificates]
AgentCert = /etc/openuem-agent/certificates/agent.cer

[NATS]
NATSServers = tls://nats-1.example:14433
"""


def test_a_server_s_components_ports_and_targets() -> None:
    """Only what it has, and where it differs from what the profile says."""
    found = openuem.server(SERVER.splitlines())
    assert found == Found(
        roles=(
            *("nats-server", "ocsp-responder", "agent-worker", "cert-manager-worker"),
            "server-updater",
        ),
        ports={
            "nats-server:4433": 14433,
            "nats-server:4444": 14444,
            "ocsp-responder:8000": 8000,
        },
        targets={
            "nats-server": ("nats-1.example", "nats-2.example", "fd00::5"),
            "postgres": ("db.example",),
        },
    )


def test_an_endpoint_s_agent() -> None:
    """It has an updater beside it, and ports of its own."""
    found = openuem.agent(AGENT.splitlines())
    assert found.roles == ("agent", "agent-updater")
    assert found.ports == {"agent:2022": 2222, "agent:1443": 1433}
    assert found.targets == {"nats-server": ("nats-1.example",)}
    assert found.disabled == ()


def test_a_service_that_is_switched_off_has_no_port() -> None:
    """It is said to be off."""
    found = openuem.agent(
        AGENT.replace("SFTPDisabled             = false", "SFTPDisabled=true").splitlines()
    )
    assert found.disabled == ("agent:2022",)
    assert "agent:2022" not in found.ports


@pytest.mark.parametrize(("read", "text"), [(openuem.server, SERVER), (openuem.agent, AGENT)])
def test_no_secret_is_taken_from_a_file(read: openuem.Reader, text: str) -> None:
    """Neither passwords, nor keys, nor users that stand before a host."""
    said = json.dumps(dataclasses.asdict(read(text.splitlines())))
    assert "s3cret" not in said
    assert "user" not in said
    assert "uuid" not in said


def test_one_host_may_be_both() -> None:
    """A server that is managed too."""
    found = openuem.together(openuem.server(SERVER.splitlines()), openuem.agent(AGENT.splitlines()))
    assert found.roles[-3:] == ("server-updater", "agent", "agent-updater")
    assert found.ports["nats-server:4433"] == 14433
    assert found.ports["agent:2022"] == 2222
    assert found.targets["nats-server"][0] == "nats-1.example"


@pytest.mark.parametrize("port", ["", "0", "70000", "http", "-1"])
def test_what_is_no_port_leaves_the_default(port: str) -> None:
    """A mistake in somebody else's file is none of ours."""
    text = f"[Components]\nNATS=yes\n[NATS]\nNATSPort={port}\n"
    assert openuem.server(text.splitlines()).ports == {}


def test_a_server_file_without_components_is_no_server() -> None:
    """As a host that was uninstalled leaves it."""
    assert openuem.server(["[Components]", "NATS = no"]) == Found()
    assert openuem.server([]) == Found()


@given(st.text(), st.sampled_from([openuem.server, openuem.agent]))
def test_any_text_is_borne(text: str, read: openuem.Reader) -> None:
    """Garbage is no error."""
    read(text.splitlines())


@given(
    st.text(
        alphabet=st.characters(exclude_characters="\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"),
        min_size=8,
    )
)
def test_whatever_a_password_is_it_is_not_told(password: str) -> None:
    """Also one that looks like something else."""
    lines = ["[DB]", f"PostgresPassword = {password}", "PostgresHost = db"]
    assert openuem.server(["[Components]", "OCSP=yes", *lines]) == Found(
        roles=("ocsp-responder", "server-updater"), targets={"postgres": ("db",)}
    )
