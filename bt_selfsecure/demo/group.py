"""The story of a group: one burst and one broadcast for many, whoever of the office's receivers are its members.

Who hears what is the office recording's: its transmitter is the owner, its twelve receivers are the members, or Eves.
Each fragment of a broadcast is the next event that was recorded at one place.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, Final

from bt_selfsecure.air.recording import Recording
from bt_selfsecure.bench.haoxiao.group_testbed import GroupTestbed, member
from bt_selfsecure.demo.relay import Told
from bt_selfsecure.eve.haoxiao.attacks.group_theft import StolenGroupKey
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.group import limits as group_limits
from bt_selfsecure.protocols.haoxiao.group.letters import RepairLetter, decode
from bt_selfsecure.stats.losses import lower_bound, secret_bits

SIZES: Final = (2, 4, 6, 11)
CONFIDENCE: Final = 0.95
MEMBERS: Final = 6
MESSAGES: Final = 60
MESSAGE: Final = b"the lamps of the second floor go on at a quarter past seven..."
HIDDEN_BITS: Final = 8 * (limits.COMPACT_MESSAGE_BYTES - limits.DIGEST_BYTES)
"""Of a packet that nobody of the Eves has: its random bits, less what the list tells."""
Say = Callable[[str], None]


def common_bits(recording: Recording, members: int, eves: Sequence[int] = ()) -> tuple[list[int], list[float]]:
    """Return, for each place of the transmitter, how many packets the first so many receivers all heard, and the secret
    bits of those against `eves` (bits; all others where none are given) together, with the bound that this place alone
    gives."""
    mask = sum(1 << receiver.bit for receiver in recording.receivers[:members])
    against = sum(1 << bit for bit in eves or [receiver.bit for receiver in recording.receivers[members:]])
    heard, bits = [], []
    for position in range(len(recording.positions)):
        words = [word for word in recording.events(position) if word & mask == mask]
        missed = sum(not word & against for word in words)
        bound = lower_bound(missed, len(words), CONFIDENCE) if words else 0.0
        heard.append(len(words))
        bits.append(secret_bits(len(words), bound, missed_entropy=len(words) * bound * HIDDEN_BITS) if bound else 0.0)
    return heard, bits


def against_each(recording: Recording, members: int) -> list[float]:
    """Return, for each place, the secret bits against that one of the others who is worst for the members."""
    others = recording.receivers[members:]
    return [min(bits) for bits in zip(*(common_bits(recording, members, [r.bit])[1] for r in others), strict=True)]


class Office(GroupTestbed):
    """Lets each member hear what the receiver of its number heard of the recording's next event."""

    def __init__(self, recording: Recording, position: int, members: int, seed: int) -> None:
        self._events: Iterator[int] = iter(recording.events(position))
        self._bits = {member(number): receiver.bit for number, receiver in enumerate(recording.receivers)}
        self.word = 0
        super().__init__(members, seed, radio=self._next)
        self.thieves: list[tuple[int, StolenGroupKey]] = []
        """Each with the receivers that it has, as bits."""

    def _next(self, data: bytes) -> None:
        self.word = next(self._events)
        for ears, thief in self.thieves:
            if self.word & ears:
                thief.hear(data)

    def hears(self, identity: bytes) -> bool:
        return bool(self.word >> self._bits[identity] & 1)

    def robbed(self) -> StolenGroupKey:
        """Return the group's key of this moment, in somebody's hands."""
        return StolenGroupKey(self.owner.record.key, self.owner.record.number)


def tell(seed: int, say: Say) -> Told:
    """Tell the story of this seed, line by line; `say` shows each. The same seed gives the same lines."""
    recording = Recording.load()
    facts: dict[str, Any] = {"story": "group", "seed": seed, "common": {}}
    say("One burst gives many a key each, and something that all of them have heard.")
    say("What is it worth against the other receivers? At each of the places of the")
    say(f"sender ({len(recording.positions)}), with the bound that this place alone gives:")
    say("")
    say("           packets that all     secret bits, worst place / median")
    say("  members  heard (median)       against one Eve    all others together")
    for size in SIZES:
        heard, bits = common_bits(recording, size)
        alone = against_each(recording, size)
        told = [(min(each), statistics.median(each)) for each in (alone, bits)]
        facts["common"][size] = {"heard": heard, "bits": bits, "against_one": alone}
        one, all_others = (f"{worst:.0f} / {median:.0f}" for worst, median in told)
        say(f"  {size:>7}  {statistics.median(heard):>14,.0f}  {one:>20}  {all_others:>21}")
    say("")
    say("The worst place counts. So the key rests on 32 random bytes that each member")
    say("gets in its session, and this comes on top where it is anything.")
    say("")
    return Told(_talk(recording, Random(seed), facts, say), facts)


def _talk(recording: Recording, random: Random, facts: dict[str, Any], say: Say) -> bool:
    position = random.randrange(len(recording.positions))
    scene = Office(recording, position, MEMBERS, random.randrange(1 << 30))
    scene.letters.clear()
    others = [receiver.bit for receiver in recording.receivers[MEMBERS:]]
    alone, together = scene.robbed(), scene.robbed()
    scene.thieves = [(1 << others[0], alone), (sum(1 << bit for bit in others), together)]
    say(f"The sender stands at place {position}; {MEMBERS} receivers are members. The group's key of")
    say("this moment is robbed, by one other receiver, and by all six others together.")
    for _ in range(MESSAGES):
        scene.say(MESSAGE)
        scene.pass_time(0.1)
    for _ in range(20):
        scene.pass_time(1.0)
    got = {who: len(scene.received[who]) for who in scene.listeners}
    repairs = [decode(letter) for to, letter in scene.letters if to]
    repaired = sum(len(letter.rounds) for letter in repairs if isinstance(letter, RepairLetter))
    whole = MEMBERS * MESSAGES - repaired
    facts |= {
        "position": position,
        "messages": MESSAGES,
        "received": list(got.values()),
        "whole": whole,
        "repaired": repaired,
        "fragments": scene.broadcasts,
        "one_thief_read": len(alone.read),
        "all_thieves_read": len(together.read),
    }
    size, all_of_them = scene.broadcasts // MESSAGES, MEMBERS * MESSAGES
    say(f"{MESSAGES} messages of {len(MESSAGE)} bytes, each broadcast once, in {size} fragments: of {all_of_them}")
    say(f"receptions {whole} were whole, and {repaired} healed by a session, in private.")
    each = all(count == MESSAGES for count in got.values())
    say(f"Each member has each message once, in order: {'yes' if each else 'NO'}.")
    for who, thief in (("One thief has", alone), ("Six together have", together)):
        after = "and still reads" if len(thief.read) == MESSAGES else "missed one broadcast, and is out"
        say(f"{who} read {len(thief.read)} of {MESSAGES}, {after}.")
    return _come_and_go(scene, facts, say) and each


def _come_and_go(scene: Office, facts: dict[str, Any], say: Say) -> bool:
    expelled = scene.listeners[member(0)].record
    old = StolenGroupKey(expelled.key, expelled.number)
    scene.change([], [member(0)])
    scene.thieves.append(((1 << len(scene.listeners) + MEMBERS) - 1, old))
    scene.say(MESSAGE)
    facts["expelled_reads"] = len(old.read)
    say(f"One is put out: {group_limits.SECRET_BYTES} new bytes to each of the others, in its session, and another")
    say(f"key. What she had opens {len(old.read)} of what follows, and the thieves are out, too.")
    return not old.read and scene.owner.record.key != expelled.key
