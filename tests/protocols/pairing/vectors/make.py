"""Writes pairings.json of this directory: `python make.py`. The same code gives the same bytes everywhere.

All randomness is SHA-256 of a name and a counter (pairing_ends.py); nothing depends on the clock or the machine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from pairing_ends import ALICE, BOB, Channel, counted, initiator, read, responder  # noqa: E402

from bt_selfsecure.protocols.pairing import limits  # noqa: E402
from bt_selfsecure.protocols.pairing.codes import Way  # noqa: E402
from bt_selfsecure.protocols.pairing.events import Keyed  # noqa: E402

PROVENANCE = "Made by make.py of bt_selfsecure from its own code; docs/protocols/pairing.md is the specification."


def pairing(way: Way) -> dict[str, str | list[str]]:
    """One pairing, with all that goes into it."""
    bob = responder(way)
    alice = initiator(read(bob))
    alice.start(0.0)
    channel = Channel(alice, bob)
    channel.step()
    alice.confirm(channel.now)
    bob.confirm(channel.now)
    channel.step()
    random = counted("alice")
    (keyed,) = channel.events(alice, Keyed)
    assert isinstance(keyed, Keyed)
    return {
        "way": way.name.lower(),
        "alice": ALICE.identity.hex() + " alice",
        "bob": BOB.identity.hex() + " bob",
        "secret": bob.carried.secret.hex(),
        "carried": bob.carried.encode().hex(),
        "run": random(limits.RUN_BYTES).hex(),
        "scalar_a": random(limits.SHARE_BYTES).hex(),
        "scalar_b": counted("bob")(limits.SHARE_BYTES).hex(),
        "frames": [data.hex() for data in channel.said],
        "key": keyed.key.hex(),
    }


def document() -> str:
    """Return pairings.json."""
    return json.dumps({"provenance": PROVENANCE, "pairings": [pairing(way) for way in Way]}, indent=1) + "\n"


if __name__ == "__main__":
    (HERE / "pairings.json").write_text(document(), encoding="utf-8")
