"""What a deployment's bus knows its clients by: kept in `bus/` of the collector's data directory.

    keys.json        seeds of the operator, the account, and each party's signing key
    ca.pem, ca.key   our own authority, where one is needed
    enrolled.jsonl   every host that was enrolled, and by what the servers know it
    revoked.json     what they know no more, and since when
    place.json       where the bus is, for the command line of the same user

Whoever reads this folder can be anybody on the bus: it is its owner's alone.
"""

import contextlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from reachmap_collector.errors import InvalidFile, Problem
from reachmap_collector.identity import authority, tokens
from reachmap_collector.identity.authority import Authority, Pair
from reachmap_collector.identity.servers import Mode, Tls, Tokens, User
from reachmap_shared.access import Access, write_secret
from reachmap_shared.bundle import Bundle
from reachmap_shared.names import host_name
from reachmap_shared.permissions import Party, user_name

FOLDER: Final = "bus"

_RENEW_DAYS: Final = 30
"""Before our own server's certificate ends, a start makes a new one."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bus is, and by what it knows its clients."""

    mode: Mode | None = None
    """None for a bus that we know nothing of: whoever runs it says who may connect."""
    urls: tuple[str, ...] = ()
    """For this machine."""
    agents_urls: tuple[str, ...] = ()
    """For everybody else; empty where only this machine gets there."""
    ca: str = ""
    """The file of who vouches for its servers; empty for whom systems believe."""
    server_name: str = ""
    """What its certificate is for, where this machine reaches it by another name."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """One enrolment of a host."""

    name: str
    mode: Mode
    identity: str
    """What servers know it by: a public key, or the name in a certificate."""
    issued: int
    """Unix seconds."""


class Store:
    """The folder, and what can be done with it."""

    def __init__(self, data: Path) -> None:
        self.folder = data / FOLDER

    def prepare(self) -> None:
        """Make the folder. Raises OSError."""
        for folder in (self.folder.parent, self.folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def place(self) -> Place:
        """Where the bus is; nowhere if the file is not there, or not ours to read."""
        try:
            said = json.loads((self.folder / "place.json").read_text())
            mode = Mode(said["mode"]) if said["mode"] else None
            urls = tuple(said["urls"]), tuple(said["agents_urls"])
            return Place(mode, *urls, said["ca"], said["server_name"])
        except (OSError, ValueError, KeyError, TypeError):
            return Place()

    @place.setter
    def place(self, place: Place) -> None:
        if place != self.place:  # a collector starts on a full disk, too
            write_secret(self.folder / "place.json", json.dumps(asdict(place), indent=2))

    def seeds(self) -> tokens.Seeds:
        """The deployment's keys, made at their first use."""

        def make() -> str:
            def seed(kind: int) -> str:
                return tokens.new_seed(kind, secrets.token_bytes(tokens.SEED_SIZE))

            scopes = {str(party): seed(tokens.ACCOUNT) for party in Party}
            kinds = {"operator": tokens.OPERATOR, "account": tokens.ACCOUNT}
            keys = {name: seed(kind) for name, kind in kinds.items()}
            keys["system"] = seed(tokens.ACCOUNT)
            made = int(time.time())
            return json.dumps({"made": made, **keys, "scopes": scopes}, indent=2)

        said = self._json("keys.json", self._kept("keys.json", make))
        scopes = {party: said["scopes"][party] for party in Party}
        return tokens.Seeds(said["operator"], said["account"], said["system"], scopes, said["made"])

    def authority(self) -> Authority:
        """Our own authority, made at its first use."""
        if not (self.folder / "ca.key").exists():
            self._write_pair(authority.new_authority(_now()), "ca")
        return Authority.from_pair(Pair(self._read("ca.pem"), self._read("ca.key")))

    @property
    def ca(self) -> Path:
        """The file with our own authority's certificate."""
        return self.folder / "ca.pem"

    def new_server_pair(self, names: tuple[str, ...]) -> Pair:
        """A certificate for a server of the site's."""
        return self.authority().issue_server(names, _now())

    def server_tls(self, names: tuple[str, ...]) -> Tls:
        """Our own server's certificate, for these names at least."""
        ca = self.authority()
        path = self.folder / "server.pem"
        if not path.exists() or not _serves(path.read_text(), names):
            self._write_pair(ca.issue_server(names, _now()), "server")
        return Tls(path, self.folder / "server.key")

    def access(self, party: Party, mode: Mode) -> Access:
        """What the collector or the command line connects with; made at its first use."""
        ca = Path(self.place.ca) if self.place.ca else None
        own = Access(ca=ca, server_name=self.place.server_name)
        if mode is Mode.JWT:
            path = self.folder / f"{party}.creds"
            self._kept(path.name, lambda: self._credentials(party, str(party))[0])
            return replace(own, credentials=path)
        if mode is Mode.NKEY:
            path = self.folder / f"{party}.nk"
            self._kept(path.name, _user_seed)
            return replace(own, nkey=path)
        path = self.folder / f"{party}.pem"
        if not path.exists():
            self._write_pair(self.authority().issue_client(user_name(party), _now()), str(party))
        return replace(own, ca=ca or self.ca, certificate=path, key=path.with_suffix(".key"))

    def enroll(self, name: str, mode: Mode, expires: int | None = None) -> Bundle:
        """New credentials for a host; those before stay good until they are revoked.

        Args:
            name: The host's name in the topology.
            mode: By what the servers know it.
            expires: Until when, in Unix seconds; only tokens and certificates can say it.
        """
        bundle = Bundle(host_name(name), self.place.agents_urls or self.place.urls)
        if self.place.ca:
            bundle = replace(bundle, ca=Path(self.place.ca).read_text())
        if mode is Mode.JWT:
            text, identity = self._credentials(Party.AGENT, name, expires)
            bundle = replace(bundle, credentials=text)
        elif mode is Mode.NKEY:
            seed = _user_seed()
            identity = tokens.public_key(seed)
            bundle = replace(bundle, nkey=seed)
        else:
            # A name of its own for each certificate, so that one can be revoked and not the next.
            identity = f"{name}.{secrets.token_hex(4)}"
            pair = self.authority().issue_client(identity, _now())
            ca = bundle.ca or self.ca.read_text()
            bundle = replace(bundle, ca=ca, certificate=pair.certificate, key=pair.key)
        self._note(Enrolled(name, mode, identity, int(time.time())))
        return bundle

    def enrolled(self, name: str | None = None) -> Iterator[Enrolled]:
        """Every enrolment that was not revoked, the oldest first; of all hosts, or of one."""
        revoked = self.revoked()
        path = self.folder / "enrolled.jsonl"
        for line in path.read_text().splitlines() if path.exists() else ():
            said = self._json(path.name, line)
            if said["identity"] not in revoked and name in (None, said["name"]):
                yield Enrolled(said["name"], Mode(said["mode"]), said["identity"], said["issued"])

    def revoked(self) -> dict[str, int]:
        """What the servers are to know no more, and since when in Unix seconds."""
        found: dict[str, int] = self._json("revoked.json", self._kept("revoked.json", lambda: "{}"))
        return found

    def revoke(self, gone: list[Enrolled]) -> None:
        """Void these enrolments: the next configuration says so."""
        since = int(time.time())
        revoked = self.revoked() | {one.identity: since for one in gone}
        write_secret(self.folder / "revoked.json", json.dumps(revoked, indent=2))

    def tokens(self) -> Tokens:
        """What servers are told in the way of JWTs."""
        seeds, now = self.seeds(), int(time.time())
        system = tokens.public_key(seeds.system)
        void = {one: since for one, since in self.revoked().items() if one.startswith("U")}
        return Tokens(
            tokens.operator_token(seeds),
            system,
            (
                (tokens.public_key(seeds.account), tokens.account_token(seeds, void, now)),
                (system, tokens.system_token(seeds)),
            ),
        )

    def users(self, mode: Mode) -> Iterator[User]:
        """Everybody, for servers that have a list of them."""
        for party in (Party.COLLECTOR, Party.OPERATOR):
            access = self.access(party, mode)
            identity = user_name(party)
            if access.nkey is not None:
                identity = tokens.public_key(access.nkey.read_text().strip())
            yield User(identity, party)
        for one in self.enrolled():
            if one.mode is mode:
                yield User(one.identity, Party.AGENT, one.name)

    def _credentials(self, party: Party, name: str, expires: int | None = None) -> tuple[str, str]:
        """A credentials file, and the public key that is its user."""
        seed = _user_seed()
        public = tokens.public_key(seed)
        token = tokens.user_token(self.seeds(), party, name, public, int(time.time()), expires)
        return tokens.credentials(token, seed), public

    def _note(self, enrolled: Enrolled) -> None:
        handle = os.open(
            self.folder / "enrolled.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
        )
        with os.fdopen(handle, "a") as file:
            file.write(json.dumps(asdict(enrolled)) + "\n")

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        """What a file holds; made if it is not there, by one process alone."""
        path = self.folder / name
        if not path.exists():
            draft = self.folder / f"{name}.{os.getpid()}"
            write_secret(draft, make())
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(draft)
            draft.unlink()
        return path.read_text()

    def _read(self, name: str) -> str:
        return (self.folder / name).read_text()

    def _json(self, name: str, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            path = self.folder / name
            raise InvalidFile(path, [Problem("", "not ours any more: it is no JSON")]) from error

    def _write_pair(self, pair: Pair, name: str) -> None:
        write_secret(self.folder / f"{name}.key", pair.key)
        write_secret(self.folder / f"{name}.pem", pair.certificate)


def _user_seed() -> str:
    return tokens.new_seed(tokens.USER, secrets.token_bytes(tokens.SEED_SIZE))


def _serves(certificate: str, names: tuple[str, ...]) -> bool:
    left = authority.expires(certificate) - _now()
    return set(names) <= authority.names_in(certificate) and left.days >= _RENEW_DAYS


def _now() -> datetime:
    return datetime.now(UTC)
