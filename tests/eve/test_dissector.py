"""The Wireshark dissector, in tshark: held against tests/protocols/haoxiao/vectors, through every carrier."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from carriers import (
    ALL_SIZES,
    FIXTURES,
    SMALL,
    Carrier,
    bare,
    by_ipsp,
    by_l2cap,
    by_l2cap_unannounced,
    by_rfcomm,
    by_rfcomm_unannounced,
    dissected,
    findings,
    rfcomm_frames,
    vectors,
    wires,
    write,
)

from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, Profile, decode, encode
from bt_selfsecure.protocols.haoxiao.keychain import Chain
from bt_selfsecure.protocols.haoxiao.sending import chain_key_line
from bt_selfsecure.protocols.haoxiao.suites import SUITES
from bt_selfsecure.sansio.trace import key_log_line

FRAMES = vectors("frames")["frames"]
FIELDS = ["version", "kind", "retran", "len", "seq", "rand", "message", "mac"]
WRONG = ("wrong_length", "wrong_check", "wrong_padding", "wrong_set", "conflict", "replay")


def expected(frame: dict[str, Any]) -> list[str]:
    compact = frame["kind"] in ("RAND_COMPACT", "GROUP_FRAGMENT")
    return [
        str(Profile[frame["profile"].upper()].value),
        str(Kind[frame["kind"]].value),
        "" if compact else str(frame["retran"]),
        "" if compact else str(len(frame["message"]) // 2),
        str(frame["seq"]),
        frame["rand"],
        frame["message"],
        frame["mac"],
    ]


@pytest.mark.long
@pytest.mark.parametrize("carrier", ALL_SIZES, ids=lambda carrier: carrier.__name__)
def test_every_field_of_every_vector_is_read_through_every_carrier(carrier: Carrier, tmp_path: Path) -> None:
    path = write(tmp_path / "all.pcapng", carrier(wires()))
    assert dissected(path, [f"btss.{field}" for field in FIELDS]) == [expected(frame) for frame in FRAMES]
    assert findings(path, *WRONG) == []


@pytest.mark.long
@pytest.mark.parametrize("carrier", SMALL, ids=lambda carrier: carrier.__name__)
def test_compact_burst_packets_are_read_from_advertisements(carrier: Carrier, tmp_path: Path) -> None:
    path = write(tmp_path / "small.pcapng", carrier(wires()))
    small = [expected(frame) for frame in FRAMES if len(frame["wire"]) <= 54]
    assert len(small) >= 2
    assert dissected(path, [f"btss.{field}" for field in FIELDS]) == small


# --- what is wrong with a frame ---------------------------------------------------------------------------------------


def wire(profile: str, kind: str) -> bytes:
    [found] = [frame["wire"] for frame in FRAMES if (frame["profile"], frame["kind"]) == (profile, kind)]
    return bytes.fromhex(found)


def broken(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.long
@pytest.mark.parametrize("carrier", ALL_SIZES, ids=lambda carrier: carrier.__name__)
def test_a_wrong_length_is_found_after_a_sound_frame_of_the_same_sender(carrier: Carrier, tmp_path: Path) -> None:
    sound = wire("hardened", "ACCEPT")
    path = write(tmp_path / "short.pcapng", carrier([sound, sound[:-1], sound + b"x", broken(sound, 2)]))
    last = int(dissected(path, ["frame.number"])[-1][0])
    assert findings(path, "wrong_length") == [last - 2, last - 1, last]


def test_every_field_of_every_vector_is_read_through_all_carriers_one_after_the_other(tmp_path: Path) -> None:
    """One file, so that tshark starts once; each carrier by itself, and in a file of its own, with --all."""
    path = write(tmp_path / "all.pcapng", [packet for carrier in [*ALL_SIZES, *SMALL] for packet in carrier(wires())])
    small = [frame for frame in FRAMES if len(frame["wire"]) <= 54]
    sent = [expected(frame) for frame in [*FRAMES * len(ALL_SIZES), *small * len(SMALL)]]
    assert dissected(path, [f"btss.{field}" for field in FIELDS]) == sent


def test_what_is_wrong_with_a_frame_is_said_and_nothing_else(tmp_path: Path) -> None:
    faults = [
        (broken(wire("hardened", "REQUEST"), 40), ["wrong_check"]),
        (broken(wire("hardened", "RAND"), 40), ["wrong_check"]),
        (broken(wire("hardened", "RAND_COMPACT"), 20), ["wrong_check"]),
        (broken(wire("paper", "ACCEPT"), 40), ["wrong_check", "wrong_padding"]),
        (wire("hardened", "RESPONSE")[:29] + b"\x02" + wire("hardened", "RESPONSE")[30:], ["wrong_set"]),
        (wire("hardened", "END"), []),
    ]
    path = write(tmp_path / "wrong.pcapng", bare(data for data, _ in faults))
    rows = dissected(path, [f"btss.{name}" for name in WRONG])
    said = [[name for name, value in zip(WRONG, row, strict=True) if value] for row in rows]
    assert said == [found for _, found in faults]


def test_burst_packets_that_contradict_each_other_are_found_and_copies_and_damaged_ones_are_not_among_them(
    tmp_path: Path,
) -> None:
    frames = []
    for kind in ("RAND", "RAND_COMPACT"):
        first = wire("hardened", kind)
        other = encode(replace(decode(first), message=bytes(len(decode(first).message))))
        frames += [first, first, broken(first, 18), other, first]
    path = write(tmp_path / "conflict.pcapng", bare(frames))
    found: list[list[str]] = [[], ["copy"], ["wrong_check"], ["conflict"], ["copy"]]
    names = ("conflict", "copy", "wrong_check")
    rows = dissected(path, [*(f"btss.{name}" for name in names), "btss.copy_of"])
    assert [[name for name, value in zip(names, row, strict=False) if value] for row in rows] == found * 2
    assert [row[3] for row in rows] == ["", "1", "", "", "1", "", "6", "", "", "6"]


@pytest.mark.long
@pytest.mark.parametrize("profile", ["paper", "hardened"])
def test_a_session_with_retransmissions_holds_no_replay_but_its_first_frame_sent_again_is_one(
    profile: str, tmp_path: Path
) -> None:
    rounds = vectors(f"session-{profile}")["rounds"]
    data = [bytes.fromhex(a["wire"]) for r in rounds if r["sender"] == "initiator" for a in r["attempts"]]
    path = write(tmp_path / "session.pcapng", by_rfcomm([*data, data[-1]]))
    last = int(dissected(path, ["frame.number"])[-1][0])
    assert findings(path, "replay") == []
    assert findings(path, "copy") == [last]
    path = write(tmp_path / "replayed.pcapng", by_rfcomm([*data, data[0]]))
    assert findings(path, "replay") == [last]


def sealed(draw: random.Random, seq: int, size: int) -> bytes:
    """A data frame of round `seq`, under a key of its own."""
    chain = Chain(SUITES[Profile.HARDENED], draw.randbytes(32), seq, 256)
    return encode(chain.seal(draw.randbytes(size), 0, draw.randbytes)[0])


@pytest.mark.long
def test_a_frame_sent_again_is_no_replay_though_its_seq_was_there_256_rounds_ago(tmp_path: Path) -> None:
    draw = random.Random(8)
    data = [sealed(draw, seq, 1) for seq in range(258)]
    path = write(tmp_path / "wrapped.pcapng", by_rfcomm([*data, data[-1]]))
    assert findings(path, "replay") == []
    assert len(findings(path, "copy")) == 1


@pytest.mark.long
def test_whatever_rfcomm_frame_is_lost_costs_one_datagram(tmp_path: Path) -> None:
    """Also where each of its pieces might begin another, of 0x1010 bytes."""
    data = [
        encode(Frame(Profile.HARDENED, Kind.DATA, 0, seq, b"", b"\x10" * (700 + 13 * seq), bytes([seq]) * 16))
        for seq in range(6)
    ]
    packets = list(by_rfcomm(data))
    begin = len(packets) - len(list(rfcomm_frames(data)))
    for lost in range(begin, begin + 5):
        path = write(tmp_path / f"{lost}.pcapng", packets[:lost] + packets[lost + 1 :])
        shown = {row[0] for row in dissected(path, ["btss.mac"])}
        assert len(shown & {frame[-16:].hex() for frame in data}) >= len(data) - 1


@pytest.mark.long
def test_an_old_request_is_a_replay_and_a_request_repeated_until_it_is_answered_is_not(tmp_path: Path) -> None:
    request, packet = wire("hardened", "REQUEST"), wire("hardened", "RAND")
    path = write(tmp_path / "requests.pcapng", bare([request, request, packet, request]))
    assert findings(path, "copy") == [2]
    assert findings(path, "replay") == [4]


@pytest.mark.long
def test_a_second_pass_over_the_file_finds_the_same(tmp_path: Path) -> None:
    frame = decode(wire("hardened", "RAND"))
    other = encode(replace(frame, message=bytes(32)))
    path = write(tmp_path / "twice.pcapng", by_rfcomm([*wires(), other, *wires()]))
    once = findings(path, *WRONG, "copy")
    assert len(once) > 10
    assert findings(path, *WRONG, "copy", options=["-2"]) == once


# --- messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("profile", ["paper", "hardened"])
def test_the_received_set_of_the_vectors_is_shown(profile: str, tmp_path: Path) -> None:
    for number, establishment in enumerate(vectors(f"establishment-{profile}")["establishments"]):
        frames = [bytes.fromhex(frame["wire"]) for frame in establishment["frames"]]
        path = write(tmp_path / f"{number}.pcapng", bare(frames))
        rows = dissected(path, ["btss.received", "btss.received.count", "btss.pair", "btss.identity"])
        shown = {row[:2][0]: row[1] for row in rows if row[0]}
        assert shown == {"0-1, 3-4, 6-7": "6"}
        assert {row[2] for row in rows if row[2]} == {establishment["pair"]}
        identities = [row[3].replace(":", "") for row in rows if row[3]]
        assert identities == [establishment["identity"]["initiator"], establishment["identity"]["responder"]]
        assert findings(path, *WRONG) == []


# --- decryption -------------------------------------------------------------------------------------------------------

PLAIN = ["btss.plain", "btss.plain.rand", "btss.key"]


def with_keys(path: Path) -> tuple[str, str]:
    return "-o", f"btss.keylog_file:{path}"


def key_log_of(session: Any) -> list[str]:
    return [key_log_line("K0", bytes(8), bytes.fromhex(session["k0"]))] + [
        key_log_line("KI", bytes([r["sender"] == "responder"]) + r["seq"].to_bytes(8), bytes.fromhex(r["key"]))
        for r in session["rounds"]
        if r["seq"]
    ]


def test_both_profiles_sessions_in_one_file_are_opened_with_one_key_log(tmp_path: Path) -> None:
    sessions = [vectors(f"session-{profile}") for profile in ("paper", "hardened")]
    (log := tmp_path / "keys").write_text("".join(f"{line}\n" for session in sessions for line in key_log_of(session)))
    sent = [(round_, attempt) for s in sessions for round_ in s["rounds"] for attempt in round_["attempts"]]
    path = write(tmp_path / "sessions.pcapng", bare(bytes.fromhex(attempt["wire"]) for _, attempt in sent))
    assert dissected(path, PLAIN, *with_keys(log)) == [[r["message"], a["rand"], r["key"]] for r, a in sent]


def test_what_nodes_carry_for_each_other_shows_with_a_key_log(tmp_path: Path) -> None:
    """The frames of the relay's vectors, each a message to port 11 of a session between neighbours."""
    relayed = vectors("relay")["frames"]
    chain = Chain.start(SUITES[Profile.HARDENED], bytes(32), b"initiator", 1)
    wires_of_session, lines = [], []
    for relayed_frame in relayed:
        message = bytes([11 << 2 | 2]) + bytes.fromhex(relayed_frame["wire"])
        sealed, attempt = chain.seal(message, 0, bytes)
        wires_of_session.append(encode(sealed))
        lines.append(chain_key_line(chain, b"initiator"))
        chain = chain.rolled(attempt, message)
    (log := tmp_path / "keys").write_text("\n".join(lines) + "\n")
    path = write(tmp_path / "relayed.pcapng", bare(wires_of_session))
    fields = [f"btss.relay.{name}" for name in ("kind", "ttl", "source", "destination", "link", "share", "datagram")]
    rows = dissected(path, fields, *with_keys(log))
    kinds = ("DATAGRAM", "REQUEST", "REPLY", "ERROR", "SHARE")
    assert [(kinds[int(row[0])], int(row[1]), int(row[4], 16)) for row in rows] == [
        (frame["kind"], frame["ttl"], frame["link"]) for frame in relayed
    ]
    assert [[row[2], row[3]] for row in rows] == [
        [bytes.fromhex(frame[end]).hex(":") for end in ("source", "destination")] for frame in relayed
    ]
    assert {row[5] for row in rows} - {""} == {frame["body"][10:] for frame in relayed if frame["kind"] == "SHARE"}
    assert {row[6] for row in rows} - {""} == {b"a datagram".hex()}
    assert dissected(path, fields) == [[""] * len(fields)] * len(rows)


@pytest.mark.long
@pytest.mark.parametrize("profile", ["paper", "hardened"])
def test_every_attempt_of_the_vectors_is_opened_with_its_keys_and_those_of_round_0_follow_from_k_0(
    profile: str, tmp_path: Path
) -> None:
    session = vectors(f"session-{profile}")
    (log := tmp_path / "keys").write_text("\n".join(key_log_of(session)) + "\n")
    sent = [(round_, attempt) for round_ in session["rounds"] for attempt in round_["attempts"]]
    path = write(tmp_path / "session.pcapng", bare(bytes.fromhex(attempt["wire"]) for _, attempt in sent))
    assert dissected(path, PLAIN, *with_keys(log)) == [[r["message"], a["rand"], r["key"]] for r, a in sent]
    assert dissected(path, PLAIN) == [["", "", ""]] * len(sent)


@pytest.mark.long
@pytest.mark.parametrize("profile", list(Profile), ids=lambda profile: profile.label)
def test_messages_of_any_size_are_opened_and_rounds_told_apart_whose_seq_is_the_same(
    profile: Profile, tmp_path: Path
) -> None:
    """The Lua program's own AES and SHA-256 against those of the cryptography package."""
    draw = random.Random(6)
    sizes = [0, 1, 14, 15, 16, 17, 31, 32, 33, 47, 55, 63, 64, 65, 200, 3800]
    frames, lines, messages = [], ["# a comment", "BTSS_KI 00 00", "noise"], []
    for number, size in enumerate(sizes):
        chain = Chain(SUITES[profile], draw.randbytes(32), 7 + 256 * number, 256)
        messages.append(draw.randbytes(size))
        frame, _ = chain.seal(messages[-1], number % 2, draw.randbytes)
        frames.append(encode(frame))
        lines.append(chain_key_line(chain, b"responder to initiator"))
    draw.shuffle(lines)
    (log := tmp_path / "keys").write_text("\n".join(lines))
    path = write(tmp_path / "sizes.pcapng", by_rfcomm(frames))
    assert [row[0] for row in dissected(path, PLAIN, *with_keys(log))] == [message.hex() for message in messages]
    forged = write(tmp_path / "forged.pcapng", by_rfcomm(broken(frame, len(frame) - 20) for frame in frames))
    assert {row[0] for row in dissected(forged, PLAIN, *with_keys(log))} == {""}


@pytest.mark.long
def test_text_is_shown_as_text(tmp_path: Path) -> None:
    draw = random.Random(1)
    chain = Chain(SUITES[Profile.HARDENED], draw.randbytes(32), 1, 256)
    frame, _ = chain.seal(b"caf\xc3\xa9 at 5%\n", 0, draw.randbytes)
    (log := tmp_path / "keys").write_text(chain_key_line(chain, b""))
    path = write(tmp_path / "text.pcapng", bare([encode(frame)]))
    assert dissected(path, ["btss.plain.text"], *with_keys(log)) == [["caf.. at 5%."]]


@pytest.mark.long
def test_a_key_log_that_is_not_there_is_said_at_the_data(tmp_path: Path) -> None:
    path = write(tmp_path / "data.pcapng", bare([wire("hardened", "DATA")]))
    assert findings(path, "keylog", options=with_keys(tmp_path / "none")) == [1]
    assert findings(path, "keylog") == []


# --- what is not ours -------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("name", ["ubertooth", "nrf52_sniffer"])
def test_nothing_in_other_peoples_captures_is_taken_for_ours(name: str) -> None:
    assert dissected(FIXTURES / f"{name}.pcapng", ["frame.number"]) == []


@pytest.mark.long
def test_other_traffic_on_l2cap_and_rfcomm_is_left_alone(tmp_path: Path) -> None:
    draw = random.Random(3)
    octets = [bytes([first]) + draw.randbytes(size) for first in range(256) for size in (3, 40)]
    path = write(tmp_path / "other.pcapng", [*by_l2cap_unannounced(octets), *rfcomm_frames(octets)])
    assert dissected(path, ["frame.number"]) == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("carrier", "layers"),
    [
        (by_rfcomm, "btl2cap:btrfcomm:btss_rfcomm"),
        (by_rfcomm_unannounced, "btl2cap:btss_l2cap"),
        (by_l2cap, "btl2cap:btss_bare"),
        (by_l2cap_unannounced, "btl2cap:btss_l2cap"),
        (by_ipsp, "btl2cap:6lowpan:ipv6:udp:btss_ipsp"),
    ],
)
def test_what_wireshark_knows_of_a_channel_stays_in_the_view(carrier: Carrier, layers: str, tmp_path: Path) -> None:
    path = write(tmp_path / "layers.pcapng", carrier([wire("hardened", "RAND")]))
    [[protocols]] = dissected(path, ["frame.protocols"])
    assert protocols.endswith(layers)


@pytest.mark.long
def test_bytes_of_any_kind_break_nothing(tmp_path: Path) -> None:
    """An error in Lua ends the test: `run` looks for it. Half of the frames begin like ours."""
    draw = random.Random(4)
    frames = [draw.randbytes(draw.randrange(1, 150)) for _ in range(2000)]
    frames += [bytes([draw.choice(wires())[0]]) + frame for frame in frames]
    for data in wires():
        frames += [data[:size] for size in range(1, len(data))]
        frames += [broken(data, at) for at in range(len(data))]
    path = write(tmp_path / "noise.pcapng", [*bare(frames), *by_rfcomm(frames), *by_ipsp(frames)])
    rows = dissected(path, ["_ws.lua.error", "btss.kind"])
    assert len(rows) > 4000
    assert {row[0] for row in rows} == {""}
