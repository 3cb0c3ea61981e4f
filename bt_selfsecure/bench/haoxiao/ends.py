"""What the two ends of Hao and Xiao's protocol run against an attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from bt_selfsecure.bench.attacks import Trial
from bt_selfsecure.bench.haoxiao.testbed import Testbed
from bt_selfsecure.protocols.haoxiao.frames import Profile


@dataclass(frozen=True, slots=True)
class Ends:
    """Holds what the two ends run against an attack."""

    label: str
    profile: Profile
    shares: bool = False
    """X25519, as a node does unless it is told otherwise."""
    authentication_key: bytes = b""

    def scene(self, seed: int, **more: Any) -> Testbed:
        """Return an establishment between two of them, with Eve."""
        return Testbed(self.profile, seed, shares=self.shares, authentication_key=self.authentication_key, **more)


PAPER: Final = Ends("paper", Profile.PAPER)
HARDENED: Final = Ends("hardened", Profile.HARDENED)
X25519: Final = Ends("hardened, X25519", Profile.HARDENED, shares=True)
KEYED: Final = Ends("hardened, authentication key", Profile.HARDENED, authentication_key=bytes(range(32)))
ALL_ENDS: Final = (PAPER, HARDENED, X25519, KEYED)


def trial_of(scene: Testbed, success: bool) -> Trial:
    """Return what came of a run in which the attack did this."""
    return Trial(success, scene.established, bool(scene.reports or scene.failures))
