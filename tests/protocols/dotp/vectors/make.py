"""Writes dotp.json beside it: `python make.py`. The same code gives the same bytes everywhere; README.md names the
fields."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from dotp_pair import SECRET, SN, End, record  # noqa: E402

from bt_selfsecure.protocols.dotp.keys import (  # noqa: E402
    EPOCH_BITS,
    HardenedKeys,
    PaperKeys,
    Policy,
    Profile,
    Role,
    direction_sn,
    psk,
)

PROVENANCE = "Made by make.py of bt_selfsecure from its own code; docs/protocols/dotp.md is the specification."
MESSAGES = [b"\x40\x01\x12\x34\xb4time", b"\x60\x45\x12\x34\xffNov 29 09:22:00", b"\x00"]
NUMBERS = [0, 1, 4, 5, 9, 10, 700]
EDGE = 1 << EPOCH_BITS


def datagrams(role: Role, policy: Policy | None, bits: int) -> list[str]:
    end = End(record(role, policy, bits))
    return [end.send(message).hex() for message in MESSAGES]


def paper(policy: Policy, bits: int, sender: Role) -> dict[str, Any]:
    sn = direction_sn(SN, sender)
    keys = PaperKeys(sn, policy, bits)
    made = {number: keys.key(number) for number in NUMBERS}
    return {
        "policy": policy.value,
        "bits": bits,
        "sender": sender.value,
        "sn": sn,
        "keys": {str(number): key.hex() for number, key in made.items()},
        "psk": psk(Profile.PAPER, made[0]).decode(),
        "datagrams": datagrams(sender, policy, bits),
    }


def hardened(sender: Role) -> dict[str, Any]:
    keys = HardenedKeys.of_pair(SECRET, sender)
    numbers = [*NUMBERS, EDGE - 1, EDGE, 3 * EDGE + 5]
    return {
        "sender": sender.value,
        "keys": {str(number): keys.key(number).hex() for number in numbers},
        "psk": psk(Profile.HARDENED, keys.key(0)).decode(),
        "datagrams": datagrams(sender, None, 256),
    }


def vectors() -> dict[str, Any]:
    """Return what is in dotp.json."""
    return {
        "provenance": PROVENANCE,
        "messages": [message.hex() for message in MESSAGES],
        "paper": [paper(policy, bits, role) for policy in Policy for bits in (64, 96) for role in Role],
        "hardened": {"secret": SECRET.hex(), "directions": [hardened(role) for role in Role]},
    }


if __name__ == "__main__":
    (HERE / "dotp.json").write_text(json.dumps(vectors(), indent=1) + "\n")
