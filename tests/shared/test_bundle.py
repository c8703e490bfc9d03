"""The bundle: what is written is read, and nothing else is taken for one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_shared.bundle import Bundle
from reachmap_shared.errors import InvalidSettings

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x7f"))


def toml(bundle: Bundle) -> str:
    return "".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
        for key, value in bundle.document().items()
    )


@given(nats=st.lists(TEXT), ca=TEXT, credentials=TEXT, nkey=TEXT, certificate=TEXT, key=TEXT)
def test_a_bundle_comes_back_as_it_was(
    nats: list[str], ca: str, credentials: str, nkey: str, certificate: str, key: str
) -> None:
    """Whatever stands in it."""
    bundle = Bundle("pc-17", tuple(nats), ca, credentials, nkey, certificate, key)
    assert Bundle.parse(toml(bundle)) == bundle


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no toml",
        'id = "pc-17"',
        'format = 2\nid = "pc-17"',
        "format = 1",
        'format = 1\nid = "a b"',
        'format = 1\nid = "pc-17"\nsecret = "s3cret"',
        'format = 1\nid = "pc-17"\nnkey = 7',
        'format = 1\nid = "pc-17"\nnats = "nats://a:1"',
        'format = 1\nid = "pc-17"\nnats = [7]',
    ],
)
def test_what_is_no_bundle_is_refused(text: str) -> None:
    """And nothing of it is quoted."""
    with pytest.raises(InvalidSettings, match="not a bundle") as caught:
        Bundle.parse(text)
    assert "s3cret" not in str(caught.value)
