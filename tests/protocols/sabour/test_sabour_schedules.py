"""Loss, copies and overtaking in virtual time: both ends agree, or say why not.

pytest -m long tests/protocols/sabour/test_sabour_schedules.py        ten thousand schedules
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import count

import pytest
from amounts import part_of
from hypothesis import given, settings
from hypothesis import strategies as st
from sabour_ends import DEVICE, STRANGER, client, events, server

from bt_selfsecure.protocols.sabour.client import Client, ClientState
from bt_selfsecure.protocols.sabour.events import (
    Established,
    Event,
    Failure,
    FrameRejected,
    HandshakeExpired,
    HandshakeFailed,
)
from bt_selfsecure.protocols.sabour.keys import Keys, OscoreContext
from bt_selfsecure.protocols.sabour.messages import Profile
from bt_selfsecure.protocols.sabour.server import Server

SECONDS = 400.0
End = Client | Server
Fate = list[float]
"""When a datagram arrives, in seconds after it was sent: never, once, or several times."""

FATES = st.lists(st.lists(st.floats(0.0, 20.0), max_size=3), max_size=24)


@dataclass
class Air:
    """Datagrams on a heap; each meets the next fate, and when there are no more it arrives at once."""

    ends: dict[str, End]
    fates: list[Fate]
    told: list[tuple[float, str, Event]] = field(default_factory=list)
    now: float = 0.0

    def run(self) -> None:
        heap: list[tuple[float, int, str, bytes]] = []
        order, fates = count(), iter(self.fates)
        while self.now < SECONDS:
            for name, end in self.ends.items():
                for data in end.frames_to_send(self.now):
                    for delay in next(fates, [0.01]):
                        for listener in self.ends.keys() - {name}:
                            heapq.heappush(heap, (self.now + delay, next(order), listener, data))
                self.told += [(self.now, name, event) for event in events(end)]
            timers = [deadline for end in self.ends.values() if (deadline := end.get_timer()) is not None]
            moment = min([*timers, *(entry[0] for entry in heap[:1])], default=SECONDS)
            self.now = max(self.now, moment)
            if heap and heap[0][0] <= self.now:
                _, _, name, data = heapq.heappop(heap)
                self.ends[name].receive_frame(data, self.now)
            else:
                for end in self.ends.values():
                    end.handle_timer(self.now)

    def keys(self, name: str) -> list[Keys]:
        return [event.keys for _, who, event in self.told if who == name and isinstance(event, Established)]

    def failures(self, name: str) -> list[Failure]:
        return [event.reason for _, who, event in self.told if who == name and isinstance(event, HandshakeFailed)]


def mirrored(keys: Keys) -> Keys:
    if not isinstance(keys, OscoreContext):
        return keys
    return OscoreContext(keys.master_secret, keys.master_salt, keys.recipient_id, keys.sender_id)


def check(profile: Profile, fates: list[Fate]) -> None:
    device, host = client(profile, retransmissions=4), server(profile)
    device.start(0.0)
    air = Air({"device": device, "host": host}, fates)
    air.run()
    mine, theirs = air.keys("device"), [mirrored(keys) for keys in air.keys("host")]
    assert len(mine) + len(air.failures("device")) == 1  # it always says how it ended
    assert (device.state is ClientState.ESTABLISHED) is bool(mine)
    assert len(theirs) == len(set(theirs))
    if profile.hardened:
        assert set(mine) <= set(theirs)  # what the device believes the server has
    if air.failures("device") == [Failure.NO_ANSWER]:
        assert not theirs
    assert host.half_open == 0
    assert host.get_timer() is None


@given(FATES)
@settings(deadline=None, max_examples=part_of(100))
def test_whatever_the_air_does_both_ends_agree_or_the_device_says_why_not(fates: list[Fate]) -> None:
    check(Profile.HARDENED, fates)


@given(FATES, st.sampled_from([Profile.PAPER_ECDSA, Profile.PAPER_HASH]))
@settings(deadline=None, max_examples=part_of(50))
def test_a_paper_device_always_says_how_it_ended(fates: list[Fate], profile: Profile) -> None:
    check(profile, fates)


@pytest.mark.long
@given(FATES)
@settings(deadline=None, max_examples=10_000)
def test_ten_thousand_schedules(fates: list[Fate]) -> None:
    check(Profile.HARDENED, fates)


@given(st.lists(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=3), max_size=24))
@settings(deadline=None, max_examples=part_of(50))
def test_where_nothing_is_lost_both_ends_have_keys(fates: list[Fate]) -> None:
    device, host = client(Profile.HARDENED), server(Profile.HARDENED)
    device.start(0.0)
    air = Air({"device": device, "host": host}, fates)
    air.run()
    assert air.keys("device") == [mirrored(keys) for keys in air.keys("host")] != []


@given(st.integers(0, 3))
@settings(deadline=None, max_examples=4)
def test_one_lost_datagram_costs_a_retransmission_and_no_handshake(lost: int) -> None:
    device, host = client(Profile.HARDENED), server(Profile.HARDENED)
    device.start(0.0)
    air = Air({"device": device, "host": host}, [[0.01]] * lost + [[]])
    air.run()
    ((when, _, _),) = [entry for entry in air.told if entry[1] == "device" and isinstance(entry[2], Established)]
    assert 2 <= when <= 3.1
    assert len(air.keys("host")) == 1


@given(FATES)
@settings(deadline=None, max_examples=part_of(50))
def test_two_devices_on_one_air_get_keys_of_their_own(fates: list[Fate]) -> None:
    """Each hears the other's M2 and M4, and takes none of them for its own."""
    one, other = client(Profile.HARDENED, seed="1"), client(Profile.HARDENED, identity=STRANGER, seed="2")
    host = server(Profile.HARDENED, DEVICE, STRANGER)
    one.start(0.0)
    other.start(0.0)
    air = Air({"one": one, "other": other, "host": host}, fates)
    air.run()
    held = {
        event.device_id: mirrored(event.keys)
        for _, who, event in air.told
        if who == "host" and isinstance(event, Established)
    }
    for name, identity in (("one", DEVICE), ("other", STRANGER)):
        assert len(air.keys(name)) + len(air.failures(name)) == 1
        if air.keys(name):
            assert air.keys(name) == [held[identity.device_id]]
    assert not set(air.keys("one")) & set(air.keys("other"))


def test_a_server_that_hears_no_m3_says_so_and_forgets() -> None:
    device, host = client(Profile.HARDENED), server(Profile.HARDENED)
    device.start(0.0)
    host.receive_frame(device.frames_to_send(0.0)[0], 0.0)
    assert host.get_timer() == 100.0
    host.handle_timer(99.9)
    assert events(host) == []
    host.handle_timer(100.0)
    assert events(host) == [HandshakeExpired(DEVICE.device_id)]
    assert not [event for event in events(host) if isinstance(event, FrameRejected)]


def test_a_server_that_was_restarted_after_its_m2_costs_a_retransmission_and_no_handshake() -> None:
    device, forgetful, host = client(Profile.HARDENED), server(Profile.HARDENED, seed="1"), server(Profile.HARDENED)
    device.start(0.0)
    forgetful.receive_frame(device.frames_to_send(0.0)[0], 0.0)
    device.receive_frame(forgetful.frames_to_send(0.0)[0], 0.0)
    air = Air({"device": device, "host": host}, [])
    air.run()
    assert air.keys("device") == [mirrored(keys) for keys in air.keys("host")] != []
