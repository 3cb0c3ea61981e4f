"""strongSwan's daemon, twice, with our keys as postquantum preshared keys (RFC 8784). Skipped where it is not there."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from own_networks import add_network

from bt_selfsecure.delivery.consumers import StrongSwan
from bt_selfsecure.delivery.follow import Delivery, Lost
from bt_selfsecure.errors import UsageError

vici = pytest.importorskip("vici", reason="vici is not installed (pip install 'bt-selfsecure[strongswan]')")
pytestmark = pytest.mark.timeout(120)
ENDS = {"alice": "198.18.0.1", "bob": "198.18.0.2"}
DAEMON = "charon-systemd"
GROUPS = Path("/usr/lib/ipsec/plugins/libstrongswan-openssl.so")
"""Its plugin with X25519."""
PLUGINS = "random nonce aes sha1 sha2 hmac kdf curve25519 openssl kernel-netlink socket-default vici pem pkcs1 pubkey"
CONFIGURATION = """charon-systemd {{
  load = {plugins}
  plugins {{
    vici {{
      socket = unix://{socket}
    }}
  }}
}}
"""


def ran(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=30)


class Gateways:
    """Two networks joined by a cable, a daemon in each; it takes an IKE_SA only with the key of id btss."""

    def __init__(self, folder: Path, closing: ExitStack) -> None:
        self.folder = folder
        mark = f"{os.getpid():x}"
        spaces = {name: f"btss-ike-{name[0]}{mark}" for name in ENDS}
        for space in spaces.values():
            add_network(space, closing)
        cable = {name: f"i{name[0]}{mark}"[:15] for name in ENDS}
        # From another place: AppArmor, where it is, lets the one that is installed read nothing of ours.
        program = shutil.copy(shutil.which(DAEMON) or "", folder)
        (a, b) = ENDS
        ran(
            "ip",
            "link",
            "add",
            cable[a],
            "netns",
            spaces[a],
            "type",
            "veth",
            "peer",
            "name",
            cable[b],
            "netns",
            spaces[b],
        )
        for name, address in ENDS.items():
            inside = ("ip", "-n", spaces[name])
            ran(*inside, "addr", "add", f"{address}/24", "dev", cable[name])
            ran(*inside, "link", "set", cable[name], "up")
            file = folder / f"{name}.conf"
            file.write_text(CONFIGURATION.format(plugins=PLUGINS, socket=self.socket(name)))
            daemon = subprocess.Popen(
                ["ip", "netns", "exec", spaces[name], program],
                env=os.environ | {"STRONGSWAN_CONF": str(file)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            closing.callback(daemon.wait)
            closing.callback(daemon.kill)
        for name in ENDS:
            self._configure(name)

    def socket(self, name: str) -> str:
        return str(self.folder / f"{name}.vici")

    def session(self, name: str) -> Any:
        until = time.monotonic() + 60
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(self.socket(name))
                return vici.Session(connection)
            except OSError:
                connection.close()
                assert time.monotonic() < until, "strongSwan does not come up"
                time.sleep(0.1)

    def _configure(self, name: str) -> None:
        (other,) = ENDS.keys() - {name}
        session = self.session(name)
        session.load_shared({"id": "psk", "type": "ike", "data": b"of the installer", "owners": list(ENDS)})
        child = {"esp_proposals": ["aes128-sha256"]}
        connection = {
            "version": "2", "local_addrs": [ENDS[name]], "remote_addrs": [ENDS[other]],
            "proposals": ["aes128-sha256-x25519"], "ppk_id": "btss", "ppk_required": "yes",
            "local": {"auth": "psk", "id": name}, "remote": {"auth": "psk", "id": other}, "children": {"net": child},
        }  # fmt: skip
        session.load_conn({"c": connection})

    def is_secured(self) -> bool:
        """Whether an IKE_SA comes about. Its CHILD_SA takes a kernel with ESP, and is of no matter here."""
        session = self.session("alice")
        with suppress(vici.exception.CommandException):
            list(session.initiate({"child": "net", "timeout": "3000"}))
        found = [sa["c"] for sa in session.list_sas() if sa["c"]["state"] == b"ESTABLISHED"]
        if found:
            assert found[0]["ppk"] == b"yes"
            list(session.terminate({"ike": "c"}))
        return bool(found)


@pytest.fixture
def gateways(tmp_path: Path) -> Iterator[Gateways]:
    if shutil.which(DAEMON) is None or not GROUPS.exists() or os.geteuid():
        pytest.skip("takes root, and strongSwan (apt-get install charon-systemd libstrongswan-standard-plugins)")
    with ExitStack() as closing:
        yield Gateways(tmp_path, closing)


def test_ike_takes_the_key_of_one_generation_at_both_ends_and_no_other_and_none_of_a_lost_peer(
    gateways: Gateways,
) -> None:
    ends = {name: StrongSwan("btss", gateways.socket(name)) for name in ENDS}

    def take(number: int, *names: str) -> None:
        for name in names:
            ends[name].take(Delivery("peer", f"aa.{number}", bytes([number]) * 32))

    assert not gateways.is_secured(), "without a key"
    take(0, "alice", "bob")
    assert gateways.is_secured()
    take(1, "bob")
    assert not gateways.is_secured(), "one end is a generation ahead"
    take(1, "alice")
    assert gateways.is_secured()
    ends["alice"].lost(Lost("peer", "away"))
    assert not gateways.is_secured(), "the peer is lost"


def test_a_daemon_that_is_not_there_is_told_with_what_to_look_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"strongSwan does not answer on .*: is it running, and are you root"):
        StrongSwan("btss", str(tmp_path / "none")).take(Delivery("peer", "aa.0", bytes(32)))
