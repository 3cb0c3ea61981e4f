"""D-OTP's object layer and Sabour's handshake in tshark, as real ends of both send them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from carriers import ROOT, run, write
from fuzzing import mutated
from scapy.layers.inet import IP, UDP

from bt_selfsecure.protocols.dotp.endpoint import Dotp
from bt_selfsecure.protocols.dotp.keys import EPOCH_BITS, Policy, Role
from bt_selfsecure.protocols.dotp.record import DotpRecord
from bt_selfsecure.protocols.sabour.client import Client
from bt_selfsecure.protocols.sabour.config import ClientConfig, ServerConfig
from bt_selfsecure.protocols.sabour.enrolment import Identity
from bt_selfsecure.protocols.sabour.messages import Profile
from bt_selfsecure.protocols.sabour.server import Server
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import Persist

DISSECTOR = ROOT / "captures/bt_selfsecure_coap.lua"
RAW_IP = 101
COAP_PORT, AUTH_PORT = 5683, 5588
SECRET = bytes(range(32))
GET = bytes.fromhex("40011234b474696d65")
ANSWER = bytes.fromhex("604512 34c0ff") + b"Nov 29 09:22:00, and more"
SHORT = bytes.fromhex("60001234")
SERVER, DEVICE = Identity(b"server 1", bytes(range(1, 33))), Identity(b"device 1", bytes(range(32, 64)))
Said = tuple[Role, bytes]


def packets(said: Iterable[Said], port: int) -> Iterator[tuple[int, bytes]]:
    for sender, data in said:
        there = sender is Role.CLIENT
        addresses = IP(src="192.0.2.1", dst="192.0.2.2") if there else IP(src="192.0.2.2", dst="192.0.2.1")
        ports = UDP(sport=40_000, dport=port) if there else UDP(sport=port, dport=40_000)
        yield RAW_IP, bytes(addresses / ports / data)


def shown(path: Path, filter_: str, *fields: str, options: Iterable[str] = ()) -> list[list[str]]:
    chosen = [word for field in fields for word in ("-e", field)]
    command = ["tshark", "-X", f"lua_script:{DISSECTOR}", *options, "-r", path, "-Y", filter_, "-T", "fields", *chosen]
    return [line.split("\t") for line in run(*command).splitlines()]


def sent(record: DotpRecord, texts: list[bytes]) -> list[bytes]:
    end = Dotp(record)
    for text in texts:
        end.send(text, 0.0)
    while (event := end.next_event()) is not None:
        if isinstance(event, Persist):
            end.persisted(event.token)
    return end.frames_to_send(0.0)


@pytest.fixture
def key_file(tmp_path: Path) -> tuple[str, str]:
    path = tmp_path / "pair.key"
    path.write_text(f"one-word\nalice {SECRET.hex()}\n")
    return "-o", f"btss_dotp.key_file:{path}"


def test_a_hardened_record_shows_serial_and_tag_and_with_the_key_file_the_coap_in_it(
    tmp_path: Path, key_file: tuple[str, str]
) -> None:
    there = sent(DotpRecord.hardened(Role.CLIENT, SECRET), [GET, GET])
    back = sent(DotpRecord.hardened(Role.SERVER, SECRET), [ANSWER, SHORT])
    said = [(Role.CLIENT, there[0]), (Role.SERVER, back[0]), (Role.CLIENT, there[1]), (Role.SERVER, back[1])]
    path = write(tmp_path / "dotp.pcapng", packets([*said, (Role.CLIENT, there[0])], COAP_PORT))
    heads = [
        [str(int.from_bytes(data[:4])), data[4:20].hex(), data[20:].hex()] for _, data in [*said, (None, there[0])]
    ]
    fields = ("btss_dotp.serial", "btss_dotp.tag", "btss_dotp.sealed")
    assert shown(path, "btss_dotp", *fields) == heads
    assert shown(path, "btss_dotp.again", "frame.number") == [["5"]]
    assert shown(path, "coap", "frame.number") == []
    inside = ("btss_dotp.identity", "btss_dotp.sender", "coap.mid", "coap.opt.uri_path")
    assert shown(path, "coap", *inside, options=key_file) == [
        ["alice", "client", "4660", "time"],
        ["alice", "server", "4660", ""],
        ["alice", "client", "4660", "time"],
        ["alice", "server", "4660", ""],
        ["alice", "client", "4660", "time"],
    ]


def test_a_record_of_a_later_epoch_is_opened_too(tmp_path: Path, key_file: tuple[str, str]) -> None:
    record = DotpRecord.hardened(Role.CLIENT, SECRET)
    late = replace(record, sending=replace(record.sending, number=2 << EPOCH_BITS))
    path = write(tmp_path / "late.pcapng", packets([(Role.CLIENT, data) for data in sent(late, [GET])], COAP_PORT))
    assert shown(path, "coap", "btss_dotp.serial", "coap.mid", options=key_file) == [["131072", "4660"]]


def test_a_record_of_the_paper_shows_its_serial_and_has_no_tag(tmp_path: Path) -> None:
    there = sent(DotpRecord.paper(Role.CLIENT, 1234, Policy.PER_IO_NRPRNG), [GET, GET * 3])
    path = write(tmp_path / "paper.pcapng", packets([(Role.CLIENT, data) for data in there], COAP_PORT))
    fields = ("btss_dotp.serial", "btss_dotp.tag", "btss_dotp.sealed")
    rows = shown(path, "btss_dotp", *fields, options=("-o", "btss_dotp.paper:TRUE"))
    assert rows == [["0", "", there[0][4:].hex()], ["2", "", there[1][4:].hex()]]
    assert shown(path, "btss_dotp", *fields)[0] == rows[0]  # too short for a tag


def handshake(profile: Profile, identity: Identity = DEVICE) -> list[Said]:
    """What two ends of this profile say."""
    devices = {DEVICE.device_id: DEVICE.enrolment.key if profile.hardened else b""}
    client = Client(ClientConfig(identity, SERVER.enrolment, profile), EndpointContext(os.urandom))
    server = Server(ServerConfig(SERVER, devices, profile), EndpointContext(os.urandom))
    client.start(0.0)
    said: list[Said] = []
    for _ in range(2):
        for data in client.frames_to_send(0.0):
            said.append((Role.CLIENT, data))
            server.receive_frame(data, 0.0)
        for data in server.frames_to_send(0.0):
            said.append((Role.SERVER, data))
            client.receive_frame(data, 0.0)
    return said


def in_coap(said: Iterable[Said]) -> list[Said]:
    """As `coap.sabour` carries it: a POST to /auth, and its response; between them an option of extended length."""
    wrapped = []
    for number, (sender, data) in enumerate(said):
        there = sender is Role.CLIENT
        head = bytes([0x51, 0x02 if there else 0x44]) + number.to_bytes(2) + b"\x07"
        options = b"\xb4auth" + (b"\xd1\xea\x1a" if number else b"") if there else b""
        wrapped.append((sender, head + options + b"\xff" + data))
    return wrapped


FIELDS = tuple(f"btss_sabour.{name}" for name in ("profile", "kind", "device", "text", "share", "signature"))


def rows_of(said: Iterable[Said], profile: Profile) -> list[list[str]]:
    number = "2" if profile.hardened else "1"
    rows = []
    for _, data in said:
        kind, text = data[0] & 15, "" if profile.hardened else "HelloClient"
        rows.append(
            [
                number,
                str(kind),
                data[1:9].hex() if kind == 1 else "",
                text if kind == 2 else "",
                {1: data[9:], 2: data[1 + len(text) :]}.get(kind, b"").hex(),
                data[1:].hex() if kind > 2 else "",
            ]
        )
    return rows


@pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.value)
def test_each_message_of_a_handshake_shows_its_fields(profile: Profile, tmp_path: Path) -> None:
    said = handshake(profile)
    assert len(said) == 4
    carried = packets(in_coap(said), COAP_PORT) if profile.hardened else packets(said, AUTH_PORT)
    path = write(tmp_path / "sabour.pcapng", carried)
    assert shown(path, "btss_sabour", *FIELDS) == rows_of(said, profile)
    if profile.hardened:
        assert shown(path, "coap", "coap.mid") == [["0"], ["1"], ["2"], ["3"]]


def test_a_refusal_shows_its_text_and_what_is_neither_is_left_to_others(tmp_path: Path) -> None:
    stranger = handshake(Profile.PAPER_ECDSA, Identity(b"stranger", bytes(32)))
    path = write(tmp_path / "refused.pcapng", packets([*stranger, (Role.CLIENT, b"\x11" * 72)], AUTH_PORT))
    assert shown(path, "btss_sabour.kind == 5", "btss_sabour.text") == [["Device not defined!"]]
    assert len(shown(path, "btss_sabour", "frame.number")) == 2
    coap = [GET, ANSWER, SHORT, GET[:4] + b"\xff", b"\x40\x01\x12\x34\xde", b"\x4f\x01\x12\x34", b"@", b""]
    path = write(tmp_path / "plain.pcapng", packets([(Role.CLIENT, data) for data in coap], COAP_PORT))
    assert shown(path, "btss_sabour || btss_dotp", "frame.number") == []
    assert len(shown(path, "coap", "frame.number")) >= 3


def test_a_conversation_that_began_as_coap_stays_coap_and_one_of_dotp_stays_that(tmp_path: Path) -> None:
    """Also of a version that CoAP does not have, and where a serial has come to look like a message of CoAP."""
    odd = [GET, b"\x00" + GET[1:], b"\x80" + GET[1:], b"\xc0" + GET[1:], GET]
    path = write(tmp_path / "odd.pcapng", packets([(Role.CLIENT, data) for data in odd], COAP_PORT))
    assert shown(path, "btss_dotp", "frame.number") == []
    assert len(shown(path, "coap", "frame.number")) == len(odd)
    record = DotpRecord.hardened(Role.CLIENT, SECRET)
    late = replace(record, sending=replace(record.sending, number=1 << 30))
    records = [*sent(record, [GET]), *sent(late, [GET])]
    path = write(tmp_path / "late.pcapng", packets([(Role.CLIENT, data) for data in records], COAP_PORT))
    assert shown(path, "btss_dotp", "btss_dotp.serial") == [["0"], [str(1 << 30)]]
    alone = write(tmp_path / "alone.pcapng", packets([(Role.CLIENT, records[1])], COAP_PORT))
    assert shown(alone, "btss_dotp", "frame.number") == []


@pytest.mark.parametrize("datagrams", [500, pytest.param(20_000, marks=pytest.mark.long)])
def test_no_datagram_brings_the_dissector_to_a_fault(datagrams: int, tmp_path: Path, key_file: tuple[str, str]) -> None:
    draw = random.Random(7)
    hardened = in_coap(handshake(Profile.HARDENED))
    records = [(Role.CLIENT, data) for data in sent(DotpRecord.hardened(Role.CLIENT, SECRET), [GET, ANSWER])]
    paper = handshake(Profile.PAPER_ECDSA)

    def hostile(said: list[Said], port: int) -> Iterator[tuple[int, bytes]]:
        changed = [(sender, mutated(data, draw)) for sender, data in draw.choices(said, k=datagrams // 2)]
        return packets(changed, port)

    both = [*hostile([*hardened, *records], COAP_PORT), *hostile(paper, AUTH_PORT)]
    path = write(tmp_path / "hostile.pcapng", both)
    assert shown(path, "_ws.lua.error", "frame.number", options=key_file) == []
