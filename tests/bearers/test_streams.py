"""Datagrams on a stream, as RFCOMM carries them: over a socket pair, which cuts and delays like it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

import contract
import pytest
from amounts import part_of
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_selfsecure.bearers.base import LinkClosedError, Traits
from bt_selfsecure.bearers.limits import STREAM_DATAGRAM_BYTES
from bt_selfsecure.bearers.sockets import StreamLink
from bt_selfsecure.errors import LocalError

PEER = "BA:27:EB:00:00:02"
TRAITS = Traits(losses_visible=False, ordered=True, broadcast=False, link_encrypted=False)


def play(scene: Callable[[StreamLink, socket.socket], Awaitable[None]]) -> None:
    """A link, and the raw other end of its stream."""

    async def main() -> None:
        near, far = socket.socketpair()
        far.setblocking(False)
        link = StreamLink(near, PEER, TRAITS)
        try:
            async with asyncio.timeout(60):
                await scene(link, far)
        finally:
            await link.close()
            far.close()

    asyncio.run(main())


async def fill(link: StreamLink) -> asyncio.Task[None]:
    """A sender that has sent half a datagram and waits for room."""
    sending = asyncio.create_task(link.send(bytes(STREAM_DATAGRAM_BYTES)))
    await asyncio.sleep(0.05)
    assert not sending.done()
    return sending


def test_a_datagram_is_its_length_in_two_bytes_and_itself() -> None:
    async def scene(link: StreamLink, far: socket.socket) -> None:
        await link.send(b"abc")
        await link.send(b"\xff" * 300)
        loop = asyncio.get_running_loop()
        assert await loop.sock_recv(far, 1000) == b"\x00\x03abc\x01\x2c" + b"\xff" * 300

    play(scene)


@settings(max_examples=part_of(50))
@given(st.lists(st.binary(min_size=1, max_size=600), min_size=1, max_size=8), st.lists(st.integers(1, 700)))
def test_wherever_the_stream_is_cut_the_datagrams_are_whole(datagrams: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(len(data).to_bytes(2) + data for data in datagrams)

    async def scene(link: StreamLink, far: socket.socket) -> None:
        async def send() -> None:
            rest = stream
            for cut in cuts:
                far.send(rest[:cut])
                rest = rest[cut:]
                await asyncio.sleep(0)
            far.send(rest)

        sending = asyncio.create_task(send())
        assert [await link.receive() for _ in datagrams] == datagrams
        await sending

    play(scene)


def test_every_byte_may_come_alone_and_every_receive_be_cancelled() -> None:
    async def scene(link: StreamLink, far: socket.socket) -> None:
        received = []
        for byte in b"\x00\x05hello\x00\x00\x00\x01!":  # the empty one is nothing
            receiving = asyncio.create_task(link.receive())
            await asyncio.sleep(0)
            far.send(bytes([byte]))
            receiving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                received.append(await receiving)
        received.extend([await link.receive() for _ in range(2 - len(received))])
        assert received == [b"hello", b"!"]

    play(scene)


@pytest.mark.parametrize("steps", range(4))
def test_what_came_is_not_lost_with_the_receive_that_is_cancelled_then(steps: int) -> None:
    async def scene(link: StreamLink, far: socket.socket) -> None:
        receiving = asyncio.create_task(link.receive())
        await asyncio.sleep(0.01)
        far.send(b"\x00\x01a")
        for _ in range(steps):
            await asyncio.sleep(0)
        receiving.cancel()
        received = [result for result in await asyncio.gather(receiving, return_exceptions=True) if result == b"a"]
        far.send(b"\x00\x01b")
        while received != [b"a", b"b"]:
            received.append(await link.receive())
            assert received in ([b"a"], [b"a", b"b"])

    play(scene)


def test_what_nobody_takes_waits_in_the_kernel_until_the_peer_has_to_wait() -> None:
    async def scene(link: StreamLink, far: socket.socket) -> None:
        far.send(b"\x00\x01!")
        assert await link.receive() == b"!"
        sent, piece = 0, bytes(STREAM_DATAGRAM_BYTES)
        with contextlib.suppress(BlockingIOError):
            while sent < 100 * len(piece):
                sent += far.send((b"\xff\xff" + piece)[sent % (2 + len(piece)) :])
                await asyncio.sleep(0)
        assert sent < 20 * len(piece)
        for _ in range(sent // (2 + len(piece))):
            assert await link.receive() == piece

    play(scene)


def test_everything_arrives_both_ways_at_once() -> None:
    async def main() -> None:
        near, far = (StreamLink(sock, PEER, TRAITS) for sock in socket.socketpair())
        async with asyncio.timeout(60):
            seen = await asyncio.gather(
                contract.exchange(near, "near", "far", 300), contract.exchange(far, "far", "near", 300)
            )
        for end in seen:
            assert (end.received, end.garbled, end.ordered) == (300, 0, True)
        await near.close()
        await far.close()

    asyncio.run(main())


def test_a_sender_waits_while_nobody_reads_and_goes_on_when_somebody_does() -> None:
    async def scene(link: StreamLink, far: socket.socket) -> None:
        sending = await fill(link)
        got = b""
        while len(got) < 2 + STREAM_DATAGRAM_BYTES:
            got += await asyncio.get_running_loop().sock_recv(far, 65536)
        await sending
        assert got == b"\xff\xff" + bytes(STREAM_DATAGRAM_BYTES)

    play(scene)


def test_senders_at_once_take_turns() -> None:
    async def main() -> None:
        near, far = (StreamLink(sock, PEER, TRAITS) for sock in socket.socketpair())
        sending = asyncio.gather(*(near.send(bytes([number]) * 9000) for number in range(20)))
        async with asyncio.timeout(60):
            received = [await far.receive() for _ in range(20)]
            await sending
        assert received == [bytes([number]) * 9000 for number in range(20)]
        await near.close()
        await far.close()

    asyncio.run(main())


@settings(max_examples=part_of(50))
@given(st.lists(st.integers(1, 20_000), min_size=1, max_size=12))
def test_what_is_not_sent_at_once_is_sent_whole_and_in_order_when_there_is_room(sizes: list[int]) -> None:
    datagrams = [bytes([number]) * size for number, size in enumerate(sizes)]

    async def main() -> None:
        near, far = (StreamLink(sock, PEER, TRAITS) for sock in socket.socketpair())

        async def send() -> None:
            for data in datagrams:
                if not near.send_now(data):
                    await near.send(data)

        async with asyncio.timeout(60):
            sending = asyncio.create_task(send())
            await asyncio.sleep(0)
            assert [await far.receive() for _ in datagrams] == datagrams
            await sending
        await near.close()
        await far.close()

    asyncio.run(main())


def test_nothing_is_sent_at_once_between_the_halves_of_another_datagram() -> None:
    async def scene(link: StreamLink, far: socket.socket) -> None:
        sending = await fill(link)
        assert not link.send_now(b"abc")
        got = b""
        while len(got) < 2 + STREAM_DATAGRAM_BYTES:
            got += await asyncio.get_running_loop().sock_recv(far, 65536)
        await sending
        assert link.send_now(b"abc")
        assert await asyncio.get_running_loop().sock_recv(far, 65536) == b"\x00\x03abc"

    play(scene)


def test_a_link_that_has_ended_sends_nothing_at_once() -> None:
    async def scene(link: StreamLink, far: socket.socket) -> None:
        with pytest.raises(LocalError):
            link.send_now(bytes(STREAM_DATAGRAM_BYTES + 1))
        far.close()
        with pytest.raises(LinkClosedError):
            link.send_now(b"abc")

    play(scene)


def test_a_send_cancelled_half_way_closes_the_link_rather_than_garble_it() -> None:
    async def scene(link: StreamLink, far: socket.socket) -> None:
        sending = await fill(link)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        with pytest.raises(LinkClosedError):
            await link.send(b"x")
        with pytest.raises(LinkClosedError):
            await link.receive()
        got = b""
        while data := await asyncio.get_running_loop().sock_recv(far, 65536):
            got += data
        assert 2 < len(got) < 2 + STREAM_DATAGRAM_BYTES

    play(scene)


def test_a_send_cancelled_before_its_turn_leaves_the_link_open_and_the_stream_whole() -> None:
    async def scene(link: StreamLink, far: socket.socket) -> None:
        first = await fill(link)
        second = asyncio.create_task(link.send(b"never"))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        third = asyncio.create_task(link.send(b"third"))
        got = b""
        while len(got) < 2 + STREAM_DATAGRAM_BYTES + 7:
            got += await asyncio.get_running_loop().sock_recv(far, 65536)
        await asyncio.gather(first, third)
        assert got == b"\xff\xff" + bytes(STREAM_DATAGRAM_BYTES) + b"\x00\x05third"

    play(scene)


def test_the_other_end_hanging_up_ends_receive_and_send_after_what_came_before() -> None:
    async def scene(link: StreamLink, far: socket.socket) -> None:
        far.send(b"\x00\x01a\x00\x02b")  # the last one is cut off
        far.close()
        assert await link.receive() == b"a"
        with pytest.raises(LinkClosedError, match=f"{PEER} closed the link"):
            await link.receive()
        with pytest.raises(LinkClosedError):
            await link.send(b"x")

    play(scene)


def test_closing_ends_who_waits_for_data_or_room_and_twice_does_no_harm() -> None:
    async def scene(link: StreamLink, far: socket.socket) -> None:
        sending, receiving = await fill(link), asyncio.create_task(link.receive())
        await asyncio.sleep(0)
        await link.close()
        await link.close()
        for waiting in (sending, receiving):
            with pytest.raises(LinkClosedError, match="is closed"):
                await waiting

    play(scene)


@pytest.mark.parametrize("size", [0, STREAM_DATAGRAM_BYTES + 1])
def test_a_datagram_of_a_wrong_size_is_the_programs_fault_and_nothing_is_sent(size: int) -> None:
    async def scene(link: StreamLink, far: socket.socket) -> None:
        with pytest.raises(LocalError):
            await link.send(bytes(size))
        with pytest.raises(BlockingIOError):
            far.recv(1)

    play(scene)
