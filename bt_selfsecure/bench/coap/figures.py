"""Figures 13 to 16 of paper 000, made anew: what each policy costs over one static key, from few sessions to many.

DTLS layer, as in the paper: a session is one DTLS session with one GET, over UDP on loopback. Object layer, ours: a
session is five GETs, each with its response. Time is the CPU's of both ends, without a disk: the paper's has none. All
policies take turns, a hundred sessions each, so that the computer's moods meet them alike.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bt_selfsecure.dtls.endpoint import Dtls
from bt_selfsecure.dtls.listener import DtlsListener
from bt_selfsecure.dtls.values import Credentials, DataReceived
from bt_selfsecure.protocols.dotp.endpoint import Dotp
from bt_selfsecure.protocols.dotp.keys import Keys, Policy, Role
from bt_selfsecure.protocols.dotp.psk import ClientKeys, ServerKeys
from bt_selfsecure.protocols.dotp.record import DotpRecord
from bt_selfsecure.sansio.events import Persist

TURN: Final = 100
"""Sessions of one policy before it is the next one's turn; so few are the least that is shown."""
SHOWN: Final = (100, 1100, 2100, 3100, 4100, 5100, 6100, 7100, 8100, 9100)
"""As in figures 15 and 16."""
GETS: Final = 5
"""Of a session in the object layer."""
SN, SECRET, PAIR = 1234, bytes(range(32)), b"pair"
GET, RESPONSE = bytes(12), bytes(32)
"""As long as GET /time and its response."""
HOST: Final = "127.0.0.1"
STATIC, STATIC_PAPER = "static key", "static key, paper"
PAPER: Final = {
    "per-session 64": {100: 1.27},
    "per-io-inc1 64": {100: 5.50},
    "per-io-prng 64": {100: 6.27, 1100: 19.97, 4100: 44.50},
    "per-io-nrprng 64": {100: 8.93, 1100: 41.80, 4100: 82.22, 9100: 92.89},
    "per-io-prng 96": {100: 0.22, 1100: 20.60},
    "per-io-nrprng 96": {100: 1.32, 1100: 48.41},
}
"""Percent, from its text; of the total, if it is as its section 4.5 says."""
Start = Callable[[Role], DotpRecord]


def _paper(policy: Policy, bits: int) -> Start:
    return lambda role: DotpRecord.paper(role, SN, policy, bits)


POLICIES: Final[dict[str, Start]] = {
    **{f"{policy.value} 64": _paper(policy, 64) for policy in Policy},
    "per-io-prng 96": _paper(Policy.PER_IO_PRNG, 96),
    "per-io-nrprng 96": _paper(Policy.PER_IO_NRPRNG, 96),
    "hardened 256": lambda role: DotpRecord.hardened(role, SECRET),
}


@dataclass(frozen=True, slots=True)
class CostPoint:
    """Says what so many sessions cost more than under one static key."""

    policy: str
    layer: str
    sessions: int
    seconds: float
    static_seconds: float

    @property
    def of_static(self) -> float:
        """Return the percentage of what they would have taken."""
        return 100 * (self.seconds / self.static_seconds - 1)

    @property
    def of_total(self) -> float:
        """Return the percentage of what they took."""
        return 100 * (1 - self.static_seconds / self.seconds)

    def to_json(self) -> dict[str, Any]:
        own = {"policy": self.policy, "layer": self.layer, "sessions": self.sessions, "seconds": self.seconds}
        return own | {"extra_of_baseline_percent": self.of_static, "extra_of_total_percent": self.of_total}


class DtlsSessions:
    """Runs sessions of the DTLS layer; without a beginning, under one static key."""

    def __init__(self, start: Start | None) -> None:
        look_up: Callable[[bytes], bytes | None]
        if start is None:
            key = SECRET.hex().encode()
            self._take: Callable[[], tuple[bytes, bytes]] = lambda: (PAIR, key)
            self._used: Callable[[bytes], object] = len
            look_up = {PAIR: key}.get
        else:
            client, server = ClientKeys(start(Role.CLIENT), PAIR), ServerKeys(start(Role.SERVER), PAIR)

            def take() -> tuple[bytes, bytes]:
                if not client.left:
                    client.reserve()
                return client.take()

            self._take, self._used, look_up = take, server.established, server.look_up
        self._listener = DtlsListener(look_up, os.urandom, 0.0)
        self._sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for each in self._sockets:
            each.bind((HOST, 0))
        for one, other in (self._sockets, reversed(self._sockets)):
            one.connect(other.getsockname())

    def close(self) -> None:
        for each in self._sockets:
            each.close()

    def run(self) -> None:
        """Run one session."""
        near, far = self._sockets
        identity, key = self._take()
        client, server = Dtls.client(lambda _hint: Credentials(identity, key), 0.0), None
        while server is None:
            for data in _through(client.frames_to_send(0.0), near, far):
                answer = self._listener.receive_frame(data, b"there", 0.0)
                if isinstance(answer, Dtls):
                    server = answer
                    continue
                for reply in _through(answer, far, near):
                    client.receive_frame(reply, 0.0)
        while not client.established:
            _exchange(server, client, far, near)
            _exchange(client, server, near, far)
        self._used(identity)
        client.send(GET, 0.0)
        _exchange(client, server, near, far)
        server.send(RESPONSE, 0.0)
        _exchange(server, client, far, near)
        assert DataReceived(RESPONSE) in iter(client.next_event, None)
        client.close(0.0)
        _exchange(client, server, near, far)


def _through(datagrams: Sequence[bytes], source: socket.socket, to: socket.socket) -> Iterator[bytes]:
    for data in datagrams:
        source.send(data)
        yield to.recv(65_535)


def _exchange(sender: Dtls, receiver: Dtls, source: socket.socket, to: socket.socket) -> None:
    for data in _through(sender.frames_to_send(0.0), source, to):
        receiver.receive_frame(data, 0.0)


class _StaticKeys:
    """Gives the same key for each number."""

    def __init__(self, keys: Keys) -> None:
        self.numbers, self.state, self._key = keys.numbers, keys.state, keys.key(0)

    def key(self, number: int) -> bytes:
        return self._key

    def forget_before(self, number: int) -> None: ...


class ObjectSessions:
    """Runs sessions of the object layer; `static` has the same layer under one key."""

    def __init__(self, start: Start, *, static: bool = False) -> None:
        self._ends = [Dotp(start(role)) for role in Role]
        if static:
            for end in self._ends:
                for name in ("_sending", "_receiving"):
                    end.__dict__[name] = _StaticKeys(end.__dict__[name])

    def close(self) -> None: ...

    def run(self) -> None:
        """Run one session."""
        client, server = self._ends
        for _ in range(GETS):
            _carry(client, server, GET)
            _carry(server, client, RESPONSE)


def _carry(sender: Dotp, receiver: Dotp, message: bytes) -> None:
    sender.send(message, 0.0)
    _persist(sender)
    for datagram in sender.frames_to_send(0.0):
        receiver.receive_frame(datagram, 0.0)
    _persist(receiver)


def _persist(end: Dotp) -> None:
    for event in iter(end.next_event, None):
        if isinstance(event, Persist):
            end.persisted(event.token)


def figures(
    most: int, layer: str, tell: Callable[[int], None] = lambda _sessions: None, policies: Sequence[str] = (*POLICIES,)
) -> list[CostPoint]:
    """Return each policy's points, for as many sessions of SHOWN as `most` lets and for `most`; `tell` is told how many
    are done."""
    dtls = layer == "dtls"
    sessions: dict[str, DtlsSessions | ObjectSessions] = {}
    if dtls:
        sessions[STATIC] = DtlsSessions(None)
        sessions |= {name: DtlsSessions(POLICIES[name]) for name in policies}
    else:  # the paper's has no AEAD, so its baseline is another
        sessions[STATIC] = ObjectSessions(POLICIES["hardened 256"], static=True)
        sessions[STATIC_PAPER] = ObjectSessions(POLICIES["per-session 64"], static=True)
        sessions |= {name: ObjectSessions(POLICIES[name]) for name in policies}
    spent = dict.fromkeys(sessions, 0.0)
    points = []
    try:
        for each in sessions.values():  # so that none pays for what is loaded
            each.run()
        for done in sorted({*range(TURN, most, TURN), most}):
            turn = (done - 1) % TURN + 1
            names = list(sessions)
            for name in names if -(-done // TURN) % 2 else reversed(names):
                begin = time.process_time()
                for _ in range(turn):
                    sessions[name].run()
                spent[name] += time.process_time() - begin
            tell(done)
            if done in SHOWN or done == most:
                for name in policies:
                    paper = not dtls and not name.startswith("hardened")
                    baseline = spent[STATIC_PAPER if paper else STATIC]
                    points.append(CostPoint(name, layer, done, spent[name], baseline))
    finally:
        for each in sessions.values():
            each.close()
    return points
