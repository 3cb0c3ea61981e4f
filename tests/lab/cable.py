"""A cable from a virtual Pi, which has no network but Bluetooth, to this computer: UDP over its shell's serial line.
`python cable.py PORT...` is the end in the machine: what comes to it at a port comes out here, and back.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import sys
import threading
import time
import tty
from collections.abc import Iterator, Mapping
from pathlib import Path

HOST = "127.0.0.1"
HEAD = struct.Struct(">HHH")
"""Of a datagram on the line: its length, the cloud's port in the machine, and the port that it came from there."""
READY = b"\0the cable is in\0"
PLUG_IN_S = 60.0


class Frames:
    """Cuts datagrams out of what comes on the line."""

    def __init__(self) -> None:
        self._read = bytearray()

    def of(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        self._read += data
        while len(self._read) >= HEAD.size:
            length, port, client = HEAD.unpack_from(self._read)
            if len(self._read) < HEAD.size + length:
                return
            datagram = bytes(self._read[HEAD.size : HEAD.size + length])
            del self._read[: HEAD.size + length]
            yield port, client, datagram


def in_the_machine(ports: list[int]) -> None:
    """Carry between the line, which is our terminal, and whoever speaks to these ports here, until it is cut."""
    tty.setraw(0)
    doors = {socket.socket(type=socket.SOCK_DGRAM): port for port in ports}
    by_port = {port: door for door, port in doors.items()}
    for door, port in doors.items():
        door.bind((HOST, port))
    write(1, READY)
    frames = Frames()
    while True:
        for ready in select.select([0, *doors], [], [])[0]:
            if ready != 0:
                datagram, (_, client) = ready.recvfrom(65535)
                write(1, HEAD.pack(len(datagram), doors[ready], client) + datagram)
                continue
            for port, client, datagram in frames.of(os.read(0, 65536)):
                with contextlib.suppress(OSError):  # nobody is there any more
                    by_port[port].sendto(datagram, (HOST, client))


def write(to: int, data: bytes) -> None:
    while data:
        data = data[os.write(to, data) :]


class Cable:
    """Is this computer's end: gives what comes at a port in the machine to another port here."""

    def __init__(self, line: Path, ports: Mapping[int, int]) -> None:
        """`line` is the machine's shell; `ports` are ours, each by that in the machine."""
        self._path, self._ports = line, ports

    def plug_in(self) -> None:
        """Return once it carries, until the machine's power is cut."""
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(0.5)
        line.connect(str(self._path))
        until = time.monotonic() + PLUG_IN_S
        self._say(line, b"\n", b"# ", until)
        command = f"exec python {Path(__file__).resolve()} {' '.join(map(str, self._ports))}\n"
        rest = self._say(line, command.encode(), READY, until, again=False)
        line.settimeout(None)
        threading.Thread(target=self._carry, args=(line, rest), daemon=True).start()

    @staticmethod
    def _say(line: socket.socket, what: bytes, wanted: bytes, until: float, *, again: bool = True) -> bytes:
        """Say it, again and again while nobody listens yet; return what came after what was waited for."""
        read = b""
        line.sendall(what)
        while wanted not in read:
            assert time.monotonic() < until, read
            try:
                data = line.recv(4096)
                assert data, read
                read += data
            except TimeoutError:
                line.sendall(what if again else b"")
        return read.partition(wanted)[2]

    def _carry(self, line: socket.socket, rest: bytes) -> None:
        frames, clients = Frames(), dict[tuple[int, int], socket.socket]()
        whose = dict[socket.socket, tuple[int, int]]()
        with line, contextlib.ExitStack() as sockets, contextlib.suppress(OSError):
            self._from_line(frames.of(rest), clients, whose, sockets)
            while True:
                for ready in select.select([line, *whose], [], [])[0]:
                    if ready is line:
                        data = line.recv(65536)
                        if not data:
                            return
                        self._from_line(frames.of(data), clients, whose, sockets)
                        continue
                    with contextlib.suppress(ConnectionRefusedError):  # the cloud is away
                        datagram = ready.recv(65535)
                        line.sendall(HEAD.pack(len(datagram), *whose[ready]) + datagram)

    def _from_line(
        self,
        datagrams: Iterator[tuple[int, int, bytes]],
        clients: dict[tuple[int, int], socket.socket],
        whose: dict[socket.socket, tuple[int, int]],
        sockets: contextlib.ExitStack,
    ) -> None:
        for port, client, datagram in datagrams:
            if (port, client) not in clients:
                made = sockets.enter_context(socket.socket(type=socket.SOCK_DGRAM))
                made.connect((HOST, self._ports[port]))
                clients[port, client] = made
                whose[made] = port, client
            with contextlib.suppress(ConnectionRefusedError):
                clients[port, client].send(datagram)


if __name__ == "__main__":
    in_the_machine([int(word) for word in sys.argv[1:]])
