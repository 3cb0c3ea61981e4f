"""Numbered messages through a node's local API, by a program that survives its node and its machine.

    traffic.py send PEER LONGEST FIRST LAST LOG       sends messages FIRST to LAST - 1, each durably
    traffic.py receive PEER LONGEST COUNT LOG         receives until COUNT numbers have come

Every tenth message is LONGEST bytes long, the others 20.

The log is on the machine's card. A sender that does not know whether its node took a message sends it again under
another attempt; so a (number, attempt) that was taken must come once and once only, and the others at most once.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.node.client import ApiError, NodeClient
from bt_selfsecure.node.config import SOCKET

PORT = 5
PAUSE = 0.3


class Log:
    """Lines that are on the card when `add` returns."""

    def __init__(self, path: Path) -> None:
        self.lines = path.read_text().splitlines() if path.exists() else []
        self._file = path.open("a")

    def add(self, line: str) -> None:
        self._file.write(f"{line}\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def body(number: int, attempt: int, longest: int) -> bytes:
    head = f"{number} {attempt} ".encode()
    return (head + hashlib.shake_128(head).digest(longest))[: 20 if number % 10 else longest]


def persist_in(work: Callable[[], Any]) -> Any:
    """Until it works: the node may be restarting, or have no room."""
    while True:
        try:
            return work()
        except ApiError as error:
            if error.status not in (429, 503):
                raise
        except BtSelfSecureError:
            pass
        time.sleep(PAUSE)


def send(peer: str, longest: int, first: int, last: int, log: Log) -> None:
    client = NodeClient(SOCKET)
    taken = {int(line.split()[1]) for line in log.lines if line.startswith("taken")}
    attempts = {int(line.split()[1]): int(line.split()[2]) for line in log.lines if line.startswith("try")}
    for number in range(first, last):
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


def receive(peer: str, longest: int, count: int, log: Log) -> None:
    client = NodeClient(SOCKET)
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


def main(verb: str, peer: str, longest: str, *rest: str) -> None:
    if verb == "send":
        first, last, log = rest
        send(peer, int(longest), int(first), int(last), Log(Path(log)))
    else:
        count, log = rest
        receive(peer, int(longest), int(count), Log(Path(log)))
    print("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
