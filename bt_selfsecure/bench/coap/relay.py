"""A UDP relay in a process of its own: all that passes, with its time, so that whoever is measured is measured alike.

python -m bt_selfsecure.bench.coap.relay KBIT_PER_S DELAY_MS HOST PORT ...

It is a link of this rate and delay in each direction (0 0: as fast as it can) to these ports of a host. It prints the
ports of 127.0.0.1 at which it takes their place, as JSON; then, for each line on standard input, what came out since
the last: [seconds, "client" or "server", bytes] of each datagram; the first is the time at which it came in.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from selectors import EVENT_READ, DefaultSelector
from typing import Any, Final

LONGEST: Final = 65_535
HERE: Final = "127.0.0.1"
Place = tuple[Any, ...]


class Relay:
    """Keeps a socket for each client and target, and what is under way."""

    def __init__(self, kbit_per_s: float, delay_s: float, host: str, targets: list[int]) -> None:
        self._byte_s = 8 / (1000 * kbit_per_s) if kbit_per_s else 0.0
        self._delay_s = delay_s
        self._selector = DefaultSelector()
        self._passed: list[tuple[float, str, int]] = []
        self._free = {"client": 0.0, "server": 0.0}
        self._under_way: list[tuple[float, int, str, bytes, Callable[[bytes], object]]] = []
        self._order = count()
        self._backs: dict[tuple[int, Place], socket.socket] = {}
        ports = []
        for target in targets:
            front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            front.bind((HERE, 0))
            ports.append(front.getsockname()[1])
            family, _, _, _, place = socket.getaddrinfo(host, target, type=socket.SOCK_DGRAM)[0]
            self._read(front, partial(self._from_client, front, family, place))
        self._read(sys.stdin.fileno(), self._tell)
        print(json.dumps(ports), flush=True)

    def run(self) -> None:
        """Relay until standard input ends."""
        while True:
            wait = max(0.0, self._under_way[0][0] - time.perf_counter()) if self._under_way else None
            for key, _ in self._selector.select(wait):
                key.data()
            while self._under_way and self._under_way[0][0] <= time.perf_counter():
                _, _, who, data, send = heapq.heappop(self._under_way)
                self._passed.append((time.perf_counter(), who, len(data)))
                with contextlib.suppress(OSError):  # there is no server yet
                    send(data)

    def _read(self, what: socket.socket | int, call: Callable[[], None]) -> None:
        self._selector.register(what, EVENT_READ, call)

    def _from_client(self, front: socket.socket, family: int, target: Place) -> None:
        data, source = front.recvfrom(LONGEST)
        back = self._backs.get((front.fileno(), source))
        if back is None:
            back = socket.socket(family, socket.SOCK_DGRAM)
            back.connect(target)
            self._backs[front.fileno(), source] = back
            self._read(back, lambda: self._from_server(back, lambda data: front.sendto(data, source)))
        self._carry("client", data, back.send)

    def _from_server(self, back: socket.socket, send: Callable[[bytes], object]) -> None:
        with contextlib.suppress(OSError):  # the server is not there any more, or the exchange is over
            self._carry("server", back.recv(LONGEST), send)

    def _carry(self, who: str, data: bytes, send: Callable[[bytes], object]) -> None:
        now = time.perf_counter()
        if not self._passed and not self._under_way:
            self._passed.append((now, "begin", 0))
        self._free[who] = max(now, self._free[who]) + len(data) * self._byte_s
        heapq.heappush(self._under_way, (self._free[who] + self._delay_s, next(self._order), who, data, send))

    def _tell(self) -> None:
        if not sys.stdin.readline():
            raise SystemExit
        print(json.dumps(self._passed), flush=True)
        self._passed.clear()
        self._under_way.clear()
        for back in self._backs.values():
            self._selector.unregister(back)
            back.close()
        self._backs.clear()


if __name__ == "__main__":
    kbit_per_s, delay_ms, host, *ports = sys.argv[1:]
    Relay(float(kbit_per_s), float(delay_ms) / 1000, host, [int(port) for port in ports]).run()
