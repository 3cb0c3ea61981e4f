"""Each model loses what its figures say, within four standard errors, and the same seed loses the same packets."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

import pytest

from bt_selfsecure.air.models import (
    Bernoulli,
    Burstiness,
    Correlated,
    Distance,
    GilbertElliott,
    LossModel,
    RecordedLosses,
    parse_model,
)
from bt_selfsecure.air.recording import Recording
from bt_selfsecure.errors import UsageError
from bt_selfsecure.stats.bursts import GilbertElliottFit
from bt_selfsecure.stats.losses import JointLoss, joint_probabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

SENT = 40_000


def heard(
    model: LossModel, listeners: Sequence[str], sent: int = SENT, seed: int = 1, sender: str = "alice"
) -> dict[str, set[int]]:
    random = Random(seed)
    received: dict[str, set[int]] = {name: set() for name in listeners}
    for seq in range(sent):
        for name in model.transmit(random, sender, listeners, 0.01 * seq):
            received[name].add(seq)
    return received


def within_four_standard_errors(count: int, n: int, p: float) -> bool:
    return abs(count - n * p) <= 4 * math.sqrt(n * p * (1 - p))


SPECS = [
    "bernoulli:bob=0.1,eve=0.05",
    "correlated:bob=0.1,eve=0.05,rho=0.2",
    "gilbert-elliott:bob=0.1/4,eve=0.05/2",
    "distance:bob=15,eve=20",
    "recording:bob=3,eve=6,position=33",
]


@pytest.mark.parametrize("spec", SPECS)
def test_the_same_seed_loses_the_same_packets_and_another_seed_others(spec: str) -> None:
    first, again, other = (heard(parse_model(spec), ("bob", "eve"), 500, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert 0 < len(first["bob"]) < 500


@pytest.mark.parametrize("spec", SPECS)
def test_alice_hears_bob_as_bob_hears_alice(spec: str) -> None:
    forward = heard(parse_model(spec), ("bob", "eve"), 500)
    reverse = heard(parse_model(spec), ("alice", "eve"), 500, sender="bob")
    assert reverse["alice"] == forward["bob"]
    assert reverse["eve"] == forward["eve"]


@pytest.mark.parametrize(
    "spec", ["bernoulli:eve=0.05", "distance:eve=20", "gilbert-elliott:eve=0.1/2", "recording:eve=6"]
)
def test_a_listener_without_a_figure_is_named(spec: str) -> None:
    with pytest.raises(UsageError, match="how 'bob' hears 'alice': give a figure for 'bob'"):
        parse_model(spec).transmit(Random(1), "alice", ["eve", "bob"], 0.0)


def test_bernoulli_loses_each_listener_its_own_share() -> None:
    received = heard(Bernoulli({"bob": 0.1, "eve": 0.02, "eve2": 0.0, "eve3": 1.0}), ("bob", "eve", "eve2", "eve3"))
    assert within_four_standard_errors(len(received["bob"]), SENT, 0.9)
    assert within_four_standard_errors(len(received["eve"]), SENT, 0.98)
    assert (len(received["eve2"]), len(received["eve3"])) == (SENT, 0)
    assert within_four_standard_errors(JointLoss.of(SENT, received["bob"], received["eve"]).bob_only, SENT, 0.9 * 0.02)


@pytest.mark.parametrize(
    ("d", "e", "rho"),
    [(0.2, 0.3, 0.5), (0.1, 0.02, 0.2), (0.3, 0.2, -0.25), (0.1, 0.1, 1.0), (0.0, 0.1, 0), (0.2, 1.0, 0)],
)
def test_correlated_has_the_exact_joint_distribution(d: float, e: float, rho: float) -> None:
    received = heard(Correlated(d, e, rho), ("eve", "bob"))
    table = JointLoss.of(SENT, received["bob"], received["eve"])
    expected = joint_probabilities(d, e, rho)
    for count, probability in zip((table.both, table.bob_only, table.eve_only, table.neither), expected, strict=True):
        assert within_four_standard_errors(count, SENT, probability)


def test_two_listeners_share_eves_losses_but_not_each_others() -> None:
    received = heard(Correlated(0.2, 0.3, 0.5), ("bob", "bob2", "eve"))
    for name in ("bob", "bob2"):
        assert JointLoss.of(SENT, received[name], received["eve"]).phi == pytest.approx(0.5, abs=0.03)
    assert JointLoss.of(SENT, received["bob"], received["bob2"]).phi == pytest.approx(0.25, abs=0.03)


def test_a_listener_beside_the_correlated_pair_has_a_loss_of_its_own() -> None:
    received = heard(
        parse_model("correlated:bob=0.2,eve=0.3,rho=0.5,carol=0.1,dave=0"), ("bob", "eve", "carol", "dave")
    )
    assert len(received["dave"]) == SENT
    assert within_four_standard_errors(len(received["carol"]), SENT, 0.9)
    assert JointLoss.of(SENT, received["carol"], received["eve"]).phi == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize(("loss", "burst"), [(0.1, 4), (0.05, 1), (0.3, 2), (0.5, 10)])
def test_gilbert_elliott_loses_its_share_in_bursts_of_its_length(loss: float, burst: float) -> None:
    received = heard(GilbertElliott({"bob": Burstiness.of(loss, burst)}), ("bob",))["bob"]
    fit = GilbertElliottFit.of([seq not in received for seq in range(SENT)])
    bursts = SENT * loss / burst
    assert abs(fit.r - 1 / burst) <= 4 * math.sqrt((1 / burst) * (1 - 1 / burst) / (bursts * burst)) + 1e-12
    # successive packets are alike, so the mean of the losses has a larger error: (1 + c) / (1 - c) times the variance
    alike = 1 - fit.p - fit.r
    error = math.sqrt(loss * (1 - loss) / SENT * max(1, (1 + alike) / (1 - alike)))
    assert abs(1 - len(received) / SENT - loss) <= 4 * error


def test_a_link_begins_in_a_burst_as_often_as_it_is_in_one() -> None:
    random = Random(3)
    firsts = [
        GilbertElliott({"bob": Burstiness.of(0.3, 50)}).transmit(random, "alice", ["bob"], 0) for _ in range(5000)
    ]
    assert within_four_standard_errors(sum(map(len, firsts)), 5000, 0.7)


def test_bursts_of_two_links_do_not_touch_each_other() -> None:
    chain = Burstiness.of(0.3, 5)
    received = heard(GilbertElliott({"bob": chain, "eve": chain}), ("bob", "eve"))
    assert JointLoss.of(SENT, received["bob"], received["eve"]).phi == pytest.approx(0, abs=0.05)


def test_elliott_loses_in_the_good_state_too() -> None:
    received = heard(GilbertElliott({"bob": Burstiness(p=0.01, r=0.1, loss_good=0.05, loss_bad=0.6)}), ("bob",))["bob"]
    assert 1 - len(received) / SENT == pytest.approx((0.05 * 0.1 + 0.6 * 0.01) / 0.11, abs=0.01)


@pytest.mark.parametrize(("metres", "rssi"), [(1, -65.5), (5, -78.4), (10, -84.1), (16, -90.8)])
def test_path_loss_is_within_1_4_db_of_the_measurements_it_cites(metres: float, rssi: float) -> None:
    assert Distance({}).mean_rssi(metres) == pytest.approx(rssi, abs=1.4)


def test_the_bit_error_rate_is_one_in_a_thousand_at_the_sensitivity() -> None:
    radio = Distance({})
    assert radio.bit_error_rate(-96) == pytest.approx(0.001)
    assert radio.packet_error_rate(-96) == pytest.approx(1 - 0.999 ** (46 * 8))
    assert radio.bit_error_rate(-300) == pytest.approx(0.5)
    assert radio.packet_error_rate(-40) == 0


def test_longer_packets_are_lost_more_often() -> None:
    assert Distance({}, packet_bytes=9).packet_error_rate(-96) < Distance({}, packet_bytes=37).packet_error_rate(-96)


@pytest.mark.parametrize(("metres", "shadowing"), [(5, 4.9), (16, 4.9), (25, 4.9), (33, 0.01)])
def test_distance_loses_what_the_shadowed_packet_error_rate_says(metres: float, shadowing: float) -> None:
    radio = Distance({"bob": metres}, shadowing=shadowing, floor=0.1)
    steps = [-6 + 0.01 * step for step in range(1201)]
    density = [math.exp(-x * x / 2) for x in steps]
    errors = [radio.packet_error_rate(radio.mean_rssi(metres) + radio.shadowing * x) for x in steps]
    loss = sum(p * weight for p, weight in zip(errors, density, strict=True)) / sum(density)
    received = heard(radio, ("bob",))["bob"]
    assert within_four_standard_errors(len(received), SENT, 0.9 * (1 - loss))


@pytest.mark.parametrize("common", [0.0, 0.5, 1.0])
def test_a_shadow_in_common_changes_no_loss_and_who_misses_what_together(common: float) -> None:
    """Each one's loss is that of the shadowing whole; e|B shrinks as more of it is the sender's."""
    received = heard(Distance({"bob": 30, "eve": 20}, common=common), ("bob", "eve"))
    alone = heard(Distance({"bob": 30, "eve": 20}), ("bob", "eve"))
    for name in ("bob", "eve"):
        assert within_four_standard_errors(len(received[name]), SENT, len(alone[name]) / SENT)
    e_given_b = len(received["bob"] - received["eve"]) / len(received["bob"])
    low, high = {0.0: (0.14, 0.18), 0.5: (0.07, 0.09), 1.0: (0.0, 0.001)}[common]
    assert low <= e_given_b <= high


def test_a_listener_that_walks_away_hears_less_from_then_on() -> None:
    radio = Distance({"bob": 2, "eve": 12})
    near = heard(radio, ("bob", "eve"), 2000)
    radio.move("bob", 30)
    far = heard(radio, ("bob", "eve"), 2000)
    assert len(near["bob"]) == 2000
    assert len(far["bob"]) < 1500
    assert len(far["eve"]) == pytest.approx(len(near["eve"]), abs=60)


def test_distances_given_by_the_caller_are_not_changed() -> None:
    metres = {"bob": 2.0}
    Distance(metres).move("bob", 30)
    assert metres == {"bob": 2.0}


@pytest.fixture(scope="module")
def office() -> Recording:
    return Recording.load()


def test_a_replay_hears_what_the_receivers_heard_and_begins_again_at_the_end(office: Recording) -> None:
    events = office.events(5)
    received = heard(
        RecordedLosses(office, {"bob": 3, "eve": "sensor30", "eve2": 9}, 5, start=0),
        ("bob", "eve", "eve2"),
        2 * len(events),
    )
    for name, bit in (("bob", 3), ("eve", 6), ("eve2", 9)):
        once = {seq for seq, word in enumerate(events) if word >> bit & 1}
        assert received[name] == once | {seq + len(events) for seq in once}


def test_each_transmission_takes_the_next_event_whoever_sends_it(office: Recording) -> None:
    replay, events, random = RecordedLosses(office, {"bob": 3, "eve": 6}, 33, start=100), office.events(33), Random(1)
    for offset in range(0, 200, 2):
        assert ("bob" in replay.transmit(random, "alice", ["bob", "eve"], 0.0)) == bool(events[100 + offset] & 1 << 3)
        back = replay.transmit(random, "bob", ["alice", "eve"], 0.0)
        assert ("alice" in back) == bool(events[101 + offset] & 1 << 3)
        assert ("eve" in back) == bool(events[101 + offset] & 1 << 6)


def test_a_whole_replay_has_the_joint_losses_of_its_recording(office: Recording) -> None:
    sent = office.positions[33].events
    received = heard(RecordedLosses(office, {"bob": 3, "eve": 6}, 33), ("bob", "eve"), sent)
    assert JointLoss.of(sent, received["bob"], received["eve"]) == office.joint_loss(33, 3, [6])


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        (
            "",
            "unknown loss model '': choose one of bernoulli, correlated, gilbert-elliott, distance, recording, jammed",
        ),
        ("rayleigh:bob=0.1", "unknown loss model 'rayleigh': choose one of bernoulli,"),
        ("bernoulli", "lacks its figures: write it as in bernoulli:bob=0.1,eve=0.05"),
        ("bernoulli:bob", "'bob' is not a new KEY=VALUE"),
        ("bernoulli:bob=0.1,", "'' is not a new KEY=VALUE"),
        ("bernoulli:bob=0.1,bob=0.2", "'bob=0.2' is not a new KEY=VALUE"),
        ("bernoulli:bob=ten", "'ten': write it as in bernoulli:"),
        ("bernoulli:bob=1.1", "the loss of 'bob' is 1.1, but a probability lies in 0..1"),
        ("bernoulli:bob=nan", "0..1"),
        ("correlated:bob=0.1", "lacks 'eve': write it as in correlated:bob=0.1,eve=0.05,rho=0.2"),
        ("correlated:bob=0.1,eve=0.1,eve2=1.1", "the loss of 'eve2'"),
        ("correlated:bob=0.1,eve=0.2,rho=0.9", "take -0.1667 <= rho <= 0.6667"),
        ("gilbert-elliott:bob=0.1", "write it as in gilbert-elliott:bob=0.1/4"),
        ("gilbert-elliott:bob=0.9/2", "a loss of 0.9 can't come in bursts of 2 packets"),
        ("gilbert-elliott:bob=0.1/0.5", "a loss of 0.1 can't come in bursts of 0.5 packets"),
        ("gilbert-elliott:bob=1/5", "a loss of 1 can't come in bursts"),
        ("distance:bob=0", "a distance of 0 m for 'bob' is out of range: take 0.1 to 10000"),
        ("distance:bob=inf", "out of range"),
        ("distance:bob=1,floor=2", "the floor is 2"),
        ("distance:bob=1,common=nan", "the common share of the shadowing is nan"),
        ("recording:bob=12,eve=6", "no receiver '12': choose one of 0=sensor10, 1=sensor11"),
        ("recording:bob=3,eve=3", "two listeners share one receiver"),
        ("recording:bob=3,eve=sensor20", "two listeners share one receiver"),
        ("recording:bob=3,position=81", "no position 81: choose 0..80"),
        ("recording:bob=3,position=1,start=4000", "no event 4000 there: choose 0..3958"),
        ("recording:bob=3,position=here", "'here': write it as in recording:bob=3,eve=6,position=0"),
        ("recording:position=3", "name it, as in bob=3"),
        ("recording:bob=3,file=no/such.json", "can't read no/such.json"),
    ],
)
def test_a_specification_that_is_wrong_says_what_would_be_right(spec: str, fault: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_model(spec)
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_chain_that_never_recovers_is_refused() -> None:
    with pytest.raises(UsageError, match="never leaves its bad state"):
        Burstiness(p=0.1, r=0.0)


def test_what_eve_misses_nobody_hears_where_she_jams_and_her_own_packets_are_left_alone() -> None:
    air, random = parse_model("jammed:bernoulli:alice=0.1,bob=0.1,eve=0.3"), Random(1)
    heard = [air.transmit(random, "alice", ("bob", "eve"), 0.0) for _ in range(2000)]
    assert all("eve" in listeners for listeners in heard if listeners)
    assert 0.25 < sum(not listeners for listeners in heard) / 2000 < 0.35
    assert any(air.transmit(random, "eve", ("alice", "bob"), 0.0) == {"alice", "bob"} for _ in range(10))


def test_who_is_out_of_range_hears_nothing_and_an_eve_hears_all() -> None:
    air, random = parse_model("near:alice-bob,bob-carol;bernoulli:alice=0,bob=0,carol=0,eve=0"), Random(1)
    assert air.transmit(random, "alice", ["bob", "carol", "eve"], 0.0) == {"bob", "eve"}
    assert air.transmit(random, "bob", ["alice", "carol", "eve"], 0.0) == {"alice", "carol", "eve"}
    assert air.transmit(random, "carol", ["alice", "bob", "eve"], 0.0) == {"bob", "eve"}
    assert air.transmit(random, "eve", ["alice", "carol"], 0.0) == {"alice", "carol"}


@pytest.mark.parametrize(
    "spec", ["near:", "near:alice-bob", "near:alice;bernoulli:bob=0.1", "near:a-b,;bernoulli:b=0.1"]
)
def test_a_range_that_is_none_is_refused_with_an_example(spec: str) -> None:
    with pytest.raises(UsageError, match="write it as in near:alice-bob,bob-carol;bernoulli"):
        parse_model(spec)
