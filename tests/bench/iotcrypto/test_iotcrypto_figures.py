"""Figures 8 to 10: what the paper prints of them holds here, and the command prints them."""

from __future__ import annotations

import json

import pytest

from bt_selfsecure.bench.iotcrypto import figures
from bt_selfsecure.cli.main import main
from bt_selfsecure.protocols.iotcrypto.messages import Profile


def test_encryption_adds_29_bytes_to_each_packet() -> None:
    assert {sealed - plain for _, plain, sealed in figures.figure_8()} == {figures.PAPER_ADDED_BYTES}


@pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.value)
def test_a_connection_takes_no_more_bytes_than_the_papers(profile: Profile) -> None:
    rows = figures.connection_bytes(profile)
    assert sum(size for _, size in rows) <= figures.PAPER_CONNECTION_BYTES
    assert len(rows) == 1 + (2 if profile is Profile.PAPER else 4)


def test_the_handshake_is_what_the_specification_says_of_it() -> None:
    assert figures.Wire(bytes(16)).sizes == [125, 44, 141, 99, 100, 67]


def test_cbor_is_smaller_than_json_and_half_of_its_hexadecimal_text() -> None:
    for name, cbor, hexadecimal, as_json, _ in figures.figure_10():
        assert cbor < as_json, name
        assert hexadecimal == 2 * cbor


def test_each_part_of_the_computation_is_measured() -> None:
    measured = figures.figure_9(repeats=4)
    assert all(spent > 0 for spent in measured.parts_s.values())
    assert 0 < measured.verification(with_dtls=True) < measured.verification(with_dtls=False) < 1


def test_x509_takes_more() -> None:
    certificate, handshake = figures.x509_peer()
    assert certificate > 232
    assert handshake > 1000


def test_the_command_prints_what_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for number in ("8", "10"):
        assert main(["bench", "iotcrypto", "--figure", number]) == 0
        said = capsys.readouterr().out
        assert f"Figure {number}" in said
        assert max(map(len, said.splitlines())) <= 80
        assert main(["bench", "iotcrypto", "--figure", number, "--json"]) == 0
        assert list(json.loads(capsys.readouterr().out)) == [number]
