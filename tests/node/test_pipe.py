"""`pipe`: both streams arrive byte for byte, whatever restarts; what is not whole is said not to be."""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import threading
import time
from pathlib import Path

import pytest
from loopback_node import LoopbackNode, Server

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node import pipe as module
from bt_selfsecure.node.client import NodeAwayError, NodeClient
from bt_selfsecure.node.pipe import CHUNK_BYTES, HEAD, PORT, Flag, Pipe, PipeError


class Running:
    """A pipe in a thread, with its input and output in files."""

    def __init__(self, client: NodeClient, peer: str, source: Path, sink: Path, *, append: bool = False) -> None:
        self.source = os.open(source, os.O_RDONLY)
        self.sink = os.open(sink, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC))
        self.pipe = Pipe(client, peer, self.source, self.sink)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.pipe.run(lambda pipe: None)
        except Exception as error:
            self.error = error

    def join(self) -> Pipe:
        self._thread.join(60)
        assert not self._thread.is_alive()
        os.close(self.source)
        os.close(self.sink)
        if self.error:
            raise self.error
        return self.pipe


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bt_selfsecure.node.client.RETRY_S", 0.02)
    # A connection that asyncio accepts while its server closes is never answered, unless the process ends.
    monkeypatch.setattr("bt_selfsecure.node.client.ANSWER_S", 2.0)


@pytest.fixture
def nothing(tmp_path: Path) -> Path:
    (path := tmp_path / "nothing").touch()
    return path


@pytest.fixture
def big(tmp_path: Path) -> Path:
    (path := tmp_path / "big").write_bytes(random.Random(1).randbytes(1_000_000))
    return path


def part(stream: int, offset: int, data: bytes = b"", flag: Flag = Flag.MORE) -> bytes:
    return HEAD.pack(stream, offset, flag) + data


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def wait_for(size: int, path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists() or path.stat().st_size < size:
        assert time.monotonic() < end
        time.sleep(0.005)


def test_both_streams_arrive_byte_for_byte(
    at_alice: NodeClient, at_bob: NodeClient, big: Path, tmp_path: Path, alice: LoopbackNode, bob: LoopbackNode
) -> None:
    (other := tmp_path / "other").write_bytes(secrets.token_bytes(CHUNK_BYTES + 1))
    ends = [
        Running(at_alice, "bob", big, tmp_path / "at alice"),
        Running(at_bob, "alice", other, tmp_path / "at bob"),
    ]
    at_a, at_b = [end.join() for end in ends]
    assert (digest(tmp_path / "at bob"), digest(tmp_path / "at alice")) == (digest(big), digest(other))
    assert (at_a.sent, at_a.received) == (at_b.received, at_b.sent) == (1_000_000, CHUNK_BYTES + 1)
    assert not alice.kept
    assert not bob.kept


def test_the_end_that_starts_later_gets_everything(
    at_alice: NodeClient, at_bob: NodeClient, big: Path, nothing: Path, tmp_path: Path
) -> None:
    first = Running(at_alice, "bob", big, tmp_path / "at alice")
    time.sleep(0.1)
    Running(at_bob, "alice", nothing, tmp_path / "at bob").join()
    first.join()
    assert digest(tmp_path / "at bob") == digest(big)


def test_a_full_queue_only_slows_it_down(
    at_alice: NodeClient,
    at_bob: NodeClient,
    bob: LoopbackNode,
    nothing: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bt_selfsecure.node.api.RETRY_AFTER_S", 0.05)
    bob.limit = 1
    (small := tmp_path / "small").write_bytes(bytes(2 * CHUNK_BYTES))
    ends = [Running(at_alice, "bob", small, tmp_path / "a"), Running(at_bob, "alice", nothing, tmp_path / "b")]
    for end in ends:
        end.join()
    assert digest(tmp_path / "b") == digest(small)


def test_nodes_that_restart_at_any_time_lose_and_double_nothing(
    server: Server, at_alice: NodeClient, at_bob: NodeClient, alice: LoopbackNode, bob: LoopbackNode, tmp_path: Path
) -> None:
    (big := tmp_path / "big").write_bytes(random.Random(2).randbytes(3_000_000))
    ends = [Running(at_alice, "bob", big, tmp_path / "a"), Running(at_bob, "alice", big, tmp_path / "b")]
    for round_ in range(6):
        time.sleep(0.05)
        node = (alice, bob)[round_ % 2]
        server.stop(node.name)
        server.serve(node)
    for end in ends:
        end.join()
    assert digest(tmp_path / "a") == digest(tmp_path / "b") == digest(big)


def test_what_was_sent_or_shown_twice_is_written_once(
    at_alice: NodeClient, at_bob: NodeClient, nothing: Path, tmp_path: Path
) -> None:
    for message in (
        part(7, 0, b"abc"),
        part(7, 0, b"abc"),
        part(7, 3, b"def"),
        part(7, 0, b"abc"),
        part(7, 3, b"defg"),
        part(7, 7, flag=Flag.END),
    ):
        at_alice.send("bob", message, port=PORT)
    Running(at_bob, "alice", nothing, tmp_path / "out").join()
    assert (tmp_path / "out").read_bytes() == b"abcdefg"


def test_the_end_of_a_stream_that_is_over_is_no_stream(
    at_alice: NodeClient, at_bob: NodeClient, nothing: Path, tmp_path: Path
) -> None:
    for message in (part(7, 9, flag=Flag.END), part(7, 9, flag=Flag.ABORT), part(7, 0, flag=Flag.ABORT)):
        at_alice.send("bob", message, port=PORT)
    at_alice.send("bob", part(8, 0, b"new"), port=PORT)
    at_alice.send("bob", part(8, 3, flag=Flag.END), port=PORT)
    Running(at_bob, "alice", nothing, tmp_path / "out").join()
    assert (tmp_path / "out").read_bytes() == b"new"


def test_an_interruption_at_the_other_end_is_told(
    at_alice: NodeClient, at_bob: NodeClient, nothing: Path, tmp_path: Path, bob: LoopbackNode
) -> None:
    running = Running(at_bob, "alice", nothing, tmp_path / "out")
    at_alice.send("bob", part(7, 0, b"abc"), port=PORT)
    at_alice.send("bob", part(7, 3, flag=Flag.ABORT), port=PORT)
    with pytest.raises(PipeError, match="alice was interrupted after 3 bytes: that is not all"):
        running.join()
    assert not bob.kept


def test_abort_is_what_the_other_end_is_told(
    at_alice: NodeClient, at_bob: NodeClient, nothing: Path, tmp_path: Path, alice: LoopbackNode
) -> None:
    running = Running(at_bob, "alice", nothing, tmp_path / "out")
    wait_until_kept(alice, 1)
    running.pipe.abort()
    messages = [HEAD.unpack(message.message) for message in alice.kept.values()]
    assert [(offset, flag) for _, offset, flag in messages] == [(0, Flag.END), (0, Flag.ABORT)]
    assert len({stream for stream, _, _ in messages}) == 1
    at_alice.send("bob", part(7, 0, flag=Flag.END), port=PORT)
    running.join()


def test_an_input_that_ends_by_the_interruption_does_not_end_the_stream(
    at_alice: NodeClient, at_bob: NodeClient, tmp_path: Path, bob: LoopbackNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in `producer | pipe bob` ends the producer as well."""
    monkeypatch.setattr(module, "GRACE_S", 0.05)
    source, producer = os.pipe()
    running = Running(at_alice, "bob", Path(f"/dev/fd/{source}"), tmp_path / "out")
    os.close(source)
    os.write(producer, b"half")
    wait_until_kept(bob, 1)
    running.pipe.abort()
    os.close(producer)
    time.sleep(0.2)
    assert [HEAD.unpack_from(message.message)[2] for message in bob.kept.values()] == [Flag.MORE, Flag.ABORT]
    at_bob.send("alice", part(7, 0, flag=Flag.END), port=PORT)
    running.join()


def test_a_file_is_on_disk_before_the_message_is_forgotten(
    at_alice: NodeClient, at_bob: NodeClient, nothing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, acknowledge = os.fsync, NodeClient.acknowledge
    monkeypatch.setattr(module.os, "fsync", lambda file: (done.append("synced"), sync(file)))
    monkeypatch.setattr(NodeClient, "acknowledge", lambda *args: (done.append("forgotten"), acknowledge(*args)))
    at_alice.send("bob", part(7, 0, b"abc"), port=PORT)
    at_alice.send("bob", part(7, 3, flag=Flag.END), port=PORT)
    Running(at_bob, "alice", nothing, tmp_path / "out").join()
    assert done == ["synced", "forgotten", "forgotten"]


def wait_until_kept(node: LoopbackNode, count: int) -> None:
    end = time.monotonic() + 60
    while len(node.kept) < count:
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_new_stream_is_not_taken_for_the_rest_of_an_old_one(
    at_alice: NodeClient, at_bob: NodeClient, nothing: Path, tmp_path: Path
) -> None:
    for message in (part(7, 0, b"abc"), part(8, 0, b"xyz"), part(8, 3, flag=Flag.END)):
        at_alice.send("bob", message, port=PORT)
    with pytest.raises(PipeError, match="alice broke off after 3 bytes and began anew: start once more"):
        Running(at_bob, "alice", nothing, tmp_path / "out").join()
    Running(at_bob, "alice", nothing, tmp_path / "out").join()
    assert (tmp_path / "out").read_bytes() == b"xyz"


def test_a_file_that_came_in_part_is_continued_by_appending(
    at_alice: NodeClient, at_bob: NodeClient, nothing: Path, tmp_path: Path
) -> None:
    """The plug was pulled when "abcd" was written but not acknowledged: it comes again, and then the rest."""
    (out := tmp_path / "out").write_bytes(b"abcd")
    for message in (part(7, 2, b"cde"), part(7, 5, b"fg"), part(7, 7, flag=Flag.END)):
        at_alice.send("bob", message, port=PORT)
    Running(at_bob, "alice", nothing, out, append=True).join()
    assert out.read_bytes() == b"abcdefg"


def test_the_rest_of_a_stream_is_refused_where_its_beginning_is_not(
    at_alice: NodeClient, at_bob: NodeClient, nothing: Path, tmp_path: Path, bob: LoopbackNode
) -> None:
    at_alice.send("bob", part(7, 2, b"cde"), port=PORT)
    with pytest.raises(PipeError, match="a stream of alice waits at byte 2, the output has 0: append to the file"):
        Running(at_bob, "alice", nothing, tmp_path / "out").join()
    assert len(bob.kept) == 1


def test_a_gap_is_told(at_alice: NodeClient, at_bob: NodeClient, nothing: Path, tmp_path: Path) -> None:
    for message in (part(7, 0, b"abc"), part(7, 4, b"e")):
        at_alice.send("bob", message, port=PORT)
    with pytest.raises(PipeError, match="bytes 3 to 4 are missing, lost in a crash: send it again"):
        Running(at_bob, "alice", nothing, tmp_path / "out").join()


def test_a_new_stream_may_be_appended_to_a_file_that_holds_others(
    at_alice: NodeClient, at_bob: NodeClient, nothing: Path, tmp_path: Path
) -> None:
    (out := tmp_path / "out").write_bytes(b"abcd")
    for message in (part(7, 0, b"xyz"), part(7, 3, flag=Flag.END)):
        at_alice.send("bob", message, port=PORT)
    Running(at_bob, "alice", nothing, out, append=True).join()
    assert out.read_bytes() == b"abcdxyz"


def test_what_is_no_part_of_a_stream_is_left_for_receive(
    at_alice: NodeClient, at_bob: NodeClient, nothing: Path, tmp_path: Path, bob: LoopbackNode
) -> None:
    at_alice.send("bob", b"hello", port=PORT)
    with pytest.raises(PipeError, match="alice sent what is no part of a stream: see `receive --port 1`"):
        Running(at_bob, "alice", nothing, tmp_path / "out").join()
    assert len(bob.kept) == 1


def test_a_node_that_stays_away_is_given_up(
    server: Server, at_alice: NodeClient, nothing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bt_selfsecure.node.client.PATIENCE_S", 0.1)
    running = Running(at_alice, "bob", nothing, tmp_path / "out")
    time.sleep(0.05)
    server.stop("alice")
    with pytest.raises(UsageError, match=r"no node runs on .*alice\.sock"):
        running.join()


def test_whoever_waits_in_vain_for_a_node_is_told_what_hinders_now_and_not_what_did_at_first(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bt_selfsecure.node.client.PATIENCE_S", 0.1)
    with pytest.raises(NodeAwayError, match=r"no node runs on .*alice\.sock"):
        NodeClient(server.socket("alice")).wait(NodeAwayError("the node ended in mid-sentence"))


def test_an_unknown_peer_is_refused_at_once(at_alice: NodeClient, nothing: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no peer 'carol'"):
        Running(at_alice, "carol", nothing, tmp_path / "out").join()


def test_an_output_that_takes_nothing_more_keeps_the_message(
    at_alice: NodeClient, at_bob: NodeClient, nothing: Path, bob: LoopbackNode
) -> None:
    at_alice.send("bob", part(7, 0, b"abc"), port=PORT)
    with pytest.raises(UsageError, match=r"can't write the output \(No space left on device\)"):
        Running(at_bob, "alice", nothing, Path("/dev/full")).join()
    assert len(bob.kept) == 1
