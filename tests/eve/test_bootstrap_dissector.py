"""Kang's bootstrapping in tshark, byte by byte from the specification's vectors."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path

import pytest
from carriers import ROOT, run, write
from fuzzing import mutated
from scapy.layers.inet import IP, UDP

DISSECTOR = ROOT / "bt_selfsecure/eve/wireshark/bootstrap/bt_selfsecure_bootstrap.lua"
VECTORS = ROOT / "tests/protocols/bootstrap/vectors/bootstrap.json"
JOIN = {number: bytes.fromhex(json.loads(VECTORS.read_text())["hardened"][0][f"f{number}"]) for number in range(1, 9)}
PORTS = {1: 5702, 2: 5701, 3: 5701, 4: 5702, 5: 5702, 6: 5701, 7: 5701, 8: 5702}
RAW_IP = 101


def capture(path: Path, flights: Iterable[tuple[int, bytes]]) -> Path:
    return write(
        path, ((RAW_IP, bytes(IP(dst="192.0.2.1") / UDP(sport=40_000, dport=port) / data)) for port, data in flights)
    )


def shown(path: Path, *fields: str, options: Iterable[str] = ()) -> list[list[str]]:
    chosen = [word for field in fields for word in ("-e", field)]
    command = ["tshark", "-X", f"lua_script:{DISSECTOR}", *options, "-r", path, "-Y", "btss_bootstrap", "-T", "fields"]
    return [line.split("\t") for line in run(*command, *chosen).splitlines()]


def test_each_flight_is_shown_as_the_specification_has_it(tmp_path: Path) -> None:
    path = capture(tmp_path / "join.pcap", ((PORTS[number], data) for number, data in JOIN.items()))
    names = ("version", "flight", "tid", "node", "rn_i", "sealed", "tag")
    rows = shown(path, *(f"btss_bootstrap.{name}" for name in names))
    assert rows[0] == ["1", "1", "", JOIN[1][2:10].hex(), JOIN[1][10:26].hex(), "", JOIN[1][26:].hex()]
    for number, row in enumerate(rows[1:], 2):
        rest = JOIN[number][10:].hex()
        parts = ["", rest] if number in (5, 8) else [rest, ""]
        assert row == ["1", str(number), "1", "", "", *parts]
    assert len(rows) == 8


def test_a_flight_that_travels_out_of_band_and_one_that_comes_again_are_told(tmp_path: Path) -> None:
    path = capture(tmp_path / "odd.pcap", [(5702, JOIN[4]), (5702, JOIN[5]), (5702, JOIN[5])])
    rows = shown(path, "btss_bootstrap.flight", "btss_bootstrap.misplaced", "btss_bootstrap.again")
    assert [[row[0], bool(row[1]), bool(row[2])] for row in rows] == [
        ["4", True, False],
        ["5", False, False],
        ["5", False, True],
    ]


def test_other_ports_are_taken_by_preference(tmp_path: Path) -> None:
    path = capture(tmp_path / "ports.pcap", [(7001, JOIN[2]), (7002, JOIN[5])])
    assert shown(path, "btss_bootstrap.flight") == []
    options = ("-o", "btss_bootstrap.server_port:7001", "-o", "btss_bootstrap.nid_port:7002")
    assert shown(path, "btss_bootstrap.flight", options=options) == [["2"], ["5"]]


@pytest.mark.parametrize("seed", [1])
def test_no_datagram_is_a_fault_of_the_dissector(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    flights = [(rng.choice((5701, 5702)), mutated(rng.choice([*JOIN.values()]), rng)) for _ in range(2000)]
    path = capture(tmp_path / "fuzz.pcap", flights)
    said = run("tshark", "-X", f"lua_script:{DISSECTOR}", "-V", "-r", path)
    assert "Lua Error" not in said
