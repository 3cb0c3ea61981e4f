"""Figures 8 to 10: what the paper prints of them holds here, and the command prints them."""

from __future__ import annotations

import json
import ssl
import sys

import pytest

from bt_selfsecure.bench.iotcrypto import figures, peers, report
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
    """With OpenSSL 3.0; since 3.5 each hello of the client has 3 bytes more."""
    more = 3 * (ssl.OPENSSL_VERSION_INFO >= (3, 5))
    assert figures.Wire(bytes(16)).sizes == [125 + more, 44, 141 + more, 99, 100, 67]


def test_cbor_is_smaller_than_json_and_half_of_its_hexadecimal_text() -> None:
    for name, cbor, hexadecimal, as_json, _ in figures.figure_10():
        assert cbor < as_json, name
        assert hexadecimal == 2 * cbor


def test_each_part_of_the_computation_is_measured() -> None:
    measured = figures.figure_9(repeats=4)
    assert all(spent > 0 for spent in measured.parts_s.values())
    assert 0 < measured.verification(with_dtls=True) < measured.verification(with_dtls=False) < 1


def test_what_is_in_a_connection_and_in_a_certificate_adds_up() -> None:
    for profile in Profile:
        parts = figures.connection_parts(profile)
        assert sum(parts.values()) == sum(size for _, size in figures.connection_bytes(profile))
        assert parts["certificates"] == 2 * 230
        assert parts["third-party signatures"] == 2 * 85  # one at each end, in an array
    assert sum(figures.certificate_parts().values()) == 230 <= figures.PAPER_CERTIFICATE_BYTES


def test_x509_takes_more_and_edhoc_less() -> None:
    ours = sum(size for _, size in figures.connection_bytes(Profile.HARDENED))
    by_name = {peer.name: peer for peer in peers.peers()}
    assert by_name["DTLS 1.2, X.509 at both ends"].credential_bytes > 232
    assert min(peer.handshake_bytes for name, peer in by_name.items() if "X.509" in name) > ours
    assert max(peer.handshake_bytes for name, peer in by_name.items() if "EDHOC" in name) < ours


def test_edhoc_is_as_long_as_its_rfc_says_and_with_shown_keys_as_long_as_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So the same sum with a C509 certificate, of which no library makes one here, is as good."""
    pytest.importorskip("lakers")
    assert peers._edhoc_sizes(by_value=False)[0] == peers.EDHOC_BY_REFERENCE
    shown, credential = peers._edhoc_sizes(by_value=True)
    monkeypatch.setattr(peers, "C509_BYTES", credential)
    monkeypatch.setattr(peers, "_LABEL_BYTES", 2)  # kccs is 14, in one byte
    assert tuple(peers._with_c509(size) for size in peers.EDHOC_BY_REFERENCE[1:]) == shown[1:]


def test_without_the_library_of_edhoc_the_rfcs_figures_stand_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lakers", None)
    known = [peer for peer in peers.peers() if peer.name == "EDHOC, credentials known before"]
    assert [(peer.handshake_bytes, peer.source) for peer in known] == [(101, "RFC 9528, 1.2")]
    assert max(map(len, report.lines(report.figures("8")))) <= 80


def test_the_command_prints_what_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for number in ("8", "10"):
        assert main(["bench", "iotcrypto", "--figure", number]) == 0
        said = capsys.readouterr().out
        assert f"Figure {number}" in said
        assert max(map(len, said.splitlines())) <= 80
        assert main(["bench", "iotcrypto", "--figure", number, "--json"]) == 0
        assert list(json.loads(capsys.readouterr().out)) == [number]
