"""What a capture tells of IoT-Crypto to whoever has no key: real traffic, each link type, and what anybody may send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from carriers import FIXTURES, LE_CONNECTED, frames_of_sdu, ipsp_opened, l2cap, write
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from bt_selfsecure.cli.main import main
from bt_selfsecure.dtls.endpoint import Dtls
from bt_selfsecure.dtls.listener import DtlsListener
from bt_selfsecure.dtls.values import Credentials, DtlsConfig
from bt_selfsecure.eve.iotcrypto import traffic as traffic_of
from bt_selfsecure.eve.iotcrypto.traffic import NEGOTIATION, TRANSMISSION, Traffic, lines
from bt_selfsecure.eve.udp import UdpDatagram, of_ip
from bt_selfsecure.protocols.iotcrypto.messages import Advertisement

LOOPBACK = str(FIXTURES / "iotcrypto_loopback.pcapng")
ID = bytes(range(16))
DEVICE, GATEWAY = ("192.0.2.7", 40_000), ("192.0.2.1", 5712)


def spoken(identity: bytes, up: list[bytes], down: list[bytes]) -> Iterator[tuple[bool, bytes]]:
    """Real DTLS in memory: whether each datagram goes up, and its bytes."""
    config, key = DtlsConfig(ciphers="PSK-CHACHA20-POLY1305"), bytes(32)
    listener = DtlsListener(lambda name: key, lambda size: bytes(size), 0.0, config)
    client, server = Dtls.client(lambda hint: Credentials(identity, key), 0.0, config), None
    while not (server and client.established):
        for data in client.frames_to_send(0.0):
            yield True, data
            answer = [] if server else listener.receive_frame(data, b"device", 0.0)
            if server:
                server.receive_frame(data, 0.0)
            elif isinstance(answer, Dtls):
                server = answer
            else:
                for back in answer:
                    yield False, back
                    client.receive_frame(back, 0.0)
        for back in server.frames_to_send(0.0) if server else ():
            yield False, back
            client.receive_frame(back, 0.0)
    for end, said, is_up in ((client, up, True), (server, down, False)):
        for message in said:
            end.send(message, 0.0)
            yield from ((is_up, data) for data in end.frames_to_send(0.0))


def heard(
    identity: bytes, up: list[bytes], down: list[bytes], gateway: tuple[str, int] = GATEWAY, at: float = 0.0
) -> Iterator[UdpDatagram]:
    for is_up, data in spoken(identity, up, down):
        yield UdpDatagram(at, *(DEVICE if is_up else gateway), *(gateway if is_up else DEVICE), data)
        at += 0.5


def test_of_real_traffic_it_is_told_who_spoke_when_and_how_much(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eve", "read", LOOPBACK]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert said.split("IoT-Crypto, ")[1] == (
        "as it shows without a key\n"
        "  gateway 82f11db9f3087ca63133fe2f98460232 at 127.0.0.1\n"
        "    ports 5711 and 5712; 12 advertisements, 0.0 to 22.0 s\n"
        "  negotiation at 0.0 s: 127.0.0.1:33157 -> 127.0.0.1:5711\n"
        "    network office: 343 up, 392 down, 19 up, 19 down\n"
        "  transmission at 0.0 s: 127.0.0.1:39139 -> 127.0.0.1:5712\n"
        "    session 1e76892ec0609daf, in 22.3 s\n"
        "    4 up of 54 to 55 bytes, 4 down of 5 to 6 bytes\n"
        "  ids tell no device of 1 transmission; addresses and sizes may\n"
    )
    assert main(["eve", "read", "--json", LOOPBACK]) == 0
    told = json.loads(capsys.readouterr().out)["iotcrypto"]
    assert [(one["service"], one["device"]) for one in told["conversations"]] == [
        ("negotiation", None),
        ("transmission", None),
    ]
    assert told["conversations"][1]["up"] == {"54": 1, "55": 3}


def test_an_id_as_psk_identity_tells_which_device_speaks() -> None:
    """The profile `paper`."""
    traffic = Traffic()
    for datagram in heard(ID.hex().encode(), [b"x" * 20], [b"y" * 9]):
        traffic.hear(datagram)
    (one,) = traffic.conversations
    assert (one.service, one.device, one.up, one.down) == (TRANSMISSION, ID.hex(), {20: 1}, {9: 1})
    assert [*lines(traffic)][-1] == "  ids tell who opened 1 of 1 transmission"


def test_a_refusal_shows_by_its_size_and_a_new_handshake_is_a_conversation_of_its_own() -> None:
    traffic, gateway = Traffic(), ("192.0.2.1", 5711)
    for at, answer in ((0.0, b"abc"), (60.0, b"a" * 392)):
        for datagram in heard(b"office", [b"h" * 343], [answer], gateway, at):
            traffic.hear(datagram)
    assert [(one.service, one.refused, one.first) for one in traffic.conversations] == [
        (NEGOTIATION, True, 0.0),
        (NEGOTIATION, False, 60.0),
    ]
    assert any(line.endswith("network office: 343 up, 3 down; REFUSED") for line in lines(traffic))


def test_ports_that_are_advertised_are_looked_at_and_no_others() -> None:
    traffic, odd = Traffic(), ("192.0.2.1", 7002)
    for datagram in heard(b"office", [b"x"], [], odd):
        traffic.hear(datagram)
    assert traffic.conversations == []
    advertised = Advertisement(ID, 7001, 7002).encode()
    traffic.hear(UdpDatagram(0.0, "192.0.2.1", 40_001, "255.255.255.255", 5710, advertised))
    for datagram in heard(b"office", [b"x"], [], odd):
        traffic.hear(datagram)
    assert [one.service for one in traffic.conversations] == [TRANSMISSION]


def test_networks_of_both_families_and_ipsp_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    advertised = UDP(sport=40_001, dport=5710) / Advertisement(ID, 5711, 5712).encode()
    four, six = bytes(IP(src="192.0.2.1", dst="255.255.255.255") / advertised), bytes(IPv6(src="fe80::1") / advertised)
    tagged = bytes(12) + b"\x81\x00\x00\x07\x08\x00" + four
    packets = [
        (1, bytes(12) + b"\x08\x00" + four),
        (1, tagged),
        (1, bytes(12) + b"\x08\x06" + bytes(28)),  # ARP
        (101, six),
        (113, bytes(14) + b"\x86\xdd" + six),
        (276, b"\x08\x00" + bytes(18) + four),
        LE_CONNECTED,
        *ipsp_opened(),
        *(l2cap(frame) for frame in frames_of_sdu(b"\x41" + six)),
    ]
    assert main(["eve", "read", "--json", str(write(tmp_path / "all.pcapng", packets))]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["skipped"] == {}
    assert {one["address"]: one["advertisements"] for one in told["iotcrypto"]["gateways"]} == {
        "192.0.2.1": 3,
        "fe80::1": 2,
        "acl 1 sent": 1,
    }


def test_fragments_and_packets_that_lie_about_their_length_are_left_out() -> None:
    whole = IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=1, dport=2) / b"payload"
    found = of_ip(7.0, bytes(whole))
    assert found == UdpDatagram(7.0, "192.0.2.1", 1, "192.0.2.2", 2, b"payload")
    assert of_ip(0.0, bytes(whole) + bytes(10)) == found._replace(time=0.0)  # padding of Ethernet
    for packet in (whole.copy(), whole.copy(), whole.copy()):
        assert of_ip(0.0, bytes(packet)) is not None
    assert of_ip(0.0, bytes(IP(flags="MF") / whole.payload)) is None
    assert of_ip(0.0, bytes(IP(proto=6) / whole.payload)) is None
    assert of_ip(0.0, bytes(whole)[:-1]) is None
    assert of_ip(0.0, b"") is None


def test_what_anybody_may_send_is_kept_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic_of, "MOST", 3)
    traffic = Traffic()
    for number in range(5):
        said = Advertisement(bytes([number]) * 16, 5711, 5712).encode()
        traffic.hear(UdpDatagram(0.0, "192.0.2.1", 1, "255.255.255.255", 5710, said))
        for datagram in heard(b"office", [b"x"], [], ("192.0.2.1", 5712)):
            traffic.hear(datagram._replace(source_port=number + 7, source="192.0.2.7") if number else datagram)
    assert len(traffic.gateways) == len(traffic.conversations) == 3
    assert traffic.not_kept >= 2
    assert [*lines(traffic)][-1].endswith("more, for which there was no room")


@settings(max_examples=300)
@given(st.sampled_from([5710, 5711, 5712, 5713, 5714]), st.binary(max_size=80), st.sampled_from([b"", b"\x16\xfe\xfd"]))
def test_no_datagram_is_a_fault(port: int, data: bytes, head: bytes) -> None:
    traffic = Traffic()
    traffic.hear(UdpDatagram(0.0, "192.0.2.7", 40_000, "192.0.2.1", port, head + data))
    traffic.hear(UdpDatagram(0.0, "192.0.2.1", port, "192.0.2.7", 40_000, head + data))
    assert all(isinstance(line, str) for line in lines(traffic))
