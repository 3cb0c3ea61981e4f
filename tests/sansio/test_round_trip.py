"""How long is waited for an answer follows how long answers have taken."""

from __future__ import annotations

from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.record import Role
from bt_selfsecure.protocols.haoxiao.session import Session
from bt_selfsecure.protocols.haoxiao.session_config import SessionConfig
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import StateChanged
from bt_selfsecure.sansio.round_trip import RoundTrip


def test_a_slow_link_is_waited_for_and_no_answer_for_longer_than_may_be() -> None:
    trip = RoundTrip(0.5, 10.0)
    assert trip.wait == 0.5
    trip.measured(2.0)
    assert trip.wait == 6.0  # RFC 6298 (2.2): SRTT + 4 RTTVAR
    for _ in range(100):
        trip.measured(2.0)
    assert 2.0 <= trip.wait < 2.1
    trip.measured(600.0)
    assert trip.wait == 10.0
    for _ in range(200):
        trip.measured(0.01)
    assert trip.wait == 0.5


def rounds(trip_s: float, count: int, *, follows: bool) -> int:
    """Data frames that so many messages take over a link of this round trip that loses nothing."""
    config = SessionConfig(timeout=0.5, follows_round_trip=follows)
    ends = [
        Session.start(Profile.HARDENED, role, bytes(32), config, EndpointContext(lambda size: bytes(size)))
        for role in Role
    ]
    on_the_way: list[tuple[float, int, bytes]] = []
    now, frames = 0.0, 0

    def settle(i: int) -> None:
        nonlocal frames
        while (event := ends[i].next_event()) is not None:
            if isinstance(event, StateChanged):
                ends[i].persisted(event.token)
        for data in ends[i].frames_to_send(now):
            frames += i == 0
            on_the_way.append((now + trip_s / 2, 1 - i, data))

    for number in range(count):
        while not ends[0].can_send:
            arrival = min(on_the_way)[0] if on_the_way else float("inf")
            timer = ends[0].get_timer() or float("inf")
            now = min(arrival, timer)
            if arrival <= timer:
                on_the_way.sort()
                _, i, data = on_the_way.pop(0)
                ends[i].receive_frame(data, now)
                settle(i)
            else:
                ends[0].handle_timer(now)
                settle(0)
        ends[0].send(b"%d" % number, now)
        settle(0)
    return frames


def test_a_session_that_follows_the_round_trip_sends_each_message_once() -> None:
    assert rounds(3.0, 50, follows=True) < 60
    assert rounds(3.0, 50, follows=False) > 100
