"""D-OTP in the DTLS layer, as the paper measures it: one GET a session, a key a session, both ends, no network.

The baseline is the same sessions with one static key. The two run in turns, so that both are disturbed alike.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator

from bt_selfsecure.dtls.endpoint import Dtls
from bt_selfsecure.dtls.listener import DtlsListener
from bt_selfsecure.dtls.values import Credentials, DataReceived
from bt_selfsecure.protocols.dotp.keys import Role
from bt_selfsecure.protocols.dotp.psk import ClientKeys, ServerKeys
from bt_selfsecure.protocols.dotp.record import DotpRecord

SECRET, PAIR = bytes(range(32)), b"pair"
SESSIONS, FEW, BEGINNINGS = 9100, 100, 31
MOST_POINTS = 1.0
GET, ANSWER = bytes(12), bytes(32)


class Sessions:
    """What a client and a server need for one session after the other."""

    def __init__(
        self,
        take: Callable[[], tuple[bytes, bytes]],
        look_up: Callable[[bytes], bytes | None],
        used: Callable[[bytes], object],
    ) -> None:
        self.take, self.used = take, used
        self.listener = DtlsListener(look_up, os.urandom, 0.0)

    @classmethod
    def dotp(cls) -> Sessions:
        client = ClientKeys(DotpRecord.hardened(Role.CLIENT, SECRET), PAIR)
        server = ServerKeys(DotpRecord.hardened(Role.SERVER, SECRET), PAIR)

        def take() -> tuple[bytes, bytes]:
            if not client.left:
                client.reserve()
            return client.take()

        return cls(take, server.look_up, server.established)

    @classmethod
    def static(cls) -> Sessions:
        key = SECRET.hex().encode()
        return cls(lambda: (PAIR, key), lambda _identity: key, lambda _identity: None)

    def run(self, count: int) -> float:
        """Return the CPU seconds of so many sessions."""
        begin = time.process_time()
        for _ in range(count):
            self.session()
        return time.process_time() - begin

    def session(self) -> None:
        identity, key = self.take()
        client, server = Dtls.client(lambda _hint: Credentials(identity, key), 0.0), None
        while server is None:
            for data in client.frames_to_send(0.0):
                answer = self.listener.receive_frame(data, b"there", 0.0)
                if isinstance(answer, Dtls):
                    server = answer
                    continue
                for reply in answer:
                    client.receive_frame(reply, 0.0)
        while not client.established:
            exchange(server, client)
            exchange(client, server)
        self.used(identity)
        client.send(GET, 0.0)
        exchange(client, server)
        server.send(ANSWER, 0.0)
        exchange(server, client)
        assert DataReceived(ANSWER) in told(client)
        client.close(0.0)
        exchange(client, server)


def exchange(sender: Dtls, receiver: Dtls) -> None:
    for data in sender.frames_to_send(0.0):
        receiver.receive_frame(data, 0.0)


def told(end: Dtls) -> Iterator[object]:
    return iter(end.next_event, None)


def overhead(ours: list[float], bare: list[float]) -> float:
    return 100 * (statistics.median(a / b for a, b in zip(ours, bare, strict=True)) - 1)


def in_turns(ours: Callable[[], Sessions], bare: Callable[[], Sessions], times: int) -> float:
    """Return the overhead over so many times the few sessions of what these two give each time."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(times):
        for which in (0, 1) if turn % 2 else (1, 0):
            seconds[which].append((ours, bare)[which]().run(FEW))
    return overhead(*seconds)


def test_9100_dtls_sessions_cost_within_a_percentage_point_of_what_100_cost() -> None:
    few = in_turns(Sessions.dotp, Sessions.static, BEGINNINGS)
    ours, bare = Sessions.dotp(), Sessions.static()
    many = in_turns(lambda: ours, lambda: bare, SESSIONS // FEW)
    print(f"\nDTLS, over one static key: {FEW} sessions {few:.2f} %, {SESSIONS} {many:.2f} %")
    assert abs(many - few) <= MOST_POINTS
