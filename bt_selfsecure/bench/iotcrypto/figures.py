"""Figures 8 to 10 of the paper, made again of our own structures and measured here."""

from __future__ import annotations

import base64
import json
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bt_selfsecure.bench.iotcrypto.testbed import NOW, Testbed
from bt_selfsecure.curves import ecdsa_sign, ecdsa_verify, x25519, x25519_public
from bt_selfsecure.dtls.endpoint import Dtls
from bt_selfsecure.dtls.listener import DtlsListener
from bt_selfsecure.dtls.values import Credentials, DtlsConfig
from bt_selfsecure.protocols.iotcrypto.canonical import decode, encode
from bt_selfsecure.protocols.iotcrypto.keys import hardened_keys
from bt_selfsecure.protocols.iotcrypto.messages import Profile, decode_message
from bt_selfsecure.protocols.iotcrypto.transmission_messages import (
    ActuatorCommand,
    AlertMessage,
    CommandStatus,
    ErrorCode,
    ErrorMessage,
    ReadingRequest,
    ReadingResponse,
    encode_transmission,
)

PAPER_ADDED_BYTES: Final = 29
PAPER_CONNECTION_BYTES: Final = 1639
PAPER_CERTIFICATE_BYTES: Final = 232
PAPER_SHARE: Final = "about half"
"""Of the computation overhead, that is certificate verification (section 5.2)."""
DTLS_HANDSHAKES: Final = "two DTLS handshakes"
_DTLS: Final = DtlsConfig(ciphers="PSK-CHACHA20-POLY1305")
MESSAGES: Final[Mapping[str, Any]] = {
    "sensor reading request": ReadingRequest(("temperature",)),
    "sensor reading response": ReadingResponse({"temperature": 21.5}),
    "actuator command": ActuatorCommand(0x1F2E3D4C5B6A7988, "lamp", True),
    "command execution status": CommandStatus(True, "the lamp is on"),
    "alert": AlertMessage(1 << 32, NOW * 1000, "it is hot", 81.25),
    "error": ErrorMessage(ErrorCode.UNKNOWN, "there is no such sensor"),
}
"""The six of Fig. 7."""


@dataclass
class Wire:
    """Joins two ends of DTLS in memory, and counts."""

    key: bytes
    configs: tuple[DtlsConfig, DtlsConfig] = (_DTLS, _DTLS)
    """Of client and server."""

    def __post_init__(self) -> None:
        self.sizes: list[int] = []
        listener = DtlsListener(lambda name: self.key, lambda size: bytes(size), 0.0, self.configs[1])
        self.client = Dtls.client(lambda hint: Credentials(b"office", self.key), 0.0, self.configs[0])
        self.server: Dtls | None = None
        while not (self.server and self.client.established):
            for data in self.client.frames_to_send(0.0):
                self.sizes.append(len(data))
                if self.server is not None:
                    self.server.receive_frame(data, 0.0)
                    continue
                answer = listener.receive_frame(data, b"device", 0.0)
                if isinstance(answer, Dtls):
                    self.server = answer
                else:
                    self._down(answer)
            if self.server is not None:
                self._down(self.server.frames_to_send(0.0))

    def _down(self, datagrams: list[bytes]) -> None:
        for data in datagrams:
            self.sizes.append(len(data))
            self.client.receive_frame(data, 0.0)

    def sealed(self, message: bytes) -> int:
        """Return the bytes of the datagram that carries this."""
        self.client.send(message, 0.0)
        (datagram,) = self.client.frames_to_send(0.0)
        assert self.server is not None
        self.server.receive_frame(datagram, 0.0)
        return len(datagram)


def figure_8() -> list[tuple[str, int, int]]:
    """Return each message's bytes without encryption and with it."""
    wire = Wire(bytes(32))
    rows = []
    for name, message in MESSAGES.items():
        plain = encode_transmission(7, message)
        rows.append((name, len(plain), wire.sealed(plain)))
    return rows


def connection_bytes(profile: Profile) -> list[tuple[str, int]]:
    """Return what is in a connection, as the paper counts: the handshake of DTLS, and each message in its record."""
    handshake, messages = _connection(profile)
    return [("DTLS handshake", handshake), *((name, sealed) for name, _, sealed in messages)]


def connection_parts(profile: Profile) -> dict[str, int]:
    """Return the same by what it is for: the sum is that of `connection_bytes`."""
    handshake, messages = _connection(profile)
    parts = dict.fromkeys(PARTS, 0)
    parts["DTLS handshake"] = handshake
    for _, data, sealed in messages:
        parts["records of DTLS, 29 bytes each"] += sealed - len(data)
        _, *fields = decode(data, len(data))
        inner = []
        if isinstance(fields[0], bytes) and len(fields) > 1:  # a hello or an answer
            certificate, signatures, *fields = fields
            inner = [("certificates", len(certificate)), ("third-party signatures", len(encode(signatures)))]
        for name, size in [*inner, ("keys, nonces, proof and MACs", sum(map(len, fields)))]:
            parts[name] += size
            data = data[size:]
        parts["what CBOR has around these"] += len(data)
    return parts


PARTS: Final = (
    "certificates",
    "third-party signatures",
    "keys, nonces, proof and MACs",
    "what CBOR has around these",
    "records of DTLS, 29 bytes each",
    "DTLS handshake",
)


def _connection(profile: Profile) -> tuple[int, list[tuple[str, bytes, int]]]:
    """Return the bytes of a handshake, and of each message its name, itself, and the bytes of its datagram."""
    bed, wire = Testbed(profile, 1), Wire(bytes(16))
    handshake, messages = sum(wire.sizes), []

    def counted(data: bytes) -> list[bytes]:
        name = decode_message(profile, data).kind.name.lower()
        messages.append((name, data, wire.sealed(data)))
        return [data]

    gateway = bed.responder(bed.gateway_keys, bed.gateway)
    bed.run(bed.initiator(bed.device_keys, bed.device), gateway, counted, counted)
    return handshake, messages


def certificate_parts() -> dict[str, int]:
    """Return the bytes of each field of a certificate with the longest name, with CBOR's head of it."""
    fields = decode(Testbed(Profile.HARDENED, 1).device.certificate.encode(), 1024)
    names = ("version", "id", "role", "name", "created", "expires", "X25519 key", "P-256 key", "self-signature")
    return {"array": 1} | {name: len(encode(value)) for name, value in zip(names, fields, strict=True)}


# --- figure 9 ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Computation:
    """Holds the CPU time of one connection at both ends, by what it goes into."""

    parts_s: Mapping[str, float]
    """Certificate verification first."""
    total_s: float
    """Of negotiation and both DTLS handshakes, measured as one."""
    record_s: float
    """To seal and open one record."""

    def verification(self, *, with_dtls: bool) -> float:
        """Return the share of certificate verification in the cryptography of a connection, or of what of it is
        IoT-Crypto's own."""
        own = sum(spent for name, spent in self.parts_s.items() if with_dtls or name != DTLS_HANDSHAKES)
        return self.parts_s["certificate verification"] / own

    def cpu_share(self, devices: int, fetch_s: float, rekey_s: float) -> float:
        """Return the share of one CPU that all cryptography takes, of a gateway and its devices together."""
        return devices * (self.total_s / rekey_s + 2 * self.record_s / fetch_s)


def _mean_s(work: Callable[[], object], repeats: int) -> float:
    begun = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - begun) / repeats


def figure_9(repeats: int = 200) -> Computation:
    """Measure it, on this computer's CPU."""
    bed = Testbed(Profile.HARDENED, 1)
    digest, secret = bytes(range(32)), bed.random(32)
    signature = ecdsa_sign(bed.gateway_keys.ecdsa, digest)
    share = x25519_public(bed.random(32))
    point = bed.gateway.certificate.ecdsa_key
    wire = Wire(bytes(32))

    def connection() -> None:
        Wire(bytes(16))
        gateway = bed.responder(bed.gateway_keys, bed.gateway)
        bed.run(bed.initiator(bed.device_keys, bed.device), gateway)
        Wire(bytes(32))

    verify = _mean_s(lambda: bed.devices_trust.judge(bed.gateway, NOW), repeats)
    parts = {
        "certificate verification": 2 * verify,
        "X25519": 4 * _mean_s(lambda: x25519(secret, share), repeats)
        + 2 * _mean_s(lambda: x25519_public(secret), repeats),
        "proof: signature and its verification": _mean_s(lambda: ecdsa_sign(bed.gateway_keys.ecdsa, digest), repeats)
        + _mean_s(lambda: ecdsa_verify(point, signature, digest), repeats),
        "HKDF and MAC": 2 * _mean_s(lambda: hardened_keys(secret, digest), repeats),
        DTLS_HANDSHAKES: 2 * _mean_s(lambda: Wire(bytes(16)), max(repeats // 4, 1)),
    }
    record = _mean_s(lambda: wire.sealed(b"x" * 24), repeats)
    return Computation(parts, _mean_s(connection, max(repeats // 4, 1)), record)


# --- figure 10 --------------------------------------------------------------------------------------------------------

_C_FORMS: Final = {
    "certificate": "@B16s32sQQ32s64s64s",
    "third-party signature": "@16s64s",
    "sensor reading request": "@BQ32s",
    "sensor reading response": "@BQ32sd",
    "actuator command": "@BQQ32sd",
    "command execution status": "@BQB64s",
    "alert": "@BQQQ64sd",
    "error": "@BQB64s",
}
"""As structures of C on a 64-bit computer: fields of a fixed size, with C's own alignment."""


def figure_10() -> list[tuple[str, int, int, int, int]]:
    """Return each structure's bytes in CBOR, in CBOR as hexadecimal text, in JSON, and as a structure of C."""
    bed = Testbed(Profile.HARDENED, 1)
    certificate = bed.device.certificate
    named: dict[str, tuple[bytes, dict[str, Any]]] = {
        "certificate": (
            certificate.encode(),
            {name: getattr(certificate, name) for name in certificate.__dataclass_fields__} | {"version": 1},
        ),
        "third-party signature": (
            encode(bed.device.signatures[0].content),
            {"signer": bed.device.signatures[0].signer, "signature": bed.device.signatures[0].signature},
        ),
    }
    for name, message in MESSAGES.items():
        fields = {field: getattr(message, field) for field in message.__dataclass_fields__}
        named[name] = encode_transmission(7, message), {"type": message.KIND.name.lower(), "number": 7} | fields
    return [
        (name, len(cbor), 2 * len(cbor), len(json.dumps(said, separators=(",", ":"), default=_in_json)),
         struct.calcsize(_C_FORMS[name]))
        for name, (cbor, said) in named.items()
    ]  # fmt: skip


def _in_json(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else dict(value)
