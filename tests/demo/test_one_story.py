"""Where Eve computed K_0, every part of the demo says so, and none says what holds only for one who lacks it."""

from __future__ import annotations

import re
from functools import cache
from html import unescape
from typing import Any

import pytest

from bt_selfsecure.air.virtual_time import run_virtual
from bt_selfsecure.demo.outcome import Outcome
from bt_selfsecure.demo.plain import SilentStage
from bt_selfsecure.demo.report import html
from bt_selfsecure.demo.setting import Production, StoryRequest, perform, stage_set
from bt_selfsecure.demo.summary import FinishedRun, closing
from bt_selfsecure.protocols.haoxiao.frames import Profile


class Listening(SilentStage):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@cache
def told(**request: Any) -> tuple[Production, Outcome, str]:
    """One run, and all that it says: the story, the block at the end, the page."""
    stage, production = Listening(), stage_set(StoryRequest(**request))
    _, outcome = run_virtual(perform(production, stage))
    run = FinishedRun(production, outcome, "command")
    page = re.sub(r"<(style|svg).*?</\1>", "", html(run), flags=re.DOTALL)
    page = unescape(re.sub(r"<[^>]+>", " ", page))
    return production, outcome, " ".join(" ".join([*stage.lines, *closing(run), page]).split())


STEERED = {"profile": Profile.PAPER, "burst": 400, "attack": "steering"}
FALSE_THEN = [
    "handed to Eve",  # a K_i, though she follows from K_0
    "with the stolen key, was",
    "all with the stolen key",
    "as if all were well",  # beside "contradicting packets reported"
    "not proved",
    "Alice stops when",
    "unless both people compare",
    "95 % interval 0 %",  # of an e|B that is no loss
]


@pytest.mark.parametrize("seed", [1, 2, 7])
def test_where_steering_gives_eve_the_key_all_parts_say_so(seed: int) -> None:
    _, outcome, text = told(seed=seed, **STEERED)
    assert outcome.eve_has_key
    assert outcome.attacks_reported
    assert [words for words in FALSE_THEN if words in text] == []
    assert text.count("struck out") >= 3
    assert f"Contradicting packets reported: {outcome.attacks_reported}" in text
    assert "target 128 missed" in text


@pytest.mark.parametrize("seed", [1, 2, 7])
def test_who_has_k_0_reads_from_the_first_message_to_the_first_that_she_misses(seed: int) -> None:
    _, outcome, _ = told(seed=seed, **STEERED)
    assert outcome.stolen_at == 0
    out = outcome.rounds_until_thief_is_out
    assert outcome.read == tuple(range(len(outcome.attempts) if out is None else out - 1))


@pytest.mark.parametrize(
    "model", ["bernoulli:bob=0.1,eve=0", "bernoulli:bob=0.1,eve=0.02", "bernoulli:bob=0.1,eve=0.3"]
)
def test_the_page_says_that_eve_was_out_only_where_she_was(model: str) -> None:
    _, outcome, text = told(
        seed=7, profile=Profile.PAPER, burst=400, attack="steering", model=model, eve_loss_bound=0.1
    )
    out = outcome.rounds_until_thief_is_out
    if outcome.eve_has_key:
        assert ("until Eve, with K_0, was out" in text) == (out is not None)
        assert ("still in was Eve, with K_0, when the file was over" in text) == (out is None)
    else:
        assert "with K_0" not in text
    assert ("was out" in text) == (out is not None)


@pytest.mark.parametrize("profile", Profile)
def test_who_listens_and_is_locked_out_is_told_as_before(profile: Profile) -> None:
    _, outcome, text = told(seed=1, profile=profile, burst=400)
    if outcome.established:
        assert not outcome.eve_has_key
        assert "unless both people compare" in text
        assert "handed to Eve" in text
        assert "with K_0" not in text


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("eve", ["0", "1"])
def test_where_no_forged_packet_met_one_of_alices_no_part_says_that_it_did(profile: Profile, eve: str) -> None:
    """An Eve who misses nothing forges nothing, nor does one who hears nothing."""
    _, outcome, text = told(
        seed=7, profile=profile, burst=400, attack="steering", model=f"bernoulli:bob=0.1,eve={eve}", eve_loss_bound=0.1
    )
    assert outcome.attacks_reported == 0
    assert "nothing was struck out" in text
    for words in ("Bob struck", "Both ends go on", "shrank"):
        assert words not in text
