"""What to do about a flow that is not as it should be, and what would tell its cause. Pure."""

from collections.abc import Mapping
from typing import Final

from reachmap_collector.judge import Doubt, Judgement
from reachmap_shared.vocabulary import Cause, Outcome, State

_BY_OUTCOME: Final[Mapping[Outcome, str]] = {
    Outcome.REFUSED: "see whether {service} runs on {destination} and listens on port {port}; if "
    "it does, a firewall between {source} and {destination} rejects the connection",
    Outcome.TIMEOUT: "see whether {destination} is up; if it is, ask whoever owns the firewalls "
    "between it and {source} to allow {transport} from {source} to {address} port {port}",
    Outcome.REJECTED: "a firewall forbids it: ask for {transport} from {source} to {address} port "
    "{port}",
    Outcome.UNREACHABLE: "see whether {destination} is up, and whether {source} has a route to "
    "{address}",
    Outcome.NAME_FAILURE: "look up {address} on {source}: its name servers do not know it",
    Outcome.TLS_FAILURE: "see what listens on port {port} of {destination}, and whether it speaks "
    "TLS",
    Outcome.WRONG_SERVICE: "see what program holds port {port} on {destination}: it should speak "
    "{protocol}",
    Outcome.WRONG_PEER: "see what {address} leads to from {source}: a NAT rule, a proxy, or an "
    "address that two hosts have",
    Outcome.RESET: "read the log of {service} on {destination}; a firewall that inspects the "
    "traffic may also end the connection",
    Outcome.STALLED: "read the log of {service} on {destination}: it accepts connections and does "
    "not answer; a firewall that inspects the traffic may also swallow the answer",
}

_BY_CAUSE: Final[Mapping[Cause, str]] = {
    Cause.SOURCE_HOST: "look at the firewall and the routes of {source} itself, for {transport} to "
    "{address} port {port}",
    Cause.PATH: "ask whoever runs {at} to allow {transport} from {source} to {address} port {port}",
    Cause.RETURN_PATH: "look at the way back from {at}: the answers to {source} are lost there",
    Cause.DESTINATION_HOST: "look at the firewall of {destination}: it must let in {transport} "
    "from {source} to {at} port {port}, and its answers out",
    Cause.MIDDLEBOX: "ask whoever runs {at} what it does with {transport} to {address} port "
    "{port}: somebody there answers in place of {destination}",
}
"""Where both ends looked into it, and a device is known."""

_BY_NAMELESS: Final[Mapping[Cause, str]] = {
    Cause.SOURCE_HOST: _BY_CAUSE[Cause.SOURCE_HOST],
    Cause.PATH: "ask whoever runs the firewalls and routers between {source} and {destination} to "
    "allow {transport} from {source} to {address} port {port}",
    Cause.RETURN_PATH: "ask whoever runs the firewalls and routers between {destination} and "
    "{source} to let the answers of {address} port {port} through",
}
"""Where it is not: no device on the way back says a word to the source."""

_BY_DOUBT: Final[Mapping[Doubt, str]] = {
    Doubt.NO_ADDRESS: "start the agent on {destination}, or give it addresses in the topology",
    Doubt.CONFLICT: "give each of the two agents that call themselves {source} a name of its own "
    "(--id)",
    Doubt.NO_NEWS: "see whether the agent on {source} runs and reaches the NATS server",
    Doubt.NO_CHECK: "wait for the next check; should it not come, see with `reachmap agents` what "
    "keeps {source} from it",
    Doubt.LOCAL_ERROR: "see what the agent on {source} lacks: descriptors, ports or memory",
    Doubt.NOT_REACHED: "see whether {destination} is up",
    Doubt.NO_WINDOW: "wait for the next check; should it go on, see whether both agents reach the "
    "NATS server",
    Doubt.NO_WITNESS: "see with `reachmap agents` whether the agent on {destination} runs and can "
    "listen on port {port}",
}

_NO_WITNESS: Final = (
    "an agent on {destination} that says whether anything listens on port {port} there"
)

_SETTLED_BY_OUTCOME: Final[Mapping[Outcome, str]] = {
    outcome: f"a packet capture on {{destination}}, which shows whether {what}"
    for outcome, what in (
        (Outcome.REFUSED, "it was {destination} that refused"),
        (Outcome.TIMEOUT, "what {source} sends gets there"),
        (Outcome.UNREACHABLE, "what {source} sends gets there"),
        (Outcome.REJECTED, "it was {destination} that rejected it"),
        (Outcome.RESET, "it was {destination} that reset the connection"),
        (Outcome.STALLED, "{service} answers at all"),
    )
}
"""What would settle the cause where it is known whether anything listens."""

_SETTLED_BY_DOUBT: Final[Mapping[Doubt, str]] = {
    Doubt.NO_ADDRESS: "an address of {destination} to dial",
    Doubt.CONFLICT: "reports of just one agent under the name {source}",
    Doubt.NO_NEWS: "a report from the agent on {source}",
    Doubt.NO_CHECK: "the next check by {source}",
    Doubt.ASTRAY: "a check that gets to {destination}",
    Doubt.NOT_REACHED: "anything else of {destination} that {source} reaches",
    Doubt.NO_WINDOW: "a check for which the agent on {destination} listens",
    Doubt.NO_WITNESS: "something that is known to listen on port {port} of {destination}",
}

_MORE_CHECKS: Final = "more checks, which show when it comes and goes"

_START_IT: Final = "start {service} on {destination}: nothing listens on its port {port}"
_EXPOSED: Final = "close port {port} of {destination} to {source}"
_UNWELL: Final = "read the log of {service} on {destination}: it answers, but says it is not well"
_FLAPS: Final = "watch it: it comes and goes"


def what_to_do(judgement: Judgement) -> str | None:
    """The next step for whoever looks after the flow; None when nothing is to be done."""
    return _filled(_step(judgement), judgement)


def what_would_settle(judgement: Judgement) -> str | None:
    """What would tell a cause that is unknown; None when it is known, or nothing needs one."""
    if judgement.cause is not Cause.UNKNOWN:
        return None
    if judgement.doubt is not None:
        text = _SETTLED_BY_DOUBT.get(judgement.doubt)
    elif judgement.state is State.DEGRADED:
        text = _MORE_CHECKS
    elif judgement.listened is None:
        text = _NO_WITNESS
    else:
        assert judgement.seen is not None  # or there would be a doubt
        text = _SETTLED_BY_OUTCOME.get(judgement.seen.outcome)
    return _filled(text, judgement)


def _filled(text: str | None, judgement: Judgement) -> str | None:
    """A sentence with the flow's own names in it."""
    if text is None:
        return None
    key, expected = judgement.record.key, judgement.record.expected
    return text.format(
        source=key.source,
        destination=key.destination,
        address=key.address,
        port=key.port,
        transport=key.transport.upper(),
        service=expected.service.role,
        at=judgement.at,
        protocol=expected.protocol,
    )


def _step(judgement: Judgement) -> str | None:
    seen = judgement.seen
    match judgement.state:
        case State.OK:
            return None
        case State.EXPOSED:
            return _EXPOSED
        case State.DEGRADED:
            return _UNWELL if judgement.cause is Cause.SERVICE else _FLAPS
        case State.UNKNOWN if judgement.doubt not in (None, Doubt.ASTRAY):
            return _BY_DOUBT[judgement.doubt]
        case _:
            assert seen is not None  # one that was never checked leaves a doubt of its own
            if (said := _looked_into(judgement)) is not None:
                return said
            if seen.outcome is Outcome.REFUSED and judgement.listened is False:
                return _START_IT
            return _BY_OUTCOME.get(seen.outcome)


def _looked_into(judgement: Judgement) -> str | None:
    """The next step by what both ends found; None where one end knows as much."""
    found = judgement.diagnosed
    if found is None or found.finding.cause is not judgement.cause:
        return None
    return (_BY_NAMELESS if judgement.at is None else _BY_CAUSE).get(judgement.cause)
