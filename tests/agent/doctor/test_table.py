"""All steps together: what fails is told with what to do, and what depends on it is skipped."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reachmap_agent.doctor import table
from reachmap_agent.doctor.steps import Result
from reachmap_agent.settings import Settings


async def test_without_bus_and_plan_it_still_says_what_is_wrong(
    settings: Settings, look: Any
) -> None:
    """It works when nothing else does."""
    found = await look(settings)
    assert {name: one.result for name, one in found.items()} == {
        "id": Result.PASS,
        "addresses": Result.PASS,
        "certificate": Result.SKIPPED,
        "name": Result.PASS,
        "route": Result.PASS,
        "tcp": Result.FAIL,
        "server": Result.SKIPPED,
        "tls": Result.SKIPPED,
        "ocsp": Result.SKIPPED,
        "login": Result.SKIPPED,
        "permission": Result.SKIPPED,
        "clock": Result.SKIPPED,
        "plan": Result.FAIL,
        "ports": Result.SKIPPED,
        "capabilities": Result.PASS,
        "spool": Result.PASS,
        "disk": Result.PASS,
    }
    assert found["tcp"].found == "port 1 of 127.0.0.1: Connection refused"
    assert found["login"].found == "nothing can be said while tcp fails"
    assert all(one.to_do for one in found.values() if one.result is Result.FAIL)


async def test_the_next_server_is_tried(settings: Settings, nats_server: Any) -> None:
    """The first that can be reached is gone on from, and those before it are told all the same."""
    both = replace(settings, nats=(*settings.nats, nats_server.url))
    found = await table.run(both)
    assert [one.result for one in found if one.name == "tcp"] == [Result.FAIL, Result.PASS]
    (login,) = [one for one in found if one.name == "login"]
    assert login.result is Result.PASS


def test_every_need_is_a_step_before() -> None:
    """Or nothing would ever be skipped for it."""
    before: set[str] = {""}
    for step in (*table.HOST, *table.WAY, *table.BUS):
        assert step.needs in before, step.name
        before.add(step.name)


@pytest.mark.parametrize(
    ("url", "step", "found"),
    [
        ("nats://198.51.100.7:4222", "route", "no route to 198.51.100.7"),
        ("nats://map.example:4222", "name", "map.example: Temporary failure in name resolution"),
    ],
)
def test_on_a_host_without_a_network(url: str, step: str, found: str, tmp_path: Path) -> None:
    """A real one: a network namespace with nothing in it but loopback, and no resolver."""
    inside = ["unshare", "--net", sys.executable, "-m", "reachmap_agent", "doctor", "--json"]
    inside += ["--config", os.devnull, "--id", "pc-1", "--state", str(tmp_path), "--nats", url]
    if shutil.which("unshare") is None or subprocess.run([*inside[:2], "true"]).returncode:
        pytest.skip(
            "no network namespace can be made here: it takes root, and util-linux's unshare"
        )
    done = subprocess.run(inside, capture_output=True, text=True, check=False, timeout=60)
    steps = {row["name"]: row for row in json.loads(done.stdout)}
    assert done.returncode == 1
    assert (steps[step]["result"], steps[step]["found"]) == ("fail", found)
    assert steps[step]["to_do"]
    assert steps["login"]["found"] == f"nothing can be said while {step} fails"
    assert steps["addresses"]["result"] == "fail"
