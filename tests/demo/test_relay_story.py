"""The story of a third: what it says is what its machines did, and the command tells it."""

from __future__ import annotations

import json

import pytest

from bt_selfsecure.cli.main import main
from bt_selfsecure.demo.relay import tell


def test_a_third_carries_a_file_that_she_can_not_read_over_the_recorded_losses() -> None:
    said: list[str] = []
    told = tell(7, said.append)
    facts = told.facts
    assert told.success
    assert facts["bob_hears_alice"] < 0.35 < 0.85 < facts["carol_hears_alice"]
    assert facts["equal_keys"] and facts["file_sha256_equal"] and not facts["carol_has_key"]  # noqa: PT018
    assert facts["seconds_a_message_relayed"] < facts["seconds_a_message_direct"]
    assert len(set(facts["strings_with_carol_in_the_middle"])) == 2
    assert all(string in said[-1] for string in facts["strings_with_carol_in_the_middle"])
    assert tell(7, lambda line: None) == told


def test_the_command_tells_it_under_both_names_and_refuses_what_is_of_another_story(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["demo", "--story", "relay", "--json", "--seed", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["story"] == "relay"
    assert main(["demo", "relay", "--seed", "3"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
    assert main(["demo", "relay", "--bob", "sensor20"]) == 2
    assert capsys.readouterr().err == (
        "bt-selfsecure: --bob is of the story of the key: leave it out, or leave relay out\n"
    )
