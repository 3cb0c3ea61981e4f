"""Advertisements of IoT-Crypto in tshark: the specification's vector, real traffic, and one that is sent again."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path

from carriers import FIXTURES, ROOT, run, write
from fuzzing import mutated
from scapy.layers.inet import IP, UDP

from bt_selfsecure.protocols.iotcrypto.canonical import MalformedError
from bt_selfsecure.protocols.iotcrypto.messages import Advertisement

DISSECTOR = ROOT / "bt_selfsecure/eve/wireshark/iotcrypto/bt_selfsecure_iotcrypto.lua"
VECTORS = ROOT / "tests/protocols/iotcrypto/vectors/trust.json"
ADVERTISED = bytes.fromhex(json.loads(VECTORS.read_text())["advertisement"])
FIELDS = ("id", "negotiation_port", "transmission_port", "elsewhere")
RAW_IP = 101


def capture(path: Path, sent: Iterable[tuple[str, bytes]], port: int = 5710) -> Path:
    return write(
        path,
        (
            (RAW_IP, bytes(IP(src=who, dst="255.255.255.255") / UDP(sport=40_000, dport=port) / data))
            for who, data in sent
        ),
    )


def shown(path: Path, *options: str) -> list[list[str]]:
    chosen = [word for field in FIELDS for word in ("-e", f"btss_iotcrypto.{field}")]
    command = ["tshark", "-X", f"lua_script:{DISSECTOR}", *options, "-r", path, "-Y", "btss_iotcrypto", "-T", "fields"]
    return [line.split("\t") for line in run(*command, *chosen).splitlines()]


def test_an_advertisement_is_shown_as_the_specification_has_it(tmp_path: Path) -> None:
    said = Advertisement.decode(ADVERTISED)
    path = capture(tmp_path / "one.pcap", [("192.0.2.1", ADVERTISED)])
    assert shown(path) == [[said.id.hex(), str(said.negotiation_port), str(said.transmission_port), ""]]
    ends = [Advertisement(said.id, *ports) for ports in ((1, 23), (24, 255), (256, 65_535))]
    path = capture(tmp_path / "ends.pcap", (("192.0.2.1", one.encode()) for one in ends))
    assert [row[1:3] for row in shown(path)] == [["1", "23"], ["24", "255"], ["256", "65535"]]


def test_real_traffic_has_its_advertisements_and_dtls_beside_them() -> None:
    path = FIXTURES / "iotcrypto_loopback.pcapng"
    assert shown(path) == [["82f11db9f3087ca63133fe2f98460232", "5711", "5712", ""]] * 12
    seen = run(
        "tshark", "-X", f"lua_script:{DISSECTOR}", "-r", path, "-Y", "dtls", "-T", "fields", "-e", "frame.number"
    )
    assert len(seen.splitlines()) == 26


def test_an_advertisement_that_comes_from_another_address_is_warned_of(tmp_path: Path) -> None:
    path = capture(tmp_path / "rogue.pcap", [("192.0.2.1", ADVERTISED), ("192.0.2.66", ADVERTISED)])
    assert [bool(row[3]) for row in shown(path)] == [False, True]


def test_another_port_is_taken_by_preference(tmp_path: Path) -> None:
    path = capture(tmp_path / "port.pcap", [("192.0.2.1", ADVERTISED)], 7010)
    assert shown(path) == []
    assert len(shown(path, "-o", "btss_iotcrypto.port:7010")) == 1


def test_what_is_shown_is_what_the_codec_reads_whatever_comes(tmp_path: Path) -> None:
    rng, expected = random.Random(1), []
    sent = [mutated(ADVERTISED, rng) for _ in range(2000)]
    for data in sent:
        try:
            expected.append(Advertisement.decode(data).id.hex())
        except MalformedError:
            continue
    path = capture(tmp_path / "fuzz.pcap", (("192.0.2.1", data) for data in sent))
    assert [row[0] for row in shown(path)] == expected
    assert len(expected) > 100
