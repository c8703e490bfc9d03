"""The NATS client in an agent's memory: without what is never used, and whole for whoever asks."""

import subprocess
import sys

import pytest

UNUSED = ("email", "zipfile", "importlib.metadata", "nats.js.client", "nats.micro")


def python(program: str) -> str:
    """Run it in a fresh interpreter; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["reachmap_shared.bus", "reachmap_shared.client"])
def test_what_is_never_used_is_not_there(module: str) -> None:
    """Neither JetStream's client nor what reads mail and packages, each a part of a megabyte."""
    program = f"import sys, {module}; print(*(name for name in {UNUSED} if name in sys.modules))"
    # Websockets, where their package is there, bring some of it for their own sake.
    assert python(f"import sys; sys.modules['aiohttp'] = None; {program}") == ""


def test_the_names_are_the_client_s_own() -> None:
    """A header of the same name, however often nats-py renames it."""
    program = (
        "import reachmap_shared.client; from reachmap_shared.lean import Header\n"
        "from nats.js import api\n"
        "print(api.StreamInfo.__name__)\n"  # more than the names: the real one from here on
        "from nats.js.api import Header as Real\n"
        "print(Real is not Header, all(Real[its.name].value == its.value for its in Header))"
    )
    assert python(program) == "StreamInfo\nTrue True"


@pytest.mark.parametrize(
    "asking",
    [
        "from nats.js import JetStreamContext",
        "import nats.js.client",
        "nats.aio.client.Client().jetstream()",
    ],
)
def test_whoever_asks_for_more_gets_the_real_one(asking: str) -> None:
    """What shares the process with us, or the client itself in another version."""
    program = "import sys, reachmap_shared.client, nats.aio.client, nats\n"
    program += f"{asking}\nprint(sys.modules['nats.js'].JetStreamContext.__module__)\n"
    program += "print(nats.js.api.Header.STATUS.value, nats.js.JetStreamManager.__name__)\n"
    program += "import importlib.metadata"
    assert python(program) == "nats.js.client\nStatus JetStreamManager"


def test_a_client_that_is_there_already_stays_as_it_is() -> None:
    """Who imported it first wants it whole."""
    program = "import nats.js, reachmap_shared.client; print(nats.js.JetStreamContext.__name__)"
    assert python(program) == "JetStreamContext"
