"""docs/troubleshooting.md is by exact error text: each heading is one that the code says, and none is missing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bt_selfsecure.cli.main import COMMANDS
from bt_selfsecure.protocols.haoxiao.events import Failure, Refusal
from bt_selfsecure.protocols.sabour.events import Failure as HandshakeFailure

CHECKOUT = Path(__file__).parents[1]
HOLE = "…"


def headings() -> list[str]:
    text = (CHECKOUT / "docs/troubleshooting.md").read_text()
    return [found[1].strip() for found in re.findall(r"^### (``?)(.*)\1$", text, re.MULTILINE)]


def template(node: ast.expr) -> str | None:
    """A string as it is written, with holes where values come in."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in values)
    return None


def said_by_python() -> Iterator[str]:
    for path in (CHECKOUT / "bt_selfsecure").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.expr) and (text := template(node)) is not None:
                yield text
                yield re.sub(r"%[a-z]", HOLE, text)  # of a log
                for line in text.splitlines():  # of a text of several, in which values are filled
                    yield re.sub(r"\{\w+\}", HOLE, line)


def said_by_scripts() -> Iterator[str]:
    for path in (CHECKOUT / "pi_setup").iterdir():
        if path.is_file():
            for text in re.findall(r'\b(?:die|say) "([^"]*)"', path.read_text()):
                yield re.sub(r"\$\{[^}]*\}|\$\([^)]*\)|\$[a-z_0-9]+", HOLE, text)


@pytest.fixture(scope="module")
def messages() -> set[str]:
    return {*said_by_python(), *said_by_scripts()}


def test_each_heading_is_what_the_code_says_to_the_letter(messages: set[str]) -> None:
    assert len(headings()) == len(set(headings())) > 50
    assert [heading for heading in headings() if heading not in messages] == []


def test_the_check_can_fail(messages: set[str]) -> None:
    assert "it does not answer: switch it on, bring it nearer" not in messages


def test_every_way_in_which_an_establishment_ends_without_a_key_is_there() -> None:
    own_fault = {Failure.CLOSED, Refusal.BUSY, Refusal.PARAMETERS}
    missing = {reason.value for reason in (*Failure, *Refusal) if reason not in own_fault} - set(headings())
    assert missing == set()


def test_every_way_in_which_sabours_handshake_ends_without_a_key_is_there() -> None:
    own_fault = {HandshakeFailure.CLOSED}
    assert {reason.value for reason in HandshakeFailure if reason not in own_fault} - set(headings()) == set()


def test_what_the_node_says_of_the_adapter_and_of_its_state_is_there() -> None:
    """All that stops a node from its work until somebody does something."""
    for module, words in (
        ("node/adapter.py", r'self\._say\(f?"(.*)"\)'),
        ("node/client.py", r'raise NodeAwayError\(\s*f"(no node .*)"'),
        ("node/haoxiao/peer_machine.py", r'hint\("(.*)"\)'),
    ):
        text = (CHECKOUT / "bt_selfsecure" / module).read_text()
        found = [re.sub(r"\{[^}]*\}", HOLE, message) for message in re.findall(words, text)]
        assert found, module
        known = {"can't ask the kernel about …: …"}
        assert set(found) - set(headings()) - known == set(), module


def test_every_command_in_it_exists() -> None:
    text = (CHECKOUT / "docs/troubleshooting.md").read_text()
    named = set(re.findall(r"`(?:sudo )?bt-selfsecure ([a-z-]+)", text))
    assert len(named) > 5
    assert named - set(COMMANDS) == set()
