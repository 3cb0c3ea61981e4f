"""The story's figures are the truth, and its verdict says no more than they do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bt_selfsecure.air.virtual_time import run_virtual
from bt_selfsecure.demo.outcome import Outcome, ReceptionOutcome
from bt_selfsecure.demo.plain import ASCII, BLOCKS, SilentStage, marks_for, packet_map
from bt_selfsecure.demo.scenario import Scenario
from bt_selfsecure.demo.setting import Production, StoryRequest, Survey, perform, stage_set
from bt_selfsecure.demo.summary import FinishedRun, closing
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.sansio.trace import Transition
from bt_selfsecure.stats.losses import JointLoss, lower_bound, secret_bits

GOOD = Outcome(
    "hardened", 128, 0.1, established=True, equal_keys=True, joint=JointLoss(700, 100, 100, 10), secret_bits=130,
    planned_bits=140, file_sha256_sent="aa", file_sha256_received="aa",
)  # fmt: skip


def told(**request: Any) -> tuple[Production, Scenario, Outcome, list[Transition]]:
    production, trace = stage_set(StoryRequest(**request)), list[Transition]()
    story, outcome = run_virtual(perform(production, SilentStage(), tracer=trace.append))
    return production, story, outcome, trace


@pytest.mark.parametrize(
    ("joint", "said"),
    [
        (JointLoss(0, 0, 700, 300), "Bob heard none. No burst is long enough"),
        (JointLoss(700, 0, 0, 300), "Bob heard 700, and Eve missed none of those. No burst is long enough"),
        (JointLoss(600, 100, 0, 300), "Bob heard 700, and Eve missed 100 of those, so at least 10 %"),
    ],
)
def test_a_survey_says_nothing_of_what_eve_missed_where_bob_heard_nothing(joint: JointLoss, said: str) -> None:
    assert said in Survey(joint, 0.1 if joint.bob_only else 0.0).sentence


def test_fates_add_up_to_the_joint_loss_and_the_received_set() -> None:
    _, story, outcome, _ = told()
    kept = [seq for seq, fate in enumerate(outcome.fates) if fate in (ReceptionOutcome.BOTH, ReceptionOutcome.BOB_ONLY)]
    assert tuple(kept) == outcome.received_set
    assert outcome.fates.count(ReceptionOutcome.BOB_ONLY) == outcome.joint.bob_only == len(story.eve.missing or ())
    assert len(outcome.fates) == outcome.joint.sent == outcome.sent
    bound = lower_bound(outcome.joint.bob_only, outcome.joint.received)
    assert outcome.secret_bits == secret_bits(outcome.joint.received, bound)


def test_packets_that_bob_struck_out_are_not_shown_as_his() -> None:
    _, _, outcome, _ = told(profile=Profile.PAPER, burst=400, attack="steering")
    assert outcome.eve_has_key
    assert outcome.fates.count(ReceptionOutcome.BOB_ONLY) == 0
    assert outcome.fates.count(ReceptionOutcome.BOTH) == len(outcome.received_set)


def test_attempts_and_the_thiefs_rounds_follow_the_trace() -> None:
    _, story, outcome, trace = told(seed=2)
    acknowledged = [step for step in trace if step.endpoint == "alice" and step.input == "ACKNOWLEDGED"]
    assert len(outcome.attempts) == len(acknowledged) == len(story.chunks) == outcome.rounds - 1
    for attempts, step in zip(outcome.attempts, acknowledged, strict=True):
        assert attempts > step.detail["retran"]  # the accepted attempt was sent, and perhaps others after it
    assert outcome.stolen_at is not None
    assert outcome.rounds_until_thief_is_out is not None
    assert story.out_at == outcome.stolen_at + outcome.rounds_until_thief_is_out
    assert outcome.read == tuple(range(outcome.stolen_at, story.out_at - 1))


def test_what_eve_reads_with_the_stolen_key_is_the_file() -> None:
    _, story, outcome, _ = told(seed=6)
    assert story._thief is not None
    assert len(outcome.read) > 3
    assert all(story._thief.read[seq] == story.chunks[seq] for seq in outcome.read)


@pytest.mark.parametrize(
    ("change", "success", "words"),
    [
        ({}, True, "locked out; 130 secret bits by the loss in this burst: the target of 128 is reached."),
        ({"secret_bits": 110.0}, True, "reach the target of 128, but this burst itself proves no more than 110."),
        ({"secret_bits": 50.0, "planned_bits": 60.0}, True, "the target of 128 is MISSED."),
        ({"established": False, "failure": "no answer"}, False, "No key: no answer."),
        ({"eve_has_key": True}, False, "The key is broken"),
        ({"joint": JointLoss(700, 0, 100, 10)}, False, "The key is not secret"),
        ({"equal_keys": False}, False, ""),
        ({"file_sha256_received": "bb"}, False, ""),
    ],
)
def test_verdict_and_success(change: dict[str, Any], success: bool, words: str) -> None:
    outcome = replace(GOOD, **change)
    assert outcome.success is success
    assert words in outcome.verdict


def test_the_closing_block_fits_any_width_and_says_when_nothing_was_established() -> None:
    production = stage_set(StoryRequest())
    failed = replace(GOOD, established=False, failure="nobody accepted the request", joint=JointLoss(0, 0, 0, 0))
    for outcome in (GOOD, failed):
        for width in (40, 80):
            lines = closing(FinishedRun(production, outcome, "", None, True), width)
            assert max(len(line) for line in lines if "aa" not in line) <= width
    assert "not established: nobody accepted the request" in " ".join(closing(FinishedRun(production, failed, ""), 200))


def test_the_map_shows_the_newest_rows_with_marks_of_different_shapes() -> None:
    fates = [ReceptionOutcome.BOTH] * 100 + [ReceptionOutcome.BOB_ONLY] * 30
    assert packet_map(fates, 2) == [(64, fates[64:128]), (128, fates[128:])]
    assert packet_map([], 5) == []
    for marks in (ASCII, BLOCKS):
        assert len({marks.of(fate) for fate in ReceptionOutcome}) == 4
    assert (marks_for("ascii"), marks_for("utf-8")) == (ASCII, BLOCKS)


def test_a_survey_that_found_nothing_says_so() -> None:
    production = stage_set(StoryRequest(model="bernoulli:bob=0.1,eve=0"))
    assert production.survey.sentence.endswith("none of those. No burst is long enough for that.")
    assert "at least" in stage_set(StoryRequest()).survey.sentence
