"""Proof of identity: only the right listener, for this challenge, to one who may ask."""

import dataclasses
import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.wire.proof import (
    CHALLENGE_SIZE,
    PROOF_SIZE,
    SHORT_PROOF_SIZE,
    Challenge,
    Challenger,
    Endpoint,
    Identity,
    Reached,
)
from reachmap_shared import keys

SECRET = b"the deployment's own, of 32 byte"
SEEN, AT = ("10.0.0.7", 40_001), ("10.0.0.5", 5432)

addresses = st.ip_addresses().map(str)
endpoints = st.tuples(addresses, st.integers(1, 65535))
nonces = st.binary(min_size=16, max_size=16)


def identity(host: str = "db-1", secret: bytes = SECRET) -> Identity:
    return Identity(host, keys.host_key(secret, host), keys.deployment_key(secret))


def challenge(
    host: str = "db-1", source: str = "pc-17", nonce: bytes = bytes(16), secret: bytes = SECRET
) -> Challenge:
    name = keys.source_id(source)
    key = keys.pair_key(keys.host_key(secret, host), name)
    return Challenger(name, keys.deployment_key(secret), host, key).challenge(nonce)


@given(nonces, endpoints, endpoints)
def test_the_right_listener_proves_it_and_tells_both_ends(
    nonce: bytes, seen: Endpoint, at: Endpoint
) -> None:
    """In octets and in text, of either family."""
    asks = challenge(nonce=nonce)
    proof = identity().prove(asks.octets, seen, at)
    assert (len(asks.octets), len(proof)) == (CHALLENGE_SIZE, PROOF_SIZE)
    told = asks.check(proof)
    assert told is not None and told.seen == canonical(seen)
    assert told.at == canonical(at)
    text = b"-ERR 'it is " + identity().prove_text(b"name: " + asks.text, seen, at) + b"'"
    assert asks.check_text(text) == told


def canonical(endpoint: Endpoint) -> Endpoint:
    """An IPv4 address written as an IPv6 one is that IPv4 address."""
    address = ipaddress.ip_address(endpoint[0])
    return str(getattr(address, "ipv4_mapped", None) or address), endpoint[1]


def test_where_it_arrived_may_be_left_out() -> None:
    """For where there is no room, or the system does not say."""
    asks = challenge()
    proof = identity().prove(asks.octets, SEEN, None)
    assert asks.check(proof) == asks.check(proof[:SHORT_PROOF_SIZE]) == Reached(SEEN, None)
    assert asks.check(identity().prove(asks.octets, SEEN, ("", 53))) == Reached(SEEN, None)


@pytest.mark.parametrize(
    "asks",
    [
        pytest.param(challenge(secret=b"x" * 32), id="of another deployment"),
        pytest.param(dataclasses.replace(challenge(), octets=bytes(CHALLENGE_SIZE)), id="no tag"),
        pytest.param(dataclasses.replace(challenge(), octets=b""), id="nothing"),
    ],
)
def test_strangers_get_nothing(asks: Challenge) -> None:
    """Not even a wrong answer."""
    assert identity().prove(asks.octets, SEEN, AT) == b""
    assert identity().prove_text(asks.text, SEEN, AT) == b""


@given(st.binary(max_size=200))
def test_noise_is_no_challenge_and_no_proof(data: bytes) -> None:
    """And raises nothing."""
    assert identity().prove(data, SEEN, AT) == b""
    assert identity().prove_text(data, SEEN, AT) == b""
    assert challenge().check(data) is None
    assert challenge().check_text(data) is None


@given(st.integers(0, PROOF_SIZE - 1), st.integers(1, 255))
def test_no_octet_of_a_proof_can_be_changed(place: int, change: int) -> None:
    """Neither the MAC nor what was seen."""
    asks = challenge()
    proof = bytearray(identity().prove(asks.octets, SEEN, AT))
    proof[place] ^= change
    assert asks.check(bytes(proof)) is None


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"host": "db-2"}, id="another host"),
        pytest.param({"source": "pc-18"}, id="another source"),
        pytest.param({"nonce": b"another nonce 16"}, id="another time"),
    ],
)
def test_a_proof_is_for_one_pair_and_one_time(other: dict[str, Any]) -> None:
    """An endpoint in wrong hands cannot answer for another, nor repeat what it heard."""
    proof = identity().prove(challenge().octets, SEEN, AT)
    assert challenge().check(proof) is not None
    assert challenge(**other).check(proof) is None
