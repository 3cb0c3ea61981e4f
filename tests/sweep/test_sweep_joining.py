"""Logs without numbers, joined by time: never more secret than the truth, or refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from amounts import part_of
from hypothesis import given, settings
from hypothesis import strategies as st
from timed_data import Air, Heard, heard

from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.clocks import usual_gap
from bt_selfsecure.sweep.joining import Joined, KnownTiming, join

TOLERANCE = 0.01
"""Of e given B, above the truth, beside what packets that were left out may change."""


def joint(joined: Joined, bob: str = "bob", eve: str = "eve") -> tuple[int, int]:
    """Packets that Bob heard, and of these the ones that Eve missed."""
    at_bob = np.concatenate([burst.heard[bob] >= 0 for burst in joined.bursts])
    at_eve = np.concatenate([burst.heard[eve] >= 0 for burst in joined.bursts])
    return int(at_bob.sum()), int((at_bob & ~at_eve).sum())


def never_kinder(joined: Joined, truth: Heard) -> None:
    """Neither is Bob's key worth more than it was, with the one as Bob or with the other."""
    for bob, eve in (("bob", "eve"), ("eve", "bob")):
        received, missed = joint(joined, bob, eve)
        aside = (joined.left_out + joined.outside) / received
        assert missed / received <= truth.e_given_b(bob, eve) + aside + TOLERANCE
        assert missed <= int((truth.truth[bob] & ~truth.truth[eve]).sum()) + TOLERANCE * received


@pytest.mark.parametrize(
    "air",
    [
        Air(),
        Air(interval=0.02),
        Air(interval=0.02, copies=0.3),
        Air(copies=0.5),
        Air(losses=(0.5, 0.6)),
        Air(losses=(0.1, 0.85)),
        Air(losses=(0.0, 0.0)),
        Air(noise=0.0015),
        Air(adv_delay=0, jitter=0.003),
        Air(rounded=0.001),
        Air(packets=200),
        Air(interval=1.0, packets=500),
        Air(offset=1.7e9),
        Air(drift=3e-4),
        Air(together=0.2),
    ],
)
def test_what_a_jittering_sender_leaves_in_two_logs_joins_them_as_it_was(air: Air) -> None:
    for seed in range(3):
        truth = heard(air, seed)
        joined = join(truth.logs, KnownTiming())
        received, missed = joint(joined)
        assert missed / received == pytest.approx(truth.e_given_b("bob", "eve"), abs=0.02)
        assert joined.interval_s == pytest.approx(air.interval + air.adv_delay / 2, rel=0.02)
        assert sum(burst.packets for burst in joined.bursts) == pytest.approx(air.packets, rel=0.05, abs=8)
        assert joined.by_one + joined.by_several + joined.by_none == sum(burst.packets for burst in joined.bursts)
        never_kinder(joined, truth)


@given(
    st.builds(
        Air,
        packets=st.integers(60, 600),
        interval=st.sampled_from([0.02, 0.1, 0.5]),
        adv_delay=st.sampled_from([0.0, 0.002, 0.01]),
        jitter=st.sampled_from([0.0, 0.0002, 0.002]),
        noise=st.sampled_from([0.0, 0.0003, 0.001, 0.003, 0.01]),
        drift=st.sampled_from([0.0, 1e-4, 5e-4]),
        losses=st.tuples(st.floats(0, 0.8), st.floats(0, 0.8)),
        together=st.sampled_from([0.0, 0.3]),
        copies=st.sampled_from([0.0, 0.4]),
        hiccups=st.sampled_from([0.0, 0.01, 0.05, 0.3]),
        rounded=st.sampled_from([0.0, 0.001, 0.01]),
    ),
    st.integers(0, 2**32),
)
@settings(max_examples=part_of(150), deadline=None)
def test_a_join_is_never_kinder_than_the_truth_or_it_is_refused(air: Air, seed: int) -> None:
    truth = heard(air, seed)
    try:
        joined = join(truth.logs, KnownTiming())
    except UsageError:
        return
    never_kinder(joined, truth)


def test_a_sender_without_jitter_is_refused_and_joined_once_the_offset_is_told() -> None:
    truth = heard(Air(adv_delay=0, together=0.1), 1)
    with pytest.raises(UsageError, match="--clock-offset"):
        join(truth.logs, KnownTiming())
    ahead = truth.offsets["eve"] - truth.offsets["bob"]
    for told in (ahead, ahead + 0.03, ahead - 0.03):
        joined = join(truth.logs, KnownTiming(offsets_s={"eve": told}))
        assert joint(joined)[1] / joint(joined)[0] == pytest.approx(truth.e_given_b("bob", "eve"), abs=0.01)


@pytest.mark.parametrize("losses", [(0.1, 0.3, 0.2), (0.3, 0.1, 0.2), (0.2, 0.3, 0.1)])
@pytest.mark.parametrize("ahead_of", ["bob", "eve", "eva"])
def test_offsets_are_ahead_of_the_log_that_has_none_told_whichever_has_most_packets(
    losses: tuple[float, ...], ahead_of: str
) -> None:
    truth = heard(Air(adv_delay=0, together=0.1, losses=losses), 3, ("bob", "eve", "eva"))
    ahead = {name: own - truth.offsets[ahead_of] for name, own in truth.offsets.items() if name != ahead_of}
    joined = join(truth.logs, KnownTiming(offsets_s=ahead))
    assert joined.reference == ahead_of
    assert joint(joined)[1] / joint(joined)[0] == pytest.approx(truth.e_given_b("bob", "eve"), abs=0.01)


def test_logs_of_one_clock_are_joined_as_they_are_and_another_clock_is_noticed() -> None:
    air = Air(adv_delay=0, offset=0.0, drift=0.0)
    truth = heard(air, 2)
    joined = join(truth.logs, KnownTiming(one_clock=True))
    assert joint(joined)[1] / joint(joined)[0] == pytest.approx(truth.e_given_b("bob", "eve"), abs=0.01)
    for ahead in (0.02, 0.04, 0.05, 0.06):
        with pytest.raises(UsageError):
            join({**truth.logs, "eve": truth.logs["eve"] + ahead}, KnownTiming(one_clock=True))


def test_an_offset_that_is_told_of_a_clock_that_drifts_by_packets_is_refused_or_does_no_harm() -> None:
    for seed in range(6):
        truth = heard(Air(packets=20_000, adv_delay=0, together=0.1, drift=4e-4), seed)
        try:
            joined = join(truth.logs, KnownTiming(offsets_s={"eve": truth.offsets["eve"] - truth.offsets["bob"]}))
        except UsageError:
            continue
        never_kinder(joined, truth)


@pytest.mark.parametrize("packets_off", [-3, -1, 1, 2])
def test_an_offset_that_is_told_wrong_is_noticed_where_the_sender_jitters(packets_off: int) -> None:
    truth = heard(Air(offset=0.0, drift=0.0), 2)
    ahead = packets_off * 0.105
    logs = {**truth.logs, "eve": truth.logs["eve"] + ahead}
    with pytest.raises(UsageError, match="times better some packets off"):
        join(logs, KnownTiming(one_clock=True))
    with pytest.raises(UsageError, match="times better some packets off"):
        join(logs, KnownTiming(offsets_s={"eve": 0.0}))
    never_kinder(join(logs, KnownTiming(offsets_s={"eve": ahead})), truth)


@pytest.mark.parametrize("interval", [0.03, 0.1, 1.0])
@pytest.mark.parametrize("packets_off", [-30, -2, -1, 1, 2, 200])
def test_a_clock_that_is_told_packets_off_is_refused_where_the_jitter_contradicts_it(
    interval: float, packets_off: int
) -> None:
    truth = heard(Air(interval=interval, losses=(0.1, 0.2), together=0.1), 2)
    off = packets_off * (interval + 0.005)
    ahead = truth.offsets["eve"] - truth.offsets["bob"]
    with pytest.raises(UsageError, match="times better some packets off"):
        join(truth.logs, KnownTiming(offsets_s={"eve": ahead + off}))
    with pytest.raises(UsageError, match="times better some packets off"):
        join({**truth.logs, "eve": truth.logs["eve"] - ahead + off}, KnownTiming(one_clock=True))


@pytest.mark.parametrize("seed", range(4))
def test_logs_of_different_bursts_are_refused(seed: int) -> None:
    one, other = heard(Air(), seed), heard(Air(), 100 + seed)
    with pytest.raises(UsageError):
        join({"bob": one.logs["bob"], "eve": other.logs["eve"]}, KnownTiming())


@pytest.mark.parametrize("step", [0.03, 0.105, 0.21, 2.0, -0.105])
@pytest.mark.parametrize("where", [0.15, 0.5, 0.9])
def test_a_clock_that_was_set_meanwhile_is_refused_or_does_no_harm(step: float, where: float) -> None:
    truth = heard(Air(), 3)
    eve = truth.logs["eve"].copy()
    eve[int(where * len(eve)) :] += step
    try:
        joined = join({"bob": truth.logs["bob"], "eve": np.sort(eve)}, KnownTiming())
    except UsageError:
        return
    never_kinder(joined, truth)


@pytest.mark.parametrize(("begin", "end"), [(0.0, 0.6), (0.4, 1.0), (0.3, 0.7)])
def test_a_log_that_covers_a_part_only_is_no_miss_of_the_rest(begin: float, end: float) -> None:
    truth = heard(Air(losses=(0.1, 0.1)), 4)
    eve = truth.logs["eve"]
    joined = join({"bob": truth.logs["bob"], "eve": eve[int(begin * len(eve)) : int(end * len(eve))]}, KnownTiming())
    received, missed = joint(joined)
    assert missed / received == pytest.approx(0.1, abs=0.04)
    assert joined.outside == pytest.approx(900 * (1 - end + begin), abs=40)  # which Bob heard


def test_three_receivers_and_a_silence_are_joined_and_the_silence_is_told() -> None:
    truth = heard(Air(), 5, ("bob", "eve", "eve2"))
    eve = truth.logs["eve2"]
    silent = np.concatenate([eve[:300], eve[450:]])
    joined = join({**truth.logs, "eve2": silent}, KnownTiming())
    assert joined.silences["eve2"] > 150 > 15 > joined.silences["eve"]
    assert set(joined.bursts[0].heard) == {"bob", "eve", "eve2"}


def test_long_logs_are_joined_as_short_ones_and_the_way_is_told() -> None:
    truth = heard(Air(packets=20_000), 5, ("bob", "eve", "eve2"))
    told: list[tuple[int, int]] = []
    joined = join(truth.logs, KnownTiming(), lambda done, of: told.append((done, of)))
    assert told == [(0, 3), (1, 3), (2, 3)]
    for bob in truth.logs:
        for eve in set(truth.logs) - {bob}:
            received, missed = joint(joined, bob, eve)
            assert missed / received == pytest.approx(truth.e_given_b(bob, eve), abs=0.002)


def test_a_pause_is_asked_about_and_parts_the_runs() -> None:
    one, other = heard(Air(packets=300, offset=0.0), 6), heard(Air(packets=300, offset=0.0), 7)
    logs = {name: np.concatenate([one.logs[name], other.logs[name] + 100]) for name in one.logs}
    with pytest.raises(UsageError, match="--pause"):
        join(logs, KnownTiming(one_clock=True))
    joined = join(logs, KnownTiming(one_clock=True, pause_s=20))
    assert [burst.packets for burst in joined.bursts] == [pytest.approx(300, abs=6)] * 2
    assert [burst.packets for burst in join(logs, KnownTiming(one_clock=True, pause_s=0)).bursts] == [
        pytest.approx(1250, abs=30)
    ]
    joined = join(logs, KnownTiming(one_clock=True, pause_s=20, packets=310))
    assert [burst.packets for burst in joined.bursts] == [310, 310]
    with pytest.raises(UsageError, match="--packets says 200"):
        join(logs, KnownTiming(one_clock=True, pause_s=20, packets=200))


@pytest.mark.parametrize("interval", [0.03, 0.2])
def test_an_interval_that_is_told_wrong_is_noticed_or_does_no_harm(interval: float) -> None:
    truth = heard(Air(), 8)
    try:
        joined = join(truth.logs, KnownTiming(interval_s=interval))
    except UsageError:
        return
    never_kinder(joined, truth)


def test_packets_at_random_moments_have_no_interval() -> None:
    random = np.random.default_rng(9)
    sent = np.cumsum(random.exponential(0.1, 1000))
    logs = {name: sent[random.random(1000) < 0.8] + ahead for name, ahead in (("bob", 0.0), ("eve", 5.0))}
    with pytest.raises(UsageError, match=r"interval|rows all the time"):
        join(logs, KnownTiming())


@pytest.mark.parametrize("rows", [0, 1, 2, 20])
def test_too_few_rows_are_refused(rows: int) -> None:
    with pytest.raises(UsageError):
        join({"bob": np.arange(rows) * 0.1, "eve": np.arange(rows) * 0.1}, KnownTiming())


def test_the_interval_is_found_through_losses_copies_and_pauses() -> None:
    for air in (Air(), Air(copies=0.9), Air(losses=(0.7, 0.7)), Air(interval=0.02, copies=0.5)):
        times = heard(replace(air, packets=2000), 10).logs["bob"]
        times = np.concatenate([times, times + 10_000])
        assert usual_gap(times) == pytest.approx(air.interval + 0.005, rel=0.1)
