"""The story of a group: what it says is what its machines did, and no kinder than the worst place."""

from __future__ import annotations

import json

import pytest

from bt_selfsecure.air.recording import Recording
from bt_selfsecure.cli.main import main
from bt_selfsecure.demo.group import SIZES, common_bits, tell


def test_each_member_has_each_message_once_and_the_expelled_one_reads_nothing() -> None:
    said: list[str] = []
    told = tell(1, said.append)
    facts = told.facts
    assert told.success
    assert facts["received"] == [60] * 6
    assert facts["whole"] + facts["repaired"] == 360
    assert facts["repaired"] > 0
    assert facts["expelled_reads"] == 0
    assert max(map(len, said)) <= 80
    assert tell(1, lambda line: None) == told


def test_the_more_members_the_less_all_have_heard_and_the_fewer_eves() -> None:
    recording = Recording.load()
    heard = [sum(common_bits(recording, size)[0]) for size in SIZES]
    assert heard == sorted(heard, reverse=True)
    _, bits = common_bits(recording, 2)
    assert len(bits) == len(recording.positions)
    assert min(bits) >= 0.0


def test_the_command_tells_it_under_both_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--story", "group", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["story"] == "group"
    assert main(["demo", "group"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
