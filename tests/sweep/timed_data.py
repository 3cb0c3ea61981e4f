"""Logs without numbers, with the truth beside them: receivers whose clocks differ hear a sender that jitters."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Flags = np.ndarray


@dataclass
class Air:
    """How it is sent and heard; seconds."""

    packets: int = 1000
    interval: float = 0.1
    adv_delay: float = 0.010
    """BLE's: each gap is longer by up to so much, at random."""
    jitter: float = 0.0
    """Of a sender that keeps to its grid."""
    noise: float = 0.0005
    """Of a receiver's time stamps."""
    offset: float = 1000.0
    drift: float = 1e-4
    losses: tuple[float, ...] = (0.2, 0.3)
    together: float = 0.0
    """Share of the packets that all lose."""
    copies: float = 0.0
    """Share of the packets that come twice, a few milliseconds apart."""
    hiccups: float = 0.0
    """Share of the time stamps that are late by up to an interval."""
    rounded: float = 0.0
    """To so many seconds."""


@dataclass
class Heard:
    """What each receiver wrote down, and the truth."""

    logs: dict[str, Flags] = field(default_factory=dict)
    truth: dict[str, Flags] = field(default_factory=dict)
    offsets: dict[str, float] = field(default_factory=dict)

    def e_given_b(self, bob: str, eve: str) -> float:
        """Of the packets that Bob heard, the share that Eve missed."""
        return float(1 - self.truth[eve][self.truth[bob]].mean())


def heard(air: Air, seed: int, names: tuple[str, ...] = ("bob", "eve")) -> Heard:
    """One burst."""
    random = np.random.default_rng(seed)
    count = air.packets
    sent = np.cumsum(air.interval + random.uniform(0, air.adv_delay, count)) + random.normal(0, air.jitter, count)
    lost_by_all = random.random(count) < air.together
    told = Heard()
    for index, name in enumerate(names):
        loss = air.losses[index % len(air.losses)]
        kept = (random.random(count) >= loss) & ~lost_by_all
        offset = random.uniform(-air.offset, air.offset)
        drift = random.uniform(-air.drift, air.drift)
        times = offset + sent[kept] * (1 + drift) + random.normal(0, air.noise, int(kept.sum()))
        late = random.random(len(times)) < air.hiccups
        times = times + late * random.uniform(0, air.interval, len(times))
        again = times[random.random(len(times)) < air.copies]
        times = np.concatenate([times, again + random.uniform(0.0003, 0.004, len(again))])
        if air.rounded:
            times = np.round(times / air.rounded) * air.rounded
        told.logs[name], told.truth[name], told.offsets[name] = np.sort(times), kept, offset
    return told
