"""Who has the PSK: an installer, who has IK, by what she heard out of band, and whether she could write there, too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Final

from bt_selfsecure.bench.bootstrap.testbed import JoinTestbed
from bt_selfsecure.eve.bootstrap.installer import Installer
from bt_selfsecure.protocols.bootstrap.messages import Kind, Profile

HEARD: Final = tuple(frozenset(heard) for size in range(4) for heard in combinations((Kind.F1, Kind.F4, Kind.F5), size))
RUNS: Final = 20


def installer_has_psk(profile: Profile, heard: frozenset[Kind], seed: int, *, writes: bool) -> bool:
    """Return whether she ends with the PSK that the node takes; `writes`: she may send flight 4, before the controller
    does."""
    bed = JoinTestbed(profile, seed)
    eve = Installer(profile, bed.ik, bed.node_id, bed.controller.controller_id, bed.draw)

    def hand(kind: Kind, data: bytes) -> Iterable[bytes]:
        if kind in heard:
            eve.hear(data)
        own = eve.flight_4() if writes and kind is Kind.F4 else None
        return (data,) if own is None else (own, data)

    bed.hand = hand
    bed.join()
    hers = {eve.psk(), eve.own_psk} - {None}
    return bool(hers & (bed.node_keys - {bed.ik}))


def table_of_who(runs: int = RUNS) -> Iterator[tuple[frozenset[Kind], dict[tuple[Profile, bool], int]]]:
    """Yield, for each set of flights that were heard, in how many runs she has the PSK, by profile and whether she
    writes."""
    for heard in HEARD:
        yield (
            heard,
            {
                (profile, writes): sum(installer_has_psk(profile, heard, seed, writes=writes) for seed in range(runs))
                for writes in (False, True)
                for profile in Profile
            },
        )
