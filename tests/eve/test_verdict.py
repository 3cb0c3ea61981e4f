"""Eve's verdict against the truth of runs that she did not see."""

from __future__ import annotations

from random import Random

import pytest

from bt_selfsecure.air.capture import LINKTYPE_USER0
from bt_selfsecure.air.models import Bernoulli
from bt_selfsecure.bench.haoxiao.attacks import BlacklistSteering
from bt_selfsecure.bench.haoxiao.testbed import Testbed
from bt_selfsecure.eve.haoxiao.attacks.theft import StolenRecord
from bt_selfsecure.eve.haoxiao.report import CaptureReport, EstablishmentVerdict, preview
from bt_selfsecure.eve.haoxiao.verdict import Judge
from bt_selfsecure.eve.sources.linktypes import READ
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile, decode, encode
from bt_selfsecure.stats.losses import lower_bound, secret_bits

Ether = list[tuple[float, bytes]]


def judged(*captures: Ether, **settings: object) -> CaptureReport:
    judge = Judge(**settings)  # type: ignore[arg-type]
    for capture in captures:
        judge.hear_all(h for time, data in capture if (h := READ[LINKTYPE_USER0](time, data)))
    return judge.report()


def agrees(seed: int) -> EstablishmentVerdict | None:
    """One random run: everything that Eve says is so, and what she says she lacks she lacks."""
    draw = Random(seed)
    profile, capture = draw.choice(list(Profile)), Ether()
    losses = {"alice": draw.uniform(0, 0.2), "bob": draw.uniform(0, 0.3), "eve": draw.choice((0, 0.01, 0.03, 0.2))}
    scene = Testbed(
        profile,
        seed,
        Bernoulli(losses),
        burst=draw.randrange(8, 120),
        compact=draw.random() < 0.3,
        shares=profile is Profile.HARDENED and draw.random() < 0.3,
        speak=BlacklistSteering(draw.randbytes).hear if draw.random() < 0.3 else lambda data: (),
        tap=lambda time, data: capture.append((time, data)),
    )
    scene.establish()
    messages = [draw.randbytes(draw.randrange(1, 60)) for _ in range(6)]
    if scene.established:
        scene.converse(scene.sessions(), messages)
    report = judged(capture)
    kinds = [decode(data).kind for _, data in capture]
    assert report.ours == len(capture)
    if not scene.established:
        return None  # neither end says what it would have had
    [verdict] = report.verdicts
    truth = {"request": Kind.REQUEST in kinds, "accept": Kind.ACCEPT in kinds, "response": Kind.RESPONSE in kinds}
    s = set(scene.keys["bob"].received)
    heard = {decode(data).seq for _, data in capture if decode(data).kind in (Kind.RAND, Kind.RAND_COMPACT)}
    assert verdict.heard_by_eve == len(heard)
    if not truth["response"]:
        assert verdict.heard_by_bob is None
        assert not verdict.has_key
        return verdict
    assert verdict.heard_by_bob == len(s)
    assert verdict.missed_given_bob == len(s - heard)
    assert verdict.joint is not None
    assert verdict.joint.bob_only == len(s - heard)
    complete = s <= heard and not scene.shares and (profile is Profile.PAPER or all(truth.values()))
    assert verdict.has_key is complete
    low = lower_bound(len(s - heard), len(s))
    assert verdict.e_given_bob_low == low
    if verdict.has_key:
        assert verdict.fingerprint == scene.keys["bob"].fingerprint
        assert set(verdict.plaintext) <= set(messages)
        assert verdict.secret_bits == 0
    else:
        assert verdict.plaintext == ()
        assert verdict.secret_bits is not None
        assert verdict.secret_bits <= secret_bits(len(s), low) + 1e-9
    return verdict


def test_verdict_and_truth_agree_in_random_runs() -> None:
    verdicts = [agrees(seed) for seed in range(40)]
    assert any(verdict and verdict.has_key and verdict.plaintext for verdict in verdicts)
    assert any(verdict and not verdict.has_key and verdict.missed_given_bob for verdict in verdicts)


@pytest.mark.long
def test_verdict_and_truth_agree_in_a_thousand_random_runs() -> None:
    verdicts = [agrees(seed) for seed in range(1000)]
    assert sum(bool(verdict and verdict.has_key) for verdict in verdicts) > 100
    assert sum(bool(verdict and verdict.plaintext) for verdict in verdicts) > 100
    assert sum(bool(verdict and verdict.missed_given_bob) for verdict in verdicts) > 200


# --- what belongs together --------------------------------------------------------------------------------------------


def overheard(seed: int, eves: tuple[str, ...] = ("eve",), **settings: object) -> tuple[Testbed, Ether]:
    capture = Ether()
    scene = Testbed(Profile.HARDENED, seed, eves=eves, tap=lambda time, data: capture.append((time, data)))
    for name, value in settings.items():
        setattr(scene, name, value)
    scene.establish()
    return scene, capture


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_frames_does_not_matter(seed: int) -> None:
    """So the clocks of several Eves need not agree."""
    scene, capture = overheard(seed, ("eve", "eve2"))
    scene.converse(scene.sessions(), [b"one", b"two"])
    shuffled = Random(seed).sample(capture, len(capture))
    one, other = judged(capture), judged(shuffled)
    assert one.verdicts == other.verdicts
    assert one.unopened == other.unopened


def test_several_establishments_in_one_capture_are_told_apart() -> None:
    runs = [overheard(seed, ("eve", "eve2")) for seed in range(3)]
    report = judged([frame for _, capture in runs for frame in capture])
    assert {v.fingerprint for v in report.verdicts if v.has_key} <= {s.keys["bob"].fingerprint for s, _ in runs}
    assert len(report.verdicts) == 3


def test_two_captures_together_hold_what_each_of_them_lacks() -> None:
    _, both = overheard(1, ("eve", "eve2"))
    halves = [both[0::2], both[1::2]]
    together = judged(*halves)
    assert together.captures == 2
    assert together.verdicts == judged(both).verdicts


def test_a_forged_packet_in_a_capture_is_told() -> None:
    _, capture = overheard(2)
    time, data = next((t, d) for t, d in capture if decode(d).kind is Kind.RAND)
    frame = decode(data)
    frame.message = bytes(32)
    assert judged([*capture, (time, encode(frame))]).contradictions == 1
    assert judged(capture).contradictions == 0


def test_without_the_response_eve_does_not_claim_to_know_s() -> None:
    _, capture = overheard(3)
    [verdict] = judged([(t, d) for t, d in capture if decode(d).kind is not Kind.RESPONSE]).verdicts
    assert verdict.heard_by_bob is None
    assert verdict.joint is None
    assert "does not know S" in verdict.sentence


# --- a stolen disk ----------------------------------------------------------------------------------------------------


def test_a_stolen_record_reads_on_and_the_key_of_before_is_gone() -> None:
    scene, capture = overheard(4)
    sessions = scene.sessions()
    scene.converse(sessions, [b"before"] * 40)
    stolen = StolenRecord.parse(sessions["alice"].record.to_json())
    del capture[:]
    scene.converse(sessions, [b"after"])
    report = judged(capture, stolen=[stolen])
    assert set(report.stolen_read) <= {b"after", b"before"}
    assert b"after" in report.stolen_read
    assert report.stolen_read.count(b"before") <= 2  # the last round, sent again


@pytest.mark.parametrize(
    ("message", "shown"),
    [(b"hello", "hello"), (b"\x0ehello\n", "·hello·"), (bytes(range(128, 144)), bytes(range(128, 144)).hex())],
)
def test_a_message_is_shown_as_text_where_it_is_text(message: bytes, shown: str) -> None:
    assert preview(message) == shown
