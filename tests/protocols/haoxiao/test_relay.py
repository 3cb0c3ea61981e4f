"""The relay's machine: how links through others come, last and go; what it forwards, and for whom."""

from __future__ import annotations

import random

import pytest
from relay_network import ANY, A, B, C, D, E, F, Network, between, line

from bt_selfsecure.protocols.haoxiao.relay import MUTE_AFTER, RelayEndpoint
from bt_selfsecure.protocols.haoxiao.relay_events import (
    RelayConfig,
    RelayDatagram,
    RelayDialFailed,
    RelayLinkDown,
    RelayLinkUp,
    Via,
)
from bt_selfsecure.protocols.haoxiao.relay_forwarder import FORGET_S
from bt_selfsecure.protocols.haoxiao.relay_frames import (
    RelayFault,
    RelayFrame,
    RelayKind,
    decode,
    encode,
    error_body,
)
from bt_selfsecure.protocols.haoxiao.relay_ways import ALONE_S, DIAL_S, SINGLE_S
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import FrameRejected

TWO_WAYS = Via(frozenset((B,)), frozenset((D,)))
SQUARE = {A: {B, D}, B: {A, C}, C: {B, D}, D: {A, C}}


def linked(network: Network, one: bytes = A, other: bytes = C) -> int:
    number = network.dial(one, other)
    network.run()
    assert [type(event) for event in network.take(one)] == [RelayLinkUp]
    assert [type(event) for event in network.take(other)] == [RelayLinkUp]
    return number


@pytest.mark.parametrize("nodes", [(A, B, C), (A, B, D, C), (A, B, D, E, C)], ids=len)
def test_a_link_through_others_carries_datagrams_both_ways_and_names_its_relays(nodes: tuple[bytes, ...]) -> None:
    network = Network(line(*nodes), between(A, C))
    number = network.dial(A, C)
    network.run()
    (here,), (there,) = network.take(A), network.take(C)
    assert here.path == nodes[1:-1]
    assert there.path == nodes[-2:0:-1]
    network.send(A, C, number, b"there")
    network.send(C, A, number, b"back")
    network.run()
    assert network.take(C) == [RelayDatagram(number, A, b"there")]
    assert network.take(A) == [RelayDatagram(number, C, b"back")]


def test_five_hops_are_too_many() -> None:
    network = Network(line(A, B, D, E, F, C), between(A, C))
    network.dial(A, C)
    network.pass_time(DIAL_S + 1)
    assert [type(event) for event in network.take(A)] == [RelayDialFailed]
    assert network.take(C) == []


def test_a_flood_ends_and_opens_one_link_only() -> None:
    near = {node: {B, D, E, F, end} - {node} for node, end in ((B, A), (D, A), (E, C), (F, C))}
    network = Network({A: {B, D}, C: {E, F}, **near}, between(A, C))
    linked(network)
    network.pass_time(4000)
    assert network.take(A) == network.take(C) == []
    assert sum(len(relay.forwarder.circuits) for relay in network.nodes.values()) <= 3


def test_a_relay_that_was_started_anew_is_found_out_and_the_ends_dial_anew() -> None:
    network = Network(line(A, B, C), between(A, C))
    number = linked(network)
    network.start(B)
    network.send(A, C, number, b"lost")
    network.run()
    assert network.take(A) == [RelayLinkDown(number, C, RelayFault.UNKNOWN_LINK, B)]
    again = linked(network)
    network.send(A, C, again, b"there")
    network.run()
    assert network.take(C) == [RelayDatagram(again, A, b"there")]


def test_an_end_that_was_started_anew_says_that_it_knows_of_no_link() -> None:
    network = Network(line(A, B, C), between(A, C))
    number = linked(network)
    network.start(C)
    network.send(A, C, number, b"lost")
    network.run()
    assert network.take(A) == [RelayLinkDown(number, C, RelayFault.UNKNOWN_LINK, C)]
    assert not network.nodes[B].forwarder.circuits


def test_a_link_that_nobody_uses_is_kept_and_one_that_nobody_answers_is_given_up() -> None:
    network = Network(line(A, B, C), between(A, C))
    number = linked(network)
    network.pass_time(10 * FORGET_S)
    assert network.take(A) == network.take(C) == []
    network.malice[B] = lambda to, data: []
    network.pass_time(FORGET_S)
    assert network.take(A) == [RelayLinkDown(number, C)]
    assert network.take(C) == [RelayLinkDown(number, A)]


def test_a_relay_forgets_what_nobody_uses() -> None:
    network = Network(line(A, B, C), between(A, C))
    linked(network)
    network.malice[A] = network.malice[C] = lambda to, data: []
    network.pass_time(2 * FORGET_S)
    assert not network.nodes[B].forwarder.circuits


def test_closing_a_link_is_told_to_the_other_end_and_frees_the_relays() -> None:
    network = Network(line(A, B, D, C), between(A, C))
    number = linked(network)
    network.nodes[C].links.close(A, number, network.now)
    network.settle(C)
    network.run()
    assert network.take(A) == [RelayLinkDown(number, C, RelayFault.CLOSED, C)]
    assert not network.nodes[B].forwarder.circuits
    assert not network.nodes[D].forwarder.circuits


def test_who_is_not_connected_is_told_at_once() -> None:
    network = Network(line(A, B, C), between(A, C))
    network.nodes[B].neighbour_down(C)
    network.dial(A, C)
    network.run()
    (failed,) = network.take(A)
    assert (failed.fault, failed.by) == (RelayFault.NO_WAY, B)
    network.nodes[A].neighbour_down(B)
    network.dial(A, C)
    (failed,) = network.take(A)
    assert (failed.fault, failed.by) == (RelayFault.NO_WAY, A)


def test_a_flood_goes_on_where_one_neighbour_has_no_way() -> None:
    network = Network({A: {B, D}, B: {A}, D: {A, C}, C: {D}}, between(A, C))
    assert linked(network)
    assert network.nodes[A].links._cache.get(C, network.now) == D


def test_a_way_that_worked_is_asked_alone_and_another_one_where_it_no_longer_does() -> None:
    network = Network(SQUARE, between(A, C))
    linked(network)
    known = network.nodes[A].links._cache.get(C, network.now)
    network.dial(A, C)
    assert network.busy == [(A, known)]
    network.run()
    network.take(A), network.take(C)
    network.nodes[known].neighbour_down(C)
    network.dial(A, C)
    network.run()
    network.take(A)
    number = network.dial(A, C)
    network.run()
    (up,) = network.take(A)
    assert up.path != (known,)
    assert up.link == number


@pytest.mark.parametrize("who", [A, C])
def test_a_via_is_held_at_both_ends(who: bytes) -> None:
    only = Via(frozenset((B,)))
    network = Network(SQUARE, between(A, C, only if who == A else ANY, only if who == C else ANY))
    network.nodes[B].neighbour_down(C)
    network.nodes[C].neighbour_down(B)
    network.dial(A, C)
    network.pass_time(DIAL_S + 1)
    assert [type(event) for event in network.take(A)] == [RelayDialFailed]
    assert RelayLinkUp not in map(type, network.take(C))


# --- two ways ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("back", [TWO_WAYS, Via(TWO_WAYS.second, TWO_WAYS.first)], ids=["same", "crossed"])
def test_two_ways_give_both_ends_one_key_of_which_each_relay_carries_a_half(back: Via) -> None:
    network = Network(SQUARE, between(A, C, TWO_WAYS, back))
    shares: dict[bytes, set[bytes]] = {B: set(), D: set()}

    def overhear(relay: bytes) -> None:
        def heard(to: bytes, data: bytes) -> list[tuple[bytes, bytes]]:
            frame = decode(data)
            if frame is not None and frame.kind is RelayKind.SHARE:
                shares[relay].add(frame.body[5:])
            return [(to, data)]

        network.malice[relay] = heard

    overhear(B)
    overhear(D)
    number = network.dial(A, C)
    network.run()
    (here,), (there,) = network.take(A), network.take(C)
    assert here.key == there.key
    assert len(here.key) == 32
    assert (here.path, here.second_path) == ((B,), (D,)) == (there.path, there.second_path)
    assert len(shares[B]) == len(shares[D]) == 1
    assert not shares[B] & shares[D]
    network.send(C, A, number, b"back")
    network.run()
    assert network.take(A) == [RelayDatagram(number, C, b"back")]


def test_one_of_two_ways_carries_a_link_alone_which_has_no_key_and_both_come_back() -> None:
    network = Network(SQUARE, between(A, C, TWO_WAYS))
    for end in (A, C):
        network.nodes[end].neighbour_down(B)
    network.nodes[B].neighbour_down(A)
    network.dial(A, C)
    network.run()
    assert [type(event) for event in network.take(A)] == [RelayDialFailed]
    network.dial(A, C, single=True)
    network.run()
    (here,), (there,) = network.take(A), network.take(C)
    assert (here.path, here.second_path, here.key) == ((D,), (), b"") == (there.path, there.second_path, there.key)
    network.send(A, C, here.link, b"there")
    network.send(C, A, there.link, b"back")
    network.run()
    assert [event.data for event in network.take(C) + network.take(A)] == [b"there", b"back"]
    network.pass_time(SINGLE_S / 2)
    assert network.take(A) == []
    for node, other in ((C, B), (B, A), (A, B)):
        network.nodes[node].neighbour_up(other)
        network.settle(node)
    network.run()
    assert network.take(A)[-1] == RelayLinkDown(here.link, C, RelayFault.CLOSED, A)
    assert network.take(C)[-1] == RelayLinkDown(there.link, A, RelayFault.CLOSED, A)
    network.dial(A, C)
    network.run()
    (here,), (there,) = network.take(A), network.take(C)
    assert here.key == there.key != b""


def test_where_nobody_answers_on_one_of_two_ways_the_other_is_taken_after_a_while() -> None:
    network = Network(SQUARE, between(A, C, TWO_WAYS))
    network.malice[B] = lambda to, data: []
    network.dial(A, C, single=True)
    network.pass_time(ALONE_S - 1)
    assert network.take(A) == []
    network.pass_time(10)
    (here,), (there,) = network.take(A), network.take(C)
    assert (here.path, here.key, there.key) == ((D,), b"", b"")
    network.pass_time(SINGLE_S)
    assert network.take(A)[-1] == RelayLinkDown(here.link, C, RelayFault.CLOSED, A)


def test_a_dial_ends_at_its_time_whatever_fraction_of_a_second_it_began_at() -> None:
    """At its own deadline, to the bit, where a sum and a difference of floats need not agree."""
    for tenths in range(1, 2000, 7):
        network = Network(SQUARE, between(A, C, TWO_WAYS))
        for relay in (B, D):
            network.malice[relay] = lambda to, data: [(to, data)] if decode(data).kind is not RelayKind.SHARE else []
        network.now = tenths / 10
        network.dial(A, C, single=True)
        network.run()
        node = network.nodes[A]
        for _ in range(20):
            if (timer := node.get_timer()) is not None:
                network.now = timer
                node.handle_timer(timer)
                network.settle(A)
                network.run()
        assert node.get_timer() is None
        assert [type(event) for event in network.take(A)] == [RelayDialFailed]


@pytest.mark.parametrize(("away", "left"), [(B, D), (D, B)])
def test_a_relay_that_goes_leaves_the_link_to_the_other(away: bytes, left: bytes) -> None:
    network = Network(SQUARE, between(A, C, TWO_WAYS))
    number = linked(network)
    network.nodes[A].neighbour_down(away)
    network.settle(A)
    if away == B:
        assert [type(event) for event in network.take(A)] == [RelayLinkDown]
        number = network.dial(A, C, single=True)
        network.run()
        (up,) = network.take(A)
        assert (up.path, up.key) == ((left,), b"")
        network.take(C)
    network.send(A, C, number, b"there")
    network.run()
    assert [event.data for event in network.take(C)] == [b"there"]
    assert network.take(A) == []


def test_a_link_goes_over_to_another_neighbour_when_its_own_is_away() -> None:
    network = Network(SQUARE, between(A, C))
    linked(network)
    used = network.nodes[A].links._cache.get(C, network.now)
    network.nodes[A].neighbour_down(used)
    network.settle(A)
    assert [type(event) for event in network.take(A)] == [RelayLinkDown]
    network.dial(A, C)
    network.run()
    (up,) = network.take(A)
    assert up.path == (D if used == B else B,)


def test_two_ways_with_one_relay_in_common_are_no_two_ways() -> None:
    near = {A: {B, D}, B: {A, E}, D: {A, E}, E: {B, D, C, F}, C: {E, F}, F: {E, C}}
    via, back = Via(frozenset((B,)), frozenset((D,))), Via(frozenset((E,)), frozenset((F,)))
    network = Network(near, between(A, C, via, back))
    network.dial(A, C)
    network.pass_time(DIAL_S + 1)
    assert [type(event) for event in network.take(A)] == [RelayDialFailed]
    assert network.take(C) == []


def test_one_relay_alone_makes_no_link_of_two_ways() -> None:
    """It asks in the name of an end, by itself and by the other relay, which tells by whom it came."""
    network = Network({**SQUARE, B: {A, C, D}, D: {A, B, C}}, between(A, C, TWO_WAYS))
    network.nodes[D].neighbour_down(A)
    for link, to, path in ((7, C, B), (8, D, B), (9, D, E + B)):
        network.nodes[to].receive_frame(encode(RelayFrame(RelayKind.REQUEST, A, C, link, 4, path)), B, network.now)
        network.settle(to)
    network.run()
    for link, index, other in ((7, 0, 8), (8, 1, 7), (7, 0, 9), (9, 1, 7)):
        frame = encode(RelayFrame(RelayKind.SHARE, A, C, link, 4, bytes([index]) + other.to_bytes(4) + bytes(32)))
        for to in (C, D):
            network.nodes[to].receive_frame(frame, B, network.now)
            network.settle(to)
        network.run()
    assert RelayLinkUp not in map(type, network.take(C))


# --- for whom ---------------------------------------------------------------------------------------------------------


def test_a_relay_carries_nothing_for_whom_it_is_not_to() -> None:
    network = Network(line(A, B, C), between(A, C))
    network.configs[B] = type(network.configs[B])(B, frozenset((A, C)), frozenset((A, D)))
    network.start(B)
    network.dial(A, C)
    network.run()
    (failed,) = network.take(A)
    assert (failed.fault, failed.by) == (RelayFault.NOT_FOR_THEM, B)
    assert network.take(C) == []


def test_a_stranger_gets_no_answer() -> None:
    network = Network(line(A, B, C), between(A, C))
    for kind in RelayKind:
        body = {RelayKind.REQUEST: b"", RelayKind.REPLY: b"\1", RelayKind.DATAGRAM: b"x"}.get(kind, b"")
        network.nodes[B].receive_frame(encode(RelayFrame(kind, A, C, 1, 4, body)), F, 0.0)
    network.settle(B)
    assert not network.busy
    assert set(map(type, network.take(B))) == {FrameRejected}


def test_a_neighbour_can_not_ask_in_the_name_of_another() -> None:
    network = Network(line(A, B, C), between(A, C))
    network.nodes[B].receive_frame(encode(RelayFrame(RelayKind.REQUEST, A, C, 1, 4, b"")), C, 0.0)
    network.settle(B)
    assert not network.busy
    assert network.nodes[B].forwarder.dropped["in a neighbour's name"] == 1


def test_a_neighbour_that_sends_too_much_is_not_heard_until_time_has_passed() -> None:
    network = Network(line(A, B, C), between(A, C), rate_bytes=2000)
    number = linked(network)
    for _ in range(100):
        network.send(A, C, number, bytes(100))
        network.run()
    came = len(network.take(C))
    assert 5 < came < 20
    network.now += 2
    network.send(A, C, number, bytes(100))
    network.run()
    assert len(network.take(C)) == 1


def test_what_waits_for_a_neighbour_is_bounded_and_what_is_more_is_dropped() -> None:
    network = Network(line(A, B, C), between(A, C), queue_bytes=2000)
    number = linked(network)
    for _ in range(100):
        network.send(A, C, number, bytes(500))
        while (A, B) in network.busy:
            network.step(network.busy.index((A, B)))
    assert sum(map(len, network.moving[B, C])) <= 2000
    assert network.nodes[B].forwarder.dropped["no room"] > 90
    network.run()
    network.take(C)
    network.send(A, C, number, b"again")
    network.run()
    assert network.take(C) == [RelayDatagram(number, A, b"again")]


def test_small_frames_do_not_fill_a_neighbours_queue_of_messages() -> None:
    network = Network(line(A, B, C), between(A, C), queue_bytes=65_536)
    number = linked(network)
    for _ in range(1000):
        network.send(A, C, number, b"x")
    assert len(network.moving[A, B]) == 65_536 // 256


def test_a_neighbour_whose_version_has_no_relay_is_not_sent_a_pile_of_requests() -> None:
    """It keeps each for a program to read, and answers none."""
    config = RelayConfig(A, frozenset({B}), frozenset(), {C: Via(frozenset({B}))})
    relay = RelayEndpoint(config, EndpointContext(random.Random(1).randbytes))
    relay.neighbour_up(B)
    now, sent = 0.0, 0

    def run_for(seconds: float) -> int:
        nonlocal now
        count, end = 0, now + seconds
        while now < end:
            if relay.get_timer() is None:
                relay.links.dial(C, now)
            now += 1.0
            relay.handle_timer(now)
            for _, data in relay.frames_to_send(now):
                count += 1
                relay.sent(B, data)
        return count

    sent = run_for(3600.0)
    assert MUTE_AFTER <= sent < 50, "of some 1000"
    relay.receive_frame(encode(RelayFrame(RelayKind.ERROR, C, A, 1, body=error_body(RelayFault.NO_WAY, B))), B, now)
    assert run_for(400.0) > 80, "who has answered once is asked each time"


def test_no_neighbour_takes_all_the_links() -> None:
    network = Network({A: {B}, B: {A, C, D}, C: {B}, D: {B}}, {**between(A, C), D: {C: ANY}}, max_links=8)
    network.configs[C].peers[D] = ANY  # type: ignore[index]
    for _ in range(20):
        network.dial(A, C)
        network.run()
    assert len(network.nodes[B].forwarder.circuits) == 4
    assert RelayFault.BUSY in {event.fault for event in network.take(A) if isinstance(event, RelayDialFailed)}
    network.dial(D, C)
    network.run()
    assert [type(event) for event in network.take(D)] == [RelayLinkUp]
