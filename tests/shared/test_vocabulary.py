"""Words that scripts and other versions rely on: pinned, so that none changes unnoticed."""

from enum import StrEnum

import pytest

from reachmap_shared import vocabulary
from reachmap_shared.vocabulary import (
    PROTOCOLS,
    AnsweredBy,
    Cause,
    Confidence,
    Expectation,
    ListenerState,
    ListenMode,
    Outcome,
    State,
    Transport,
)

WORDS: dict[type[StrEnum], set[str]] = {
    Transport: {"tcp", "udp"},
    Expectation: {"reachable", "blocked"},
    State: {"ok", "degraded", "broken", "exposed", "unknown"},
    Outcome: {
        "open",
        "refused",
        "timeout",
        "rejected",
        "unreachable",
        "name-failure",
        "tls-failure",
        "wrong-service",
        "wrong-peer",
        "reset",
        "stalled",
        "local-error",
    },
    AnsweredBy: {"service", "listener"},
    Cause: {
        "source-host",
        "path",
        "destination-host",
        "return-path",
        "service",
        "middlebox",
        "name-resolution",
        "unknown",
    },
    Confidence: {"proven", "likely", "unknown"},
    ListenMode: {"on-demand", "always", "never"},
    ListenerState: {"ready", "listening", "ceded", "failed", "never"},
}


@pytest.mark.parametrize("kind", WORDS, ids=lambda kind: kind.__name__)
def test_a_published_word_is_never_renamed(kind: type[StrEnum]) -> None:
    """What once stood in the JSON and on the wire stands there for good; more may come."""
    assert {member.value for member in kind} >= WORDS[kind]


def test_every_kind_of_word_is_pinned() -> None:
    """A new kind is added to the table here."""
    kinds = {
        kind
        for kind in vars(vocabulary).values()
        if isinstance(kind, type) and issubclass(kind, StrEnum) and kind is not StrEnum
    }
    assert kinds == set(WORDS)


@pytest.mark.parametrize("kind", WORDS, ids=lambda kind: kind.__name__)
def test_a_word_is_lower_case_and_prints_as_itself(kind: type[StrEnum]) -> None:
    """It goes into JSON, tables and subjects as it is."""
    for member in kind:
        assert f"{member}" == member.value
        assert member.value.replace("-", "").isalpha() and member.value.islower()


def test_the_protocols_are_those_of_the_contract() -> None:
    """A topology may name these; more may come."""
    assert {"http", "https", "nats", "ocsp", "postgres", "ssh", "tcp", "tls", "udp"} <= PROTOCOLS
