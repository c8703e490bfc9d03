"""The firewall's rules as text; no PowerShell has run them."""

import re

from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.scm import firewall
from reachmap_shared.messages import ListenerSpec
from reachmap_shared.vocabulary import ListenMode, Transport

SPECS = (
    ListenerSpec("agent:2022", 2222, Transport.TCP, "ssh"),
    ListenerSpec("agent:1443", 1443, Transport.TCP, "https", ListenMode.ON_DEMAND),
    ListenerSpec("dns:53", 53, Transport.UDP, "dns", ListenMode.ALWAYS),
    ListenerSpec("db:5432", 5432, Transport.TCP, "postgres", ListenMode.NEVER),
)


def test_ports_by_transport_without_those_where_nobody_listens() -> None:
    """In one rule for each transport, for the service alone."""
    text = firewall.script(SPECS)
    assert "TCP = @(1443, 2222)" in text
    assert "UDP = @(53)" in text
    assert "5432" not in text
    assert "Service     = 'reachmap-agent'" in text


def test_a_plan_without_listeners_opens_nothing() -> None:
    """The rules of the plan before are taken away."""
    text = firewall.script(())
    assert "TCP = @()" in text and "UDP = @()" in text
    assert "Where-Object { $ports[$_].Count }" in text


def test_whatif_reaches_every_command_that_changes_something() -> None:
    """It does not by itself, into commands that are a module's."""
    text = firewall.script(SPECS)
    changing = re.findall(r"\b(?:New|Remove|Set)-NetFirewallRule\b[^|\n]*", text)
    assert len(changing) == 2
    assert all("-WhatIf:$WhatIfPreference" in command for command in changing)
    assert "[CmdletBinding(SupportsShouldProcess)]" in text


def specs() -> st.SearchStrategy[ListenerSpec]:
    return st.builds(
        ListenerSpec,
        st.text(max_size=20),
        st.integers(1, 65_535),
        st.sampled_from(Transport),
        st.text(max_size=20),
        st.sampled_from(ListenMode),
    )


@given(st.lists(specs(), max_size=8))
def test_nothing_of_a_plan_but_numbers_gets_into_the_script(listeners: list[ListenerSpec]) -> None:
    """What a plan calls its services is nothing that a shell should read."""
    text = firewall.script(listeners)
    plain = firewall.script(())
    strip = re.compile(r"@\([0-9, ]*\)")
    assert strip.sub("", text) == strip.sub("", plain)
    assert text.count("{") == text.count("}") and text.count("(") == text.count(")")
