"""A capture that somebody made to mislead Eve, or to keep her busy: bounded work, and no verdict kinder for it."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest
from amounts import at_length
from carriers import bare, write

from bt_selfsecure.cli.main import main
from bt_selfsecure.eve.haoxiao import establishments, knowledge, verdict
from bt_selfsecure.eve.haoxiao.attacks import theft
from bt_selfsecure.eve.haoxiao.attacks.theft import StolenKey
from bt_selfsecure.eve.haoxiao.establishments import MOST_RIVALS
from bt_selfsecure.eve.haoxiao.report import DIRECTIONS, CaptureReport
from bt_selfsecure.eve.haoxiao.verdict import Judge
from bt_selfsecure.eve.sources import Capture
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, Profile, decode, encode
from bt_selfsecure.protocols.haoxiao.keychain import Chain
from bt_selfsecure.protocols.haoxiao.material import KeyMaterial, pair_id
from bt_selfsecure.protocols.haoxiao.received_set import encode_received_set
from bt_selfsecure.protocols.haoxiao.suites import SUITES

PROFILE = Profile.HARDENED
BURST = 64
random = secrets.token_bytes


class Establishment:
    """One between devices that mix nothing in, as far as it is heard; `sound` is the response that Alice believes."""

    def __init__(self, burst: int = BURST) -> None:
        message = bytes(7) + burst.to_bytes(2) + (4500).to_bytes(4) + random(64)
        self.request = Frame(PROFILE, Kind.REQUEST, rand=random(16), message=message)
        self.accept = self.another_accept()
        session = self.request.rand[: limits.SESSION_ID_BYTES]
        self.packets = [Frame(PROFILE, Kind.RAND, 0, seq, session, random(32)) for seq in range(burst)]
        s = encode_received_set(range(burst), burst)
        messages = [packet.message for packet in self.packets]
        self.material = KeyMaterial.derive(self.request, self.accept, s, messages)
        self.sound = self.response(range(burst), burst)
        self.sound.mac = SUITES[PROFILE].establishment_mac(self.material.kd, self.sound)

    def another_accept(self) -> Frame:
        message = self.request.rand[: limits.SESSION_ID_BYTES] + bytes(7)
        return Frame(PROFILE, Kind.ACCEPT, rand=random(16), message=message)

    def response(self, s: range, burst: int, part: int = 0, accept: Frame | None = None) -> Frame:
        """That anybody can forge."""
        message = pair_id(self.request, accept or self.accept) + encode_received_set(s, burst)
        return Frame(PROFILE, Kind.RESPONSE, 0, part, random(16), message, random(16))

    @property
    def heard(self) -> list[Frame]:
        return [self.request, self.accept, *self.packets]


def judged(tmp_path: Path, frames: list[Frame]) -> CaptureReport:
    path = write(tmp_path / "hostile.pcapng", bare([encode(frame) for frame in frames]))
    judge = Judge()
    with Capture(str(path)) as source:
        judge.hear_all(source)
    return judge.report()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every received set that was decoded."""
    done: list[bytes] = []
    original = knowledge.decode_received_set

    def counting(data: bytes, limit: int) -> tuple[int, ...]:
        done.append(data)
        return original(data, limit)

    monkeypatch.setattr(knowledge, "decode_received_set", counting)
    return done


# --- responses that contradict each other -----------------------------------------------------------------------------


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("part", [0, 1, 9])
def test_a_forged_response_does_not_hide_the_one_that_gives_her_the_key(
    part: int, before: bool, tmp_path: Path
) -> None:
    """Of whatever part, and whenever it was sent: the HMAC tells which is Bob's."""
    e = Establishment()
    forged = e.response(range(BURST + 40), BURST + 40, part)
    report = judged(tmp_path, [*e.heard, *([forged, e.sound] if before else [e.sound, forged])])
    [told] = report.verdicts
    assert (told.has_key, told.fingerprint) == (True, e.material.fingerprint)
    assert told.heard_by_bob == BURST


def test_without_the_key_the_response_counts_that_leaves_the_two_ends_least(tmp_path: Path) -> None:
    e = Establishment()
    heard = [frame for frame in e.heard if frame.seq != 3 or frame.kind is not Kind.RAND]
    forged = e.response(range(3, BURST + 40), BURST + 40, 1)
    [told] = judged(tmp_path, [*heard, e.sound, forged]).verdicts
    assert (told.missed_given_bob, told.rivals) == (1, 2)
    [alone] = judged(tmp_path, [*heard, e.sound]).verdicts
    assert (alone.secret_bits, alone.rivals) == (told.secret_bits, 1)


def test_honest_parts_do_not_contradict_each_other_and_the_last_one_counts(tmp_path: Path) -> None:
    e = Establishment(2 * BURST)
    heard = [frame for frame in e.heard if frame.seq != 5 or frame.kind is not Kind.RAND]
    parts = [e.response(range(BURST), BURST, 0), e.response(range(2 * BURST), 2 * BURST, 1)]
    [told] = judged(tmp_path, [*heard, *parts]).verdicts
    assert (told.rivals, told.heard_by_bob, told.missed_given_bob) == (1, 2 * BURST, 1)


def test_more_forged_responses_than_are_looked_at_leave_the_verdict_open(
    tmp_path: Path, decoded: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    e = Establishment()
    forged = [e.response(range(BURST + 9 + k), BURST + 9 + k, k % 3) for k in range(MOST_RIVALS + 20)]
    frames = [*e.heard, *forged, e.sound]
    report = judged(tmp_path, frames)
    [told] = report.verdicts
    assert (told.has_key, told.rivals_left_out, told.rivals) == (False, 21, MOST_RIVALS + 21)
    assert "Not decided, for 21 responses were not looked at" in told.sentence
    assert told.secret_bits is None
    assert not report.decided
    assert len(decoded) <= 2 * MOST_RIVALS
    assert main(["eve", "report", str(tmp_path / "hostile.pcapng")]) == 2
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "Eve has no key of what was looked at; what was not may have given her one."
    assert max(map(len, out.splitlines())) <= 80


def test_a_forged_accept_with_the_rand_of_the_sound_one_does_not_hide_the_key(tmp_path: Path) -> None:
    e = Establishment()
    forged = Frame(PROFILE, Kind.ACCEPT, rand=e.accept.rand, message=e.accept.message[:-7] + b"forged\0")
    for frames in ([*e.heard, forged, e.sound], [forged, *e.heard, e.sound]):
        assert judged(tmp_path, frames).broken


def test_who_has_all_that_it_takes_and_no_key_is_not_said_to_be_locked_out(tmp_path: Path) -> None:
    """A forged packet was heard first, and nothing tells which of the two is Alice's."""
    e = Establishment()
    forged = Frame(PROFILE, Kind.RAND, 0, 7, e.packets[7].rand, random(32))
    report = judged(tmp_path, [e.request, e.accept, forged, *e.packets, e.sound])
    assert report.contradictions == 1
    assert report.verdicts[0].sentence.startswith("Not decided: Eve has every packet of S and not K_0")
    assert not report.decided
    assert "what was not may have given her one" in report.conclusion


# --- bounded work, by counting ----------------------------------------------------------------------------------------


def test_each_response_is_decoded_once_whatever_is_asked_of_it(tmp_path: Path, decoded: list[bytes]) -> None:
    e = Establishment()
    frames = [*e.heard]
    for number in range(40):
        accept = e.another_accept()
        frames += [accept, e.response(range(number + 1), BURST, accept=accept)]
    assert len(judged(tmp_path, frames).verdicts) == 41
    assert len(decoded) == 40


@pytest.mark.parametrize("responses", [50, at_length(200), at_length(400)])
def test_received_sets_of_any_number_of_responders_are_looked_at_up_to_a_stated_work(
    responses: int, tmp_path: Path, decoded: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdict, "MOST_WORK", 1_000_000)
    e = Establishment(1)
    big = e.response(range(31_000), 32_000)
    frames = [*e.heard]
    for _ in range(responses):
        accept = e.another_accept()
        message = pair_id(e.request, accept) + big.message[limits.PAIR_ID_BYTES :]
        frames += [accept, Frame(PROFILE, Kind.RESPONSE, 0, 0, random(16), message, random(16))]
    report = judged(tmp_path, [*frames, e.sound])
    assert len(decoded) <= 1_000_000 // 31_000 + 1
    assert report.left_out == responses + 1 - len(report.verdicts) > 0
    assert report.broken  # what takes least is looked at first
    assert not judged(tmp_path, frames).decided


def test_a_burst_that_many_requests_share_is_not_copied_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tag of the compact form has two bytes, so anybody can make requests that share it."""
    monkeypatch.setattr(verdict, "MOST_WORK", 20_000)
    requests = [Establishment(1).request for _ in range(500)]
    for request in requests:
        request.rand = b"\1\2" + request.rand[2:]
    burst = [Frame(PROFILE, Kind.RAND_COMPACT, 0, seq, b"\1\2", random(16)) for seq in range(300)]
    report = judged(tmp_path, [*requests, *burst])
    assert sum(told.heard_by_eve for told in report.verdicts) <= 20_000
    assert len(report.verdicts) + report.left_out == 500


def test_frames_are_kept_up_to_a_stated_number_and_the_rest_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(establishments, "MOST_FRAMES", 30)
    e = Establishment()
    report = judged(tmp_path, [*e.heard, e.sound])
    assert (report.not_kept, report.verdicts[0].heard_by_eve) == (BURST + 3 - 30, 28)
    assert not report.decided
    assert main(["eve", "report", str(tmp_path / "hostile.pcapng")]) == 2
    assert "frames heard when there was no room for more: 37" in capsys.readouterr().out


def test_frames_are_kept_up_to_a_stated_size_of_all_and_the_rest_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compressed capture has a hundred times its own size, in frames of five thousand bytes."""
    monkeypatch.setattr(establishments, "MOST_BYTES", 100_000)
    long = [Frame(PROFILE, Kind.DATA, 0, seq, message=random(limits.MAX_LEN), mac=random(16)) for seq in range(40)]
    requests = [Frame(PROFILE, Kind.REQUEST, rand=random(16), message=random(3000)) for _ in range(40)]
    answers = [
        Frame(PROFILE, kind, rand=random(16), message=random(3000), mac=mac)
        for kind, mac in ((Kind.ACCEPT, b""), (Kind.RESPONSE, random(16)))
        for _ in range(20)
    ]
    for frames, kept in ((long, 24), (requests, 33), (answers, 33)):
        assert judged(tmp_path, frames).not_kept == len(frames) - kept
    e = Establishment()
    assert not judged(tmp_path, [*e.heard, e.sound]).not_kept


def test_accepts_that_nothing_followed_are_listed_as_far_as_anybody_serves_them(tmp_path: Path) -> None:
    e = Establishment()
    report = judged(tmp_path, [*e.heard, e.sound, *(e.another_accept() for _ in range(500))])
    assert len(report.verdicts) == limits.MAX_RESPONDERS + 1
    assert report.decided
    assert report.broken


def test_of_requests_with_one_session_id_as_many_are_looked_at_as_of_rival_responses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would be paired with each accept: of 400 packets 40 000 pairs."""
    pairs: list[Frame] = []

    def counted(request: Frame, accept: Frame) -> bytes:
        pairs.append(request)
        return pair_id(request, accept)

    monkeypatch.setattr(establishments, "pair_id", counted)
    e = Establishment()
    forged = [
        Frame(PROFILE, Kind.REQUEST, rand=e.request.rand[: limits.SESSION_ID_BYTES] + random(8), message=bytes(20))
        for _ in range(200)
    ]
    report = judged(tmp_path, [*e.heard, e.sound, *forged, *(e.another_accept() for _ in range(199))])
    assert len(pairs) == MOST_RIVALS * 200
    assert len(report.verdicts) == limits.MAX_RESPONDERS + 1
    assert report.left_out == 201 - MOST_RIVALS
    assert report.broken
    assert not report.decided


def test_establishments_are_told_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    """Whatever each takes to look at."""
    made = [Establishment(size) for size in (40, 8, 64, 16)]
    report = judged(tmp_path, [frame for e in made for frame in (*e.heard, e.sound)])
    assert [told.heard_by_eve for told in report.verdicts] == [40, 8, 64, 16]


def session_of(e: Establishment, rounds: int) -> list[Frame]:
    chain, frames = Chain.start(SUITES[PROFILE], e.material.k0, DIRECTIONS[0].encode(), 1), []
    for _ in range(rounds):
        frame, attempt = chain.seal(b"read me", 0, random)
        frames.append(frame)
        chain = chain.rolled(attempt, b"read me")
    return frames


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for each time that a key was tried on a frame."""
    tried: list[int] = []
    original = StolenKey._opens

    def counting(self: StolenKey, chain: Chain, frame: Frame) -> object:
        tried.append(frame.seq)
        return original(self, chain, frame)

    monkeypatch.setattr(StolenKey, "_opens", counting)
    return tried


def test_an_honest_session_takes_about_one_try_a_frame(tmp_path: Path, opened: list[int]) -> None:
    e = Establishment()
    report = judged(tmp_path, [*e.heard, e.sound, *session_of(e, 1500)])
    assert len(report.verdicts[0].plaintext) == 1500
    assert len(opened) < 3 * 1500


def test_forged_data_frames_and_keys_of_the_attackers_own_take_no_more_than_the_stated_work(
    tmp_path: Path, opened: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdict, "MOST_WORK", 16 * 2_000)
    made = [Establishment(1) for _ in range(60)]
    forged = [Frame(PROFILE, Kind.DATA, 0, 0, b"", random(40), random(16)) for _ in range(200)]
    report = judged(tmp_path, [frame for e in made for frame in (*e.heard, e.sound)] + forged)
    assert len(opened) <= 2_000 + 60 * len(DIRECTIONS)
    assert report.broken
    assert report.left_out


def test_forged_resynchronisations_are_followed_up_to_a_stated_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theft, "MOST_TRIES", 1_600)
    chain = Chain.start(SUITES[PROFILE], bytes(32), b"x", 1)
    thief, name, rand = StolenKey(chain), chain.checkpoint_id(chain.key), random(16)
    for number in range(2_000):
        message = number.to_bytes(8) + bytes(16) + name + bytes(16)
        thief.hear(decode(encode(Frame(PROFILE, Kind.RESYNC_REQUEST, 0, 0, rand, message))))
        thief.hear(Frame(PROFILE, Kind.RESYNC_RESPONSE, 0, 0, random(16), rand + name + bytes(8), random(16)))
    assert thief.tries_left == 0
    assert len(thief._known) <= 1_600 // theft.RESUMPTION + 1


def test_tries_of_a_repair_are_those_of_all_establishments_together(tmp_path: Path) -> None:
    """As the option says; and that they were used up is told."""
    made = [Establishment(8) for _ in range(6)]
    frames = [frame for e in made for frame in (*e.heard[:-1], e.sound)]
    path = write(tmp_path / "x.pcapng", bare([encode(frame) for frame in frames]))
    judge = Judge(1000)
    judge._damaged.update(dict.fromkeys(random(24) for _ in range(9)))
    with Capture(str(path)) as source:
        judge.hear_all(source)
    report = judge.report()
    assert report.repair_used_up
    assert judge._tries == 0


def test_sessions_beyond_those_there_is_room_for_are_counted_and_said_and_the_others_still_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(establishments, "MOST_BEGUN", 4)
    e = Establishment()
    made_up = [Frame(Profile.HARDENED, Kind.RAND, 0, 0, random(8), bytes(32)) for _ in range(7)]
    path = write(tmp_path / "x.pcapng", bare([encode(f) for f in (*e.heard, e.sound, *made_up)]))
    assert main(["eve", "report", str(path), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["not_kept"], told["decided"]) == (7, False)
    assert [verdict["has_key"] for verdict in told["verdicts"]] == [True]
    main(["eve", "report", str(path)])
    assert "frames heard when there was no room for more: 7" in capsys.readouterr().out


def test_a_seq_that_no_burst_reaches_is_refused_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    e = Establishment()
    beyond = [Frame(Profile.HARDENED, Kind.RAND, 0, seq, e.request.rand[:8], bytes(32)) for seq in (32_000, 65_535)]
    path = write(tmp_path / "x.pcapng", bare([encode(f) for f in (*e.heard, e.sound, *beyond)]))
    main(["eve", "report", str(path), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["refused"], told["verdicts"][0]["sent"]) == (2, BURST)
    main(["eve", "report", str(path)])
    assert "burst packets of a Seq that no burst reaches: 2; somebody forges" in capsys.readouterr().out


# --- what a report says -----------------------------------------------------------------------------------------------


def test_what_a_capture_holds_that_could_not_be_read_is_part_of_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    e = Establishment()
    path = write(tmp_path / "cut.pcapng", bare([encode(frame) for frame in (*e.heard, e.sound)]))
    path.write_bytes(path.read_bytes()[:-30])
    assert main(["eve", "report", str(path), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["skipped"] == {"the file ends in the middle of a packet": 1}
    assert main(["eve", "report", str(path)]) == 2
    out = capsys.readouterr().out
    assert "skipped: the file ends in the middle of a packet (1)" in out
    assert " ".join(out.splitlines()[-2:]).endswith("what was not may have given her one.")
