"""Numbered messages both ways through a node's local API, by a program that survives its node and its machine.

    traffic.py PEER LONGEST COUNT       sends messages 0 to COUNT - 1, each durably; receives until as many have come

Every tenth message is LONGEST bytes long, the others 20.

The logs, /lab/send-PEER.log and /lab/receive-PEER.log, are in the folder that the host shares with the machine: a line
is there when it is written, and stays when the plug is pulled. A sender that does not know whether its node took a
message sends it again under another attempt; so a (number, attempt) that was taken must come once and once only, and
the others at most once.
"""

from __future__ import annotations

import hashlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.node.client import ApiError, NodeClient
from bt_selfsecure.node.config import SOCKET

PORT = 5
SHARED = Path("/lab")
PAUSE = 0.3


class Log:
    """Lines that the host has when `add` returns."""

    def __init__(self, path: Path) -> None:
        self.lines = path.read_text().splitlines() if path.exists() else []
        self._file = path.open("a", buffering=1)

    def add(self, line: str) -> None:
        self._file.write(f"{line}\n")


def body(number: int, attempt: int, longest: int) -> bytes:
    head = f"{number} {attempt} ".encode()
    return (head + hashlib.shake_128(head).digest(longest))[: 20 if number % 10 else longest]


def send(peer: str, longest: int, count: int) -> None:
    client, log = NodeClient(SOCKET), Log(SHARED / f"send-{peer}.log")
    taken = {int(line.split()[1]) for line in log.lines if line.startswith("taken")}
    attempts = {int(line.split()[1]): int(line.split()[2]) for line in log.lines if line.startswith("try")}
    for number in range(count):
        while number not in taken:
            attempt = attempts[number] = attempts.get(number, -1) + 1
            log.add(f"try {number} {attempt}")
            try:
                client.send(peer, body(number, attempt, longest), port=PORT)
            except ApiError as error:
                if error.status not in (429, 503):
                    raise
                time.sleep(PAUSE)
            except BtSelfSecureError:
                time.sleep(PAUSE)
            else:
                log.add(f"taken {number} {attempt}")
                taken.add(number)


def receive(peer: str, longest: int, count: int) -> None:
    client, log = NodeClient(SOCKET), Log(SHARED / f"receive-{peer}.log")
    came = {int(line.split()[2]) for line in log.lines}
    newest = max((int(line.split()[1]) for line in log.lines), default=0)
    while len(came) < count:
        try:
            for message in client.receive(peer=peer, port=PORT, follow=True):
                number, attempt = map(int, message.message.split(b" ", 2)[:2])
                whole = message.message == body(number, attempt, longest)
                if message.id > newest:  # else it was written before, and the acknowledgement lost
                    log.add(f"came {message.id} {number} {attempt} {whole}")
                    newest = message.id
                    came.add(number)
                client.acknowledge(message.id)
                if len(came) >= count:
                    break
        except BtSelfSecureError:
            time.sleep(PAUSE)


def main(peer: str, longest: str, count: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        for work in [pool.submit(way, peer, int(longest), int(count)) for way in (send, receive)]:
            work.result()


if __name__ == "__main__":
    main(*sys.argv[1:])
