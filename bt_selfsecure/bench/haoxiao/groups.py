"""Attacks on a group: with its key stolen, as one who joins, as one who was put out."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from bt_selfsecure.bench.attacks import Attack, Trial
from bt_selfsecure.bench.haoxiao.ends import Ends
from bt_selfsecure.bench.haoxiao.group_testbed import GroupTestbed, member
from bt_selfsecure.bench.haoxiao.testbed import EVE_LOSS
from bt_selfsecure.eve.haoxiao.attacks.group_theft import StolenGroupKey
from bt_selfsecure.protocols.haoxiao.frames import Profile

MEMBERS: Final = 6
ROUNDS: Final = 100
MESSAGE: Final = bytes(64)


def lossy(thief: StolenGroupKey, seed: int, loss: float) -> Callable[[bytes], None]:
    """Return the radio of a thief, who misses this share of the fragments."""
    random = Random(f"{seed} of the thief")

    def hear(data: bytes) -> None:
        if random.random() >= loss:
            thief.hear(data)

    return hear


def group_theft(ends: Ends, seed: int) -> Trial | None:
    """Take K_i of the group from memory, and listen to a hundred broadcasts."""
    if ends.profile is Profile.PAPER:
        return None
    scene = GroupTestbed(MEMBERS, seed)
    record = scene.owner.record
    thief = StolenGroupKey(record.key, record.number)
    scene.radio = lossy(thief, seed, EVE_LOSS)
    for _ in range(ROUNDS):
        scene.say(MESSAGE)
    return Trial(thief.key == scene.owner.record.key, True, False)


def rounds_to_heal(seed: int, loss: float) -> int:
    """Return how many broadcasts a thief of a group's key reads, of whose fragments she misses this share."""
    scene = GroupTestbed(1, seed)
    thief = StolenGroupKey(scene.owner.record.key, scene.owner.record.number)
    scene.radio = lossy(thief, seed, loss)
    while len(thief.read) == scene.owner.record.number:
        scene.say(MESSAGE)
    return len(thief.read) + 1


def newcomer(ends: Ends, seed: int) -> Trial | None:
    """Record all broadcasts, then join, and read the past."""
    if ends.profile is Profile.PAPER:
        return None
    scene, tape, random = GroupTestbed(MEMBERS, seed), list[bytes](), Random(seed)
    scene.radio = tape.append
    for _ in range(random.randrange(1, 8)):
        scene.say(MESSAGE)
    scene.change([member(MEMBERS)], [])
    return Trial(_reads(scene, member(MEMBERS), tape), True, False)


def expelled(ends: Ends, seed: int) -> Trial | None:
    """Be a member, be put out, and read on with all that a member had."""
    if ends.profile is Profile.PAPER:
        return None
    scene, random = GroupTestbed(MEMBERS, seed), Random(seed)
    for _ in range(random.randrange(1, 8)):
        scene.say(MESSAGE)
    had = scene.listeners[member(0)].record
    tape: list[bytes] = []
    scene.change([], [member(0)])
    scene.radio = tape.append
    scene.say(MESSAGE)
    return Trial(any(_opens(had.key, number, tape) for number in {0, had.number}), True, False)


def _reads(scene: GroupTestbed, who: bytes, tape: list[bytes]) -> bool:
    key = scene.listeners[who].record.key
    return any(_opens(key, number, tape) for number in range(scene.owner.record.number + 8))


def _opens(key: bytes, number: int, tape: list[bytes]) -> bool:
    thief = StolenGroupKey(key, number)
    for data in tape:
        thief.hear(data)
    return bool(thief.read)


_DECIDES: Final = "it is the protocol that decides, no loss and no length; `paper` has no groups"
_FRAGMENTS: Final = 6
_MISSED: Final = 1 - (1 - EVE_LOSS) ** _FRAGMENTS - _FRAGMENTS * EVE_LOSS * (1 - EVE_LOSS) ** (_FRAGMENTS - 1)
"""Share of the broadcasts of `MESSAGE` of which she lacks two fragments or more."""
ATTACKS: Final[tuple[Attack[Ends], ...]] = (
    Attack("group-theft", "K_i of a group from memory, then listens", "one look into a member",
           f"she holds the key {ROUNDS} broadcasts later", group_theft, runs=100,
           remedy="Talk: she is out at the first broadcast that she misses. Put the member out: at once.",
           setting=f"broadcasts of {len(MESSAGE)} bytes, of whose {_FRAGMENTS} fragments she misses "
           f"{100 * EVE_LOSS:g} %",
           meaning=f"the parity helps her, too: of whole broadcasts she misses {100 * _MISSED:.1f} %, "
           f"so she is out after {1 / _MISSED:.0f} on average, and {ROUNDS} without a miss are "
           f"{100 * (1 - _MISSED) ** ROUNDS:.0f} %; `paper` has no groups"),
    Attack("newcomer", "records a group's broadcasts, then joins", "to be let in", "she reads what was sent before",
           newcomer, runs=20, remedy="None is needed.", setting=f"a group of {MEMBERS}; she misses nothing",
           meaning=_DECIDES),
    Attack("expelled", "was a member, and listens on", "to have been let in", "she reads what is sent after",
           expelled, runs=20, remedy="None is needed.", setting=f"a group of {MEMBERS}; she misses nothing",
           meaning=_DECIDES),
)  # fmt: skip
