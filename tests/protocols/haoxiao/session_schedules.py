"""Random schedules for `World`, each from one seed; and the frames that outsiders send."""

from __future__ import annotations

import random
from dataclasses import dataclass

import fuzzing
from session_world import World

from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.session_config import Durability


def frames_of_strangers(profile: Profile) -> list[bytes]:
    """Well-made session frames of every kind, of a pair with another K_0."""
    world = World(profile, Durability.EVERY_MESSAGE, 2, seed=99)
    world.say(0)
    world.heal()
    world.crash(0)
    world.crash(1)
    world.heal()
    return [data for _, data in world.ever]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return a frame changed, cut, repeated or made longer, perhaps of another version and kind."""
    return fuzzing.mutated(data, rng, lambda _: rng.choice((1, 2)) << 4 | rng.randrange(16))


@dataclass(frozen=True)
class Setting:
    """What is fixed in one schedule."""

    profile: Profile
    durability: Durability
    checkpoint_rounds: int
    loss: float
    crashes: float
    attacks: float
    slow_disks: bool

    @classmethod
    def draw(cls, rng: random.Random) -> Setting:
        return cls(
            rng.choice(list(Profile)),
            rng.choice(list(Durability)),
            rng.choice((1, 2, 3, 8)),
            rng.choice((0.0, 0.1, 0.4, 0.7)),
            rng.choice((0.0, 0.02, 0.15)),
            rng.choice((0.0, 0.1, 0.3)),
            rng.random() < 0.4,
        )


def run_schedule(seed: int, steps: int = 80) -> World:
    """One whole schedule: a random adversary, then a network that delivers, then all invariants."""
    rng = random.Random(seed)
    setting = Setting.draw(rng)
    world = World(setting.profile, setting.durability, setting.checkpoint_rounds, seed=seed)
    for i in (0, 1):
        world.set_slow(i, setting.slow_disks)
    for _ in range(rng.randrange(steps)):
        random_step(world, setting, rng)
    world.heal()
    if seed % 8 == 0:
        world.check_forward()
    return world


def random_step(world: World, setting: Setting, rng: random.Random) -> None:
    i, which = rng.randrange(2), rng.randrange(1 << 30)
    roll = rng.random()
    if roll < setting.crashes:
        world.crash(i, power=rng.random() < 0.5, which=which)
    elif roll < setting.crashes + setting.attacks:
        attack(world, rng)
    elif rng.random() < 0.25:
        world.say(i)
    elif rng.random() < 0.05:
        world.refuse(i)
    elif rng.random() < 0.12:
        world.timeout(i)
    elif rng.random() < 0.05:
        world.rekey(rng.choice(((0, 1), (0,), (1,)))) if rng.random() < 0.6 else world.rekey_late()
    elif rng.random() < 0.04:
        world.peace(rng.randrange(1, 2 * setting.checkpoint_rounds + 2))
    elif rng.random() < 0.04:
        world.steal(i, all_of_it=rng.random() < 0.5)
    elif rng.random() < 0.1:
        world.set_slow(i, rng.random() < (0.7 if setting.slow_disks else 0.3))
    elif any(end.slow for end in world.ends) and rng.random() < 0.5:
        for _ in range(rng.randrange(1, 5)):
            world.write(i)
    elif rng.random() < setting.loss:
        world.drop(which)
    else:
        in_order = rng.random() < 0.6
        world.deliver(0 if in_order else which, keep=rng.random() < 0.1)


def attack(world: World, rng: random.Random) -> None:
    """One thing that an outsider, or the weather, can do."""
    i, which = rng.randrange(2), rng.randrange(1 << 30)
    match rng.randrange(5):
        case 0:
            world.damage(which, rng.randrange(1 << 20))
        case 1 | 2:
            world.replay(i, which)
        case 3 if world.ever:
            world.inject(i, mutated(rng.choice(world.ever)[1], rng))
        case _:
            world.inject(i, rng.choice(STRANGERS[world.profile]))


STRANGERS = {profile: frames_of_strangers(profile) for profile in Profile}
