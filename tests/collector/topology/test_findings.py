"""Findings: how a person reads one."""

from reachmap_collector.topology.findings import Finding, FindingKind


def test_a_finding_reads_as_its_place_and_its_message() -> None:
    """The same form as a problem's, so that both can stand in one list."""
    assert str(Finding(FindingKind.IDLE_HOST, "hosts.a", "it has no roles")) == (
        "hosts.a: it has no roles"
    )


def test_kinds_are_words_of_their_own() -> None:
    """Scripts filter by them: lower case, with hyphens."""
    for kind in FindingKind:
        assert kind.value.replace("-", "").isalpha()
        assert kind.value == kind.value.lower() == kind.name.lower().replace("_", "-")
