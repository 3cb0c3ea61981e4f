"""Numbered messages both ways through a node's local API, by a program that survives its node and its machine.

    traffic.py PEER LONGEST COUNT       sends messages 0 to COUNT - 1, each durably; receives until as many have come
    traffic.py PEER LONGEST             sends, with pauses, until the file /lab/enough is there, and says which was the
                                        last; receives until the last has come

Every tenth message is LONGEST bytes long, the others 20.

The logs, /lab/send-PEER.log and /lab/receive-PEER.log, are in the folder that the host shares with the machine: a line
is there when it is written, and stays when the plug is pulled. A sender that does not know whether its node took a
message sends it again under another attempt; so a (number, attempt) that was taken must come once and once only, and
the others at most once.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.node.client import ApiError, NodeClient
from bt_selfsecure.node.where import SOCKET

PORT = 5
SHARED = Path("/lab")
PAUSE = 0.3
THINK = 0.1
"""Seconds between messages where they go on until it is enough, so that machines do other things too."""
LAST = b"last"


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


def numbers(begin: int, count: int | None) -> Iterator[int]:
    number = begin
    while number != count and not (count is None and (SHARED / "enough").exists()):
        yield number
        number += 1
        if count is None:
            time.sleep(THINK)


def send(peer: str, longest: int, count: int | None) -> None:
    client, log = NodeClient(SOCKET), Log(SHARED / f"send-{peer}.log")
    taken = sum(line.startswith("taken") for line in log.lines)
    attempts = {int(line.split()[1]): int(line.split()[2]) for line in log.lines if line.startswith("try")}

    def is_taken(message: bytes) -> bool:
        try:
            client.send(peer, message, port=PORT)
        except ApiError as error:
            if error.status not in (429, 503):
                raise
        except BtSelfSecureError:
            pass
        else:
            return True
        time.sleep(PAUSE)
        return False

    for number in numbers(taken, count):
        for attempt in itertools.count(attempts.get(number, -1) + 1):
            log.add(f"try {number} {attempt}")
            if is_taken(body(number, attempt, longest)):
                log.add(f"taken {number} {attempt}")
                break
    while count is None and not is_taken(LAST):
        pass


def receive(peer: str, longest: int, count: int | None) -> None:
    client, log = NodeClient(SOCKET), Log(SHARED / f"receive-{peer}.log")
    came = {int(line.split()[2]) for line in log.lines}
    newest = max((int(line.split()[1]) for line in log.lines), default=0)
    while count is None or len(came) < count:
        try:
            for message in client.receive(peer=peer, port=PORT, follow=True):
                if message.message == LAST:
                    client.acknowledge(message.id)
                    return
                number, attempt = map(int, message.message.split(b" ", 2)[:2])
                whole = message.message == body(number, attempt, longest)
                if message.id > newest:  # else it was written before, and the acknowledgement lost
                    log.add(f"came {message.id} {number} {attempt} {whole}")
                    newest = message.id
                    came.add(number)
                client.acknowledge(message.id)
                if count is not None and len(came) >= count:
                    break
        except BtSelfSecureError:
            time.sleep(PAUSE)


def main(peer: str, longest: str, count: str = "") -> None:
    with ThreadPoolExecutor(2) as pool:
        works = [pool.submit(way, peer, int(longest), int(count) if count else None) for way in (send, receive)]
        for work in wait(works, return_when=FIRST_EXCEPTION).done:
            if error := work.exception():
                traceback.print_exception(error)
                os._exit(1)  # or the other one would be waited for


if __name__ == "__main__":
    main(*sys.argv[1:])
