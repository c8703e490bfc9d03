"""SMTP: a greeting and an answer to EHLO prove a server, which is then left in good order."""

from typing import Any

import pytest

from reachmap_agent.protocols import smtp
from reachmap_shared.vocabulary import AnsweredBy, Outcome

EHLO = b"EHLO reachmap.invalid\r\n"
QUIT = b"QUIT\r\n"
GREETING = b"220 mail.example ESMTP Postfix\r\n"
OPTIONS = b"250-mail.example\r\n250-SIZE 1000\r\n250 SMTPUTF8\r\n"
BYE = b"221 2.0.0 Bye\r\n"

OPEN = (Outcome.OPEN, AnsweredBy.SERVICE)


def heard(wire: Any, *chunks: bytes, closes: bool = False) -> Any:
    return wire.feed(smtp.check(wire.target()), chunks, closes=closes)


@pytest.mark.parametrize(
    "greeting",
    [
        GREETING,
        b"220 mail.example\r\n",
        b"220\r\n",
        b"220-mail.example ESMTP Exim 4.96\r\n220-no spam\r\n220 please\r\n",
        b"220-mail.example\n220 ESMTP\n",
    ],
)
@pytest.mark.parametrize("closes", [True, False])
def test_a_greeting_and_an_answer_are_a_server(wire: Any, greeting: bytes, closes: bool) -> None:
    """Of one line or several; whether it takes our leave in time does not matter."""
    found = heard(wire, greeting, OPTIONS, BYE, closes=closes)
    assert (found.result.outcome, found.result.answered_by) == OPEN
    assert found.result.healthy
    assert found.result.evidence == ("answered with an SMTP greeting",)
    assert found.sent == EHLO + QUIT


def test_it_does_not_depend_on_how_bytes_come(wire: Any) -> None:
    """Nothing is said before the greeting has ended, nor before the answer has."""
    check = smtp.check(wire.target())
    greeting = b"220-mail.example ESMTP\r\n220 ready\r\n"
    assert next(check) == b""
    said = [check.send(greeting[i : i + 1]) for i in range(len(greeting))]
    assert said == [b""] * (len(greeting) - 1) + [EHLO]
    said = [check.send(OPTIONS[i : i + 1]) for i in range(len(OPTIONS))]
    assert said == [b""] * (len(OPTIONS) - 1) + [QUIT]


@pytest.mark.parametrize("code", [b"421", b"554"])
def test_a_server_that_turns_everybody_away_is_open_and_not_well(wire: Any, code: bytes) -> None:
    """It is asked for nothing then, and what it says is told (RFC 5321, 3.1)."""
    found = heard(wire, code + b" too busy\r\n", BYE)
    assert (found.result.outcome, found.result.answered_by) == OPEN
    assert not found.result.healthy
    assert found.result.evidence == (f"answered with '{code.decode()} too busy'",)
    assert found.sent == QUIT


@pytest.mark.parametrize("closes", [True, False])
def test_a_greeting_that_goes_on_is_heard_out(wire: Any, closes: bool) -> None:
    """Who speaks into it is a spammer to some: its beginning is enough, and nothing is said."""
    found = heard(wire, b"220-mail.example ESMTP\r\n", closes=closes)
    assert (found.result.outcome, found.result.answered_by) == OPEN
    assert found.result.evidence == ("answered with the beginning of an SMTP greeting",)
    assert found.sent == b""


def test_a_server_that_does_not_answer_is_not_well(wire: Any) -> None:
    """It greeted, which proves it; the rest of it hangs."""
    found = heard(wire, GREETING)
    assert (found.result.outcome, found.result.answered_by) == OPEN
    assert not found.result.healthy
    assert found.result.evidence[-1] == "it says nothing to EHLO"


@pytest.mark.parametrize(
    "reply", [b"", b"250-mail.exa", b"250-mail.example\r\n", b"554 5.7.1 who are you?\r\n"]
)
def test_a_server_that_hangs_up_on_us_is_a_server(wire: Any, reply: bytes) -> None:
    """It may like neither our name nor our address; nothing more is said to it."""
    found = heard(wire, GREETING, *([reply] if reply else []), closes=True)
    assert (found.result.outcome, found.result.answered_by) == OPEN


@pytest.mark.parametrize(
    ("greeting", "reply"),
    [
        (b"220 (vsFTPd 3.0.3)\r\n", b"530 Please login with USER and PASS.\r\n"),
        (b"220 Welcome to FTP\r\n", b"500 Unknown command\r\n"),
        (b"220 ready\r\n", b"what?\r\n"),
    ],
)
def test_ftp_is_the_wrong_service(wire: Any, greeting: bytes, reply: bytes) -> None:
    """It greets alike, and does not know EHLO."""
    found = heard(wire, greeting, reply)
    assert found.result.outcome is Outcome.WRONG_SERVICE
    assert "answer to EHLO" in found.result.evidence[0]


@pytest.mark.parametrize(
    "greeting",
    [
        b"+OK POP3 ready\r\n",
        b"* OK IMAP4rev1\r\n",
        b"SSH-2.0-Go\r\n",
        b"250 mail.example\r\n",
        b"2200 x\r\n",
        b"220x\r\n",
        b"\r\n",
    ],
)
def test_another_greeting_is_the_wrong_service(wire: Any, greeting: bytes) -> None:
    """At once; nothing is said to a stranger."""
    found = heard(wire, greeting)
    assert found.result.outcome is Outcome.WRONG_SERVICE
    assert found.sent == b""


@pytest.mark.parametrize("chunk", [b"2", b"220", b"220 mail.exam"])
def test_half_a_line_is_waited_on_and_proves_nothing(wire: Any, chunk: bytes) -> None:
    """A proof may have been in what is missing."""
    assert heard(wire, chunk).result is None
    assert heard(wire, chunk, closes=True).result.outcome is Outcome.RESET


def test_the_stand_in_takes_no_mail(wire: Any) -> None:
    """421 to EHLO, if anything: the mail stays with the server that came with it."""
    hello = b"EHLO " + wire.challenge().text + b".reachmap.invalid\r\n"
    said = wire.feed(smtp.stand_in(wire.offer()), [hello])
    assert said.sent == b"220 reachmap.invalid ESMTP reachmap\r\n"
    assert said.result.startswith(b"421 reachmap.invalid ") and said.result.endswith(b"\r\n")
    assert len(said.result) <= 512
    assert wire.feed(smtp.stand_in(wire.offer()), [b"EHLO mx.example\r\n"]).result == b""


def test_a_listener_is_challenged_by_ehlo(wire: Any) -> None:
    """The challenge is the label of a domain."""
    found = heard(wire, wire.feed(smtp.stand_in(wire.offer())).sent)
    assert found.sent == b"EHLO " + wire.challenge().text + b".reachmap.invalid\r\n"
    assert len(wire.challenge().text) <= 63
