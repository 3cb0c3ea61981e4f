"""UDP on loopback: the bearers' contract, with and without drawn losses; who may dial, and what strangers can't do."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from random import Random

import contract
import pytest
from amounts import part_of
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_selfsecure.bearers import udp
from bt_selfsecure.bearers.base import Bearer, BearerError, Link, LinkClosedError
from bt_selfsecure.bearers.drawn import DrawnBearer, Faults
from bt_selfsecure.bearers.link_datagrams import Data, Goodbye, Hello, Welcome, pack, parse
from bt_selfsecure.bearers.numbered_links import BACKLOG, MTU_BYTES, QUEUE, NumberedLinks, Ways
from bt_selfsecure.bearers.places import UdpPlaces
from bt_selfsecure.bearers.specs import open_bearer
from bt_selfsecure.errors import LocalError, UsageError

ALICE, BOB, MALLORY = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:66"
PORTS = {ALICE: 5700, BOB: 5701}

Scene = Callable[[Link, Link], Awaitable[None]]
pytestmark = pytest.mark.timeout(60)


def bearer(own: str, host: str, spec: str = "udp", *, anyone: bool = False, peers: bool = True) -> Bearer:
    (other,) = PORTS.keys() - {own}
    places = {other: f"{host}:{PORTS[other]}"} if peers else {}
    return open_bearer(spec, udp=UdpPlaces(own, f"{host}:{PORTS[own]}", places, lambda: anyone))


def play(host: str, scene: Scene, spec: str = "udp") -> None:
    """With a link between the two."""

    async def main() -> None:
        alice, bob = bearer(ALICE, host, spec), bearer(BOB, host, spec)
        try:
            async with asyncio.timeout(30):
                listener = await bob.listen()
                dialled = await alice.connect(BOB)
                accepted = await listener.accept()
                assert (dialled.peer, accepted.peer) == (BOB, ALICE)
                await scene(dialled, accepted)
        finally:
            await alice.close()
            await bob.close()

    asyncio.run(main())


async def the_rest(link: Link) -> list[bytes]:
    """What comes until the other end closes it."""
    heard: list[bytes] = []

    async def read() -> None:
        while True:
            heard.append(await link.receive())

    with pytest.raises(LinkClosedError, match="closed the link"):
        await read()
    return heard


@contextlib.contextmanager
def stranger(host: str) -> Iterator[socket.socket]:
    """A socket that sends to Alice, from a port that is nobody's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.3)
        sock.bind((host, 0))
        sock.connect((host, PORTS[ALICE]))
        yield sock


@pytest.mark.parametrize("host", ["", "::1"])
def test_everything_arrives_whole_both_ways_at_once(loopback_host: str, host: str) -> None:
    async def scene(alice: Link, bob: Link) -> None:
        seen = await asyncio.gather(
            contract.exchange(alice, "alice", "bob", 500), contract.exchange(bob, "bob", "alice", 500)
        )
        for end in seen:
            assert (end.received, end.garbled, end.mtu, end.encrypted) == (500, 0, 1227, False)

    play(f"[{host}]" if host else loopback_host, scene)


def test_drawn_losses_are_visible_and_what_is_not_lost_is_whole(
    loopback_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "QUIET_S", 0.5)

    async def scene(alice: Link, bob: Link) -> None:
        assert alice.traits.losses_visible
        seen = await asyncio.gather(
            contract.exchange(alice, "alice", "bob", 2000), contract.exchange(bob, "bob", "alice", 2000)
        )
        for end in seen:
            assert 300 < end.sent - end.received < 500  # 400 +- 18
            assert end.garbled == 0

    play(loopback_host, scene, "faults:loss=0.2,duplicate=0.3;udp")


@pytest.mark.parametrize(("loss", "duplicate"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.3), (0.3, 0.3)])
def test_each_datagram_is_lost_or_doubled_as_often_as_is_asked(
    loopback_host: str, loss: float, duplicate: float
) -> None:
    count = 1000

    async def main() -> None:
        faults = Faults(loss, duplicate)
        alice, bob = (DrawnBearer(bearer(own, loopback_host), faults, Random(7)) for own in PORTS)
        listener = await bob.listen()
        sender = await alice.connect(BOB)
        receiver = await listener.accept()
        heard: list[int] = []

        async def listen() -> None:
            while True:
                heard.append(int.from_bytes(await receiver.receive()))

        listening = asyncio.create_task(listen())
        for number in range(count):
            await sender.send(number.to_bytes(2))
        await sender.close()
        with pytest.raises(LinkClosedError):
            await listening
        kept = len(set(heard))
        assert abs(kept - (1 - loss) * count) <= (60 if loss else 0)
        assert abs(len(heard) - (1 + duplicate) * kept) <= (60 if duplicate else 0)
        assert heard == sorted(heard)
        await alice.close()
        await bob.close()

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize("who_closes", [0, 1])
@pytest.mark.parametrize("spec", ["udp", "faults:duplicate=0.5;udp"])
def test_closing_one_end_ends_both_after_what_was_sent_and_twice_does_no_harm(
    loopback_host: str, who_closes: int, spec: str
) -> None:
    async def scene(alice: Link, bob: Link) -> None:
        ends = alice, bob
        closing, other = ends[who_closes], ends[not who_closes]
        await closing.send(b"before")
        waiting = asyncio.create_task(closing.receive())
        await asyncio.sleep(0)
        await closing.close()
        await closing.close()
        with pytest.raises(LinkClosedError, match="is closed") as closed:
            await waiting
        assert closed.value.transient
        assert await other.receive() == b"before"
        assert set(await the_rest(other)) <= {b"before"}
        for end in ends:
            with pytest.raises(LinkClosedError):
                await end.send(b"x")

    play(loopback_host, scene, spec)


@pytest.mark.parametrize("spec", ["udp", "faults:duplicate=0.5,loss=0.1;udp"])
def test_a_cancelled_receive_loses_nothing(loopback_host: str, spec: str) -> None:
    async def scene(alice: Link, bob: Link) -> None:
        for number in range(200):
            await alice.send(number.to_bytes(1))
        await alice.close()
        heard: list[int] = []
        with contextlib.suppress(LinkClosedError):
            while True:
                receiving = asyncio.create_task(bob.receive())
                await asyncio.sleep(0)
                if receiving.cancel():
                    with pytest.raises(asyncio.CancelledError):
                        await receiving
                    await asyncio.sleep(0.001)
                else:
                    heard.append((await receiving)[0])
        assert heard == sorted(heard)
        assert len(set(heard)) == 200 or spec != "udp"

    play(loopback_host, scene, spec)


@pytest.mark.parametrize("size", [0, MTU_BYTES + 1])
@pytest.mark.parametrize("spec", ["udp", "faults:loss=0.9;udp"])
def test_a_datagram_of_a_wrong_size_is_the_programs_fault(loopback_host: str, size: int, spec: str) -> None:
    async def scene(alice: Link, bob: Link) -> None:
        for _ in range(20):
            with pytest.raises(LocalError, match=f"of {size} bytes does not fit this link; 1 to 1227 do"):
                await alice.send(bytes(size))

    play(loopback_host, scene, spec)


@pytest.mark.parametrize("who_closes", [ALICE, BOB])
def test_closing_a_bearer_ends_its_links_and_its_listener_and_it_can_be_used_again(
    loopback_host: str, who_closes: str
) -> None:
    async def main() -> None:
        bearers = {own: bearer(own, loopback_host) for own in PORTS}
        for _ in range(2):
            listener = await bearers[BOB].listen()
            with pytest.raises(BearerError, match="listened on already"):
                await bearers[BOB].listen()
            ends = await bearers[ALICE].connect(BOB), await listener.accept()
            await bearers[who_closes].close()
            for end in ends:
                with pytest.raises(LinkClosedError):
                    await end.receive()
            await bearers[BOB].close()
            for _ in range(2):
                with pytest.raises(BearerError, match="listener is closed"):
                    await listener.accept()
        await bearers[ALICE].close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_an_end_that_was_killed_is_missed_and_one_that_is_back_takes_the_link_up(
    loopback_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udp, "BEAT_S", 0.05)
    monkeypatch.setattr(udp, "SILENCE_S", 0.6)

    async def die(killed: Bearer) -> None:
        assert isinstance(killed, udp.UdpBearer)
        assert killed._socket
        killed._socket._beating.cancel()
        killed._socket._socket.close()  # as the kernel does: without a word

    async def main() -> None:
        alice, bob = bearer(ALICE, loopback_host), bearer(BOB, loopback_host)
        listener = await bob.listen()
        dialled = await alice.connect(BOB)
        await (await listener.accept()).send(b"alive")
        assert await dialled.receive() == b"alive"
        await asyncio.sleep(1)  # silence of the links is no silence of the ends
        await die(bob)
        await asyncio.sleep(0.2)
        bob = bearer(BOB, loopback_host)
        again = await (await bob.listen()).accept()
        await again.send(b"back")
        assert await dialled.receive() == b"back"
        await die(bob)
        with pytest.raises(LinkClosedError, match="nothing came for") as missed:
            await dialled.receive()
        assert missed.value.transient
        await alice.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_peer_that_is_not_there_is_told_with_where_it_was_looked_for(
    loopback_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udp, "CONNECT_S", 0.2)

    async def main() -> None:
        alice = bearer(ALICE, loopback_host)
        with pytest.raises(BearerError, match=f"at {loopback_host}:5701: nobody answers there; start its node") as gone:
            await alice.connect(BOB)
        assert gone.value.transient
        with pytest.raises(BearerError, match=r"not known where 02:.* listens: add udp = "):
            await alice.connect(MALLORY)
        await alice.close()

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize(
    ("listen", "words"),
    [("192.0.2.1:5700", "has no such address"), ("", "another program, perhaps another node, has that port")],
)
def test_a_place_that_can_not_be_listened_on_is_told_with_a_remedy(loopback_host: str, listen: str, words: str) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind((loopback_host, 5700))
            for use in (lambda b: b.listen(), lambda b: b.connect(BOB)):
                places = UdpPlaces(ALICE, listen or f"{loopback_host}:5700", {BOB: f"{loopback_host}:5701"})
                with pytest.raises(BearerError, match=words) as refused:
                    await use(udp.UdpBearer(places))
                assert refused.value.transient

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EADDRINUSE, "take another in [udp] listen"),
        (errno.EADDRNOTAVAIL, "see ip address, and [udp] listen"),
        (errno.EACCES, "take others"),
        (errno.EPERM, "IPAddressDeny, does not let it out: allow it there"),
        (errno.EAFNOSUPPORT, "see systemctl edit"),
        (errno.EINVAL, "take another address in [udp] listen"),
        *((number, "bring the network up") for number in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)),
    ],
)
def test_what_hinders_a_socket_is_told_with_a_remedy_and_none_that_is_bluetooths(number: int, remedy: str) -> None:
    said = str(udp._fault(OSError(number, os.strerror(number)), "no connection"))
    assert said.startswith("no connection: ")
    assert remedy in said
    assert "bluetoothctl" not in said


def test_who_listens_on_this_computer_alone_is_told_why_it_reaches_nobody_else(loopback_host: str) -> None:
    async def main() -> None:
        alice = udp.UdpBearer(UdpPlaces(ALICE, f"{loopback_host}:5700", {BOB: "192.0.2.1:5701"}))
        with pytest.raises(BearerError, match="reaches this computer alone: take another address in") as refused:
            await alice.connect(BOB)
        assert not refused.value.transient
        await alice.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_udp_takes_places_and_says_so_where_there_are_none() -> None:
    with pytest.raises(UsageError, match="take another bearer"):
        open_bearer("udp")
    with pytest.raises(UsageError, match="is no IP address with a UDP port"):
        open_bearer("udp", udp=UdpPlaces(ALICE, "localhost:5700"))


# --- strangers


@pytest.mark.parametrize("anyone", [False, True])
def test_who_is_configured_may_dial_from_its_own_place_alone(loopback_host: str, anyone: bool) -> None:
    async def main() -> None:
        alice = bearer(ALICE, loopback_host, anyone=anyone)
        listener = await alice.listen()
        with stranger(loopback_host) as sock:
            for claimed in (BOB, ALICE):
                sock.send(pack(Hello(1, ALICE, claimed)))
                with pytest.raises(TimeoutError):
                    await asyncio.to_thread(sock.recv, 100)
            sock.send(pack(Hello(2, BOB, MALLORY)))  # for somebody else
            with pytest.raises(TimeoutError):
                await asyncio.to_thread(sock.recv, 100)
            sock.send(pack(Hello(3, ALICE, MALLORY)))
            if anyone:
                assert parse(await asyncio.to_thread(sock.recv, 100)) == Welcome(3, ALICE)
                assert (await listener.accept()).peer == MALLORY
            else:
                with pytest.raises(TimeoutError):
                    await asyncio.to_thread(sock.recv, 100)
        await alice.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_who_calls_in_a_peers_name_from_another_place_is_told_once_in_a_while(
    loopback_host: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As a second device does that runs with a copy of the peer's card."""

    async def main() -> None:
        alice = bearer(ALICE, loopback_host)
        await alice.listen()
        with stranger(loopback_host) as sock:
            for number in range(50):
                sock.send(pack(Hello(number, ALICE, BOB)))
            sock.send(pack(Hello(50, ALICE, MALLORY)))
            await asyncio.sleep(0.2)
        await alice.close()

    asyncio.run(asyncio.wait_for(main(), 30))
    (told,) = caplog.messages
    assert told.startswith(f"{BOB} calls from {loopback_host}:")
    assert f"its udp is {loopback_host}:{PORTS[BOB]}: two devices run with copies of one card" in told


def test_a_dialler_takes_no_welcome_and_a_link_no_datagram_from_elsewhere_nor_one_that_is_too_long(
    loopback_host: str,
) -> None:
    """Not even with the right number, which nobody else knows."""

    async def main() -> None:
        alice = bearer(ALICE, loopback_host)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bob, stranger(loopback_host) as mallory:
            bob.bind((loopback_host, PORTS[BOB]))
            bob.settimeout(5)
            dialling = asyncio.create_task(alice.connect(BOB))
            hello = parse(await asyncio.to_thread(bob.recv, 100))
            assert isinstance(hello, Hello)
            mallory.send(pack(Welcome(hello.link, BOB)))
            mallory.send(pack(Data(hello.link, b"forged")))
            assert parse(await asyncio.to_thread(mallory.recv, 100)) == Goodbye(hello.link)
            assert not dialling.done()
            here = loopback_host, PORTS[ALICE]
            bob.sendto(pack(Welcome(hello.link, BOB)), here)
            link = await dialling
            mallory.send(pack(Data(hello.link, b"forged")))
            mallory.send(pack(Goodbye(hello.link)))
            bob.sendto(pack(Data(hello.link, bytes(MTU_BYTES + 1))), here)
            bob.sendto(pack(Data(hello.link, b"real")), here)
            assert await link.receive() == b"real"
        await alice.close()

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize("closes", ["here", "there"])
def test_a_call_that_comes_late_opens_no_link_again_that_was_closed(loopback_host: str, closes: str) -> None:
    """It would replace the one that is used by now."""

    async def main() -> None:
        alice = bearer(ALICE, loopback_host)
        listener = await alice.listen()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bob:
            bob.bind((loopback_host, PORTS[BOB]))
            bob.settimeout(5)
            here = loopback_host, PORTS[ALICE]
            bob.sendto(pack(Hello(1, ALICE, BOB)), here)
            link = await listener.accept()
            assert parse(bob.recv(100)) == Welcome(1, ALICE)
            if closes == "here":
                await link.close()
                assert parse(bob.recv(100)) == Goodbye(1)
            else:
                bob.sendto(pack(Goodbye(1)), here)
                with pytest.raises(LinkClosedError):
                    await link.receive()
            bob.sendto(pack(Hello(1, ALICE, BOB)), here)
            bob.sendto(pack(Hello(2, ALICE, BOB)), here)
            await listener.accept()
            said = []
            while not said or said[-1] != Welcome(2, ALICE):
                said.append(parse(bob.recv(100)))
            assert said.count(Goodbye(1)) == len(said) - 1 >= 1
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(listener.accept(), 0.1)
        await alice.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_call_that_is_granted_and_closed_at_once_is_over_though_the_grant_got_lost(loopback_host: str) -> None:
    async def main() -> None:
        alice = bearer(ALICE, loopback_host)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bob:
            bob.bind((loopback_host, PORTS[BOB]))
            dialling = asyncio.create_task(alice.connect(BOB))
            hello = parse(await asyncio.to_thread(bob.recv, 100))
            assert isinstance(hello, Hello)
            bob.sendto(pack(Goodbye(hello.link)), (loopback_host, PORTS[ALICE]))
            assert await the_rest(await dialling) == []
        await alice.close()

    asyncio.run(asyncio.wait_for(main(), 5))


@pytest.mark.parametrize("anyone", [False, True])
def test_a_strangers_flood_makes_nothing_grow(loopback_host: str, anyone: bool) -> None:
    """HELLOs with ever new numbers and names, datagrams of links that there are not, and noise; nobody accepts."""

    async def main() -> None:
        alice = bearer(ALICE, loopback_host, anyone=anyone)
        listener = await alice.listen()
        assert isinstance(alice, udp.UdpBearer)
        assert alice._socket
        links = alice._socket.links
        random = Random(1)

        async def flood(sock: socket.socket, count: int) -> None:
            for number in range(count):
                name = random.randbytes(6).hex(":").upper()
                for frame in (
                    Hello(number, ALICE, name),
                    Data(number, bytes(1000)),
                    Goodbye(number),
                    Welcome(number, name),
                ):
                    sock.send(pack(frame))
                sock.send(random.randbytes(random.randrange(60)))
                await asyncio.sleep(0)

        with stranger(loopback_host) as sock:
            await flood(sock, 100)
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            await flood(sock, 2000)
            grown = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
        assert len(links) <= BACKLOG * anyone
        assert grown < 100_000
        await listener.close()
        await alice.close()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_peers_flood_fills_its_links_queue_and_no_more(loopback_host: str) -> None:
    async def scene(alice: Link, bob: Link) -> None:
        for _ in range(3 * QUEUE):
            await alice.send(bytes(MTU_BYTES))
            await asyncio.sleep(0)
        await alice.close()
        assert len(await the_rest(bob)) == QUEUE

    play(loopback_host, scene)


@settings(max_examples=part_of(300))
@given(st.binary(max_size=80))
def test_every_datagram_is_one_of_four_or_nothing_and_reads_back(datagram: bytes) -> None:
    frame = parse(datagram)
    assert frame is None or pack(frame) == datagram


NUMBERS = st.integers(0, 2**32 - 1)
ADDRESSES = st.binary(min_size=6, max_size=6).map(lambda octets: octets.hex(":").upper())


@settings(max_examples=part_of(300))
@given(
    st.builds(Hello, NUMBERS, ADDRESSES, ADDRESSES)
    | st.builds(Welcome, NUMBERS, ADDRESSES)
    | st.builds(Data, NUMBERS, st.binary(min_size=1, max_size=MTU_BYTES))
    | st.builds(Goodbye, NUMBERS)
)
def test_every_frame_reads_back(frame: Hello | Welcome | Data | Goodbye) -> None:
    assert parse(pack(frame)) == frame


FRAMES = st.one_of(
    st.builds(Hello, st.integers(0, 5), st.just(ALICE), st.sampled_from([BOB, MALLORY, ALICE])),
    st.builds(Welcome, st.integers(0, 5), st.sampled_from([BOB, MALLORY])),
    st.builds(Data, st.integers(0, 5), st.binary(min_size=1, max_size=9)),
    st.builds(Goodbye, st.integers(0, 5)),
)


@settings(max_examples=part_of(300))
@given(
    st.lists(st.tuples(FRAMES.map(pack) | st.binary(max_size=30), st.sampled_from(["bob", "elsewhere"])), max_size=60),
    st.integers(0, 60),
)
def test_whatever_comes_in_whatever_order_links_and_answers_stay_few(
    came: list[tuple[bytes, str]], dialled_at: int
) -> None:
    """Somewhere between, Alice dials Bob under a number that is among those that come, too."""

    async def main() -> None:
        answers: list[tuple[str, bytes]] = []

        async def send(place: str, datagram: bytes) -> None:
            pass

        def admits(peer: str, place: str) -> bool:
            return (peer == BOB) == (place == "bob")

        def answer(place: str, datagram: bytes) -> None:
            answers.append((place, datagram))

        links = NumberedLinks[str](ALICE, Ways(send, answer, admits, lambda peer: udp.TRAITS, udp._fault))
        listener = links.listen("udp")
        dialling = None
        for count, (datagram, place) in enumerate(came):
            if count == dialled_at:
                dialling = asyncio.create_task(links.dial(BOB, lambda hello: send("bob", hello), "bob"))
                await asyncio.sleep(0)
                (number,) = links._dialled
                links._dialled[3] = links._dialled[number]
            before = len(answers)
            links.take(datagram, place)
            assert len(answers) - before <= 1
            assert all(to == place and len(said) <= len(datagram) for to, said in answers[before:])
        assert listener.granted.qsize() <= BACKLOG
        assert len(links) <= BACKLOG + 1
        if dialling:
            await asyncio.sleep(0)
            if dialling.done():
                assert dialling.result().place == ("bob", 3)
            dialling.cancel()

    asyncio.run(main())
