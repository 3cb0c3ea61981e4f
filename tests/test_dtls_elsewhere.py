"""DTLS with a pre-shared key, over UDP on loopback, with OpenSSL's and libcoap's own programs at the other end."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dtls_wire import IDENTITY, KEY, PATIENCE_S, WRONG, Wire, client_to, listener

from bt_selfsecure.dtls.listener import DtlsListener
from bt_selfsecure.dtls.values import Closed, Established
from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.protocols.dotp.keys import Policy, Role
from bt_selfsecure.protocols.dotp.psk import ClientKeys, ServerKeys
from bt_selfsecure.protocols.dotp.record import DotpRecord

Start = Callable[..., "subprocess.Popen[bytes]"]
EACH_KEY = pytest.mark.parametrize(("key", "right"), [(KEY, True), (WRONG, False)], ids=["right", "wrong"])
LIBRARIES = pytest.mark.parametrize("library", ["openssl", "gnutls"])


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program of others; the test is skipped where it is not installed."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(name: str, *words: object) -> subprocess.Popen[bytes]:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
        pipe = subprocess.PIPE
        command = ["stdbuf", "-oL", name, *map(str, words)]
        running.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT))
        return running[-1]

    yield begin
    for each in running:
        each.kill()
        each.communicate()


def said(program: subprocess.Popen[bytes], text: bytes, patience: float = PATIENCE_S) -> bytes:
    """Return what the program says until it has said this, or is over, or the time is."""
    assert program.stdout is not None
    os.set_blocking(program.stdout.fileno(), False)
    heard, stop = b"", time.monotonic() + patience
    while text not in heard and time.monotonic() < stop:
        more = program.stdout.read()
        if more == b"":
            break
        heard += more or b""
        time.sleep(0.02)
    return heard


def type_in(program: subprocess.Popen[bytes], text: bytes) -> None:
    assert program.stdin is not None
    program.stdin.write(text)
    program.stdin.flush()


@EACH_KEY
def test_openssl_s_client_is_served_with_the_right_key_alone(
    key: bytes, right: bool, start: Start, loopback_host: str
) -> None:
    with Wire(loopback_host, listener()) as wire:
        client = start(
            *("openssl", "s_client", "-dtls1_2", "-psk", key.hex(), "-psk_identity", IDENTITY.decode(), "-quiet"),
            *("-cipher", "PSK-CHACHA20-POLY1305", "-connect", f"{loopback_host}:{wire.port}"),
        )
        type_in(client, b"hello from s_client\n")
        assert wire.drive(lambda: wire.data != b"", PATIENCE_S if right else 3) == right
        assert wire.has(Established) == right
        if right:
            assert wire.data == b"hello from s_client\n"
            wire.send(b"hello back\n")
            assert b"hello back\n" in said(client, b"hello back\n")


@EACH_KEY
def test_openssl_s_server_serves_us_with_the_right_key_alone(
    key: bytes, right: bool, start: Start, loopback_host: str
) -> None:
    (port,) = free_ports(loopback_host, 1)
    server = start(
        *("openssl", "s_server", "-dtls1_2", "-psk", KEY.hex(), "-psk_identity", IDENTITY.decode(), "-nocert"),
        *("-listen", "-cipher", "PSK-CHACHA20-POLY1305", "-accept", f"{loopback_host}:{port}"),
    )
    assert b"ACCEPT" in said(server, b"ACCEPT")
    with Wire(loopback_host, client_to(key), (loopback_host, port)) as wire:
        assert wire.drive(lambda: wire.has(Established), PATIENCE_S if right else 3) == right
        if right:
            wire.send(b"hello to s_server\n")
            assert b"hello to s_server\n" in said(server, b"hello to s_server\n")
            type_in(server, b"hello back\n")
            assert wire.drive(lambda: wire.data == b"hello back\n")


@EACH_KEY
@LIBRARIES
def test_libcoaps_client_gets_its_resource_with_the_right_key_alone(
    library: str, key: bytes, right: bool, start: Start, loopback_host: str
) -> None:
    with Wire(loopback_host, listener()) as wire:
        client = start(
            *(f"coap-client-{library}", "-B", 4, "-u", IDENTITY.decode(), "-k", key.decode(), "-m", "get"),
            f"coaps://{loopback_host}:{wire.port}/time",
        )
        assert wire.drive(lambda: wire.data != b"", PATIENCE_S if right else 3) == right
        if right:
            request = wire.data
            assert (request[0] >> 4, request[1]) == (4, 1)  # version 1, confirmable; GET
            token = request[4 : 4 + (request[0] & 15)]
            wire.send(bytes([0x60 | len(token), 0x45]) + request[2:4] + token + b"\xffNov 29 09:22:00")
            assert b"Nov 29 09:22:00" in said(client, b"Nov 29 09:22:00")
            assert wire.drive(lambda: wire.has(Closed))


@EACH_KEY
@LIBRARIES
def test_libcoaps_server_gives_us_its_resource_with_the_right_key_alone(
    library: str, key: bytes, right: bool, start: Start, loopback_host: str, tmp_path: Path
) -> None:
    (port,) = free_ports(loopback_host, 1, 2)  # libcoap takes the next one for coaps
    identities = tmp_path / "identities"
    identities.write_text(f"CoAP,{IDENTITY.decode()},{KEY.decode()}\n")
    start(f"coap-server-{library}", "-A", loopback_host, "-p", port, "-k", "1234", "-h", "CoAP", "-i", identities)
    with Wire(loopback_host, client_to(key), (loopback_host, port + 1)) as wire:
        assert wire.drive(lambda: wire.has(Established), PATIENCE_S if right else 4) == right
        if right:
            wire.send(bytes.fromhex("41 01 1234 77 b4") + b"time")  # confirmable GET /time, token 77
            assert wire.drive(lambda: wire.data != b"")
            assert wire.data[:5] == bytes.fromhex("61 45 1234 77")  # 2.05, piggybacked
            assert b"\xff" in wire.data
            wire.close()


@pytest.mark.parametrize("off", [0, -1, 1], ids=["key n", "key n - 1", "key n + 1"])
def test_libcoaps_client_is_served_with_key_n_of_the_pair_and_with_no_other(
    off: int, start: Start, loopback_host: str
) -> None:
    """Session 3 of a D-OTP pair whose SN is 1234, in the paper's profile; session 2 is over."""
    beginnings = {role: DotpRecord.paper(role, 1234, Policy.PER_IO_NRPRNG) for role in Role}
    client, server = ClientKeys(beginnings[Role.CLIENT], b"pair"), ServerKeys(beginnings[Role.SERVER], b"pair")
    client.reserve()
    sessions = [client.take() for _ in range(5)]
    assert server.established(sessions[2][0]) is not None
    identity, key = sessions[3][0].decode(), sessions[3 + off][1].decode()
    with Wire(loopback_host, DtlsListener(server.look_up, os.urandom, time.monotonic())) as wire:
        name, where = "coap-client-openssl", f"coaps://{loopback_host}:{wire.port}/time"
        start(name, "-B", 4, "-u", identity, "-k", key, "-m", "get", where)
        assert wire.drive(lambda: wire.data != b"", PATIENCE_S if off == 0 else 3) == (off == 0)
        if off == 0:
            assert server.established(identity.encode()) is not None
        wire.told.clear()
        wire.end = DtlsListener(server.look_up, os.urandom, time.monotonic())
        start(name, "-B", 3, "-u", sessions[2][0].decode(), "-k", sessions[2][1].decode(), "-m", "get", where)
        assert not wire.drive(lambda: wire.data != b"", 2), "a used key was taken again"
