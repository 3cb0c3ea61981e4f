"""A Python without Bluetooth, D-Bus or netlink imports all of it, and says what it lacks only when it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

IN_A_BARE_PYTHON = """
import asyncio, importlib, pkgutil, socket, sys
for name in dir(socket):
    if "BLUETOOTH" in name or name.startswith(("BTPROTO", "BDADDR", "HCI_")):
        delattr(socket, name)
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("dbus_fast", "dbus", "gi", "bluezero", "bleak", "pyroute2"):
            raise ImportError(f"{name} is not installed")
sys.meta_path.insert(0, Absent())
from bt_selfsecure import bearers
from bt_selfsecure.bearers.base import BearerError
"""


def in_a_bare_python(program: str) -> str:
    command = [sys.executable, "-c", IN_A_BARE_PYTHON + program]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_every_module_of_bearers_can_be_imported() -> None:
    wrote = in_a_bare_python(
        """
for module in pkgutil.iter_modules(bearers.__path__):
    if module.name != "bluez_objects":  # loaded only where a bus is there to talk on
        importlib.import_module(f"bt_selfsecure.bearers.{module.name}")
        print(module.name)
"""
    )
    assert {"base", "rfcomm", "l2cap", "le_advert", "ipsp", "ipsp_helper", "hci", "specs", "udp", "drawn"} <= set(
        wrote.split()
    )


@pytest.mark.parametrize("spec", ["rfcomm", "l2cap", "le_advert", "ipsp", "udp", "faults:loss=0.1;udp"])
def test_opening_one_that_was_imported_takes_no_file(spec: str) -> None:
    """As a node does that runs under a low `ulimit -n`."""
    in_a_bare_python(
        f"""
import resource
from bt_selfsecure.bearers.places import UdpPlaces, parse_place
from bt_selfsecure.bearers.specs import import_bearer, open_bearer, parse_spec
parse_place("127.0.0.1:5700")  # as who reads the configuration does
import_bearer(parse_spec({spec!r}))
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
open_bearer({spec!r}, udp=UdpPlaces("02:00:00:00:00:01", "127.0.0.1:5700"))
"""
    )


@pytest.mark.parametrize("spec", ["rfcomm", "rfcomm#3", "l2cap", "le_advert", "ipsp"])
def test_using_one_says_which_python_has_what_it_needs(spec: str) -> None:
    wrote = in_a_bare_python(
        f"""
from bt_selfsecure.bearers.specs import open_bearer
async def main():
    bearer = open_bearer({spec!r})
    for use in (lambda: bearer.connect("BA:27:EB:00:00:02"), *([bearer.listen] if not bearer.traits.broadcast else [])):
        try:
            await use()
        except BearerError as error:
            print(error)
    await bearer.close()
asyncio.run(main())
"""
    )
    lines = wrote.splitlines()
    assert len(lines) == (1 if spec == "le_advert" else 2)
    assert set(lines) == {"this Python lacks AF_BLUETOOTH: run with Debian's /usr/bin/python3"}
