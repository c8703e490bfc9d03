"""NATS's tokens as they are written; servers are asked elsewhere whether they believe them."""

import base64
import json
from typing import Any

import nkeys
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.identity import tokens
from reachmap_shared.permissions import TABLE, Party

SEEDS = tokens.Seeds(
    operator=tokens.new_seed(tokens.OPERATOR, b"o" * 32),
    account=tokens.new_seed(tokens.ACCOUNT, b"a" * 32),
    system=tokens.new_seed(tokens.ACCOUNT, b"s" * 32),
    scopes={
        party: tokens.new_seed(tokens.ACCOUNT, bytes([n]) * 32) for n, party in enumerate(Party)
    },
    made=1_700_000_000,
)
EVERY_SEED = (SEEDS.operator, SEEDS.account, SEEDS.system, *SEEDS.scopes.values())


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def claims(token: str, issuer: str) -> dict[str, Any]:
    """What a token says, once its signature was found to be the issuer's."""
    head, body, signature = token.split(".")
    assert json.loads(decoded(head)) == {"typ": "JWT", "alg": "ed25519-nkey"}
    pair = nkeys.from_seed(bytearray(issuer.encode()))
    assert pair.verify(f"{head}.{body}".encode(), decoded(signature))
    found: dict[str, Any] = json.loads(decoded(body))
    assert found["iss"] == tokens.public_key(issuer)
    assert found["nats"]["version"] == 2
    return found


@given(entropy=st.binary(min_size=32, max_size=32))
@pytest.mark.parametrize(
    ("kind", "seed", "public"),
    [(tokens.OPERATOR, "SO", "O"), (tokens.ACCOUNT, "SA", "A"), (tokens.USER, "SU", "U")],
)
def test_a_key_says_what_it_is(kind: int, seed: str, public: str, entropy: bytes) -> None:
    """By its first letters, as NATS's own tools have it; 56 characters and more of the seed."""
    made = tokens.new_seed(kind, entropy)
    assert made.startswith(seed) and len(made) == 58
    assert tokens.public_key(made).startswith(public)
    assert len(tokens.public_key(made)) == 56


def test_an_account_holds_every_party_s_permissions() -> None:
    """Once for all agents: the server fills in the name."""
    found = claims(tokens.account_token(SEEDS, {"UX": 7}, 1_800_000_000), SEEDS.operator)
    assert found["sub"] == tokens.public_key(SEEDS.account)
    assert found["nats"]["revocations"] == {"UX": 7}
    scopes = {scope["role"]: scope for scope in found["nats"]["signing_keys"]}
    assert scopes.keys() == {str(party) for party in Party}
    for party in Party:
        scope = scopes[party]
        assert scope["key"] == tokens.public_key(SEEDS.scopes[party])
        allowed = TABLE[party].of("{{name()}}")
        assert scope["template"]["pub"]["allow"] == list(allowed.publish)
        assert scope["template"]["sub"]["allow"] == list(allowed.subscribe)


def test_a_user_s_token_says_whose_it_is_and_grants_nothing() -> None:
    """What it may do is the scope's, so a token that was made long ago may do what is true now."""
    token = tokens.user_token(SEEDS, Party.AGENT, "pc-1", "UPUBLIC", 1_800_000_000, 1_900_000_000)
    found = claims(token, SEEDS.scopes[Party.AGENT])
    assert (found["name"], found["sub"], found["exp"]) == ("pc-1", "UPUBLIC", 1_900_000_000)
    assert found["nats"] == {
        "type": "user",
        "issuer_account": tokens.public_key(SEEDS.account),
        "version": 2,
    }


def test_no_token_holds_a_seed() -> None:
    """They lie about in configurations."""
    texts = [
        tokens.operator_token(SEEDS),
        tokens.system_token(SEEDS),
        tokens.account_token(SEEDS, {}, 0),
        tokens.user_token(SEEDS, Party.AGENT, "pc-1", "UPUBLIC", 0),
    ]
    for text in texts:
        body = decoded(text.split(".")[1]).decode()
        assert not any(seed in text or seed in body for seed in EVERY_SEED)


def test_only_the_operator_is_believed_for_the_account() -> None:
    """A token that anybody else signed verifies by no other key."""
    token = tokens.account_token(SEEDS, {}, 0)
    with pytest.raises(nkeys.ErrInvalidSignature):
        claims(token, SEEDS.account)
