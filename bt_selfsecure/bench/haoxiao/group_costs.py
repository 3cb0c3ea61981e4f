"""What a message to a group costs its owner beside one session message for each member: air time and CPU.

Sessions are real ones at both ends, on a link that repeats what the radio loses; what the owner's ends take of the CPU
is counted, with the text of each record that goes to the disk. Air time is counted as the virtual air does: the slots
of a BR/EDR packet and of its acknowledgement, and three channels of an advertisement.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeVar

from bt_selfsecure.air.controller import SLOT_S
from bt_selfsecure.air.link import ACL_PACKETS, LE_OCTET_S, LE_OVERHEAD_BYTES
from bt_selfsecure.bench.haoxiao.group_testbed import OWNER, member
from bt_selfsecure.protocols.haoxiao.events import MessageReceived
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.group.events import GroupMessage, Post
from bt_selfsecure.protocols.haoxiao.group.keys import NOTHING
from bt_selfsecure.protocols.haoxiao.group.listener import GroupListener
from bt_selfsecure.protocols.haoxiao.group.owner import GroupOwner
from bt_selfsecure.protocols.haoxiao.record import Role
from bt_selfsecure.protocols.haoxiao.session import Session
from bt_selfsecure.protocols.haoxiao.session_config import SessionConfig
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import Persist, StateChanged

CHANNELS: Final = 3
ADVERTISER_BYTES: Final = 6
ADVERTISEMENT_BYTES: Final = 31
RFCOMM_BYTES: Final = 11
"""Around a datagram: our length (2), RFCOMM (5), L2CAP (4)."""
T = TypeVar("T")
Keep = Callable[[int, str], object]
"""Brings a record to the disk: of the member of that number, or -1 for the group."""


def no_disk(number: int, text: str) -> None:
    """Keep nothing."""


@dataclass(slots=True)
class Cost:
    """Counts seconds: on the air, and of the owner's CPU."""

    air_s: float = 0.0
    cpu_s: float = 0.0

    def acl(self, datagram: int, lost: int = 0) -> None:
        """Count a datagram over RFCOMM, which the radio has lost so many times before it came."""
        rest, most = datagram + RFCOMM_BYTES, ACL_PACKETS[-1][0]
        while rest > 0:
            packet = min(rest, most)
            slots = next(slots for octets, slots in ACL_PACKETS if packet <= octets) + 1
            self.air_s += slots * SLOT_S * (1 + lost)
            rest -= packet

    def advertisement(self) -> None:
        """Count a fragment: one legacy advertisement on all channels."""
        self.air_s += CHANNELS * (ADVERTISER_BYTES + ADVERTISEMENT_BYTES + LE_OVERHEAD_BYTES) * LE_OCTET_S

    def timed(self, do: Callable[[], T]) -> T:
        """Return what this gives, and count its time."""
        begin = time.process_time()
        try:
            return do()
        finally:
            self.cpu_s += time.process_time() - begin


class TwoEnds:
    """Is the owner's session with one member, at both ends."""

    def __init__(self, number: int, cost: Cost, random: Random, loss: float, keep: Keep = no_disk) -> None:
        context, config, k0 = EndpointContext(os.urandom), SessionConfig(), bytes([number]) * 32
        self.owner = Session.start(Profile.HARDENED, Role.INITIATOR, k0, config, context)
        self.member = Session.start(Profile.HARDENED, Role.RESPONDER, k0, config, context)
        self._cost, self._random, self._loss = cost, random, loss
        self._number, self._keep = number, keep
        self._drain(self.owner)
        self._drain(self.member)

    def to_member(self, message: bytes) -> list[bytes]:
        """Carry a message, and return what the member received."""
        cost = self._cost
        cost.timed(lambda: self.owner.send(message, 0.0))
        (data,) = self._frames(self.owner, counted=True)
        self.member.receive_frame(data, 0.0)
        received = self._drain(self.member)
        (ack,) = self._frames(self.member)
        cost.timed(lambda: self._heard(self.owner, ack))
        return received

    def to_owner(self, message: bytes) -> list[bytes]:
        """Carry a message, and return what the owner received."""
        cost = self._cost
        self.member.send(message, 0.0)
        self._drain(self.member)
        (data,) = self._frames(self.member)
        received = cost.timed(lambda: self._heard(self.owner, data))
        (ack,) = self._frames(self.owner, counted=True)
        self.member.receive_frame(ack, 0.0)
        self._drain(self.member)
        return received

    def _frames(self, end: Session, *, counted: bool = False) -> list[bytes]:
        def take() -> list[bytes]:
            self._drain(end)
            return end.frames_to_send(0.0)

        frames = self._cost.timed(take) if counted else take()
        for data in frames:
            lost = 0
            while self._random.random() < self._loss:
                lost += 1
            self._cost.acl(len(data), lost)
        return frames

    def _heard(self, end: Session, data: bytes) -> list[bytes]:
        end.receive_frame(data, 0.0)
        return self._drain(end)

    def _drain(self, end: Session) -> list[bytes]:
        """Bring what must last to the owner's disk."""
        received = []
        while (event := end.next_event()) is not None:
            if isinstance(event, MessageReceived):
                received.append(event.message)
            if isinstance(event, StateChanged):
                if event.sync and end is self.owner:
                    self._keep(self._number, event.record.to_json())
                end.persisted(event.token)
        return received


def by_sessions(members: int, messages: list[bytes], loss: float, seed: int, keep: Keep = no_disk) -> Cost:
    """Return what it costs to send these messages to each member in its session."""
    cost = Cost()
    pairs = [TwoEnds(number, cost, Random(f"{seed} {number}"), loss, keep) for number in range(members)]
    cost.air_s = cost.cpu_s = 0.0
    for message in messages:
        for pair in pairs:
            assert pair.to_member(message) == [message]
    return cost


def by_group(
    members: int, messages: list[bytes], loss: float, seed: int, keep: Keep = no_disk, pause_s: float = 0.2
) -> Cost:
    """Return what it costs to send these messages to a group, so many seconds apart, until all have all of them."""
    run = _Run(members, loss, seed, keep)
    run.cost.air_s = run.cost.cpu_s = 0.0
    for message in messages:
        run.turn(lambda message=message: run.owner.send(message, run.now))  # type: ignore[misc]
        run.pass_time(pause_s)
    for _ in range(40):
        run.pass_time(0.25)
    assert all(received == messages for received in run.received), "each has each, once, in order"
    return run.cost


class _Run:
    def __init__(self, members: int, loss: float, seed: int, keep: Keep) -> None:
        self.cost, self.now = Cost(), 0.0
        self._random, self._loss = Random(f"{seed} of the radio"), loss
        context = EndpointContext(os.urandom)
        self._keep = keep
        self.pairs = [TwoEnds(number, self.cost, Random(f"{seed} {number}"), loss, keep) for number in range(members)]
        self.received: list[list[bytes]] = [[] for _ in self.pairs]
        self.listeners: list[GroupListener | None] = [None] * members
        self._number = {member(number): number for number in range(members)}
        self._context = context
        self.owner = GroupOwner.create("bench", self._number, context, lambda who: NOTHING, 0.0)
        self.turn(lambda: None)

    def turn(self, do: Callable[[], object]) -> None:
        """Let the owner do this, and bring about what follows."""
        posts, fragments = self.cost.timed(lambda: self._owners(do))
        for data in fragments:
            self.cost.advertisement()
            for number, listener in enumerate(self.listeners):
                if listener and self._random.random() >= self._loss:
                    listener.receive_frame(data, self.now)
                    self._members(number, listener)
        for post in posts:
            self._bring(self._number[post.peer], post.letter)

    def _owners(self, do: Callable[[], object]) -> tuple[list[Post], list[bytes]]:
        do()
        posts = []
        while (event := self.owner.next_event()) is not None:
            if isinstance(event, Post):
                posts.append(event)
            elif isinstance(event, Persist):
                if event.sync:
                    self._keep(-1, event.record.to_json())
                self.owner.persisted(event.token)
        return posts, self.owner.frames_to_send(self.now)

    def _bring(self, number: int, letter: bytes) -> None:
        for received in self.pairs[number].to_member(letter):
            listener = self.listeners[number]
            if listener is None:
                joined = GroupListener.join(received, OWNER, self._context, lambda session: None, self.now)
                assert joined is not None
                listener = self.listeners[number] = joined
            else:
                listener.receive_letter(received, self.now)
            self._members(number, listener)

    def _members(self, number: int, listener: GroupListener) -> None:
        while (event := listener.next_event()) is not None:
            if isinstance(event, GroupMessage):
                self.received[number].append(event.message)
            elif isinstance(event, Post):
                for letter in self.pairs[number].to_owner(event.letter):
                    peer: Any = member(number)
                    self.turn(lambda peer=peer, letter=letter: self.owner.receive_letter(peer, letter, self.now))  # type: ignore[misc]

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass; what is due is done."""
        self.now += seconds
        for number, listener in enumerate(self.listeners):
            if listener and (at := listener.get_timer()) is not None and at <= self.now:
                listener.handle_timer(self.now)
                self._members(number, listener)
        at = self.owner.get_timer()
        if at is not None and at <= self.now:
            self.turn(lambda: self.owner.handle_timer(self.now))
