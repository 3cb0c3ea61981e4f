"""The papers whose attacks are carried out on the testbed, each with its ends and its words for the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bt_selfsecure.bench.attacks import Attack
from bt_selfsecure.bench.bootstrap import attacks as bootstrap
from bt_selfsecure.bench.dotp import attacks as dotp
from bt_selfsecure.bench.haoxiao import attacks as haoxiao
from bt_selfsecure.bench.haoxiao.ends import ALL_ENDS, HARDENED, PAPER
from bt_selfsecure.bench.pairing import attacks as pairing
from bt_selfsecure.bench.sabour import attacks as sabour
from bt_selfsecure.protocols.bootstrap.messages import Profile as BootstrapProfile
from bt_selfsecure.protocols.pairing.codes import Way
from bt_selfsecure.protocols.sabour.messages import Profile


@dataclass(frozen=True, slots=True)
class Paper:
    """Is a paper's part of the table."""

    attacks: Sequence[Attack[Any]]
    ends: Mapping[str, Any]
    """By label, which begins with the profile's name."""
    judged: Sequence[str]
    """The labels of which a chance is told."""
    setting: str = ""
    """What holds for every row."""
    established: str = "both have a key"
    scope: str = ""
    """What a chance is not of."""

    def setting_of(self, attack: Attack[Any]) -> str:
        return "; ".join(filter(None, (attack.setting, self.setting)))

    def chosen(self, profile: str) -> dict[str, Any]:
        """Return the ends of this profile, or of "both"."""
        return {label: ends for label, ends in self.ends.items() if profile == "both" or label.startswith(profile)}


def _iotcrypto() -> dict[str, Paper]:
    """Nothing where its CBOR is not installed, as on a node: all else goes on without."""
    try:
        from bt_selfsecure.bench.iotcrypto import attacks as iotcrypto
    except ModuleNotFoundError:
        return {}
    from bt_selfsecure.protocols.iotcrypto.messages import Profile as IotProfile

    paper = Paper(
        iotcrypto.ATTACKS,
        {profile.value: profile for profile in IotProfile},
        [profile.value for profile in IotProfile],
        "a company's device and gateway",
        established="share a key",
    )
    return {"iotcrypto": paper}


PAPERS: Final[Mapping[str, Paper]] = {
    "": Paper(
        haoxiao.ATTACKS,
        {ends.label: ends for ends in ALL_ENDS},
        (PAPER.label, HARDENED.label),
        "X25519 off where the row does not name it",
        scope=" and not for every key",
    ),
    "dotp": Paper(
        dotp.ATTACKS,
        {ends.label: ends for ends in dotp.ALL_ENDS},
        (dotp.PAPER.label, dotp.HARDENED.label),
        established="still in step",
    ),
    "sabour": Paper(
        sabour.ATTACKS,
        {profile.value: profile for profile in Profile},
        [profile.value for profile in Profile],
        "a device and a server that know each other",
    ),
    "bootstrap": Paper(
        bootstrap.ATTACKS,
        {profile.value: profile for profile in BootstrapProfile},
        [profile.value for profile in BootstrapProfile],
        "a node that joins by one controller of one server",
        established="share a key",
    ),
    "pairing": Paper(
        pairing.ATTACKS,
        {way.name.lower(): way for way in Way},
        [way.name.lower() for way in Way],
        "Bob shows or sends something, and Alice reads it",
        established="have a key",
    ),
    **_iotcrypto(),
}
"""By what stands before the / in an attack's name; Hao and Xiao's has nothing there."""


def named(attack: str) -> tuple[Paper, str] | None:
    """Return the paper of an attack that people name so, and its name there; None where there is none."""
    prefix, _, name = attack.rpartition("/")
    paper = PAPERS.get(prefix)
    return (paper, name) if paper and name in [one.name for one in paper.attacks] else None


def names() -> list[str]:
    """Return every attack's name, as people give it."""
    return [f"{prefix}/{one.name}".lstrip("/") for prefix, paper in PAPERS.items() for one in paper.attacks]
