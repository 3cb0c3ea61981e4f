"""The stage set of the demo: from what the user asked for to an air, an Eve, and what both ends are configured with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Final

from bt_selfsecure.air.capture import CaptureTap, PcapngWriter
from bt_selfsecure.air.linked import LinkedAir
from bt_selfsecure.air.models import LossModel, RecordedLosses, parse_model
from bt_selfsecure.air.reception import LossProcess
from bt_selfsecure.air.recording import Recording
from bt_selfsecure.air.world import World
from bt_selfsecure.bench.haoxiao.testbed import ALICE, BOB
from bt_selfsecure.demo.outcome import Outcome
from bt_selfsecure.demo.scenario import Observer, Scenario, ScenarioConfig
from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.haoxiao.attacks import BlacklistSteering
from bt_selfsecure.eve.haoxiao.format import HAOXIAO
from bt_selfsecure.eve.haoxiao.knowledge import Knowledge
from bt_selfsecure.eve.reading import ReadingTap
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile, peek_kind
from bt_selfsecure.sansio.trace import KeyLog, Tracer
from bt_selfsecure.stats.losses import JointLoss, lower_bound

LINKTYPE_USER0: Final = 147
MAX_FILE_BYTES: Final = 1_000_000
SURVEY_PACKETS: Final = 1000
SURVEY_CONFIDENCE: Final = 0.999
"""Stricter than what the burst is judged by afterwards, so that a key that was planned well is seldom found short."""
LEAST_BOUND: Final = 1e-4
"""A survey in which Eve missed nothing gives the bound 0, for which no burst is long enough; this stands for it."""
LARGEST_BURST: Final = {"memory": 20_000, "rfcomm": 20_000, "l2cap": 2_200, "le_advert": 20_000}
"""Burst packets at most. The received set of a response must fit one datagram, and on `l2cap` that is 335 bytes."""
ATTACKS: Final = ("steering",)


@dataclass(frozen=True, slots=True)
class StoryRequest:
    """This is what the user asked for; `stage_set` checks it."""

    model: str | None = None
    """A loss model of `air.models.parse_model`; None: the recording."""
    recording: Path | None = None
    position: int = 33
    bob: str = "sensor20"
    eves: Sequence[str] = ("sensor30",)
    profile: Profile = Profile.HARDENED
    bob_profile: Profile | None = None
    bearer: str = "memory"
    seed: int = 7
    target_bits: float = 128.0
    eve_loss_bound: float | None = None
    """None: measured by a survey before the establishment."""
    burst: int = 200
    attack: str | None = None
    file: Path | None = None


@dataclass
class Survey:
    """This was measured before the key: `SURVEY_PACKETS` packets, and the lower bound on e|B that they give."""

    joint: JointLoss
    bound: float

    @property
    def sentence(self) -> str:
        """Return in a sentence what the survey found."""
        found = f"A survey before: of {self.joint.sent} packets Bob heard {self.joint.received or 'none'}"
        if not self.joint.received:
            return f"{found}. No burst is long enough for that."
        found += ", and Eve missed "
        if not self.bound:
            return f"{found}none of those. No burst is long enough for that."
        least = f"at least {100 * self.bound:.3g} % (confidence {100 * SURVEY_CONFIDENCE:g} %)"
        return f"{found}{self.joint.bob_only} of those, so {least}."


@dataclass
class Production:
    """This is everything that one run needs."""

    request: StoryRequest
    model: LossModel
    eves: tuple[str, ...]
    survey: Survey
    plot: ScenarioConfig
    air_seed: int


def eve_names(count: int) -> tuple[str, ...]:
    """Return so many names of Eves: eve, eve2, eve3, ..."""
    return tuple("eve" if number == 1 else f"eve{number}" for number in range(1, count + 1))


def stage_set(request: StoryRequest) -> Production:
    """Check everything before anything happens. Raises `UsageError` with one line."""
    if request.bearer not in LARGEST_BURST:
        raise UsageError(f"there is no bearer {request.bearer!r}: choose one of {', '.join(LARGEST_BURST)}")
    if request.attack is not None and (request.attack not in ATTACKS or request.bearer != "memory"):
        raise UsageError("the demo's one attack is 'steering', and it needs the bearer 'memory'")
    if not 0 <= request.seed < 2**63:
        raise UsageError("the seed must be a whole number from 0 to 2**63 - 1")
    file_name, content = read_file(request.file)
    model, eves = _model(request)
    seeds = Random(request.seed)
    survey = take_survey(model, eves, Random(seeds.getrandbits(64)))
    bound = request.eve_loss_bound
    if bound is None:
        bound = max(survey.bound, LEAST_BOUND)
    if not 0 < bound <= 1:
        raise UsageError(f"the bound on Eve's loss must be above 0 and at most 1, not {bound:g}")
    alice = _config(request, ALICE, request.profile, bound)
    bob = _config(request, BOB, request.bob_profile or request.profile, bound)
    plot = ScenarioConfig(alice, bob, file_name, content, seeds.getrandbits(63))
    return Production(request, model, eves, survey, plot, seeds.getrandbits(63))


def _config(request: StoryRequest, identity: bytes, profile: Profile, bound: float) -> EstablishConfig:
    longest = request.burst if profile is Profile.PAPER else max(request.burst, LARGEST_BURST[request.bearer])
    return EstablishConfig(
        identity=identity,
        profile=profile,
        burst=request.burst,
        max_burst=longest,
        target_bits=request.target_bits,
        eve_loss_bound=bound,
        compact=request.bearer == "le_advert",
        compare=True,
        interval=0.03 if request.bearer == "le_advert" else 0.01,  # a Pi advertises 30 to 40 times a second
    )


def _model(request: StoryRequest) -> tuple[LossModel, tuple[str, ...]]:
    """Return the loss model, and the names of the Eves on it."""
    if request.model is not None:
        model, named = parse_model(request.model), tuple(re.findall(r"\b(eve\d*)=", request.model))
        if not named:
            raise UsageError(f"the loss model {request.model!r} has no Eve: name her, as in bernoulli:bob=0.1,eve=0.05")
        return model, named
    names = eve_names(len(request.eves))
    receivers = {"bob": request.bob, **dict(zip(names, request.eves, strict=True))}
    return RecordedLosses(Recording.load(request.recording), receivers, request.position), names


def take_survey(model: LossModel, eves: Sequence[str], random: Random) -> Survey:
    """Return what a sweep would have measured at this place: packets of Alice's, who hears them, and the bound on
    e|B."""
    bob: set[int] = set()
    eve: set[int] = set()
    for seq in range(SURVEY_PACKETS):
        heard = model.transmit(random, "alice", ("bob", *eves), 0.0)
        if "bob" in heard:
            bob.add(seq)
        if heard - {"bob"}:
            eve.add(seq)
    joint = JointLoss.of(SURVEY_PACKETS, bob, eve)
    return Survey(joint, lower_bound(joint.bob_only, joint.received, SURVEY_CONFIDENCE) if joint.received else 0.0)


def read_file(path: Path | None) -> tuple[str, bytes]:
    """Return name and content of the file to send; by default the licence of the recording that ships with the
    package."""
    source = files("bt_selfsecure.air") / "data" / "LICENSE.CC0" if path is None else path
    try:
        content = source.read_bytes()
    except OSError as error:
        raise UsageError(f"can't read {source} ({error.strerror}): give --send a file that can be read") from None
    if not content:
        raise UsageError(f"{source} is empty: give --send a file with something in it")
    if len(content) > MAX_FILE_BYTES:
        raise UsageError(f"{source} has {len(content)} bytes: give --send a file of at most {MAX_FILE_BYTES}")
    return source.name, content


async def perform(
    production: Production,
    stage: Observer,
    *,
    capture: PcapngWriter | None = None,
    tracer: Tracer | None = None,
    key_log: KeyLog | None = None,
) -> tuple[Scenario, Outcome]:
    """Run it, and return the story and its outcome. It is awaited under `run_virtual`, so that virtual Bluetooth runs
    in virtual time too."""
    story = Scenario(production.plot, Knowledge(), stage, tracer, key_log)
    request = production.request
    stage.say(production.survey.sentence)
    if request.bearer == "memory":
        return story, await story.tell(_world(production, story, capture))
    heard = LossProcess(production.model, Random(production.air_seed)).heard
    taps = {name: CaptureTap(capture, ReadingTap(HAOXIAO, story.hear)) for name in production.eves}
    try:
        from bt_selfsecure.air.bluetooth import VirtualBluetooth
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the bearer {request.bearer!r} needs {error.name}: pip install 'bt-selfsecure[demo]'"
        ) from None

    bluetooth = VirtualBluetooth(request.bearer, heard, taps, advertises=_is_of_a_burst)  # type: ignore[arg-type]
    async with bluetooth:
        return story, await story.tell(LinkedAir(bluetooth.links))


def _is_of_a_burst(datagram: bytes) -> bool:
    """Return whether a frame is advertised; control frames go beside."""
    return peek_kind(datagram) is Kind.RAND_COMPACT


def _world(production: Production, story: Scenario, capture: PcapngWriter | None) -> World:
    """Return the memory bearer, Eve's ears on it, and her attack where one was asked for."""
    steering = BlacklistSteering(Random(production.air_seed).randbytes) if production.request.attack else None

    def ear(name: str, time: float, data: bytes) -> None:
        if capture is not None:
            capture.write(time, LINKTYPE_USER0, data)
        story.hear(time, data)
        for forged in steering.hear(data) if steering else ():
            world.transmit(name, forged)

    ears = {name: partial(ear, name) for name in production.eves}
    world = World(production.model.transmit, production.air_seed, ears)
    return world
