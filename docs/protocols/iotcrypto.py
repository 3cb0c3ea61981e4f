"""Tables, diagrams and sizes of iotcrypto.md: run docs/generate.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tables import state_diagram, table

from bt_selfsecure.protocols.iotcrypto import messages, transmission_messages
from bt_selfsecure.protocols.iotcrypto.certificate import Role, SecretKeys, SignedCertificate
from bt_selfsecure.protocols.iotcrypto.config import NegotiationConfig
from bt_selfsecure.protocols.iotcrypto.initiator import INITIATOR_TABLE, Initiator
from bt_selfsecure.protocols.iotcrypto.responder import RESPONDER_TABLE, Responder
from bt_selfsecure.protocols.iotcrypto.trust import TrustStore
from bt_selfsecure.sansio.context import EndpointContext

VECTORS = Path(__file__).parents[2] / "tests/protocols/iotcrypto/vectors/negotiations.json"
NOTES = {
    "hello": "device: certificate, who signed it, nonce, ephemeral key",
    "answer": "gateway: the same, its ephemeral key, and the proof",
    "confirm": "device: MAC under the key",
    "confirmed": "gateway: MAC under the key",
}


def example() -> str:
    said = json.loads(VECTORS.read_text())["negotiations"][2]["messages"]
    return "\n".join(
        f"    {name:9} {data[:2]} {data[2:14]}...  {len(data) // 2:3} bytes  {note}"
        for (name, note), data in zip(NOTES.items(), said, strict=True)
    )


def indented(doc: str | None) -> str:
    """Return the table in a module's docstring: its second paragraph."""
    assert doc
    return "\n".join(f"    {line}".rstrip() for line in doc.split("\n\n")[1].splitlines())


def said(profile: messages.Profile, *, second: bool) -> list[int]:
    """Return the bytes of the messages of a negotiation between two with the longest names."""
    now = 1_800_000_000
    company, *keys = (SecretKeys.generate(lambda size, octet=octet: bytes([octet]) * size) for octet in (1, 2, 3))
    store = TrustStore(company.certificate(Role.PARTY, "x" * 32, now, now + 1))
    ends = []
    for secrets, role in zip(keys, (Role.DEVICE, Role.GATEWAY), strict=True):
        certificate = secrets.certificate(role, "x" * 32, now, now + 1)
        signed = SignedCertificate(certificate, (company.sign(certificate),))
        ends.append(NegotiationConfig(secrets, signed, lambda of: store.judge(of, now), profile, second))
    context = EndpointContext(lambda size: bytes([4]) * size)
    device, gateway = Initiator(ends[0], context), Responder(ends[1], context, 0.0)
    device.start(0.0)
    sizes: list[int] = []
    while up := device.frames_to_send(0.0):
        for data in up:
            gateway.receive_frame(data, 0.0)
        down = gateway.frames_to_send(0.0)
        for data in down:
            device.receive_frame(data, 0.0)
        sizes += map(len, up + down)
    return sizes


def sizes() -> str:
    made = [
        said(messages.Profile.PAPER, second=False),
        said(messages.Profile.HARDENED, second=False),
        said(messages.Profile.HARDENED, second=True),
    ]
    lines: list[tuple[object, ...]] = [("bytes of UDP payload", *LABELS)]
    for number, name in enumerate(NOTES):
        lines.append((f"{name}, and 29", *(of[number] + 29 if number < len(of) else "" for of in made)))
    lines.append((f"DTLS handshake: {' + '.join(map(str, HANDSHAKE))}", *[sum(HANDSHAKE)] * len(LABELS)))
    whole = (f"**{sum(of) + 29 * len(of) + sum(HANDSHAKE)}**" for of in made)
    return table(*lines, ("all, of the paper's 1639", *whole))


LABELS: Final = ("`paper`", "`hardened`", "with a second ephemeral key")
HANDSHAKE: Final = (125, 44, 141, 99, 100, 67)
"""Of libssl 3.0: client hello, hello verify request, client hello with cookie, server hello and done, client's key
exchange to finished, server's finished. tests/iot holds it so."""
PARTS: dict[str, Callable[[], str]] = {
    "example": example,
    "messages": lambda: indented(messages.__doc__),
    "initiator": lambda: state_diagram(INITIATOR_TABLE),
    "responder": lambda: state_diagram(RESPONDER_TABLE),
    "transmission": lambda: indented(transmission_messages.__doc__),
    "sizes": sizes,
}
