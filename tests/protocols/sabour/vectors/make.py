"""Writes the vectors of this directory: `python make.py`. The same code gives the same bytes everywhere.

All randomness is SHA-256 of a name and a counter (the tests' sabour_ends.py); nothing depends on the clock or the
machine. README.md beside this file describes the fields.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[2])]

from counted_bytes import counted  # noqa: E402
from sabour_ends import DEVICE, SERVER, Exchange, client, events, server  # noqa: E402

from bt_selfsecure.protocols.sabour.events import Established  # noqa: E402
from bt_selfsecure.protocols.sabour.keys import OscoreContext, PayloadKey  # noqa: E402
from bt_selfsecure.protocols.sabour.messages import Profile  # noqa: E402
from bt_selfsecure.protocols.sabour.suites import SUITES  # noqa: E402

PROVENANCE = "Made by make.py of bt_selfsecure from its own code; docs/protocols/sabour.md is the specification."
PAYLOAD = b'{"Data": []}'


def handshake(profile: Profile) -> dict[str, str]:
    """One handshake, with all that goes into it."""
    done = Exchange(client(profile), server(profile)).run()
    (keys,) = [event.keys for event in events(done.client) if isinstance(event, Established)]
    suite = SUITES[profile]
    made = {
        "profile": profile.value,
        "device_id": DEVICE.device_id.hex(),
        "client_secret": suite.key_pair(counted("client ")).secret.hex(),
        "server_secret": suite.key_pair(counted("server ")).secret.hex(),
        **{f"m{number}": data.hex() for number, data in enumerate(done.said, 1)},
    }
    if isinstance(keys, OscoreContext):
        made |= {
            "device_seed": DEVICE.seed.hex(),
            "device_record": DEVICE.enrolment.encode().hex(),
            "server_seed": SERVER.seed.hex(),
            "server_record": SERVER.enrolment.encode().hex(),
            "master_secret": keys.master_secret.hex(),
            "master_salt": keys.master_salt.hex(),
            "client_id": keys.sender_id.hex(),
            "server_id": keys.recipient_id.hex(),
        }
    if isinstance(keys, PayloadKey):
        sealed = keys.seal(PAYLOAD, counted("nonce"))
        made |= {"payload_key": keys.key.hex(), "payload": PAYLOAD.hex(), "sealed": sealed.hex()}
    return made


def document() -> str:
    """Return handshakes.json."""
    made = {"provenance": PROVENANCE, "handshakes": [handshake(profile) for profile in Profile]}
    return json.dumps(made, indent=1) + "\n"


if __name__ == "__main__":
    (HERE / "handshakes.json").write_text(document(), encoding="utf-8")
