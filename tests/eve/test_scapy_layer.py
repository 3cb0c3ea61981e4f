"""The scapy layer: the same bytes as tests/protocols/haoxiao/vectors, and scapy's own runner over btss.uts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from carriers import bare, vectors, write
from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import rdpcap

from bt_selfsecure.eve.haoxiao.layers import BTSS, BTSS_IPSP, BTSS_Relay
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile
from bt_selfsecure.protocols.haoxiao.relay_frames import RelayKind

FRAMES = vectors("frames")["frames"]


def name(frame: dict[str, Any]) -> str:
    return f"{frame['profile']} {frame['kind']}"


@pytest.mark.parametrize("frame", FRAMES, ids=name)
def test_every_vector_is_taken_apart_and_built_again(frame: dict[str, Any]) -> None:
    wire = bytes.fromhex(frame["wire"])
    packet = BTSS(wire)
    assert (packet.version, packet.kind, packet.seq) == (
        Profile[frame["profile"].upper()],
        Kind[frame["kind"]],
        frame["seq"],
    )
    assert packet.mac == bytes.fromhex(frame["mac"])
    if frame["oaep_seed"]:
        assert packet.padded == wire[5:-32]
    else:
        assert packet.rand == bytes.fromhex(frame["rand"])
        assert bytes(packet.message) == bytes.fromhex(frame["message"])
    assert not packet.payload
    packet.clear_cache()
    assert bytes(packet) == wire


@pytest.mark.parametrize("frame", [f for f in FRAMES if not f["oaep_seed"]], ids=name)
def test_every_vector_is_built_from_its_fields_with_len_and_hash_filled_in(frame: dict[str, Any]) -> None:
    unkeyed = frame["kind"] in ("REQUEST", "ACCEPT", "RAND", "RAND_COMPACT", "RAND_LIST")
    packet = BTSS(
        version=frame["profile"],
        kind=frame["kind"].lower(),
        retran=frame["retran"],
        seq=frame["seq"],
        rand=bytes.fromhex(frame["rand"]),
        message=bytes.fromhex(frame["message"]),
        mac=None if unkeyed else bytes.fromhex(frame["mac"]),
    )
    assert bytes(packet) == bytes.fromhex(frame["wire"])
    assert BTSS(bytes(packet)).hash_ok() is (True if unkeyed else None)


@pytest.mark.parametrize("profile", ["paper", "hardened"])
def test_messages_of_an_establishment_are_taken_apart(profile: str) -> None:
    for establishment in vectors(f"establishment-{profile}")["establishments"]:
        packets = [BTSS(bytes.fromhex(frame["wire"])) for frame in establishment["frames"]]
        by_kind = {Kind(packet.kind): packet for packet in packets}
        assert by_kind[Kind.RESPONSE].message.cpr == bytes.fromhex(establishment["cpr_s"])
        for kind in (Kind.RESPONSE, Kind.ACKNOWLEDGE, Kind.END):
            assert by_kind[kind].message.pair == bytes.fromhex(establishment["pair"])
        assert by_kind[Kind.END].message.nonce == bytes.fromhex(establishment["responder_nonce"])
        if profile == "hardened":
            offer = by_kind[Kind.REQUEST].message
            assert offer.identity.replace(":", "") == establishment["identity"]["initiator"]
            assert (offer.burst, offer.t1) == (establishment["burst"], establishment["t_1_ms"])
            assert by_kind[Kind.ACCEPT].message.identity.replace(":", "") == establishment["identity"]["responder"]


def test_scapy_reads_our_captures_of_bare_frames(tmp_path: Path) -> None:
    wires = [bytes.fromhex(frame["wire"]) for frame in FRAMES]
    assert [bytes(packet[BTSS]) for packet in rdpcap(str(write(tmp_path / "bare.pcapng", bare(wires))))] == wires


@pytest.mark.long
def test_scapys_runner_passes_every_test_of_the_uts_file(tmp_path: Path) -> None:
    script = Path(__file__).parent / "btss.uts"
    command = [sys.executable, "-m", "scapy.tools.UTscapy", "-t", script, "-f", "text", "-o", tmp_path / "report"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "report").read_text()
    assert report.count("=[passed]") == script.read_text().count("\n= ")
    assert "Failed=0" in report


@given(st.integers(0, 255), st.binary(max_size=120))
def test_any_bytes_behind_ipsp_are_taken_apart_into_themselves(first: int, rest: bytes) -> None:
    """scapy shows what is too short as Raw, where another layer is before it."""
    wire = bytes.fromhex("0300000007") + bytes([first]) + rest
    assert bytes(BTSS_IPSP(wire)) == wire


@pytest.mark.parametrize("frame", vectors("relay")["frames"], ids=lambda frame: frame["kind"])
def test_what_nodes_carry_for_each_other_is_taken_apart_and_built_again(frame: dict[str, Any]) -> None:
    message = bytes([11 << 2 | 2]) + bytes.fromhex(frame["wire"])
    packet = BTSS_Relay(message)
    assert (packet.port, packet.first, packet.more) == (11, 1, 0)
    assert (packet.kind, packet.ttl, packet.link) == (RelayKind[frame["kind"]], frame["ttl"], frame["link"])
    for end in ("source", "destination"):
        assert getattr(packet, end) == bytes.fromhex(frame[end]).hex(":")
    body = bytes.fromhex(frame["body"])
    match RelayKind(packet.kind):
        case RelayKind.REQUEST:
            assert "".join(packet.via).replace(":", "") == body.hex()
        case RelayKind.REPLY:
            assert (packet.open, "".join(packet.via).replace(":", "")) == (body[0], body[1:].hex())
        case RelayKind.ERROR:
            assert (packet.why, packet.by) == (body[0], body[1:].hex(":"))
        case RelayKind.SHARE:
            assert (packet.second, packet.other, packet.share) == (body[0], int.from_bytes(body[1:5]), body[5:])
        case RelayKind.DATAGRAM:
            assert bytes(packet.payload) == body
            packet = packet.copy()
            packet.remove_payload()
            message = message[: -len(body)]
    packet.clear_cache()
    assert bytes(packet) == message


def test_a_relayed_datagram_is_taken_apart_as_the_frame_that_it_is() -> None:
    wire = bytes.fromhex(next(frame for frame in FRAMES if frame["kind"] == "DATA")["wire"])
    packet = BTSS_Relay(bytes(BTSS_Relay(source="02:00:00:00:00:01", destination="02:00:00:00:00:03") / BTSS(wire)))
    assert bytes(packet[BTSS]) == wire
    assert packet.mysummary() == "relayed datagram, 02:00:00:00:00:01 to 02:00:00:00:00:03"


def test_a_piece_of_a_groups_broadcast_says_which_it_is() -> None:
    pieces = [BTSS(bytes.fromhex(wire)) for wire in vectors("group")["epochs"][1]["rounds"][0]["fragments"]]
    assert [piece.piece() for piece in pieces] == [(0, 2), (1, 2), (2, 2)]
    assert [len(bytes(piece.message)) for piece in pieces] == [21, 21, 21]
    assert pieces[1].mysummary().endswith("Seq=0 2 of 2")
    assert BTSS(kind="end").piece() is None
