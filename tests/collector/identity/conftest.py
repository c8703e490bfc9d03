"""Buses as operators run them: a real nats-server in each mode, and whoever is to connect to it."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from reachmap_collector.identity import authority, servers, tokens
from reachmap_collector.identity.authority import Authority
from reachmap_collector.identity.servers import Mode, Tls, Tokens, User
from reachmap_shared.access import Access, write_secret
from reachmap_shared.permissions import Party, inbox, user_name

AGENTS = ("pc-1", "pc-2")

WHO = [
    (Party.AGENT, "pc-1"),
    (Party.AGENT, "pc-2"),
    (Party.COLLECTOR, "collector"),
    (Party.OPERATOR, "operator"),
]


@dataclass
class ClosedBus:
    """A bus that wants to know who connects."""

    mode: Mode
    url: str
    access: dict[str, Access]
    """What each of `AGENTS`, `collector` and `operator` connects with."""
    server: Any
    folder: Path


def new_seeds() -> tokens.Seeds:
    """The keys of a deployment."""

    def make(kind: int) -> str:
        return tokens.new_seed(kind, os.urandom(tokens.SEED_SIZE))

    scopes = {party: make(tokens.ACCOUNT) for party in Party}
    return tokens.Seeds(
        make(tokens.OPERATOR),
        make(tokens.ACCOUNT),
        make(tokens.ACCOUNT),
        scopes,
        made=1_700_000_000,
    )


def jwt_configuration(seeds: tokens.Seeds, revoked: dict[str, int] | None = None) -> str:
    """A server's configuration that knows a deployment's keys."""
    now = int(time.time())
    account = tokens.account_token(seeds, revoked or {}, now)
    system = tokens.system_token(seeds)
    system_key = tokens.public_key(seeds.system)
    accounts = ((tokens.public_key(seeds.account), account), (system_key, system))
    return servers.jwt_configuration(Tokens(tokens.operator_token(seeds), system_key, accounts))


def user_file(path: Path, seeds: tokens.Seeds, party: Party, name: str, **more: Any) -> str:
    """Write a new user's credentials, and return its public key."""
    seed = tokens.new_seed(tokens.USER, os.urandom(tokens.SEED_SIZE))
    public = tokens.public_key(seed)
    token = tokens.user_token(seeds, party, name, public, int(time.time()), **more)
    write_secret(path, tokens.credentials(token, seed))
    return public


def _own_inbox(party: Party, name: str, access: Access) -> Access:
    return replace(access, inbox=inbox(name)) if party is Party.AGENT else access


def _jwt(folder: Path) -> tuple[str, dict[str, Access]]:
    seeds = new_seeds()
    found = {}
    for party, name in WHO:
        user_file(folder / f"{name}.creds", seeds, party, name)
        found[name] = _own_inbox(party, name, Access(credentials=folder / f"{name}.creds"))
    return jwt_configuration(seeds), found


def _nkey(folder: Path) -> tuple[str, dict[str, Access]]:
    users, found = [], {}
    for party, name in WHO:
        seed = tokens.new_seed(tokens.USER, os.urandom(tokens.SEED_SIZE))
        write_secret(folder / f"{name}.nk", seed)
        agent = name if party is Party.AGENT else ""
        users.append(User(tokens.public_key(seed), party, agent))
        found[name] = _own_inbox(party, name, Access(nkey=folder / f"{name}.nk"))
    return servers.users_configuration(Mode.NKEY, users), found


def write_server_tls(folder: Path, ca: Authority, names: tuple[str, ...] = ("127.0.0.1",)) -> Tls:
    """A server's certificate, in files."""
    pair = ca.issue_server(names, datetime.now(UTC))
    (folder / "server.pem").write_text(pair.certificate)
    write_secret(folder / "server.key", pair.key)
    return Tls(folder / "server.pem", folder / "server.key")


def new_ca(folder: Path) -> Authority:
    """A certificate authority, whose certificate is in `ca.pem`."""
    pair = authority.new_authority(datetime.now(UTC))
    (folder / "ca.pem").write_text(pair.certificate)
    return Authority.from_pair(pair)


def _mtls(folder: Path) -> tuple[str, dict[str, Access]]:
    ca = new_ca(folder)
    users, found = [], {}
    for party, name in WHO:
        agent = name if party is Party.AGENT else ""
        identity = user_name(party, agent)
        pair = ca.issue_client(identity, datetime.now(UTC))
        write_secret(folder / f"{name}.pem", pair.certificate + pair.key)
        users.append(User(identity, party, agent))
        access = Access(ca=folder / "ca.pem", certificate=folder / f"{name}.pem")
        found[name] = _own_inbox(party, name, access)
    tls = replace(write_server_tls(folder, ca), ca=folder / "ca.pem")
    text = servers.tls_configuration(tls, maps=True)
    return text + servers.users_configuration(Mode.MTLS, users), found


MAKERS: dict[Mode, Callable[[Path], tuple[str, dict[str, Access]]]] = {
    Mode.JWT: _jwt,
    Mode.NKEY: _nkey,
    Mode.MTLS: _mtls,
}


@pytest.fixture(params=list(Mode))
def closed_bus(request: Any, nats_server: Any, tmp_path: Path) -> ClosedBus:
    """A bus in each mode, with JetStream."""
    nats_server.stop()
    text, access = MAKERS[request.param](tmp_path)
    store = servers.quoted(tmp_path / "jetstream")
    nats_server.configure(f"jetstream {{ store_dir: {store} }}\n{text}")
    nats_server.start()
    return ClosedBus(request.param, nats_server.url, access, nats_server, tmp_path)
