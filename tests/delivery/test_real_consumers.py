"""Programs of others with our keys: WireGuard, aiocoap's OSCORE, libcoap's DTLS-PSK. Skipped where they are not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiocoap
import pytest
from aiocoap import credentials, oscore, resource
from amounts import at_length
from own_networks import add_network
from two_daemons import wait_until

from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.node.two_nodes import OTHER, TwoNodes

pytestmark = pytest.mark.timeout(600)
ROTATE_S = 3.0


def ran(*words: str, given: bytes = b"") -> bytes:
    done = subprocess.run(words, input=given, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def watch(nodes: TwoNodes, name: str, *words: str) -> list[str]:
    return nodes.command("key", "watch", OTHER[name], *words, "--config", str(nodes.config(name)))


# --- WireGuard --------------------------------------------------------------------------------------------------------


class WireGuardPair:
    """Two ends of WireGuard, each in a network of its own, joined by a cable; wireguard-go is the program that its
    authors have for where the kernel has no module."""

    def __init__(self, folder: Path, closing: ExitStack) -> None:
        mark = f"{os.getpid():x}"
        self.spaces = {name: f"btss-{name[0]}-{mark}" for name in OTHER}
        self.interfaces = {name: f"wg{name[0]}{mark}"[:15] for name in OTHER}
        self.public: dict[str, str] = {}
        for name, space in self.spaces.items():
            add_network(space, closing)
            key = ran("wg", "genkey")
            (folder / f"{name}.key").write_bytes(key)
            self.public[name] = ran("wg", "pubkey", given=key).decode().strip()
        ends = list(OTHER)
        cable = [f"v{end[0]}{mark}"[:15] for end in ends]
        ran("ip", "link", "add", cable[0], "netns", self.spaces[ends[0]], "type", "veth", "peer", "name", cable[1],
            "netns", self.spaces[ends[1]])  # fmt: skip
        for number, name in enumerate(ends, 1):
            self.at(name, "ip", "addr", "add", f"198.18.0.{number}/24", "dev", cable[number - 1])
            self.at(name, "ip", "link", "set", cable[number - 1], "up")
            daemon = subprocess.Popen(
                ["ip", "netns", "exec", self.spaces[name], "wireguard-go", "-f", self.interfaces[name]],
                env=os.environ | {"WG_PROCESS_FOREGROUND": "1"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            closing.callback(daemon.wait)
            closing.callback(daemon.kill)
        time.sleep(1.5)
        for number, name in enumerate(ends, 1):
            other = OTHER[name]
            self.at(name, "wg", "set", self.interfaces[name], "listen-port", "51820", "private-key",
                    str(folder / f"{name}.key"), "peer", self.public[other], "allowed-ips", f"10.99.0.{3 - number}/32",
                    "endpoint", f"198.18.0.{3 - number}:51820")  # fmt: skip
            self.at(name, "ip", "addr", "add", f"10.99.0.{number}/24", "dev", self.interfaces[name])
            self.at(name, "ip", "link", "set", self.interfaces[name], "up")

    def at(self, name: str, *words: str) -> str:
        return ran("ip", "netns", "exec", self.spaces[name], *words).decode()

    def preshared(self, name: str) -> str:
        return self.at(name, "wg", "show", self.interfaces[name], "preshared-keys").split()[-1]


@pytest.fixture
def wireguard(tmp_path: Path) -> Iterator[WireGuardPair]:
    absent = [name for name in ("wg", "wireguard-go", "ip") if shutil.which(name) is None]
    if absent or os.geteuid():
        pytest.skip(f"takes root, and {', '.join(absent) or 'nothing else'} (wireguard-tools, wireguard-go, iproute2)")
    with ExitStack() as closing:
        yield WireGuardPair(tmp_path, closing)


def test_a_public_key_that_no_peer_has_is_refused_and_makes_none(nodes: TwoNodes, wireguard: WireGuardPair) -> None:
    own = ["--wireguard", wireguard.interfaces["alice"], "--public-key", wireguard.public["alice"]]
    space = wireguard.spaces["alice"]
    stranger = [*own[:-1], b64encode(bytes(range(32))).decode()]
    for words in (own, stranger):
        command = ["ip", "netns", "exec", space, *watch(nodes, "alice", *words, "--once")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 2
        assert f"has no peer {words[-1]}" in done.stderr
    assert wireguard.at("alice", "wg", "show", own[1], "peers").split() == [wireguard.public["bob"]]


@pytest.mark.parametrize("seconds", [6.0, at_length(300.0)])
def test_wireguard_loses_no_ping_while_its_preshared_key_changes(
    nodes: TwoNodes, wireguard: WireGuardPair, seconds: float
) -> None:
    rotate = ROTATE_S if seconds < 60 else 10.0
    with ExitStack() as closing:
        for name in OTHER:
            words = ["--wireguard", wireguard.interfaces[name], "--public-key", wireguard.public[OTHER[name]]]
            words += ["--rotate", str(rotate)] if name == "alice" else []
            command = ["ip", "netns", "exec", wireguard.spaces[name], *watch(nodes, name, *words)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            closing.callback(process.wait)
            closing.callback(process.kill)
            assert process.stdout is not None
            assert "of wireguard" in process.stdout.readline()
        count = int(seconds / 0.2)
        seen = {wireguard.preshared("alice")}
        ping = subprocess.Popen(
            [
                "ip",
                "netns",
                "exec",
                wireguard.spaces["alice"],
                "ping",
                "-q",
                "-i",
                "0.2",
                "-c",
                str(count),
                "10.99.0.2",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        while ping.poll() is None:
            time.sleep(0.5)
            seen.add(wireguard.preshared("alice"))
        assert ping.stdout is not None
        said = ping.stdout.read()
        received = re.search(r"(\d+) packets transmitted, (\d+) received", said)
        assert received, said
        assert received[1] == received[2], said
        assert len(seen) > seconds / rotate / 2, "it did not rotate"
        assert "(none)" not in seen
    both = {wireguard.preshared(name) for name in OTHER}
    assert len(both) == 1


# --- CoAP -------------------------------------------------------------------------------------------------------------


class Secret(resource.Resource):
    async def render_get(self, request: Any) -> Any:
        from aiocoap.transports.oscore import OSCOREAddress  # wants lakers, too

        if not isinstance(request.remote, OSCOREAddress):
            raise aiocoap.error.UnauthorizedError
        return aiocoap.Message(payload=b"secret state")


def test_aiocoap_reads_the_folders_of_both_ends_and_old_ones_do_not_fit(nodes: TwoNodes, tmp_path: Path) -> None:
    pytest.importorskip("lakers")  # aiocoap's own site wants it, for EDHOC
    from aiocoap.oscore_sitewrapper import OscoreSiteWrapper

    def once(name: str) -> None:
        ran(*watch(nodes, name, "--oscore", str(tmp_path / name), "--once"))

    async def get(client: Path, server: Path) -> bytes:
        root, allowed = resource.Site(), credentials.CredentialsMap()
        root.add_resource(["x"], Secret())
        allowed[":b"] = oscore.FilesystemSecurityContext(str(server))
        (port,) = free_ports("127.0.0.1", 1)
        serving = await aiocoap.Context.create_server_context(
            OscoreSiteWrapper(root, allowed), bind=("127.0.0.1", port), transports=["oscore", "simplesocketserver"]
        )
        asking = await aiocoap.Context.create_client_context(transports=["oscore", "udp6"])
        try:
            uri = f"coap://127.0.0.1:{port}/x"
            asking.client_credentials[f"coap://127.0.0.1:{port}/*"] = oscore.FilesystemSecurityContext(str(client))
            answer = await asking.request(aiocoap.Message(code=aiocoap.GET, uri=uri)).response
            return bytes(answer.payload) if answer.code.is_successful() else b""
        finally:
            await asking.shutdown()
            await serving.shutdown()

    for name in OTHER:
        once(name)
    old = (tmp_path / "alice" / "current").resolve()
    assert asyncio.run(get(old, (tmp_path / "bob" / "current").resolve())) == b"secret state"
    nodes.client("alice").key("bob", "anything", rotate=True)
    wait_until(lambda: len({nodes.client(name).key(OTHER[name], "a")["generation"] for name in OTHER}) == 1)
    for name in OTHER:
        once(name)
    newest = [(tmp_path / name / "current").resolve() for name in OTHER]
    assert newest[0] != old
    for which, is_right in ((old, False), (newest[0], True)):
        copies = [Path(shutil.copytree(each, tmp_path / f"{is_right}{n}")) for n, each in enumerate((which, newest[1]))]
        (copies[0] / "lock").unlink(missing_ok=True)
        got = b""
        with contextlib.suppress(aiocoap.error.Error, oscore.NotAProtectedMessage):
            got = asyncio.run(get(*copies))
        assert (got == b"secret state") is is_right


def test_libcoaps_server_lets_in_who_has_the_generation_and_nobody_else(nodes: TwoNodes, tmp_path: Path) -> None:
    server, client = (shutil.which(f"coap-{end}-openssl") for end in ("server", "client"))
    if server is None or client is None:
        pytest.skip("libcoap's programs are not installed (apt-get install libcoap3-bin)")
    ran(*watch(nodes, "alice", "--coap-psk", str(tmp_path / "psk"), "--once"))
    ran(*watch(nodes, "bob", "--coap-psk", str(tmp_path / "own"), "--once"))
    _, identity, key = (tmp_path / "own").read_text().strip().split(",")
    (port,) = free_ports("127.0.0.1", 1, 2)
    words = [server, "-A", "127.0.0.1", "-p", str(port), "-h", "", "-k", "none at all", "-i", str(tmp_path / "psk")]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as serving:
        try:
            time.sleep(0.5)
            uri = f"coaps://127.0.0.1:{port + 1}/"

            def get(with_key: str) -> bytes:
                return ran(client, "-B", "2", "-u", identity, "-k", with_key, uri)

            assert b"libcoap" in get(key)
            assert b"libcoap" not in get(key[::-1])
        finally:
            serving.kill()
