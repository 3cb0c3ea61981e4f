"""DTLS with a pre-shared key, by itself: losses, mutations, floods. Programs of others: test_dtls_elsewhere.py."""

from __future__ import annotations

import ctypes
import gc
import os
import random
import time
import weakref
from collections.abc import Callable

import pytest

from bt_selfsecure.dtls.endpoint import Dtls
from bt_selfsecure.dtls.libssl import Libssl, NoLibsslError
from bt_selfsecure.dtls.listener import DtlsListener
from bt_selfsecure.dtls.values import (
    CIPHERS,
    Closed,
    Credentials,
    DataReceived,
    DtlsConfig,
    Established,
    Event,
    UnknownIdentity,
)
from bt_selfsecure.errors import LocalError
from bt_selfsecure.sansio.events import FrameRejected

KEY, IDENTITY = bytes(range(32)), b"devA"
FAST = DtlsConfig(first_timeout_s=0.03, last_timeout_s=0.2)
Pass = Callable[[bytes], list[bytes]]
PASSED: Pass = lambda data: [data]  # noqa: E731


def ask(key: bytes = KEY, identity: bytes = IDENTITY) -> Callable[[bytes], Credentials]:
    return lambda _hint: Credentials(identity, key)


def listener(config: DtlsConfig | None = None) -> DtlsListener:
    return DtlsListener({IDENTITY: KEY}.get, os.urandom, 0.0, config)


def events(end: Dtls | None) -> list[Event | FrameRejected]:
    return list(iter(end.next_event, None)) if end else []


class Pair:
    """A client and what a listener makes of its datagrams."""

    def __init__(self, client: Dtls, at: DtlsListener | None = None, through: Pass = PASSED) -> None:
        self.client, self.listener, self.through = client, at or listener(), through
        self.server: Dtls | None = None
        self.bytes = self.datagrams = 0

    def turn(self) -> None:
        """Carry what each has to say to the other, once."""
        for data in self.client.frames_to_send(0.0):
            for changed in self.count(data):
                if self.server is not None:
                    self.server.receive_frame(changed, 0.0)
                    continue
                answer = self.listener.receive_frame(changed, b"here", 0.0)
                if isinstance(answer, Dtls):
                    self.server = answer
                else:
                    for reply in answer:
                        self.back(reply)
        for data in self.server.frames_to_send(0.0) if self.server else ():
            self.back(data)

    def count(self, data: bytes) -> list[bytes]:
        self.bytes, self.datagrams = self.bytes + len(data), self.datagrams + 1
        return self.through(data)

    def back(self, data: bytes) -> None:
        for changed in self.count(data):
            self.client.receive_frame(changed, 0.0)

    def shake(self, turns: int = 6) -> Pair:
        for _ in range(turns):
            self.turn()
        return self

    @property
    def established(self) -> bool:
        return self.client.established and self.server is not None and self.server.established


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
        until = time.monotonic() + 20
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


@pytest.mark.parametrize("runs", [300, pytest.param(30_000, marks=pytest.mark.long)])
def test_mutated_datagrams_raise_nothing_and_forge_nothing(runs: int) -> None:
    """Before, in and after the handshake, at both ends and at the listener."""
    dice = random.Random(runs)

    def mutated(data: bytes) -> list[bytes]:
        chance = dice.random()
        if chance < 0.6:
            return [data]
        changed = bytearray(data)
        for _ in range(dice.randrange(1, 6)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        cut = bytes(changed[: dice.randrange(len(changed) + 1)])
        return dice.choice([[bytes(changed)], [cut], [bytes(changed), data], [data, data, cut], [data + cut]])

    at = listener()
    for _ in range(runs):
        pair = Pair(Dtls.client(ask(), 0.0), at, mutated)
        pair.shake(3)
        if pair.established:
            pair.client.send(b"genuine", 0.0)
        pair.shake(2)
        got = [event for event in events(pair.server) if isinstance(event, DataReceived)]
        assert got in ([], [DataReceived(b"genuine")])
        assert not any(isinstance(event, DataReceived) for event in events(pair.client))
