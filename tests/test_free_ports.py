"""Ports for later stay free until then: nobody gets one of them who names none."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from own_networks import add_network

from bt_selfsecure import free_ports as module
from bt_selfsecure.errors import UsageError
from bt_selfsecure.free_ports import HIGHEST_PORT, LOWEST_PORT, chosen_by_system, free_ports

KINDS = [socket.SOCK_DGRAM, socket.SOCK_STREAM]
TRANSPORTS = pytest.mark.parametrize("kind", KINDS, ids=["UDP", "TCP"])
GIVEN = 300
HAVE_ALL = """\
from contextlib import ExitStack, suppress
import socket
from bt_selfsecure.free_ports import free_ports
ports = free_ports("127.0.0.1", 20)
with ExitStack() as stack:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        def have(port):
            stack.enter_context(socket.socket(type=kind)).bind(("127.0.0.1", port))
            return True
        with suppress(OSError):  # there is none left
            while have(0):
                pass
        assert all(map(have, ports))
"""
SAY = "from bt_selfsecure.free_ports import free_ports; print(*free_ports('127.0.0.1', {count}, {group}))"
Within = Callable[[str, str], str]


@pytest.fixture
def within() -> Within:
    """Runs a program in a network of its own, in which the system chooses ports from this range; returns its output."""
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("networks of one's own are for root, and iproute2 makes them")
    space, stack = f"btss-ports-{os.getpid()}", ExitStack()

    def run(chosen: str, program: str) -> str:
        inside = ["ip", "netns", "exec", space]
        set_up = f"ip link set lo up && echo {chosen} >/proc/sys/net/ipv4/ip_local_port_range"
        subprocess.run([*inside, "sh", "-c", set_up], check=True, timeout=30)
        done = subprocess.run([*inside, sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with stack:
        add_network(space, stack)
        yield run


@pytest.mark.parametrize("group", [1, 2, 3])
def test_no_port_is_one_that_a_socket_gets_that_names_none_and_none_comes_twice(group: int, loopback_host: str) -> None:
    if {LOWEST_PORT, HIGHEST_PORT} <= {*chosen_by_system()}:
        pytest.skip("there is none")
    ports = [first + n for first in free_ports(loopback_host, GIVEN, group) for n in range(group)]
    assert len(ports) == len({*ports}) == GIVEN * group
    assert all(LOWEST_PORT <= port <= HIGHEST_PORT for port in ports)
    assert not {*ports} & {*chosen_by_system()}
    assert all(port % group == 0 for port in ports[::group])


@TRANSPORTS
def test_no_port_is_one_that_somebody_has_nor_of_a_group_in_which_somebody_has_one(
    kind: socket.SocketKind, loopback_host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system chooses from all ports but 400, a fourth of which, all odd, are somebody's."""
    monkeypatch.setattr(module, "RANGE", tmp_path / "range")
    module.RANGE.write_text(f"{LOWEST_PORT + 400}\t{HIGHEST_PORT}\n")
    with ExitStack() as stack:
        for port in range(LOWEST_PORT + 1, LOWEST_PORT + 400, 4):
            stack.enter_context(socket.socket(type=kind)).bind((loopback_host, port))
        assert sorted(free_ports(loopback_host, 300)) == [
            n for n in range(LOWEST_PORT, LOWEST_PORT + 400) if n % 4 != 1
        ]
        assert sorted(free_ports(loopback_host, 100, 2)) == [*range(LOWEST_PORT + 2, LOWEST_PORT + 400, 4)]
        with pytest.raises(UsageError, match=f"there are no 101 free ports at {loopback_host} .others have them"):
            free_ports(loopback_host, 101, 2)


@TRANSPORTS
def test_what_it_tried_is_free_again(kind: socket.SocketKind, loopback_host: str) -> None:
    with ExitStack() as stack:
        for port in free_ports(loopback_host, GIVEN):
            stack.enter_context(socket.socket(type=kind)).bind((loopback_host, port))


def test_ports_are_free_still_after_others_got_all_that_the_system_chooses(within: Within) -> None:
    within("30000 30400", HAVE_ALL)


def test_the_last_ports_that_the_system_does_not_choose_are_found(within: Within) -> None:
    assert sorted(within("20010 65535", SAY.format(count=10, group=1)).split()) == [str(n) for n in range(20000, 20010)]
    assert sorted(within("20003 65533", SAY.format(count=2, group=2)).split()) == ["20000", "65534"]


def test_where_the_system_chooses_from_all_there_are_ports_nevertheless(within: Within) -> None:
    assert len({*within("1024 65535", SAY.format(count=50, group=2)).split()}) == 50


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_an_address_of_another_computer_is_told_in_one_line(host: str) -> None:
    with pytest.raises(UsageError, match=r"no 1 free ports at .* \(.*\): name another address of this computer's$"):
        free_ports(host, 1)


def test_an_address_of_ipv6_has_ports_too() -> None:
    try:
        socket.socket(socket.AF_INET6).bind(("::1", 0))
    except OSError:
        pytest.skip("there is no IPv6")
    assert len(free_ports("::1", 3)) == 3
