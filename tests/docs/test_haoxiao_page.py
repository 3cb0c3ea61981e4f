"""docs/protocols/haoxiao.md, as a specification: what in its words can be held against the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.record import Role
from bt_selfsecure.protocols.haoxiao.session import Session
from bt_selfsecure.protocols.haoxiao.session_config import SessionConfig
from bt_selfsecure.sansio.context import EndpointContext

CHECKOUT = Path(__file__).parents[2]
TEXT = (CHECKOUT / "docs/protocols/haoxiao.md").read_text(encoding="utf-8")
VALUES = ("paper", "hardened", "initiator", "responder")


def test_the_specification_is_ascii_with_lines_that_can_be_read() -> None:
    assert TEXT.isascii()
    assert [line for line in TEXT.splitlines() if len(line) > 120 and not line.startswith("|")] == []


def test_the_rows_of_the_interpretations_are_numbered_and_those_that_are_cited_are_there() -> None:
    """Where `paper` departs from the paper, a row says so: the last ones are a checkpoint at alpha = W, an
    acknowledgement from ahead, random messages on the disk, a wrong acknowledge that ends a negotiation."""
    section = TEXT.split("\n## Interpretations of the paper\n")[1].split("\n## ")[0]
    rows = [int(number) for number in re.findall(r"^\| (\d+) \| ", section, re.MULTILINE)]
    assert rows == list(range(1, len(rows) + 1))
    assert len(rows) >= 25
    code = "".join(path.read_text(encoding="utf-8") for path in (CHECKOUT / "bt_selfsecure").rglob("*.py"))
    assert {int(number) for number in re.findall(r"\brow (\d+)\b", code)} <= set(rows)


def test_every_claim_names_the_tests_that_show_it() -> None:
    section = TEXT.split("\n## Security\n")[1].split("\n### Not protected\n")[0]
    claims = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(claims) > 15
    assert [line for line in claims if "`test_" not in line.rsplit(" | ", 1)[-1]] == []


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
