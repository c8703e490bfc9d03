"""`reachmap schema`: what programs may rely on."""

import json
from typing import Any

import jsonschema
import pytest

from reachmap_collector import documents

COMMANDS = {
    "agents": ["agents"],
    "explain": ["explain", "agent-1", "ocsp-responder-1"],
    "flows": ["flows"],
    "map": ["map"],
    "status": ["status"],
    "topology": ["topology", "show"],
}


def test_every_schema_is_tried() -> None:
    """Here, or in test_past.py, where there is a past to tell."""
    assert {*documents.DOCUMENTS} == {*COMMANDS, "diff", "history", "trend"}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_command_prints_is_as_its_schema_says(
    reachmap: Any, asked: Any, openuem: Any, name: str
) -> None:
    """Both as they come out of the command line."""
    result = reachmap("schema", name)
    assert (result.exit_code, result.stderr) == (0, "")
    schema = json.loads(result.stdout)
    assert schema["$id"] == f"urn:reachmap:{name}"
    jsonschema.Draft202012Validator.check_schema(schema)
    asked(openuem(1))
    answer = json.loads(reachmap(*COMMANDS[name], "--format", "json").stdout)
    assert answer
    jsonschema.Draft202012Validator(schema).validate(answer)
