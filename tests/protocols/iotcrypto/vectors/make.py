"""Writes the vectors of this directory: `python make.py`. The same code gives the same bytes everywhere.

All randomness is SHA-256 of a name and a counter (the tests' counted_bytes.py), signatures are of RFC 6979; nothing
depends on the clock or the machine. README.md beside this file describes the fields.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[2])]

from counted_bytes import counted  # noqa: E402
from iotcrypto_ends import COMPANY, CREATED, DEVICE, GATEWAY, PARTNER, Negotiation, events, initiator, responder  # noqa: E402
from test_iotcrypto_transmission import MESSAGES, RECORDS  # noqa: E402

from bt_selfsecure.protocols.iotcrypto.events import Established  # noqa: E402
from bt_selfsecure.protocols.iotcrypto.lists import Entry, ListedSignature, ListKind, TrustList  # noqa: E402
from bt_selfsecure.protocols.iotcrypto.messages import Advertisement, Profile  # noqa: E402
from bt_selfsecure.protocols.iotcrypto.records import encode_record  # noqa: E402
from bt_selfsecure.protocols.iotcrypto.transmission_messages import encode_transmission  # noqa: E402

PROVENANCE = "Made by make.py of bt_selfsecure from its own code; docs/protocols/iotcrypto.md is the specification."


def trust() -> dict[str, Any]:
    """Return certificates, their secrets, and a list of each kind."""
    entries: dict[ListKind, tuple[Entry, ...]] = {
        ListKind.PARTIES: (PARTNER.certificate,),
        ListKind.SIGNATURES: (ListedSignature(DEVICE.certificate.id, PARTNER.secrets.sign(DEVICE.certificate)),),
        ListKind.REVOCATIONS: (GATEWAY.certificate.id,),
    }
    return {
        "provenance": PROVENANCE,
        "members": [
            {
                "name": one.certificate.name,
                "ecdh_secret": one.secrets.ecdh.hex(),
                "ecdsa_secret": one.secrets.ecdsa.hex(),
                "certificate": one.certificate.encode().hex(),
                "signed": one.signed.encode().hex(),
            }
            for one in (COMPANY, PARTNER, DEVICE, GATEWAY)
        ],
        "lists": {
            kind.name.lower(): TrustList.make(kind, of, CREATED, COMPANY.secrets).encode().hex()
            for kind, of in entries.items()
        },
        "advertisement": Advertisement(GATEWAY.certificate.id, 5711, 5712).encode().hex(),
    }


def negotiation(profile: Profile, *, second: bool) -> dict[str, Any]:
    """Return one negotiation, with all that goes into it."""
    done = Negotiation(initiator(profile, second_ephemeral=second), responder(profile)).run()
    (made,) = [event for event in events(done.initiator) if isinstance(event, Established)]
    drawn = counted("initiator ")
    nonce = drawn(16) if profile is Profile.HARDENED else b""
    return {
        "profile": profile.value,
        "nonce": nonce.hex(),
        "initiator_ephemeral_secret": drawn(32).hex() if profile is Profile.HARDENED and second else "",
        "responder_ephemeral_secret": counted("responder ")(32).hex(),
        "messages": [data.hex() for data in done.said],
        "session_identity": made.keys.identity.decode(),
        "session_key": made.keys.key.hex(),
    }


def documents() -> dict[str, str]:
    """Return each file's text, by its name."""
    made: dict[str, Any] = {
        "trust.json": trust(),
        "negotiations.json": {
            "provenance": PROVENANCE,
            "negotiations": [
                negotiation(Profile.PAPER, second=False),
                negotiation(Profile.HARDENED, second=False),
                negotiation(Profile.HARDENED, second=True),
            ],
        },
        "transmission.json": {
            "provenance": PROVENANCE,
            "messages": [
                {"what": str(message), "n": 7, "bytes": encode_transmission(7, message).hex()} for message in MESSAGES
            ],
            "records": [{"what": str(record), "bytes": encode_record(record).hex()} for record in RECORDS],
        },
    }
    return {name: json.dumps(document, indent=1) + "\n" for name, document in made.items()}


if __name__ == "__main__":
    for name, text in documents().items():
        (HERE / name).write_text(text, encoding="utf-8")
