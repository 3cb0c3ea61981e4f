"""What an analysis found. The fields are the keys of `sweep analyse --json`; SWEEP.md explains them for its readers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

BITS = (40, 80, 128)
"""Strengths of a key for which the packets are given."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What the runs have in common that are counted together."""

    distance_m: float | None
    bearer: str
    size_bytes: int
    packets: int | None
    sender: str
    tx_power_dbm: float | None

    def __str__(self) -> str:
        parts = ["no common distance" if self.distance_m is None else f"{self.distance_m:g} m", self.bearer]
        parts.append(f"{self.size_bytes} B" if self.packets is None else f"{self.packets} x {self.size_bytes} B")
        if self.tx_power_dbm is not None:
            parts.append(f"{self.tx_power_dbm:g} dBm")
        return ", ".join(parts) + f", sent by {self.sender}"


@dataclass(frozen=True, slots=True)
class Fit:
    """Gilbert's two-state chain, fitted."""

    p: float
    r: float
    mean_burst: float | None
    """Packets; None if no burst ended."""
    p_value: float
    """P(so bursty, if losses were independent)."""


@dataclass(frozen=True, slots=True)
class Listener:
    """The losses of one listener."""

    setting: Setting
    listener: str
    distance_m: float | None
    """Its own, from the sender."""
    sent: int
    heard: int
    loss: float
    loss_low: float
    loss_high: float
    burst_lengths: dict[int, int]
    """How often so many packets in a row were lost."""
    gilbert_elliott: Fit | None
    """None unless some were lost and some not."""
    stationary_p: float | None
    """P(windows of 100 packets so different, if the loss were the same); None with too few losses to say."""
    rssi_dbm: float | None
    copies: float | None
    """Mean of the packets that were heard."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One listener as Bob, another as Eve."""

    setting: Setting
    bob: str
    eve: str
    eve_distance_m: float | None
    sent: int
    bob_heard: int
    eve_heard: int
    both: int
    bob_only: int
    eve_only: int
    neither: int
    eve_missed_given_bob: int
    """k: packets that Bob heard and Eve missed."""
    d: float
    e: float
    e_given_b: float
    ci_low: float
    ci_high: float
    bound: float
    """e|B is at least this: one-sided 95 %. Keys are planned on it."""
    phi: float
    phi_low: float
    phi_high: float
    entropy_correlation: float
    capacity: float
    """(1-d) e|B, secret packets per packet sent."""
    misses_fit: Fit | None
    """Of Eve's misses among the packets that Bob heard, in order."""
    stationary_p: float | None
    runs: int
    runs_broken: int
    """Of which Eve heard every packet that Bob did."""
    broken_share: float
    broken_high: float
    """One-sided 95 %; about 3/R if none of R was broken."""
    broken_expected: float
    """The share that independent misses of probability e|B would give."""
    secret_bits: float
    """Of the weakest run's key: |S| * -log2(1 - bound), never more than what Eve's missing packets hide."""
    packets_needed: dict[str, int | None]
    """|S| for 40, 80 and 128 bits by the bound; None if the bound is 0."""
    packets_to_send: dict[str, int | None]
    """N, so that Bob keeps as many with 99 % probability."""
    verdict: str
    """broken: Eve missed nothing that Bob heard; weak: the weakest run is worth less than 128 bits; else holds."""


@dataclass(frozen=True, slots=True)
class Collusion:
    """The best that so many Eves can do together against one Bob."""

    setting: Setting
    bob: str
    eves: int
    worst: tuple[str, ...]
    """Those who together miss least."""
    bob_heard: int
    missed_given_bob: int
    """Packets that Bob heard and all of them missed."""
    e_given_b: float
    bound: float
    if_independent: float
    """Product of the e|B of each."""
    runs: int
    runs_broken: int
    broken_high: float
    packets_needed: dict[str, int | None]


@dataclass(frozen=True, slots=True)
class Share:
    """P(Bob hears, so many Eves all miss), the mean over every choice of Bob and Eves."""

    setting: Setting
    eves: int
    secret_share: float


@dataclass(frozen=True, slots=True)
class AtDistance:
    """Loss against distance, listener by listener or (None) of all together."""

    listener: str | None
    bearer: str
    size_bytes: int
    packets: int | None
    from_m: float
    to_m: float
    """The same as from_m for one distance; else from_m <= distance < to_m."""
    sent: int
    lost: int
    loss: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class OneRun:
    """One run at one listener, for what changes from run to run."""

    run: int
    setting: Setting
    listener: str
    distance_m: float | None
    started: str | None
    sent: int
    lost: int
    lost_in_queue: int
    rssi_dbm: float | None


@dataclass(frozen=True, slots=True)
class Analysis:
    """Everything."""

    sweep: str
    runs: int
    withdrawn: int
    lost_in_queue: int
    """Packets that never went on the air for some listener. They are in no table."""
    pairs: list[Pair]
    listeners: list[Listener]
    colluding: list[Collusion]
    shares: list[Share]
    loss_by_distance: list[AtDistance]
    each_run: list[OneRun]
    roles: dict[str, dict[str, str]]
    """Sender, then listener: the part it plays by the plan (bob or eve), if all runs of this sender say the same."""
    warnings: list[str] = field(default_factory=list)

    def part(self, setting: Setting, listener: str) -> str | None:
        """What a listener is by the plan: bob, eve, or None if it says nothing."""
        return self.roles.get(setting.sender, {}).get(listener)

    def planned(self) -> list[Pair]:
        """The pairs whose Bob and Eve the plan names; all where it names none."""
        named = [
            pair
            for pair in self.pairs
            if self.part(pair.setting, pair.bob) == "bob" and self.part(pair.setting, pair.eve) == "eve"
        ]
        return named or self.pairs

    def as_json(self) -> dict[str, Any]:
        """For `json.dumps`: the setting's fields stand beside those of each row."""
        whole = asdict(self)
        for name in ("pairs", "listeners", "colluding", "shares", "each_run"):
            whole[name] = [{**row.pop("setting"), **row} for row in whole[name]]
        return whole
