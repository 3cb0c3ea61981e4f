"""Is this machine fit for a gateway, and if not, what to do? Each check says so in a sentence; it changes nothing."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bt_selfsecure.bearers.base import BearerError
from bt_selfsecure.bearers.ipsp_kernel import HELPER_SOCKET
from bt_selfsecure.dtls.libssl import NoLibsslError, libssl
from bt_selfsecure.errors import UsageError
from bt_selfsecure.iot.folder import DAY_S, IdentityFolder, expires_soon
from bt_selfsecure.iot.gateway.config import GatewayConfig, read_config
from bt_selfsecure.iot.service import port_of
from bt_selfsecure.node.doctor.findings import Finding, failure, ok, warning
from bt_selfsecure.protocols.iotcrypto.certificate import Role
from bt_selfsecure.protocols.iotcrypto.trust import TrustVerdict

LEAST_FREE_BYTES: Final = 200 << 20
LONG_SYNC_S: Final = 0.5


def examine(path: Path) -> Iterator[tuple[str, Finding]]:
    """Yield the name of each check and what it found."""
    try:
        config = read_config(path)[0]
    except UsageError as error:
        found = str(error) if path.exists() else f"there is no {path}"
        yield "configuration", failure(found, "`bt-selfsecure gateway config` prints one to begin with")
        return
    yield "configuration", ok(f"{path} reads well")
    checks: dict[str, Callable[[GatewayConfig], Finding]] = {
        "DTLS": _dtls,
        "keys and owner": _identity,
        "clock": _clock,
        "certificate": _certificate,
        "ports": _ports,
        "disk": _disk,
        "cloud": _cloud,
        "Bluetooth (IPSP)": _ipsp,
    }
    for name, check in checks.items():
        try:
            yield name, check(config)
        except UsageError as error:
            yield name, failure(str(error), "see docs/iot.md for what a gateway's folder has")


def _dtls(config: GatewayConfig) -> Finding:
    try:
        libssl()
    except NoLibsslError as error:
        return failure(str(error), "apt install libssl3")
    return ok("libssl is here")


def _identity(config: GatewayConfig) -> Finding:
    folder = IdentityFolder(config.gateway.state)
    signed, owner, network = folder.signed(), folder.owner(), folder.network()
    if signed.certificate.role is not Role.GATEWAY:
        role = signed.certificate.role.name.lower()
        return failure(f"the certificate is of a {role}", "prepare it with --role gateway")
    return ok(f"{signed.certificate.name!r} of {owner.name!r}, network {network.name!r}")


def _clock(config: GatewayConfig) -> Finding:
    least = IdentityFolder(config.gateway.state).trust().least_time
    if time.time() < least:
        return failure("the clock is behind what the owner has signed: nobody is trusted", "set it, as by NTP")
    return ok(f"it is {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC")


def _certificate(config: GatewayConfig) -> Finding:
    folder = IdentityFolder(config.gateway.state)
    signed = folder.signed()
    verdict = folder.trust().judge(signed, int(time.time())).verdict
    if verdict is not TrustVerdict.TRUSTED:
        return failure("devices of its owner won't trust it", verdict.words)
    if soon := expires_soon(signed.certificate, time.time()):
        found, _, remedy = soon.partition(": ")
        return warning(found, remedy)
    return ok(f"trusted for {int((signed.certificate.expires - time.time()) / DAY_S)} days more")


def _ports(config: GatewayConfig) -> Finding:
    devices = config.devices
    if _runs(config.gateway.socket):
        return ok("this gateway runs, and has them")
    for port in (devices.negotiation_port, devices.transmission_port):
        for host in devices.listen:
            try:
                port_of((host, port)).close()
            except BearerError as error:
                return warning(*str(error).split(": ", 1))
    return ok(f"UDP {devices.negotiation_port} and {devices.transmission_port} are free")


def _runs(path: Path) -> bool:
    """Return whether a gateway answers at this socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


def _disk(config: GatewayConfig) -> Finding:
    state = config.gateway.state
    free = shutil.disk_usage(state).free
    if free < LEAST_FREE_BYTES:
        return failure(f"{free >> 20} MB are free at {state}", "make room, or records can't be kept for the cloud")
    probe = state / ".doctor.db"
    try:
        base = sqlite3.connect(probe)
        base.execute("PRAGMA synchronous = FULL")
        begun = time.monotonic()
        base.execute("CREATE TABLE probe (one)")
        took = time.monotonic() - begun
        base.close()
    except sqlite3.Error as error:
        return failure(f"{state} can't be written ({error})", "run it as the user whose folder this is")
    finally:
        probe.unlink(missing_ok=True)
    if took > LONG_SYNC_S:
        return warning(f"a write takes {took:.1f} s", "take a card or disk that is faster")
    return ok(f"{free >> 20:,} MB free; a write takes {took * 1000:.0f} ms")


def _cloud(config: GatewayConfig) -> Finding:
    if not config.cloud.address:
        return warning("there is none: the newest records are kept here, the oldest go", "name it in [cloud] address")
    return ok(f"at {config.cloud.address}; `gateway status` says whether it is connected")


def _ipsp(config: GatewayConfig) -> Finding:
    if not config.ipsp.enabled:
        return ok("not wanted")
    if os.geteuid() and not HELPER_SOCKET.exists():
        return failure("IPSP's helper is not here", "systemctl enable --now bt-selfsecure-ipsp.socket")
    if not Path("/sys/class/bluetooth", config.ipsp.adapter).exists():
        return failure(f"there is no adapter {config.ipsp.adapter}", "`bt-selfsecure doctor` says why")
    return ok(f"{config.ipsp.adapter} is here, and so is the helper")
