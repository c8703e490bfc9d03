"""The page for people: whole by itself, and safe whatever is told on it."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from reachmap_collector.export import Options, Snapshot, html

VOID = {"meta", "br", "input"}
TAGS = {
    *("html", "head", "title", "style", "body", "h1", "h2", "p", "span", "div", "table", "thead"),
    *("tbody", "tr", "th", "td", "details", "summary", "dl", "dt", "dd", "strong", "code", "label"),
    *("script", *VOID),
}
"""All that the template has: anything else came from outside."""


class Page(HTMLParser):
    """A page's tags, all of them closed, and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)


ALL = pytest.mark.parametrize("name", ["mixed", "quiet", "large", "hostile"])


@ALL
def test_it_needs_no_other_file_and_runs_nothing_but_its_filter(
    name: str, request: pytest.FixtureRequest
) -> None:
    """Tags, attributes and scripts are the template's, whatever the texts are."""
    text = html.page(request.getfixturevalue(name), Options())
    page = Page(text)
    assert {tag for tag, _ in page.tags} <= TAGS
    names = {attribute for _, attributes in page.tags for attribute in attributes}
    assert not {one for one in names if one.startswith("on")} | {"src", "href"} & names
    assert "url(" not in text and "@import" not in text
    scripts = ["".join(page.texts["script"])] if "script" in page.texts else []
    assert sum(tag == "script" for tag, _ in page.tags) == len(scripts) <= 1
    policy = next(
        attributes["content"] or ""
        for tag, attributes in page.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; ")
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in policy


def test_all_that_is_wrong_is_told(mixed: Snapshot) -> None:
    """Evidence, what to do, and the row of the port table, of each flow that is not ok."""
    page = Page(html.page(mixed, Options()))
    told = " ".join(part for texts in page.texts.values() for part in texts)
    for flow in mixed.flows:
        if flow["state"] != "ok":
            for fact in (
                *flow["evidence"],
                flow["advice"] or "",
                *(row["text"] for row in flow["rows"]),
            ):
                assert fact in told
            for rule in (flow["requests"] or {}).values():
                assert rule in told
    for role in {reason["role"] for flow in mixed.flows for reason in flow["reasons"]}:
        assert role in page.texts["th"]


def test_many_that_are_alike_are_told_together(large: Snapshot) -> None:
    """The page stays small; nothing is left out of what is wrong."""
    text = html.page(large, Options())
    assert len(text) < 50_000
    assert len(re.findall("<dd>pc-7 to srv-", text)) == 4


def test_the_page_of_nothing_says_so(quiet: Snapshot) -> None:
    """No filter for nothing."""
    text = html.page(quiet, Options())
    assert "the topology has no flow" in text
    assert "<input" not in text


def test_what_does_not_fit_is_named(large: Snapshot) -> None:
    """Of a crowd of flows that are alike, twenty in full, and the others by name."""
    flows = [
        {
            **flow,
            "state": "broken",
            "outcome": "timeout",
            "cause": "unknown",
            "confidence": "unknown",
        }
        for flow in large.flows
        if flow["destination"] == "srv-1"
    ]
    text = html.page(Snapshot(flows, large.agents, large.status), Options())
    assert "2500 flows" in text
    assert "And 2480 more alike" in text
    named = set(re.findall(r"\bpc-\d+(?= to )", text))
    assert named == {f"pc-{number}" for number in range(2500)}
