"""docs/protocols/haoxiao.md, as a specification: what in its words can be held against the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.record import Role
from bt_selfsecure.protocols.haoxiao.session import Session
from bt_selfsecure.protocols.haoxiao.session_config import SessionConfig
from bt_selfsecure.sansio.context import EndpointContext

TEXT = (Path(__file__).parents[2] / "docs/protocols/haoxiao.md").read_text(encoding="utf-8")
VALUES = ("paper", "hardened", "initiator", "responder")


def test_the_specification_is_ascii_with_lines_that_can_be_read() -> None:
    assert TEXT.isascii()
    assert [line for line in TEXT.splitlines() if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize("row", range(1, 17))
def test_every_row_of_the_interpretations_is_there(row: int) -> None:
    assert f"\n| {row} | " in TEXT


def test_the_fields_of_a_record_are_those_that_are_written() -> None:
    _, section = TEXT.split("\n## Record\n")
    layout = section.split("\n| field |")[0]
    record = Session.start(Profile.HARDENED, Role.INITIATOR, bytes(32), SessionConfig(), EndpointContext(bytes)).record
    written = json.loads(record.to_json())
    named = {name for name in re.findall(r'"(\w+)"', layout) if name not in VALUES}
    assert named == {*written, *written["sending"], *written["receiving"]}


def test_the_words_of_rfc_2119_are_explained_and_used() -> None:
    """In capitals they bind whoever implements this; so each that is used is one of those that the page names."""
    used = set(re.findall(r"\b(?:MUST NOT|MUST|SHOULD NOT|SHOULD|MAY|SHALL|REQUIRED|RECOMMENDED|OPTIONAL)\b", TEXT))
    assert {"MUST", "MUST NOT", "SHOULD", "MAY"} <= used
    explained = TEXT.split("BCP 14")[0].split("The key words")[1]
    assert used <= set(re.findall(r'"([A-Z ]+)"', explained))
