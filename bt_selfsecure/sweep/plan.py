"""The plan of a sweep: what is measured where, in which order. Read from TOML, each key declared once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from random import Random
from typing import Any, Final

from bt_selfsecure.air.models import parse_model
from bt_selfsecure.bearers.limits import ADVERT_BYTES, FLUSHABLE_BYTES
from bt_selfsecure.bearers.specs import parse_spec
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.config import ANY, NAME, Rule, about, between, key
from bt_selfsecure.node.tables import Origin, TableReader, load_toml, parse_toml, shown, table_lines, wrapped
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.sweep.orders import HEAD

AIR: Final = "air:"
"""Before a loss model's spec: the virtual air inside this program."""
PSM: Final = 0x1003
"""Of the test packets on l2cap; 0x1001 is the nodes' own."""
MTU: Final[Mapping[str, int]] = {"le_advert": ADVERT_BYTES, "l2cap": FLUSHABLE_BYTES}
"""Longest test packet: what an advertisement carries, and what one baseband packet does (longer ones can't be lost
singly)."""
SLOWEST_MS: Final[Mapping[str, float]] = {"le_advert": 30.0}
"""Shortest time between two test packets: an advertising event takes so long."""
MAX_RUNS: Final = 100_000
VERY_CLOSE_M: Final = 0.15
"""Metres. Losses may be higher than at half a metre: 6LoWPAN over BLE on Pis was slower there."""

POSITIVE: Final = between(0.01, 1000.0, " m")
PROBABILITY_WIDTH: Final = Rule("from 0 to below 1", lambda value: 0 <= value < 1)


def _is_bearer(text: str) -> bool:
    try:
        if text.startswith(AIR):
            parse_model(_model_spec(text, 1.0).removeprefix(AIR))
        else:
            spec = parse_spec(text)
            return spec.name in MTU and not spec.peer and spec.adapter == "hci0"
    except UsageError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class SweepTable:
    """This is what is measured."""

    distances_m: tuple[float, ...] = key(
        (VERY_CLOSE_M, 0.5, 1.5, 3.0, 4.5, 6.0), "Between Alice's place and Bob's, metres.", POSITIVE
    )
    packets: tuple[int, ...] = key((200, 400, 800), "Packets of a run.", between(10, limits.MAX_BURST))
    repeats: int = key(10, "Runs of each kind at each distance.", between(1, 10_000))
    bearers: tuple[str, ...] = key(
        ("le_advert", "l2cap"),
        "What carries the test packets. le_advert: one packet that everybody hears. l2cap: each packet to each "
        'receiver in turn. For a rehearsal without radios "air:" and a loss model, as in "air:distance:eve=24".',
        Rule('"le_advert", "l2cap", or as in "air:bernoulli:bob=0.1,eve=0.2"', _is_bearer),
    )
    size_bytes: int = key(
        64, "Of a test packet; le_advert carries 24 at most.", between(HEAD.size, MTU["l2cap"], " bytes")
    )
    spacing_ms: float = key(10.0, "Between two packets; le_advert needs 30 at least.", between(1, 10_000, " ms"))
    tx_power_dbm: float = key(
        0.0,
        "Transmit power, noted with each run. It is not set: a Pi's chip has no command for that.",
        between(-70, 30, " dBm"),
    )
    countdown_s: int = key(5, "Time to step out of the way before a place's first run.", between(0, 600, " s"))
    narrow_enough: float = key(
        0.0,
        "Stop a place's repeats once the 95 % intervals of every receiver's loss and of Eve's loss given Bob are no "
        "wider than this; 0: never.",
        PROBABILITY_WIDTH,
    )
    min_repeats: int = key(3, "Runs of each kind at least, however narrow the intervals.", between(1, 10_000))
    notes: str = key(
        "", "What you see and the Pis can't: height, orientation, walls, people, weather. Kept with each run.", ANY
    )


@dataclass(frozen=True, slots=True)
class RolesTable:
    """This says who plays whom, by the names that the nodes have in each other's configurations."""

    alice: str = field(metadata=about("Sends. Her place is the tape measure's end.", NAME))
    bob: str = field(metadata=about("Receives, at the distances of the plan.", NAME))
    eves: tuple[str, ...] = key((), "Receive too; they stay where they are.", NAME)
    eve_distances_m: tuple[float, ...] = key((), "Of each Eve from Alice's place, metres; for the record.", POSITIVE)
    rotate: bool = key(
        False, "Do it all again until each node has played each role: the nodes change places, in a ring."
    )


@dataclass(frozen=True, slots=True)
class Roles:
    """This says who plays whom in one turn of the ring."""

    alice: str
    bob: str
    eves: tuple[str, ...]

    @property
    def receivers(self) -> tuple[str, ...]:
        return (self.bob, *self.eves)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """The person is to put the nodes where this says."""

    turn: int
    """Of the ring of roles, from 0."""
    distance_m: float


def metres(place: Place) -> str:
    """Return the distance as a person says it."""
    return f"{place.distance_m:g} m" + (f" (turn {place.turn + 1})" if place.turn else "")


@dataclass(frozen=True, slots=True, order=True)
class Run:
    """This is one burst of test packets."""

    place: Place
    bearer: str
    packets: int
    repeat: int
    """From 0."""


@dataclass(frozen=True, slots=True)
class Plan:
    """This is the whole file."""

    roles: RolesTable
    sweep: SweepTable = field(default_factory=SweepTable)

    @property
    def nodes(self) -> tuple[str, ...]:
        return (self.roles.alice, self.roles.bob, *self.roles.eves)

    @property
    def is_virtual(self) -> bool:
        """Return whether no bearer needs a radio."""
        return self.sweep.bearers[0].startswith(AIR)

    def roles_in(self, turn: int) -> Roles:
        names = self.nodes[turn:] + self.nodes[:turn]
        return Roles(names[0], names[1], names[2:])

    @property
    def turns(self) -> int:
        """Return how often the nodes change places, in a ring."""
        return len(self.nodes) if self.roles.rotate else 1

    def places(self) -> list[Place]:
        """Return the places in the order in which a person walks them."""
        return [Place(turn, distance) for turn in range(self.turns) for distance in self.sweep.distances_m]

    def runs_at(self, place: Place) -> Iterator[Run]:
        """Return the runs at a place, repeats outermost: what changes around it meets all kinds alike."""
        for repeat in range(self.sweep.repeats):
            for bearer in self.sweep.bearers:
                for packets in self.sweep.packets:
                    yield Run(place, bearer, packets, repeat)

    def size_bytes(self, bearer: str) -> int:
        """Return the size of a test packet there, in bytes."""
        return min(self.sweep.size_bytes, MTU.get(medium(bearer), self.sweep.size_bytes))

    def spacing_ms(self, bearer: str) -> float:
        """Return the time between two test packets there, in milliseconds."""
        return max(self.sweep.spacing_ms, SLOWEST_MS.get(medium(bearer), 0.0))

    def seconds(self) -> float:
        """Return the time on the air in seconds, if nothing is repeated or ends early."""
        burst = sum(self.sweep.packets) * sum(self.spacing_ms(bearer) for bearer in self.sweep.bearers) / 1000
        return burst * self.sweep.repeats * len(self.places())

    def spec(self, run: Run) -> str:
        """Return the bearer as orders name it: on the virtual air with the place's distance, where the model has
        one."""
        return _model_spec(run.bearer, run.place.distance_m) if run.bearer.startswith(AIR) else run.bearer


def minutes(plan: Plan) -> str:
    """Return the time of packets in the air, for people."""
    rounded = max(1, round(plan.seconds() / 60))
    at_once = ", which the virtual air sends at once" if plan.is_virtual else ""
    return f"{rounded} minute{'s' * (rounded > 1)} of packets{at_once}"


def medium(bearer: str) -> str:
    """Return the medium of a bearer: le_advert, l2cap or air."""
    return AIR[:-1] if bearer.startswith(AIR) else parse_spec(bearer).name


def bearer_of(bearer: str, adapter: str) -> str:
    """Return the spec for `open_bearer`."""
    spec = parse_spec(bearer)
    number = f"#{spec.number or PSM}" if spec.name == "l2cap" else ""
    return f"{spec.name}{number}@{adapter}"


def _model_spec(bearer: str, metres: float) -> str:
    """Return the spec of a loss model. It speaks of bob, eve, eve2, ...; in `distance:` Bob's metres come from the
    place."""
    if bearer.startswith(AIR + "distance:"):
        return f"{AIR}distance:bob={max(metres, 0.1):g},{bearer.removeprefix(AIR + 'distance:')}"
    return bearer


def example() -> str:
    """Return a plan that reads back as the default one, each key with what it means; the roles are to be filled in."""
    return _written(
        "Plan of a distance sweep. A line that begins with # and a key shows the default: to change it, remove the #. "
        "Then: bt-selfsecure sweep run THIS-FILE",
        {"alice": "pi-alice", "bob": "pi-bob", "eves": ("pi-eve",)},
        {},
    )


def rehearsal() -> str:
    """Return a plan for the virtual air whose places teach something: Bob walks past Eve, and his key from holding to
    broken.

    Only Alice's end shadows there, so that whoever is nearer to her hears nearly all that the other one does.
    """
    away = 24.0
    return _written(
        "Rehearsal of a distance sweep, on this computer alone. Bob walks away from Alice, past Eve, who stays where "
        "she is; whoever is nearer hears, of each packet, what the other one hears. Nearer than Eve his key holds, "
        "beside her it is weak, beyond her it is broken: what Eve misses of Bob's packets counts, and not how many Bob "
        "misses. Then: bt-selfsecure sweep run THIS-FILE, and sweep analyse",
        {"alice": "pi-alice", "bob": "pi-bob", "eves": ("pi-eve",), "eve_distances_m": (away,)},
        {
            "distances_m": (3.0, 6.0, 12.0, 24.0, 48.0),
            "packets": (800,),
            "bearers": (f"{AIR}distance:eve={away:g},common=1",),
            "countdown_s": 0,
        },
    )


def _written(head: str, roles: Mapping[str, Any], sweep: Mapping[str, Any]) -> str:
    """Return a plan as a file has it; what is not among `roles` and `sweep` stands there as a default."""
    lines = wrapped(head)
    for name, table in ("roles", RolesTable(**roles)), ("sweep", SweepTable(**sweep)):
        named = Origin(Path(), {(name, key): 1 for key in (roles if name == "roles" else sweep)})
        lines += table_lines(named, f"[{name}]", (name,), table)
    return "\n".join(lines) + "\n"


def load(path: Path) -> Plan:
    """Raises UsageError, one line with file, line, key and what was expected."""
    remedy = "`bt-selfsecure sweep plan` prints one to begin with"
    return _plan(*load_toml(path, missing=remedy, kind="plan of a sweep"))


def parse(text: str, path: Path) -> Plan:
    """Return the plan that `text` writes; `path` is for the words of a UsageError."""
    return _plan(*parse_toml(text, path, "plan of a sweep"))


def _plan(values: dict[str, Any], origin: Origin) -> Plan:
    reader = TableReader(origin)
    reader.refuse_unknown((), values, [field.name for field in fields(Plan)])
    roles = reader.table(RolesTable, ("roles",), values.get("roles", {}))
    sweep = reader.table(SweepTable, ("sweep",), values.get("sweep", {}))
    plan = Plan(roles, sweep)
    _check(plan, origin)
    return plan


def _check(plan: Plan, origin: Origin) -> None:
    """What the parts of a plan demand of each other."""
    for name in ("distances_m", "packets", "bearers"):
        seen: dict[Any, int] = {}
        for number, value in enumerate(getattr(plan.sweep, name)):
            if seen.setdefault(value, number) != number:
                origin.fail(("sweep", name, number), f"is {shown(value)}, which stands there already: leave it out")
    if len(set(plan.nodes)) < len(plan.nodes):
        origin.fail(("roles",), "gives one node two roles: name a node for each")
    metres = plan.roles.eve_distances_m
    if metres and len(metres) != len(plan.roles.eves):
        origin.fail(("roles", "eve_distances_m"), f"has {len(metres)} numbers: give one for each of eves")
    if plan.sweep.narrow_enough and plan.sweep.min_repeats > plan.sweep.repeats:
        origin.fail(("sweep", "min_repeats"), f"is more than repeats, which is {plan.sweep.repeats}")
    runs = len(plan.places()) * plan.sweep.repeats * len(plan.sweep.bearers) * len(plan.sweep.packets)
    if runs > MAX_RUNS:
        origin.fail(("sweep",), f"asks for {runs:,} runs, and {MAX_RUNS:,} are the most: fewer repeats, or two plans")
    virtual = [bearer.startswith(AIR) for bearer in plan.sweep.bearers]
    if any(virtual) and not all(virtual):
        origin.fail(("sweep", "bearers"), "mixes the virtual air with real radios: write two plans")
    for number, bearer in enumerate(plan.sweep.bearers):
        if bearer.startswith(AIR):
            _check_model(plan, bearer, origin, number)


def _check_model(plan: Plan, bearer: str, origin: Origin, number: int) -> None:
    """A figure for each listener is asked for before the afternoon, not in its middle."""
    try:
        model = parse_model(_model_spec(bearer, 1.0).removeprefix(AIR))
        model.transmit(Random(0), "alice", listeners(len(plan.nodes) - 1), 0.0)
    except UsageError as error:
        origin.fail(("sweep", "bearers", number), f"does not fit: {error}")


def listeners(receivers: int) -> tuple[str, ...]:
    """Return the listeners of a loss model: bob, eve, eve2, ..., in the order of `Roles.receivers`."""
    return ("bob", "eve", *(f"eve{number}" for number in range(2, receivers)))[:receivers]
