"""Loss models: who hears a transmission. Seeded: the same random numbers give the same losses.

Listeners have names ("bob", "eve", "eve2"). A model has figures for some of them; a listener without one takes the
sender's, as the link between Alice and Bob is taken to be the same both ways: Alice hears Bob with Bob's figures.

Every model but `Correlated`, `RecordedLosses` and a `Distance` with `common` loses packets independently at different
listeners. Real receivers beside each other do not: prefer a recording of your own room.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from bt_selfsecure.air.recording import Recording
from bt_selfsecure.errors import UsageError
from bt_selfsecure.stats.losses import joint_probabilities, require_probability

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random

Figure = TypeVar("Figure")


class LossModel(Protocol):
    """Decides who hears one transmission."""

    def transmit(self, random: Random, sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
        """Return those of `listeners` who hear what `sender` sends at `now`, seconds. Called once a transmission, in
        order."""
        ...


def _figure(figures: Mapping[str, Figure], sender: str, listener: str) -> Figure:
    for name in (listener, sender):
        if name in figures:
            return figures[name]
    raise UsageError(f"the loss model does not say how {listener!r} hears {sender!r}: give a figure for {listener!r}")


@dataclass(frozen=True)
class Bernoulli:
    """Each listener misses each packet with its own probability, independently.

    Fair for most BLE receivers apart: in the office recording losses are stationary, and their correlation has a median
    of -0.03; but one pair in twenty has more than 0.36.
    """

    losses: Mapping[str, float]

    def __post_init__(self) -> None:
        for name, loss in self.losses.items():
            require_probability(f"the loss of {name!r}", loss)

    def transmit(self, random: Random, sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
        return frozenset(name for name in listeners if random.random() >= _figure(self.losses, sender, name))


@dataclass(frozen=True)
class Correlated:
    """Eve misses with probability e, everyone else with d; each one's loss has correlation rho with Eve's.

    The pair (listener, Eve) has exactly the joint distribution of `core.losses.joint_probabilities`; given Eve's loss,
    the other listeners are independent of each other. Those of `others` have losses of their own, independent of all.
    UsageError if rho is impossible for d and e.
    """

    d: float
    e: float
    rho: float = 0.0
    eve: str = "eve"
    others: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        joint_probabilities(self.d, self.e, self.rho)
        for name, loss in self.others.items():
            require_probability(f"the loss of {name!r}", loss)

    def transmit(self, random: Random, sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
        joint = joint_probabilities(self.d, self.e, self.rho)
        eve_misses = random.random() < self.e
        loss = joint.neither / self.e if eve_misses else joint.eve_only / (1 - self.e)
        return frozenset(
            name
            for name in listeners
            if (not eve_misses if name == self.eve else random.random() >= self.others.get(name, loss))
        )


@dataclass(frozen=True)
class Burstiness:
    """Is the two-state chain of Gilbert (1960) and Elliott (1963), a step a packet. By default bad is lost, good is
    not."""

    p: float
    """P(good -> bad)."""
    r: float
    """P(bad -> good): bad states last 1/r packets on average."""
    loss_good: float = 0.0
    loss_bad: float = 1.0

    def __post_init__(self) -> None:
        for what in ("p", "r", "loss_good", "loss_bad"):
            require_probability(f"{what} of the Gilbert-Elliott model", getattr(self, what))
        if self.r == 0:
            raise UsageError("a Gilbert-Elliott model with r=0 never leaves its bad state: take 0 < r <= 1")

    @classmethod
    def of(cls, loss: float, burst: float) -> Self:
        """Return the simple Gilbert chain with this long-run loss and mean burst length in packets."""
        require_probability("the loss", loss)
        if loss == 1 or burst < max(1.0, loss / (1 - loss)):
            raise UsageError(
                f"a loss of {loss:g} can't come in bursts of {burst:g} packets on average: take less loss, or bursts "
                "of at least loss/(1-loss) packets (and never below 1)"
            )
        return cls(p=loss / (1 - loss) / burst, r=1 / burst)


@dataclass
class GilbertElliott:
    """Loses packets in bursts: each link (sender, listener) runs its own chain, begun in its long-run distribution."""

    links: Mapping[str, Burstiness]
    _bad: dict[tuple[str, str], bool] = field(default_factory=dict, init=False, repr=False)

    def transmit(self, random: Random, sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
        return frozenset(name for name in listeners if not self._misses(random, sender, name))

    def _misses(self, random: Random, sender: str, listener: str) -> bool:
        chain = _figure(self.links, sender, listener)
        match self._bad.get((sender, listener)):
            case None:
                bad = random.random() < chain.p / (chain.p + chain.r)
            case True:
                bad = random.random() >= chain.r
            case False:
                bad = random.random() < chain.p
        self._bad[sender, listener] = bad
        return random.random() < (chain.loss_bad if bad else chain.loss_good)


@dataclass
class Distance:
    """Loses packets by distance: log-distance path loss, log-normal shadowing, bit errors of GFSK, whole packets.

    `metres` gives each listener's distance from the other end of the link; change it while running with `move`.
    RSSI = rssi_at_1m - 10 exponent log10(metres) + Normal(0, shadowing), drawn afresh for each packet and listener
    (Rappaport, Wireless Communications, section 4.9). Shadows of walls and people last longer than a packet, so real
    losses come in longer bursts. What the model leaves out: interference, and what a receiver misses for its own
    reasons (scan gaps); the latter can be given as `floor`.
    """

    metres: dict[str, float]
    packet_bytes: int = 37
    """PDU payload: 37 = AdvA and 31 bytes of data, the longest legacy advertisement (Core Vol 6 Part B 2.3.1)."""
    rssi_at_1m: float = -65.0
    """dBm. With `exponent`, least squares through the mean RSSI of BLE advertisements indoors, -65.5, -78.4, -84.1 and
    -90.8 dBm at 1, 5, 10 and 16 m (Strzoda, Grochla, Polys, MSWiM 2022, 10.1145/3551662.3560933). Their transmit power
    and antennas are in it."""
    exponent: float = 2.03
    """Path-loss exponent n; 2 is free space."""
    shadowing: float = 4.9
    """Standard deviation, dB: mean of the 5.7, 5.9, 4.5 and 3.5 dB that the same measurements show."""
    sensitivity: float = -96.0
    """dBm for a bit error rate of 0.1 %, LE 1M: nRF52832 product specification (Core Vol 6 Part A 4.1 asks for -70)."""
    floor: float = 0.0
    """P(missed however near). About 0.12 for the receivers of the office recording within 2 m."""
    common: float = 0.0
    """Share of the shadowing's variance that all listeners have in common, the correlation of its dB at two of them: it
    is the sender's, as of a person who stands before her. Between a mobile and base stations at 1.9 GHz -0.34 to
    0.43 were measured (Perahia, Cox, Ho, VTC 2001, 10.1109/VETECS.2001.944855). 1 is for lessons: who is farther away
    then hears hardly anything that a nearer one missed."""

    def __post_init__(self) -> None:
        require_probability("the floor", self.floor)
        require_probability("the common share of the shadowing", self.common)
        self.metres = dict(self.metres)
        for name, metres in self.metres.items():
            self.move(name, metres)

    def move(self, listener: str, metres: float) -> None:
        """Put `listener` so far away from now on. UsageError unless 0.1 <= metres <= 10 000."""
        if not 0.1 <= metres <= 10_000:  # nearer is the antenna's near field, where no path-loss law holds
            raise UsageError(f"a distance of {metres:g} m for {listener!r} is out of range: take 0.1 to 10000")
        self.metres[listener] = metres

    def mean_rssi(self, metres: float) -> float:
        """Return the mean in dBm, without shadowing."""
        return self.rssi_at_1m - 10 * self.exponent * math.log10(metres)

    def bit_error_rate(self, rssi: float) -> float:
        """Return the rate of noncoherent binary FSK, 1/2 exp(-Eb / 2 N0) (Proakis, Digital Communications), anchored at
        the sensitivity.

        There 1/2 exp(-x) = 0.001; x grows with the received power. The anchor absorbs noise and modulation index.
        """
        return 0.5 * math.exp(-math.log(500) * 10 ** ((rssi - self.sensitivity) / 10))

    def packet_error_rate(self, rssi: float) -> float:
        """Return P(at least one bit of access address, header, payload or CRC is wrong): 4 + 2 + packet_bytes + 3
        octets (LE 1M, Core Vol 6 Part B 2.1; a wrong preamble does no harm)."""
        bits = 8 * (4 + 2 + self.packet_bytes + 3)
        return 1 - (1 - self.bit_error_rate(rssi)) ** bits

    def transmit(self, random: Random, sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
        shadow = random.gauss(0.0, math.sqrt(self.common) * self.shadowing) if self.common else 0.0
        metres = {name: _figure(self.metres, sender, name) for name in listeners}
        return frozenset(name for name in listeners if not self._misses(random, metres[name], shadow))

    def _misses(self, random: Random, metres: float, shadow: float) -> bool:
        rssi = self.mean_rssi(metres) + shadow + random.gauss(0.0, math.sqrt(1 - self.common) * self.shadowing)
        return random.random() < self.floor + (1 - self.floor) * self.packet_error_rate(rssi)


class RecordedLosses:
    """Draws the recording's own losses, event by event: correlations, bursts and all.

    Each transmission, whoever sends it, takes the next event of the position; after the last comes the first again. The
    first transmission's event is `start`, or drawn. A listener hears if its receiver's bit is set.

    Two things are assumed. Losses do not depend on the rate of sending: recorded was one advertisement in 455 ms, and
    the losses are stationary over half an hour. The reverse direction, which nobody recorded, is as good as the forward
    one: Alice hears Bob if the event's bit of Bob is set, and Eve by her own bit, as if Bob stood where Alice stands.
    """

    def __init__(
        self,
        recording: Recording,
        receivers: Mapping[str, str | int],
        position: int | None = None,
        start: int | None = None,
    ) -> None:
        """`receivers` gives each listener's receiver (name or bit); position None is all, one after another.

        UsageError for a receiver, position or event that the recording does not have.
        """
        if not receivers:
            raise UsageError("a replay needs to know which receiver is Bob: name it, as in bob=3")
        self._masks = {name: 1 << recording.receiver(which).bit for name, which in receivers.items()}
        if len(set(self._masks.values())) < len(self._masks):
            raise UsageError("two listeners share one receiver of the recording: give each its own")
        self._events = recording.events(position)
        if start is not None and not 0 <= start < len(self._events):
            raise UsageError(f"the recording has no event {start} there: choose 0..{len(self._events) - 1}")
        self._next = start

    def transmit(self, random: Random, sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
        if self._next is None:
            self._next = random.randrange(len(self._events))
        word = self._events[self._next]
        self._next = (self._next + 1) % len(self._events)
        return frozenset(name for name in listeners if word & _figure(self._masks, sender, name))


@dataclass(frozen=True)
class Jammed:
    """Whatever Eve failed to receive she destroys at the others while it is on the air: nobody hears what she missed.

    Her own packets and those that go to nobody else are left alone. Then e|B is 0, however much she misses. It supposes
    a jammer that knows within a packet that she will not receive it, which is more than a radio can surely do.
    """

    air: LossModel
    eve: str = "eve"

    def transmit(self, random: Random, sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
        heard = self.air.transmit(random, sender, listeners, now)
        return heard if self.eve in heard or self.eve not in listeners else frozenset()


@dataclass(frozen=True)
class Near:
    """Puts devices out of each other's range: those that `pairs` names hear each other as `air` says, and no others of
    them. Who is in no pair, as an Eve, hears all."""

    air: LossModel
    pairs: frozenset[frozenset[str]]

    def transmit(self, random: Random, sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
        placed = frozenset[str]().union(*self.pairs)
        within = [name for name in listeners if {name, sender} in self.pairs or not {name, sender} <= placed]
        return self.air.transmit(random, sender, within, now)


# --- Models by name, as given on a command line -----------------------------------------------------------------------


def parse_model(spec: str) -> LossModel:
    """Return the model that `NAME:KEY=VALUE,KEY=VALUE,...` names; UsageError that says what is wrong and what would be
    right.

    bernoulli:bob=0.1,eve=0.05            the loss of each listener
    correlated:bob=0.1,eve=0.05,rho=0.2   rho is the correlation of the two losses; further listeners, as in carol=0.3,
                                          have losses of their own
    gilbert-elliott:bob=0.1/4,eve=0.05/2  loss / mean burst in packets
    distance:bob=3,eve=12,floor=0.1       metres; floor is the loss however near, common=0.5 would be the share of the
                                          shadowing that all have in common
    recording:bob=3,eve=6,eve2=7,position=2,start=0,file=MINE.json
                                          receivers by name or bit; the last three may be left out
    jammed:MODEL                          one of these, where nobody hears what "eve" failed to receive
    near:alice-bob,bob-carol;MODEL        one of these, where Alice and Carol are out of each other's range
    """
    name, _, rest = spec.partition(":")
    if name == "jammed":
        if rest.partition(":")[0] not in _MODELS:
            raise UsageError("jammed stands before another loss model: write it as in jammed:bernoulli:bob=0.1,eve=0.3")
        return Jammed(parse_model(rest))
    if name == "near":
        return _near(rest)
    if name not in _MODELS:
        raise UsageError(f"unknown loss model {name!r}: choose one of {', '.join([*_MODELS, 'jammed', 'near'])}")
    build, example = _MODELS[name]
    if not rest:
        raise UsageError(f"loss model {spec!r} lacks its figures: write it as in {name}:{example}")
    values: dict[str, str] = {}
    for item in rest.split(","):
        key, _, value = item.partition("=")
        if not key or not value or key in values:
            raise UsageError(f"{item!r} is not a new KEY=VALUE: write the model as in {name}:{example}")
        values[key] = value
    try:
        return build(values)
    except (KeyError, ValueError) as error:  # a key that is missing, a value that is not a number
        fault = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UsageError(f"loss model {spec!r}: {fault}: write it as in {name}:{example}") from None


def _near(text: str) -> LossModel:
    pairs, _, model = text.partition(";")
    ends = [frozenset(pair.split("-")) for pair in pairs.split(",")]
    if not model or not all(len(pair) == 2 and all(pair) for pair in ends):
        raise UsageError(
            "near names who hear each other, and another loss model: write it as in "
            "near:alice-bob,bob-carol;bernoulli:alice=0.1,bob=0.1,carol=0.1"
        )
    return Near(parse_model(model), frozenset(ends))


def _bernoulli(values: dict[str, str]) -> LossModel:
    return Bernoulli({name: float(loss) for name, loss in values.items()})


def _correlated(values: dict[str, str]) -> LossModel:
    d, e, rho = float(values.pop("bob")), float(values.pop("eve")), float(values.pop("rho", "0"))
    return Correlated(d, e, rho, others={name: float(loss) for name, loss in values.items()})


def _gilbert_elliott(values: dict[str, str]) -> LossModel:
    links = {}
    for name, value in values.items():
        loss, _, burst = value.partition("/")
        links[name] = Burstiness.of(float(loss), float(burst))
    return GilbertElliott(links)


def _distance(values: dict[str, str]) -> LossModel:
    floor, common = float(values.pop("floor", "0")), float(values.pop("common", "0"))
    return Distance({name: float(metres) for name, metres in values.items()}, floor=floor, common=common)


def _recording(values: dict[str, str]) -> LossModel:
    recording = Recording.load(values.pop("file", None))
    position, start = (int(values.pop(key)) if key in values else None for key in ("position", "start"))
    return RecordedLosses(recording, values, position, start)


_MODELS: dict[str, tuple[Callable[[dict[str, str]], LossModel], str]] = {
    "bernoulli": (_bernoulli, "bob=0.1,eve=0.05"),
    "correlated": (_correlated, "bob=0.1,eve=0.05,rho=0.2"),
    "gilbert-elliott": (_gilbert_elliott, "bob=0.1/4,eve=0.05/2"),
    "distance": (_distance, "bob=3,eve=12"),
    "recording": (_recording, "bob=3,eve=6,position=0"),
}
