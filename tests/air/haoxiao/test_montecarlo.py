"""The simulator draws every packet, and what it finds is what the closed forms say: within four standard errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bt_selfsecure.air.haoxiao.montecarlo import BLOCK, ROWS, draw, simulate, simulate_slowly
from bt_selfsecure.errors import UsageError
from bt_selfsecure.stats.losses import capacity, e_given_bob

SETTINGS = [
    # trials, packets, d, e, rho
    (40_000, 400, 0.05, 0.05, 0.0),
    (40_000, 400, 0.1, 0.1, 0.0),
    (40_000, 400, 0.1, 0.02, 0.2),
    (40_000, 200, 0.2, 0.3, 0.0),
    (40_000, 200, 0.2, 0.3, 0.5),
    (40_000, 200, 0.01, 0.01, 0.0),
    (40_000, 800, 0.02, 0.005, 0.0),
    (40_000, 100, 0.3, 0.2, -0.25),
    (40_000, 100, 0.05, 0.02, 0.6),
]


def close(mean: float, expected: float, variance: float, n: int) -> bool:
    return abs(mean - expected) <= 4 * math.sqrt(variance / n)


@pytest.mark.parametrize(("trials", "packets", "d", "e", "rho"), SETTINGS)
def test_the_simulator_agrees_with_the_closed_forms(trials: int, packets: int, d: float, e: float, rho: float) -> None:
    received, missed = simulate(trials, packets, d, e, rho, seed=20)
    assert received.shape == missed.shape == (trials,)
    drawn, secret = trials * packets, capacity(d, e, rho)
    assert close(received.mean() / packets, 1 - d, d * (1 - d), drawn)
    assert close(missed.mean() / packets, secret, secret * (1 - secret), drawn)
    given, kept = e_given_bob(d, e, rho), received.sum()
    assert close(missed.sum() / kept, given, given * (1 - given), kept)


@pytest.mark.parametrize(("trials", "packets", "d", "e", "rho"), SETTINGS)
def test_eve_holds_the_whole_key_as_often_as_the_formula_says(
    trials: int, packets: int, d: float, e: float, rho: float
) -> None:
    received, missed = simulate(trials, packets, d, e, rho, seed=21)
    broken = (1 - capacity(d, e, rho)) ** packets
    assert close(np.mean(missed == 0), broken, max(broken * (1 - broken), 1 / trials), trials)
    # P0 = (1 - e|B)^M holds for the M of each trial, so its mean must be the same share
    assert close(np.mean((1 - e_given_bob(d, e, rho)) ** received), broken, max(broken, 1 / trials), trials)


def test_trials_are_independent_binomials() -> None:
    received, missed = simulate(100_000, 400, 0.1, 0.1, seed=22)
    for counts, p in ((received, 0.9), (missed, 0.09)):
        variance = 400 * p * (1 - p)
        assert np.var(counts) == pytest.approx(variance, rel=4 * math.sqrt(2 / 100_000))
        assert abs(np.corrcoef(counts[:-1], counts[1:])[0, 1]) < 4 / math.sqrt(100_000)
    assert np.all(missed <= received)


@pytest.mark.parametrize(
    ("trials", "packets"), [(1, 1), (3, 5), (BLOCK, ROWS), (BLOCK + 1, ROWS + 1), (2 * BLOCK + 77, 401)]
)
def test_the_same_seed_gives_the_same_result_on_any_number_of_threads(trials: int, packets: int) -> None:
    first = simulate(trials, packets, 0.1, 0.05, seed=1, threads=1)
    for threads in (2, 3, None):
        assert np.array_equal(first, simulate(trials, packets, 0.1, 0.05, seed=1, threads=threads))
    if trials > 1:
        assert not np.array_equal(first, simulate(trials, packets, 0.1, 0.05, seed=2))


@pytest.mark.parametrize(
    ("d", "e", "received", "missed"), [(0, 0, 50, 0), (0, 1, 50, 50), (1, 0.5, 0, 0), (1, 1, 0, 0)]
)
def test_certain_losses_are_certain(d: float, e: float, received: int, missed: int) -> None:
    found = simulate(1000, 50, d, e, seed=3)
    assert (set(found[0]), set(found[1])) == ({received}, {missed})


def test_a_probability_far_below_a_16_bit_step_is_kept() -> None:
    _, missed = simulate(50_000, 400, 0.1, 2e-6, seed=4)
    expected = 50_000 * 400 * 0.9 * 2e-6
    assert abs(missed.sum() - expected) < 4 * math.sqrt(expected)


def test_the_plain_loop_finds_the_same() -> None:
    received, missed = simulate_slowly(500, 400, 0.2, 0.3, 0.5, seed=5)
    assert close(sum(received) / 200_000, 0.8, 0.16, 200_000)
    assert close(sum(missed) / 200_000, 0.148348, 0.148348 * 0.851652, 200_000)


def test_impossible_losses_are_refused() -> None:
    with pytest.raises(UsageError, match="<= rho <="):
        simulate(10, 10, 0.1, 0.2, 1.0, seed=1)


def trinomial(packets: int, bob_only: float, both: float) -> dict[tuple[int, int], float]:
    """The exact share of trials with each |S| and k."""
    shares = {}
    for received in range(packets + 1):
        for missed in range(received + 1):
            kinds = ((missed, bob_only), (received - missed, both), (packets - received, 1 - bob_only - both))
            logs = [math.lgamma(packets + 1)]
            logs += [count * math.log(share) - math.lgamma(count + 1) for count, share in kinds]
            shares[received, missed] = math.exp(sum(logs))
    return shares


@pytest.mark.parametrize(
    ("packets", "bob_only", "both"),
    [(20, 0.05, 0.85), (ROWS + 3, 0.3, 0.3), (20, 3 * 2**-17, 0.5), (20, 0.25 + 2**-18, 2**-19), (20, 0.1, 5 * 2**-18)],
    ids=[
        "likely",
        "over two draws",
        "an end between 16-bit words",
        "both ends in one word",
        "ends in words side by side",
    ],
)
def test_all_that_can_come_of_a_trial_comes_as_often_as_it_should(packets: int, bob_only: float, both: float) -> None:
    trials, fewest = 10_000_000, 10
    received, missed = draw(trials, packets, bob_only, both, seed=6)
    assert np.all(missed <= received)
    found = np.bincount(received * (packets + 1) + missed, minlength=(packets + 1) ** 2)
    chi_squared, bins, rare, rare_expected = 0.0, 0, trials, float(trials)
    for (s, k), share in trinomial(packets, bob_only, both).items():
        if share * trials >= fewest:
            count, expected = int(found[s * (packets + 1) + k]), share * trials
            chi_squared += (count - expected) ** 2 / expected
            bins, rare, rare_expected = bins + 1, rare - count, rare_expected - expected
    chi_squared += (rare - rare_expected) ** 2 / rare_expected  # the other bins together; so one is not free
    deviation = ((chi_squared / bins) ** (1 / 3) - (1 - 2 / (9 * bins))) / math.sqrt(2 / (9 * bins))  # Wilson, Hilferty
    assert abs(deviation) < 4
