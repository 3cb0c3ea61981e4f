"""Closed forms, tables, bounds and secret bits, each against figures that were computed some other way."""

from __future__ import annotations

import math
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bt_selfsecure.errors import UsageError
from bt_selfsecure.stats.losses import (
    GilbertElliottFit,
    JointLoss,
    binomial_tail,
    capacity,
    clopper_pearson,
    colluding,
    count_heard,
    e_given_bob,
    group_capacity,
    guess_space,
    joint_probabilities,
    lower_bound,
    missed_entropy,
    packets_needed,
    packets_to_send,
    repair_work,
    secret_bits,
)

PROBABILITIES = st.floats(0.01, 0.99)
RECEPTIONS = st.sets(st.integers(0, 59))


# --- Closed forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("d", "e", "rho", "secret"), [(0.2, 0.3, 0, 0.24), (0.2, 0.3, 0.5, 0.148348), (0.1, 0.02, 0.2, 0.0096)]
)
def test_capacity_is_what_the_dit_package_computed(d: float, e: float, rho: float, secret: float) -> None:
    assert capacity(d, e, rho) == pytest.approx(secret, abs=5e-7)


@given(PROBABILITIES, PROBABILITIES, st.sampled_from([0.0, 1.0]) | st.floats(0, 1))
@example(0.15, 0.3, 1.0)  # rounding makes one of the four negative, unless it is held back
@example(0.15, 0.95, 0.0)
def test_joint_probabilities_have_the_means_and_the_correlation_asked_for(d: float, e: float, between: float) -> None:
    spread = math.sqrt(d * (1 - d) * e * (1 - e))
    least, most = max(0, d + e - 1), min(d, e)
    rho = (least + between * (most - least) - d * e) / spread
    both, bob_only, eve_only, neither = joint_probabilities(d, e, rho)
    assert min(both, bob_only, eve_only, neither) >= 0
    assert both + bob_only + eve_only + neither == pytest.approx(1)
    assert eve_only + neither == pytest.approx(d)
    assert bob_only + neither == pytest.approx(e)
    assert (neither - d * e) / spread == pytest.approx(rho, abs=1e-9)
    assert e_given_bob(d, e, rho) == pytest.approx(e - rho * math.sqrt(d * e * (1 - e) / (1 - d)), abs=1e-9)
    assert capacity(d, e, rho) == pytest.approx((1 - d) * e_given_bob(d, e, rho), abs=1e-12)
    for beyond in ((least - d * e) / spread - 1e-6, (most - d * e) / spread + 1e-6):
        with pytest.raises(UsageError, match="<= rho <="):
            joint_probabilities(d, e, beyond)


def test_losses_that_are_always_shared_are_worth_nothing() -> None:
    assert capacity(0.1, 0.1, 1) == 0
    assert e_given_bob(0.1, 0.1, 1) == 0


@pytest.mark.parametrize(
    ("d", "e", "rho", "remedy"),
    [
        (0.1, 0.2, 1, "-0.1667 <= rho <= 0.6667"),
        (0.1, 0.1, -0.5, "-0.1111 <= rho <= 1.0000"),
        (0, 0.1, 0.1, "rho=0"),
        (1.5, 0.1, 0, "0..1"),
        (0.1, math.nan, 0, "0..1"),
    ],
)
def test_impossible_losses_are_refused_with_what_would_be_possible(d: float, e: float, rho: float, remedy: str) -> None:
    with pytest.raises(UsageError, match=remedy):
        joint_probabilities(d, e, rho)


def test_nothing_is_known_of_eve_where_bob_receives_nothing() -> None:
    with pytest.raises(UsageError, match="take d < 1"):
        e_given_bob(1, 0.5)


# --- Measured ---------------------------------------------------------------------------------------------------------


def test_a_table_counts_who_heard_what() -> None:
    table = JointLoss.of(10, {0, 1, 2, 3, 4, 5}, {4, 5, 6})
    assert table == JointLoss(both=2, bob_only=4, eve_only=1, neither=3)
    assert (table.sent, table.received) == (10, 6)
    assert (table.d, table.e) == (0.4, 0.7)
    assert table.e_given_bob == pytest.approx(4 / 6)
    assert table.capacity == pytest.approx(0.4)


@given(RECEPTIONS, RECEPTIONS)
def test_a_table_agrees_with_numpy(bob: set[int], eve: set[int]) -> None:
    table = JointLoss.of(60, bob, eve)
    bob_lost, eve_lost = ([seq not in heard for seq in range(60)] for heard in (bob, eve))
    assert table.d == pytest.approx(np.mean(bob_lost))
    assert table.e == pytest.approx(np.mean(eve_lost))
    if 0 < table.d < 1 and 0 < table.e < 1:
        assert table.phi == pytest.approx(np.corrcoef(bob_lost, eve_lost)[0, 1], abs=1e-12)
        joint = np.histogram2d(bob_lost, eve_lost, bins=2)[0] / 60
        product = np.outer(joint.sum(axis=1), joint.sum(axis=0))
        seen = joint > 0
        information = np.sum(joint[seen] * np.log(joint[seen] / product[seen]))
        entropies = -sum(np.sum(p * np.log(p)) for p in (joint.sum(axis=0), joint.sum(axis=1)))
        assert table.entropy_correlation == pytest.approx(2 * information / entropies, abs=1e-9)
    else:
        assert table.phi == 0


def test_equal_losses_are_fully_correlated_and_opposite_ones_too() -> None:
    equal, opposite = JointLoss(90, 0, 0, 10), JointLoss(0, 50, 50, 0)
    assert (equal.phi, equal.entropy_correlation, equal.capacity) == (1, pytest.approx(1), 0)
    assert (opposite.phi, opposite.entropy_correlation) == (-1, pytest.approx(1))


def test_an_empty_table_counts_against_secrecy() -> None:
    nothing = JointLoss.of(0, set(), set())
    assert (nothing.d, nothing.e, nothing.e_given_bob, nothing.capacity) == (1, 0, 0, 0)
    assert (nothing.phi, nothing.entropy_correlation) == (0, 0)


def test_a_packet_that_was_received_but_not_sent_is_refused() -> None:
    with pytest.raises(UsageError, match="packet 7 was received but not sent"):
        JointLoss.of(7, {1, 7}, set())


@given(RECEPTIONS, st.lists(RECEPTIONS, min_size=1, max_size=4))
def test_another_eve_never_makes_the_key_safer(bob: set[int], eves: list[set[int]]) -> None:
    together = JointLoss.of(60, bob, colluding(eves))
    assert together.e_given_bob <= min(JointLoss.of(60, bob, eve).e_given_bob for eve in eves)
    assert colluding(eves) == {seq for seq in range(60) if any(seq in eve for eve in eves)}


def test_a_group_is_as_strong_as_its_weakest_receiver() -> None:
    assert group_capacity([JointLoss(80, 10, 5, 5), JointLoss(60, 30, 5, 5)]) == pytest.approx(0.1)


def test_a_gilbert_chain_is_found_again_in_its_own_losses() -> None:
    random, p, r, lost, bad = Random(7), 0.02, 0.25, [], False
    for _ in range(40_000):
        bad = random.random() >= r if bad else random.random() < p
        lost.append(bad)
    fit = GilbertElliottFit.of(lost)
    good_steps, bad_steps = 40_000 * r / (p + r), 40_000 * p / (p + r)
    assert abs(fit.p - p) < 4 * math.sqrt(p * (1 - p) / good_steps)
    assert abs(fit.r - r) < 4 * math.sqrt(r * (1 - r) / bad_steps)
    assert fit.mean_burst == pytest.approx(4, rel=0.1)
    assert fit.loss == pytest.approx(sum(lost) / len(lost), rel=0.01)
    assert fit.p_value < 1e-12


def test_independent_losses_do_not_pass_for_bursts() -> None:
    random = Random(8)
    values = [GilbertElliottFit.of([random.random() < 0.1 for _ in range(2000)]).p_value for _ in range(200)]
    below = sum(value < 0.05 for value in values)
    assert abs(below - 10) < 4 * math.sqrt(200 * 0.05 * 0.95), "a p-value below 0.05 has probability 0.05"


def test_the_likelihoods_of_a_short_sequence_by_hand() -> None:
    fit = GilbertElliottFit.of([False, True, True, False, False])
    assert (fit.p, fit.r) == (1 / 2, 1 / 2)
    assert fit.log_likelihood == pytest.approx(4 * math.log(1 / 2))
    assert fit.bernoulli_log_likelihood == pytest.approx(4 * math.log(1 / 2))
    assert fit.p_value == pytest.approx(1)


@pytest.mark.parametrize("lost", [[], [True], [False] * 9, [True] * 9, [False, False, True]])
def test_a_sequence_without_bursts_is_not_fitted(lost: list[bool]) -> None:
    with pytest.raises(UsageError, match="record more packets"):
        GilbertElliottFit.of(lost)


# --- Confidence -------------------------------------------------------------------------------------------------------

EXACT = [
    # k, n, confidence, two-sided low and high, one-sided low: bisection over exact rational binomial sums
    (8, 10, 0.95, 0.4439045376923598, 0.9747892736731654, 0.49309869893679625),
    (1, 20, 0.95, 0.0012650894979504557, 0.24873276277202727, 0.002561378776531953),
    (0, 20, 0.95, 0.0, 0.16843347098308392, 0.0),
    (20, 20, 0.95, 0.8315665290169161, 1.0, 0.8608916593317364),
    (45, 450, 0.95, 0.07387916543122053, 0.13151556340255688, 0.0776402227018469),
    (3, 100, 0.99, 0.003407070103181198, 0.10548125372507933, 0.004394976455886379),
    (7, 60, 0.90, 0.05605488163549843, 0.20799093719079842, 0.06610558235583319),
]


@pytest.mark.parametrize(("k", "n", "confidence", "low", "high", "one_sided"), EXACT)
def test_clopper_pearson_is_exact_to_1e_9(
    k: int, n: int, confidence: float, low: float, high: float, one_sided: float
) -> None:
    assert clopper_pearson(k, n, confidence) == pytest.approx((low, high), abs=1e-9)
    assert lower_bound(k, n, confidence) == pytest.approx(one_sided, abs=1e-9)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 39))
def test_binomial_tail_is_the_exact_sum(k: int, n: int, fortieths: int) -> None:
    p = Fraction(fortieths, 40)
    exact = sum(math.comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(k, n + 1))
    assert binomial_tail(k, n, float(p)) == pytest.approx(float(exact), rel=1e-9, abs=1e-15)


def test_a_bound_of_a_large_sample_is_close_to_its_normal_limit() -> None:
    low, high = clopper_pearson(32_000, 320_000)
    width = 1.959964 * math.sqrt(0.1 * 0.9 / 320_000)
    assert low == pytest.approx(0.1 - width, abs=1e-5)
    assert high == pytest.approx(0.1 + width, abs=1e-5)


def test_no_miss_in_n_gives_about_three_over_n() -> None:
    for n, percent in ((200, 1.5), (400, 0.75), (800, 0.37)):
        assert 1 - lower_bound(n, n, 0.95) == pytest.approx(percent / 100, rel=0.02)


def test_nothing_measured_bounds_nothing() -> None:
    assert lower_bound(0, 0) == 0
    assert clopper_pearson(0, 0) == (0, 1)


def test_the_interval_covers_the_truth_at_least_as_often_as_it_says() -> None:
    covered = sum(
        math.comb(50, k) * 0.1**k * 0.9 ** (50 - k)
        for k in range(51)
        if clopper_pearson(k, 50)[0] <= 0.1 <= clopper_pearson(k, 50)[1]
    )
    assert 0.95 <= covered < 0.99


@pytest.mark.parametrize(
    ("k", "n", "confidence", "fault"),
    [
        (5, 4, 0.95, "5 of 4"),
        (-1, 4, 0.95, "-1 of 4"),
        (1, 4, 1.0, "confidence of 1"),
        (1, 4, 0.3, "confidence of 0.3"),
    ],
)
def test_what_is_no_count_or_no_confidence_is_refused(k: int, n: int, confidence: float, fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        lower_bound(k, n, confidence)


@pytest.mark.parametrize(("needed", "d"), [(1, 0.5), (128, 0.1), (843, 0.1), (398, 0.3), (8828, 0.05), (20, 0.0)])
def test_packets_to_send_is_the_smallest_burst_that_suffices(needed: int, d: float) -> None:
    sent = packets_to_send(needed, d)
    assert binomial_tail(needed, sent, 1 - d) >= 0.99
    assert sent == needed or binomial_tail(needed, sent - 1, 1 - d) < 0.99


def test_a_negative_number_of_packets_is_refused() -> None:
    with pytest.raises(UsageError, match="-1 packets"):
        packets_to_send(-1, 0.1)
    with pytest.raises(UsageError, match="-1 packets"):
        secret_bits(-1, 0.1)


def test_a_bob_who_hears_nothing_can_not_be_planned_for() -> None:
    with pytest.raises(UsageError, match="below 1"):
        packets_to_send(10, 1.0)


# --- Secret bits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("percent", "needed"), [(1, 8828), (5, 1730), (10, 843), (20, 398), (50, 128)])
def test_packets_for_128_bits(percent: int, needed: int) -> None:
    assert packets_needed(128, percent / 100) == needed
    assert secret_bits(needed, percent / 100) >= 128 > secret_bits(needed - 1, percent / 100)


P0 = [
    # e|B, P(Eve holds all) at M = 100, 200, 400, 800, and M for 2^-40 and 2^-80
    (0.005, (0.61, 0.37, 0.13, 0.018), 5532, 11063),
    (0.01, (0.37, 0.13, 0.018, 3.2e-4), 2759, 5518),
    (0.02, (0.13, 0.018, 3.1e-4, 9.6e-8), 1373, 2745),
    (0.05, (5.9e-3, 3.5e-5, 1.2e-9, 1.5e-18), 541, 1082),
    (0.10, (2.7e-5, 7.1e-10, 5e-19, 2e-37), 264, 527),
    (0.20, (2e-10, 4e-20, 2e-39, 3e-78), 125, 249),
]


@pytest.mark.parametrize(("e", "breaks", "for_40", "for_80"), P0)
def test_a_long_burst_is_not_yet_a_strong_key(e: float, breaks: tuple[float, ...], for_40: int, for_80: int) -> None:
    for received, probability in zip((100, 200, 400, 800), breaks, strict=True):
        bits = -math.log2(probability)
        assert secret_bits(received, e) == pytest.approx(min(bits, 256), abs=0.4)
    assert (packets_needed(40, e), packets_needed(80, e)) == (for_40, for_80)


@given(st.floats(1, 256) | st.integers(1, 256), st.floats(1e-6, 1))
def test_packets_needed_is_the_smallest_number_that_reaches_the_target(target: float, e: float) -> None:
    needed = packets_needed(target, e)
    assert secret_bits(needed, e) >= target
    assert needed == 1 or secret_bits(needed - 1, e) < target


@given(st.integers(1, 3000), st.floats(1e-4, 0.9))
def test_a_target_that_is_met_exactly_takes_no_packet_more(received: int, e: float) -> None:
    target = secret_bits(received, e)
    if target < 256:
        assert packets_needed(target, e) == received


def test_a_key_is_worth_no_more_than_its_bits_nor_than_what_eve_lacks() -> None:
    assert secret_bits(100_000, 0.1) == 256
    assert secret_bits(1730, 0.05, missed_entropy=9.0) == 9
    assert secret_bits(10, 1.0) == 256
    assert secret_bits(0, 1.0) == secret_bits(0, 0.5) == secret_bits(500, 0.0) == 0


@pytest.mark.parametrize(
    ("target", "e", "fault"),
    [(300, 0.1, "300 secret bits"), (0, 0.1, "0 secret bits"), (128, 0.0, "misses nothing"), (128, 1.1, "0..1")],
)
def test_a_target_out_of_reach_is_refused(target: float, e: float, fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        packets_needed(target, e)


@pytest.mark.parametrize(("flipped", "bits"), [(0, 0), (1, 9), (2, 17), (3, 24.4), (4, 31.4), (6, 44.5), (8, 56.6)])
def test_a_copy_with_few_flipped_bits_is_mostly_known(flipped: int, bits: float) -> None:
    assert guess_space(flipped, 512) == pytest.approx(bits, abs=0.05)


def test_a_copy_with_any_number_of_flipped_bits_hides_no_more_than_the_packet() -> None:
    assert guess_space(512, 512) == guess_space(9999, 512) == 512
    assert max(guess_space(t, 128) for t in range(129)) == 128


def test_damaged_copies_lower_the_entropy_of_what_eve_lacks() -> None:
    assert missed_entropy(2, packet_bits=256) == 512
    assert missed_entropy(0, packet_bits=256) == 0
    assert repair_work([1, 1], 512) == pytest.approx(math.log2(2 * 513))
    assert repair_work([2] * 60, 192) == pytest.approx(20.1, abs=0.05)
    assert repair_work([], 192) == -math.inf
    assert secret_bits(1730, 0.05, missed_entropy=missed_entropy(0, packet_bits=128)) == 0


def test_a_damaged_copy_that_can_be_made_good_counts_as_heard() -> None:
    damaged = {3: 0, 4: 2, 5: 10, 6: 96}
    assert count_heard({0, 1}, damaged, packet_bits=192) == {0, 1, 3, 4, 5}
    assert count_heard({0, 1}, damaged, packet_bits=192, work_bits=20) == {0, 1, 3, 4}
    assert count_heard(set(), {}, packet_bits=192) == set()


@pytest.mark.parametrize("loss", [5e-324, 1e-320, 1e-307, 0.0])
def test_a_loss_too_small_for_any_figure_is_refused_as_none_is(loss: float) -> None:
    with pytest.raises(UsageError, match="misses nothing"):
        packets_needed(256, loss)
