"""Identifiers: what is accepted is safe wherever it goes, the rest is refused with the reason."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_shared.errors import InvalidName
from reachmap_shared.names import MAX_NAME, ServiceName, host_name, port_number, role_name

TOKEN = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
"""One token of a NATS subject, as the contract has it."""

near_names = st.text(alphabet=string.ascii_letters + string.digits + "_-.*> \n\0é", max_size=70)
roles = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
ports = st.integers(min_value=1, max_value=65535)


def accepted(check: object, text: object) -> bool:
    """Whether a name passes; anything but InvalidName would be a crash."""
    try:
        assert check(text) == text  # type: ignore[operator]
    except InvalidName:
        return False
    return True


@given(near_names | st.text())
def test_an_accepted_host_name_is_one_token(text: str) -> None:
    """So the server's permissions hold each agent to its own subjects."""
    if accepted(host_name, text):
        assert TOKEN.fullmatch(text)
        assert len(text) <= MAX_NAME


@given(near_names | st.text())
def test_an_accepted_role_name_is_one_token(text: str) -> None:
    """Role names stand before a colon and in file names, and are lower case."""
    if accepted(role_name, text):
        assert TOKEN.fullmatch(text)
        assert text == text.lower()
        assert len(text) <= MAX_NAME


@pytest.mark.parametrize(
    "text", ["a", "0", "_", "-", "PC-17", "pc_17", "a" * 63, "8.8.8.8".replace(".", "-")]
)
def test_host_names_that_pass(text: str) -> None:
    """Letters, digits, underscore and hyphen, up to the length of a DNS label."""
    assert host_name(text) == text


@pytest.mark.parametrize(
    "text",
    ["", " ", "a b", "pc.17", "*", ">", "a*", "a>", "pc\n", "\npc", "é", "\u0661", "a/b", "a" * 64],
)
def test_host_names_that_do_not(text: str) -> None:
    """The message shows the name and says what was expected."""
    with pytest.raises(InvalidName) as caught:
        host_name(text)
    assert repr(text) in str(caught.value)
    assert "expected 1 to 63 of A-Z a-z 0-9 _ -" in str(caught.value)


@pytest.mark.parametrize("text", ["agent", "nats-server", "0", "a" * 63])
def test_role_names_that_pass(text: str) -> None:
    """Lower case, as they are written in topologies."""
    assert role_name(text) == text


@pytest.mark.parametrize("text", ["", "-a", "A", "a_b", "a.b", "a:b", "a\n", "a" * 64])
def test_role_names_that_do_not(text: str) -> None:
    """The message shows the name and says what was expected."""
    with pytest.raises(InvalidName) as caught:
        role_name(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(("value", "good"), [(0, False), (1, True), (65535, True), (65536, False)])
def test_ports(value: int, good: bool) -> None:
    """1 to 65535 can be dialled."""
    assert accepted(port_number, value) is good


@given(roles, ports)
def test_a_service_name_reads_as_it_is_written(role: str, port: int) -> None:
    """`ROLE:PORT` and back."""
    service = ServiceName(role, port)
    assert ServiceName.parse(str(service)) == service


@given(st.text() | st.from_regex(r"[a-z]{0,3}:[0-9]{0,6}", fullmatch=True))
def test_any_text_is_a_service_or_an_invalid_name(text: str) -> None:
    """Nothing else is ever raised, and what passes is in bounds."""
    try:
        service = ServiceName.parse(text)
    except InvalidName:
        return
    assert role_name(service.role)
    assert port_number(service.port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "web",
        ":80",
        "web:",
        "web:x",
        "web:0",
        "web:65536",
        "web:+80",
        "web:8_0",
        "web: 80",
        "web:\u0668\u0660",
        "Web:80",
        "a:b:80",
        "web:00000000080",
    ],
)
def test_services_that_are_none(text: str) -> None:
    """Python's generous ideas of a number are not ours."""
    with pytest.raises(InvalidName):
        ServiceName.parse(text)


def test_services_sort_by_role_and_then_by_number() -> None:
    """Port 443 stands before port 8000, whatever their digits."""
    services = [ServiceName.parse(text) for text in ("web:8000", "web:443", "db:5432")]
    assert [str(service) for service in sorted(services)] == ["db:5432", "web:443", "web:8000"]
