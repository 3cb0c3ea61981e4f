"""A pair's file outlives kill -9 at any moment: no number goes out twice, and none that was answered is taken again."""

from __future__ import annotations

import json
import os
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from served import SECRET, begun, run

from bt_selfsecure.coap.client import NoResponseError, connected
from bt_selfsecure.coap.pairs import PairFile
from bt_selfsecure.coap.schemes import DotpDtls, DotpObject
from bt_selfsecure.errors import UsageError
from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.protocols.dotp.keys import Role
from bt_selfsecure.protocols.dotp.psk import ClientKeys, ServerKeys

SENDS = """
import socket, sys
from pathlib import Path
from bt_selfsecure.coap.pairs import PairFile
from bt_selfsecure.coap.schemes import DotpObject
channel = DotpObject([PairFile(Path(sys.argv[1]))]).client()(0.0)
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    channel.send(b"reading", 0.0)
    for datagram in channel.datagrams(0.0):
        out.sendto(datagram, (sys.argv[2], int(sys.argv[3])))
"""
TAKES = """
import sys
from pathlib import Path
from bt_selfsecure.coap.pairs import PairFile
from bt_selfsecure.protocols.dotp.psk import ClientKeys
pair = PairFile(Path(sys.argv[1]))
keys = ClientKeys(pair.record, b"pair")
while True:
    if not keys.left:
        pair.write(keys.reserve(3))
    print(*(part.decode() for part in keys.take()), flush=True)
"""


@contextmanager
def killed_at_the_end(code: str, *words: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, until it is killed where the block ends."""
    command = [sys.executable, "-c", code, *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("secret", "kills"),
    [(SECRET, 6), (None, 6), pytest.param(SECRET, 200, marks=pytest.mark.long)],
    ids=["hardened", "paper", "hardened, often"],
)
def test_no_number_goes_out_twice_however_often_its_sender_is_killed(
    secret: bytes | None, kills: int, tmp_path: Path, loopback_host: str
) -> None:
    """As it is seen on the air: the serial of each datagram."""
    begun(tmp_path, "pair", secret=secret)
    chance, serials = random.Random(kills), []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as air:
        air.bind((loopback_host, 0))
        for _ in range(kills):
            with killed_at_the_end(SENDS, tmp_path / "pair-client.pair", loopback_host, air.getsockname()[1]):
                serials.append(air.recv(2048)[:4])
                until = time.monotonic() + chance.uniform(0, 0.2)
                while (left := until - time.monotonic()) > 0 and select.select([air], [], [], left)[0]:
                    serials.append(air.recv(2048)[:4])
            while select.select([air], [], [], 0)[0]:
                serials.append(air.recv(2048)[:4])
    assert len(serials) == len(set(serials)) > kills


def test_no_session_is_taken_twice_however_often_its_client_is_killed(tmp_path: Path) -> None:
    begun(tmp_path, "pair")
    chance, taken = random.Random(1), []
    for _ in range(8):
        with killed_at_the_end(TAKES, tmp_path / "pair-client.pair") as process:
            assert process.stdout is not None
            taken += [process.stdout.readline() for _ in range(chance.randrange(1, 40))]
    assert len(taken) == len(set(taken))
    assert len({line.split()[1] for line in taken}) == len(taken), "a key came twice"


@pytest.mark.parametrize("layer", ["dtls", "object"])
def test_a_server_that_is_killed_serves_on_and_takes_nothing_that_it_answered_again(
    layer: str, tmp_path: Path, loopback_host: str
) -> None:
    ends = begun(tmp_path, "pair")
    ends[Role.SERVER].close()
    kind = DotpDtls if layer == "dtls" else DotpObject
    words = ["serve", "--bind", loopback_host, "--scheme", "dotp", "--layer", layer, "--state", str(tmp_path)]
    command = [sys.executable, "-m", "bt_selfsecure", "coap", *words, "--pair", "pair-server", "--port"]
    beginning, served = ends[Role.CLIENT].record, 0

    async def test() -> None:
        nonlocal served
        (port,) = free_ports(loopback_host, 1)
        for _ in range(4):
            with subprocess.Popen([*command, str(port)], stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                uri = process.stdout.readline().split()[1]
                for _ in range(5):
                    async with connected(kind([ends[Role.CLIENT]])) as client:
                        assert (await client.request("get", f"{uri}/time")).payload
                        served += 1
                process.kill()

    run(test)
    assert served == 20
    if layer == "object":
        return
    client, server = ClientKeys(beginning, b"pair"), ServerKeys(PairFile(ends[Role.SERVER].path).record, b"pair")
    client.reserve()
    assert [server.look_up(client.take()[0]) is not None for _ in range(served + 1)] == [False] * served + [True]


def test_a_replayed_datagram_is_refused_after_the_server_was_killed(tmp_path: Path) -> None:
    """The record that counts a message is on the disk before the message is acted on."""
    ends = begun(tmp_path, "pair")
    client, server = DotpObject([ends[Role.CLIENT]]).client()(0.0), DotpObject([ends[Role.SERVER]])
    gate = server.gate(os.urandom, 0.0)
    client.send(b"open the door", 0.0)
    (datagram,) = client.datagrams(0.0)
    _, messages = gate.admit(datagram, b"there", 0.0)
    assert messages == [b"open the door"]
    ends[Role.SERVER].close()
    again = DotpObject([PairFile(ends[Role.SERVER].path)]).gate(os.urandom, 0.0)
    assert again.admit(datagram, b"there", 0.0) == (None, [])


def test_two_programs_do_not_have_one_pair(tmp_path: Path) -> None:
    begun(tmp_path, "pair")
    path = tmp_path / "other.pair"
    path.write_bytes((tmp_path / "pair-client.pair").read_bytes())
    path.chmod(0o600)
    first = PairFile(path)
    with pytest.raises(UsageError, match="another program uses the pair"):
        PairFile(path)
    first.close()
    PairFile(path).close()


@pytest.mark.parametrize(
    "spoil", ["", "{}", "[]", '{"format": "bt-selfsecure coap pair", "version": 2}', "cut", "deep"]
)
def test_a_file_that_is_no_pair_is_refused_without_its_secrets(spoil: str, tmp_path: Path) -> None:
    ends = begun(tmp_path, "pair")
    ends[Role.CLIENT].close()
    path = ends[Role.CLIENT].path
    whole = path.read_text()
    path.write_text({"cut": whole[: len(whole) // 2], "deep": "[" * 100_000}.get(spoil, spoil))
    with pytest.raises(UsageError) as refused:
        PairFile(path)
    secret = json.loads(whole)["record"]["sending"]["secret"]
    assert secret not in str(refused.value)


def test_a_pair_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = begun(tmp_path, "pair")[Role.CLIENT].path
    path.chmod(0o640)
    copy = path.with_name("copy.pair")
    copy.write_bytes(path.read_bytes())
    copy.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        PairFile(copy)


def test_where_the_disk_takes_nothing_no_key_is_used(tmp_path: Path, loopback_host: str) -> None:
    """The record can't be written, so nothing leaves: the folder is gone."""
    ends = begun(tmp_path / "folder", "pair")
    pair = ends[Role.CLIENT]
    moved = tmp_path / "moved"
    (tmp_path / "folder").rename(moved)
    (tmp_path / "folder").write_text("no folder")

    async def test() -> None:
        for kind in (DotpDtls, DotpObject):
            async with connected(kind([pair])) as client:
                with pytest.raises((UsageError, NoResponseError), match="can't write"):
                    await client.request("get", f"{kind.uri_scheme}://{loopback_host}:9/time", timeout=2)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as air:
        air.bind((loopback_host, 9))
        run(test)
        assert not select.select([air], [], [], 0.1)[0]
