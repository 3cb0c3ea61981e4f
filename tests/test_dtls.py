"""DTLS with a pre-shared key, by itself: losses, mutations, floods. Programs of others: test_dtls_elsewhere.py."""

from __future__ import annotations

import ctypes
import gc
import os
import random
import time
import weakref

import pytest
from dtls_pair import IDENTITY, Pair, ask, events, listener

from bt_selfsecure.dtls.endpoint import Dtls
from bt_selfsecure.dtls.libssl import Libssl, NoLibsslError
from bt_selfsecure.dtls.listener import DtlsListener
from bt_selfsecure.dtls.values import (
    CIPHERS,
    Closed,
    DataReceived,
    DtlsConfig,
    Established,
    UnknownIdentity,
)
from bt_selfsecure.errors import LocalError

FAST = DtlsConfig(first_timeout_s=0.03, last_timeout_s=0.2)


def test_two_ends_with_one_key_establish_and_talk_both_ways_and_close() -> None:
    pair = Pair(Dtls.client(ask(), 0.0)).shake()
    assert pair.server is not None
    assert events(pair.client) == events(pair.server) == [Established(IDENTITY, "PSK-CHACHA20-POLY1305")]
    assert (pair.client.get_timer(), pair.server.get_timer()) == (None, None)
    pair.client.send(b"there", 0.0)
    pair.server.send(b"back", 0.0)
    pair.turn()
    assert events(pair.server) == [DataReceived(b"there")]
    assert events(pair.client) == [DataReceived(b"back")]
    pair.client.close(0.0)
    pair.turn()
    assert events(pair.server) == [Closed("the peer closed it")]
    assert not pair.established


def test_a_handshake_is_six_datagrams_of_six_hundred_bytes_and_a_record_29_more_than_its_data() -> None:
    pair = Pair(Dtls.client(ask(), 0.0)).shake()
    assert (pair.established, pair.datagrams) == (True, 6)
    assert pair.bytes < 620
    pair.client.send(bytes(100), 0.0)
    (datagram,) = pair.client.frames_to_send(0.0)
    assert len(datagram) == 129


@pytest.mark.parametrize("cipher", ["PSK-CHACHA20-POLY1305", "PSK-AES128-CCM8", "PSK-AES128-GCM-SHA256"])
def test_each_cipher_of_the_list_can_be_had(cipher: str) -> None:
    pair = Pair(Dtls.client(ask(), 0.0, DtlsConfig(ciphers=f"{cipher}:@SECLEVEL=0"))).shake()
    assert events(pair.server) == [Established(IDENTITY, cipher)]


def test_a_wrong_key_never_establishes() -> None:
    pair = Pair(Dtls.client(ask(bytes(32)), 0.0, FAST), listener(FAST))
    for _ in range(12):
        pair.shake()
        time.sleep(0.03)
        for end in (pair.client, pair.server):
            assert end is not None
            end.handle_timer(0.0)
    assert not pair.client.established
    assert pair.server is not None
    assert not pair.server.established
    assert not any(isinstance(event, Established) for event in [*events(pair.client), *events(pair.server)])


def test_an_unknown_identity_is_told_and_looks_to_the_client_like_a_wrong_key() -> None:
    unknown = Pair(Dtls.client(ask(identity=b"devX"), 0.0)).shake()
    wrong = Pair(Dtls.client(ask(bytes(32)), 0.0)).shake()
    assert events(unknown.server) == [UnknownIdentity(b"devX")]
    assert (unknown.datagrams, unknown.bytes, events(unknown.client)) == (wrong.datagrams, wrong.bytes, [])


def test_a_key_is_asked_for_at_each_handshake_and_none_is_resumed() -> None:
    keys = {IDENTITY: b"first"}
    at = DtlsListener(keys.get, os.urandom, 0.0)
    assert Pair(Dtls.client(ask(b"first"), 0.0), at).shake().established
    keys[IDENTITY] = b"second"
    assert not Pair(Dtls.client(ask(b"first"), 0.0), at).shake().established
    assert Pair(Dtls.client(ask(b"second"), 0.0), at).shake().established


def test_a_flood_of_hellos_gets_smaller_answers_and_no_endpoint() -> None:
    (hello,) = Dtls.client(ask(), 0.0).frames_to_send(0.0)
    at = listener()
    for number in range(2000):
        answer = at.receive_frame(hello, number.to_bytes(4), 0.0)
        assert isinstance(answer, list)
        assert sum(map(len, answer)) < len(hello)


def test_a_cookie_is_good_for_its_address_and_for_its_time_alone() -> None:
    at, client = listener(), Dtls.client(ask(), 0.0)
    (hello,) = client.frames_to_send(0.0)
    reply = at.receive_frame(hello, b"here", 30.0)
    assert isinstance(reply, list)
    client.receive_frame(reply[0], 30.0)
    (again,) = client.frames_to_send(30.0)
    assert isinstance(at.receive_frame(again, b"there", 30.0), list)
    assert isinstance(at.receive_frame(again, b"here", 150.0), list)
    assert isinstance(at.receive_frame(again, b"here", 119.0), Dtls)


def test_lost_flights_are_repeated_by_the_timer() -> None:
    dice = random.Random(7)
    for _ in range(5):
        pair = Pair(Dtls.client(ask(), 0.0, FAST), listener(FAST), lambda data: [data] if dice.random() < 0.6 else [])
        until = time.monotonic() + 60
        while not pair.established and time.monotonic() < until:
            pair.turn()
            for end in filter(None, (pair.client, pair.server)):
                end.handle_timer(0.0)
            time.sleep(0.01)
        assert pair.established


def test_no_more_than_the_mtu_is_in_a_datagram_and_longer_data_is_refused() -> None:
    pair = Pair(Dtls.client(ask(), 0.0, DtlsConfig(mtu=300)), listener(DtlsConfig(mtu=300)))
    assert pair.shake().established
    most = pair.client.most_data_bytes
    pair.client.send(bytes(most), 0.0)
    assert [len(data) for data in pair.client.frames_to_send(0.0)] == [300]
    for data in (bytes(most + 1), b""):
        with pytest.raises(LocalError, match="bytes fit"):
            pair.client.send(data, 0.0)
    with pytest.raises(LocalError, match="nothing is established"):
        Dtls.client(ask(), 0.0).send(b"early", 0.0)


def test_a_forged_alert_ends_a_handshake_and_not_what_is_established() -> None:
    forged = bytes.fromhex("15 fefd 0000 0000000000ff 0002 0228")  # fatal, handshake failure, in clear
    client = Dtls.client(ask(), 0.0)
    client.receive_frame(forged, 0.0)
    assert [type(event) for event in events(client)] == [Closed]
    pair = Pair(Dtls.client(ask(), 0.0)).shake()
    pair.client.receive_frame(forged, 0.0)
    assert pair.established


@pytest.mark.parametrize("cipher", CIPHERS.split(":")[:3])
def test_no_record_of_a_strangers_ends_what_is_established(cipher: str) -> None:
    """Also none that is shorter than what the cipher adds, for which libssl 3.0 gives a session up."""
    for length in range(64):
        pair = Pair(Dtls.client(ask(), 0.0, DtlsConfig(ciphers=f"{cipher}:@SECLEVEL=0"))).shake()
        for kind in (20, 21, 22, 23):
            record = bytes([kind]) + bytes.fromhex("fefd 0001 0000 00ff ffff") + length.to_bytes(2) + bytes(length)
            for forged in (record, record[:-1], record + b"x"):
                pair.client.receive_frame(forged, 0.0)
        assert pair.client.established, length
        assert not any(isinstance(event, Closed) for event in events(pair.client))


def test_where_there_is_no_libssl_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> ctypes.CDLL:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", absent)
    with pytest.raises(NoLibsslError, match=r"libssl\.so\.3: cannot open.*apt-get install libssl3"):
        Libssl()


def test_what_a_look_up_raises_comes_out_of_the_verb() -> None:
    def fails(_identity: bytes) -> bytes:
        raise KeyError("the table is gone")

    with pytest.raises(KeyError, match="the table is gone"):
        Pair(Dtls.client(ask(), 0.0), DtlsListener(fails, os.urandom, 0.0)).shake()


def test_an_endpoint_that_nobody_has_any_more_is_gone_at_once() -> None:
    gc.disable()
    try:
        pair = Pair(Dtls.client(ask(), 0.0)).shake()
        watched = [weakref.ref(pair.client), weakref.ref(pair.server)]  # type: ignore[type-var]
        del pair
        assert [reference() for reference in watched] == [None, None]
    finally:
        gc.enable()
