"""The firewall rule to ask for: when there is one, and whether every tool takes it."""

import csv
import ipaddress
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector import rules
from reachmap_collector.rules import (
    COMMENT_MAX,
    CSV_COLUMNS,
    FORMS,
    RuleRequest,
    request_for,
    texts,
)
from reachmap_shared.messages import Presence
from reachmap_shared.names import MAX_NAME
from reachmap_shared.vocabulary import Cause, ListenerState, Outcome, Transport

NOW = 100.0
V4 = RuleRequest(
    source="pc-1",
    source_address="10.0.1.1",
    destination="web-1",
    destination_address="10.0.0.1",
    port=8080,
    transport=Transport.TCP,
    family="ipv4",
    why="browser to web:8080, office row 3",
)
V6 = replace(
    V4,
    source_address="fd00::1:1",
    destination_address="fd00::1",
    transport=Transport.UDP,
    family="ipv6",
)


def asked(
    stage: Any, outcome: Outcome, service: str = "web:8080", announced: Any = (), **changes: Any
) -> RuleRequest | None:
    """The request about a flow of pc-1 of which one check saw this."""
    destination = "db-1" if service == "db:5432" else "web-1"
    stage.hear("pc-1", NOW)
    stage.see("pc-1", destination, outcome, NOW, service=service, **changes)
    return request_for(stage.judge("pc-1", destination, NOW, service), announced)


# When there is one.


def test_a_rule_is_asked_for_by_all_that_it_needs(scene: Any) -> None:
    """Both ends by name and address, the port, and why."""
    assert asked(scene(), Outcome.TIMEOUT) == replace(V4, why="browser to web:8080")


def test_why_names_the_row_of_the_port_table(scene: Any, openuem: Any) -> None:
    """Every reason, by roles and row."""
    stage = scene(openuem(1))
    stage.hear("agent-worker-1", NOW)
    stage.see("agent-worker-1", "postgres-1", Outcome.TIMEOUT, NOW)
    request = request_for(stage.judge("agent-worker-1", "postgres-1", NOW))
    assert request is not None
    assert request.why == "agent-worker to postgres:5432, openuem row 13"


@pytest.mark.parametrize("outcome", Outcome)
def test_only_what_a_firewall_does_leads_to_a_rule(scene: Any, outcome: Outcome) -> None:
    """Nobody is asked to allow what a stopped service or a wrong name refuses."""
    blocked = {Outcome.TIMEOUT, Outcome.REJECTED, Outcome.UNREACHABLE}
    assert (asked(scene(), outcome) is not None) == (outcome in blocked)


def test_a_refusal_leads_to_one_where_something_listens(scene: Any, listener: Any) -> None:
    """Then somebody on the way refuses; else the service is just not there."""
    for report, is_asked in (
        (listener("web:8080", ListenerState.CEDED, "", "nginx"), True),
        (listener("web:8080", ListenerState.CEDED), False),
        (None, False),
    ):
        stage = scene()
        if report is not None:
            stage.hear("web-1", NOW, listeners=(report,))
        assert (asked(stage, Outcome.REFUSED) is not None) == is_asked


def test_a_host_that_is_gone_needs_no_rule(scene: Any) -> None:
    """Its agent left, so it is likelier down than hidden."""
    stage = scene()
    stage.hear("web-1", NOW - 1, presence=Presence.LEAVING)
    assert asked(stage, Outcome.TIMEOUT) is None


def test_what_must_not_be_is_never_asked_for(scene: Any) -> None:
    """The topology forbids it, whatever was seen."""
    for outcome in Outcome:
        assert asked(scene(), outcome, "db:5432") is None


@pytest.mark.parametrize("cause", Cause)
def test_a_cause_elsewhere_rules_it_out(scene: Any, cause: Cause) -> None:
    """Whoever found it."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", Outcome.TIMEOUT, NOW, service="web:8080")
    judgement = replace(stage.judge("pc-1", "web-1", NOW, "web:8080"), cause=cause)
    never = {Cause.SERVICE, Cause.NAME_RESOLUTION, Cause.SOURCE_HOST}
    seen_alive = request_for(replace(judgement, listened=True))
    assert (seen_alive is not None) == (cause not in never)
    unseen = request_for(replace(judgement, listened=None))
    assert (unseen is not None) == (cause not in never | {Cause.DESTINATION_HOST})


@pytest.mark.parametrize(
    ("local", "announced", "source"),
    [
        ("10.0.1.9:40000", ("10.0.1.1",), "10.0.1.9"),
        ("", ("10.0.1.1", "fd00::1"), "10.0.1.1"),
        ("", ("10.0.1.1", "10.0.1.1"), "10.0.1.1"),
        ("", ("10.0.1.1", "10.0.1.2"), None),  # which one, nobody knows
        ("", ("pc-1.example",), None),
        ("", (), None),
        ("[fd00::1]:40000", (), None),  # no rule has two families
        ("0.0.0.0:40000", (), None),
        ("nonsense", (), None),
    ],
)
def test_the_source_is_what_the_check_came_from(
    scene: Any, local: str, announced: tuple[str, ...], source: str | None
) -> None:
    """Or the one address that its host has; a guess would open a hole for somebody else."""
    request = asked(scene(), Outcome.TIMEOUT, announced=announced, local=local)
    assert (request and request.source_address) == source


@pytest.mark.parametrize("address", ["web.example", "fe80::1%eth0", "ff02::1", "::"])
def test_a_destination_without_an_address_of_its_own_is_not_asked_for(
    scene: Any, address: str
) -> None:
    """A rule names addresses; those of a name are flows of their own once it resolves."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", Outcome.TIMEOUT, NOW, service="web:8080", local="[fd00::2]:1")
    judgement = stage.judge("pc-1", "web-1", NOW, "web:8080")
    record = judgement.record
    record.expected = replace(record.expected, key=replace(record.key, address=address))
    assert request_for(judgement) is None


def test_a_host_needs_no_rule_to_reach_itself(scene: Any) -> None:
    """What is in the way there is no network's."""
    stage = scene(
        """
        [roles.both]
        listens = { "both:80" = {} }
        [roles.user]
        connects = ["both:80"]
        [hosts.one]
        roles = ["both", "user"]
        addresses = ["10.0.0.1"]
        """
    )
    stage.hear("one", NOW)
    stage.see("one", "one", Outcome.TIMEOUT, NOW)
    assert request_for(stage.judge("one", "one", NOW)) is None


def test_no_request_has_no_texts() -> None:
    """And one has all."""
    assert texts(None) is None
    assert list(texts(V4) or ()) == list(FORMS)


# Whether every tool takes it.

names = st.from_regex(rf"[A-Za-z0-9_-]{{1,{MAX_NAME}}}", fullmatch=True)
requests = st.builds(
    lambda source, destination, addresses, port, transport, why: RuleRequest(
        source=source,
        source_address=str(addresses[0]),
        destination=destination,
        destination_address=str(addresses[1]),
        port=port,
        transport=transport,
        family=f"ipv{addresses[0].version}",
        why=why,
    ),
    names,
    names,
    st.sampled_from([4, 6]).flatmap(
        lambda version: st.tuples(*[st.ip_addresses(v=version, network=NETWORKS[version])] * 2)
    ),
    st.integers(1, 65535),
    st.sampled_from(Transport),
    st.text(max_size=300),  # worse than any: it is reduced before, and again
)
NETWORKS = {4: "10.0.0.0/8", 6: "fd00::/8"}

HOSTILE = replace(
    V4,
    source="-" * MAX_NAME,
    destination="_" * MAX_NAME,
    why="\"; flush ruleset; ' $(reboot) `id` \u2019 \u201d \n accept } \\ é %n" * 9,
)

BASE = "table inet filter { chain input { type filter hook input priority 0; policy drop; }; }\n"


@pytest.fixture(scope="session")
def nft(tool: Any) -> Callable[[str, str], str]:
    """Runs nftables on a script, in a network of its own that ends with it."""
    unshare, program = tool("unshare", "util-linux"), tool("nft", "nftables")
    alone = [unshare, "-n"] if os.geteuid() == 0 else [unshare, "-Urn"]

    def run(options: str, script: str) -> str:
        done = subprocess.run(
            [*alone, "sh", "-c", f'"$0" {options} -f - && "$0" list ruleset', program],
            input=script,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), script
        return done.stdout

    return run


def comment(text: str) -> str:
    """A comment of ours, in characters that no tool makes anything of."""
    assert re.fullmatch(r"[A-Za-z0-9 .,:/#>()_-]+", text), text
    assert text.startswith("reachmap: ")
    assert len(text) <= COMMENT_MAX
    return text


def script_of(*requested: RuleRequest) -> str:
    return BASE + "\n".join(FORMS["nftables"](one) for one in requested)


def test_nftables_takes_it(nft: Any) -> None:
    """Both families, both transports, and the worst names; nothing is loaded."""
    worst = (V4, V6, HOSTILE, replace(V6, transport=Transport.TCP, port=65535))
    assert nft("-c", script_of(*worst)) == ""


def test_nftables_has_just_the_rule_that_was_asked_for(nft: Any) -> None:
    """Really loaded, in a network of its own, before the rule that drops all the rest."""
    end = "\nadd rule inet filter input drop\n"
    script = BASE + end + script_of(V4, V6).removeprefix(BASE)
    listed = [line.strip() for line in nft("", script).splitlines()]
    about = "reachmap: pc-1 to web-1: browser to web:8080, office row 3"
    assert listed[3:6] == [
        f'ip6 saddr fd00::1:1 ip6 daddr fd00::1 udp dport 8080 accept comment "{about}"',
        f'ip saddr 10.0.1.1 ip daddr 10.0.0.1 tcp dport 8080 accept comment "{about}"',
        "drop",
    ]


def test_nftables_takes_whatever_there_may_be(nft: Any) -> None:
    """A hundred at once, made up."""
    made: list[RuleRequest] = []

    @given(requests)
    def collect(request: RuleRequest) -> None:
        made.append(request)

    collect()
    assert len(made) >= 50
    assert nft("-c", script_of(*made)) == ""


@given(requests)
def test_every_form_is_one_line_of_its_own_syntax(request: RuleRequest) -> None:
    """Word by word, as a shell splits it; nothing in it can be taken for a command."""
    for name, form in FORMS.items():
        text = form(request)
        assert text.isprintable(), name
        if name != "csv":
            assert text.isascii(), name
        PARSERS[name](text, request)


def parse_plain(text: str, request: RuleRequest) -> None:
    assert text == (
        f"allow {request.transport} from {request.source_address} ({request.source}) to "
        f"{request.destination_address} ({request.destination}) port {request.port}"
    )


def parse_nftables(text: str, request: RuleRequest) -> None:
    ip = {"ipv4": "ip", "ipv6": "ip6"}[request.family]
    words = shlex.split(text)
    comment(words.pop())
    assert words == [
        *("insert", "rule", "inet", "filter", "input"),
        *(ip, "saddr", request.source_address, ip, "daddr", request.destination_address),
        *(str(request.transport), "dport", str(request.port), "accept", "comment"),
    ]


def parse_firewalld(text: str, request: RuleRequest) -> None:
    """firewalld.richlanguage(5): rule, source, destination, an element, an action."""
    words = shlex.split(text)
    assert words[:2] == ["firewall-cmd", "--permanent"]
    assert words[3:] == ["&&", "firewall-cmd", "--reload"]
    option, _, rule = words[2].partition("=")
    assert option == "--add-rich-rule"
    found = re.fullmatch(
        r'rule family="(ipv[46])" source address="(\S+)" destination address="(\S+)" '
        r'port port="(\d+)" protocol="(tcp|udp)" accept',
        rule,
    )
    assert found
    family, source, destination, port, protocol = found.groups()
    for address in (source, destination):
        assert f"ipv{ipaddress.ip_address(address).version}" == family == request.family
    assert (int(port), protocol) == (request.port, request.transport)


def parse_ufw(text: str, request: RuleRequest) -> None:
    """ufw(8), the full syntax; a comment may hold no quote."""
    words = shlex.split(text)
    comment(words.pop())
    assert words == [
        *("ufw", "allow", "proto", str(request.transport), "from", request.source_address),
        *("to", request.destination_address, "port", str(request.port), "comment"),
    ]


def parse_windows(text: str, request: RuleRequest) -> None:
    """A cmdlet and its named parameters; a string is verbatim between two single quotes."""
    found = re.fullmatch(
        r"New-NetFirewallRule -DisplayName '([^'\u2018\u2019\u201a\u201b]+)' -Direction Inbound "
        r"-Action Allow -Protocol (TCP|UDP) -RemoteAddress (\S+) -LocalAddress (\S+) "
        r"-LocalPort (\d+)",
        text,
    )
    assert found
    name, protocol, source, destination, port = found.groups()
    comment(name)
    assert (protocol.lower(), int(port)) == (request.transport, request.port)
    assert (source, destination) == (request.source_address, request.destination_address)


def parse_csv(text: str, request: RuleRequest) -> None:
    """A row with a cell for each column, none of which a spreadsheet takes for a formula."""
    [row] = csv.reader([text])
    assert len(row) == len(CSV_COLUMNS)
    assert all(cell[:1] not in ("=", "+", "-", "@") for cell in row)
    cells = dict(zip(CSV_COLUMNS, row, strict=True))
    assert cells["source"].removeprefix("'") == request.source
    assert (cells["port"], cells["family"]) == (str(request.port), request.family)


PARSERS = {
    "plain": parse_plain,
    "nftables": parse_nftables,
    "firewalld": parse_firewalld,
    "ufw": parse_ufw,
    "windows": parse_windows,
    "csv": parse_csv,
}


def test_every_form_is_parsed() -> None:
    """None is left out."""
    assert PARSERS.keys() == FORMS.keys() == rules.FORMS.keys()
