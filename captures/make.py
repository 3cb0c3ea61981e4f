"""Makes the captures beside this file anew, and manifest.toml with them: `python captures/make.py [FOLDER]`.

Each comes from a run of ours with a fixed seed, so it is the same to the byte wherever it is made; but for those of the
lab (lab.py makes them), which are taken as they are. Keys in them are of these runs and nobody's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

HERE: Final = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests/eve"))

from carriers import by_ipsp  # noqa: E402

from bt_selfsecure.air.capture import (  # noqa: E402
    LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR,
    LINKTYPE_USER0,
    PcapngWriter,
    advertising_pdu,
    le_packet,
)
from bt_selfsecure.air.models import Bernoulli, Jammed  # noqa: E402
from bt_selfsecure.air.virtual_time import run_virtual  # noqa: E402
from bt_selfsecure.air.world import World  # noqa: E402
from bt_selfsecure.bearers.advertising_data import manufacturer_data  # noqa: E402
from bt_selfsecure.bench.haoxiao.testbed import ALICE, DEFAULT_AIR, Speak, Testbed  # noqa: E402
from bt_selfsecure.demo.scenario import Scenario  # noqa: E402
from bt_selfsecure.demo.setting import StoryRequest, perform, stage_set  # noqa: E402
from bt_selfsecure.eve.haoxiao.attacks.flood import RequestFlood  # noqa: E402
from bt_selfsecure.eve.haoxiao.attacks.middle import ManInTheMiddle  # noqa: E402
from bt_selfsecure.eve.haoxiao.attacks.replay import Reflection, Replay  # noqa: E402
from bt_selfsecure.eve.haoxiao.attacks.steering import BlacklistSteering  # noqa: E402
from bt_selfsecure.eve.haoxiao.attacks.theft import StolenRecord  # noqa: E402
from bt_selfsecure.eve.haoxiao.verdict import Judge  # noqa: E402
from bt_selfsecure.eve.sources import Capture  # noqa: E402
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile, decode  # noqa: E402

TEXT: Final = [f"The {name} sends line {n}.".encode() for n in range(1, 4) for name in ("sensor", "gateway")]
Heard = tuple[float, int, bytes]
"""Time, link type, packet."""
H, P = Profile.HARDENED, Profile.PAPER


class Silent:
    """A stage that nobody watches."""

    def say(self, line: str) -> None: ...

    def show(self, story: Scenario) -> None: ...


@dataclass
class Made:
    """One capture, before it is written."""

    file: str
    what: str
    bearer: str
    attack: str
    profile: Profile
    packets: list[Heard] = field(default_factory=list)
    beside: dict[str, str] = field(default_factory=dict)
    """Files that belong to it: a key log, a stolen record."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of the verdict."""
    script: str = "make.py"

    def hear(self, time: float, data: bytes) -> None:
        self.packets.append((time, LINKTYPE_USER0, data))


def memory(file: str, what: str, attack: str, profile: Profile, seed: int = 3, **settings: Any) -> tuple[Made, Testbed]:
    """A capture of bare frames, and the scene for it."""
    made = Made(file, what, "memory", attack, profile)
    scene = Testbed(profile, seed, tap=made.hear)
    for name, value in settings.items():
        setattr(scene, name, value)
    if "air" in settings or "eves" in settings:
        scene.__post_init__()
    return made, scene


def keep_too(made: Made, scene: Testbed, hear: Speak) -> Speak:
    """What Eve sends for what she hears is in the capture too."""

    def speak(data: bytes) -> Iterable[bytes]:
        for each in hear(data):
            made.hear(scene.world.now, each)
            yield each

    return speak


def talk(scene: Testbed) -> None:
    """A key, and a few messages each way."""
    scene.establish()
    if scene.established:
        scene.converse(scene.sessions(), TEXT)


# --- by attack --------------------------------------------------------------------------------------------------------


def passive(profile: Profile) -> Made:
    made, scene = memory(f"passive-{profile.label}.pcapng", "Eve listens and misses 5 %", "passive", profile)
    talk(scene)
    return made


def colluding() -> list[Made]:
    """Two captures of one run; each Eve's clock is her own."""
    halves = [Made(f"colluding-{n}.pcapng", f"Eve {n} of two who put together what they heard; her clock is off by "
                   f"{100 * n} s", "memory", "colluding", H) for n in (1, 2)]  # fmt: skip
    scene = Testbed(H, 5, eves=("eve", "eve2"))
    ears = {name: lambda time, data, made=made, n=n: made.hear(time + 100 * n, data)
            for n, (name, made) in enumerate(zip(scene.eves, halves, strict=True), 1)}  # fmt: skip
    scene.world = World(DEFAULT_AIR.transmit, 5, ears)
    talk(scene)
    halves[0].options = {"with": ["colluding-2.pcapng"]}
    return halves


def repair() -> Made:
    """Advertisements as a sniffer has them: two of a hundred bits wrong, and the CRC says so."""
    made = Made("repair-hardened.pcapng", "a sniffer of LE hands on packets with a wrong CRC; she flips bits back",
                "le_advert", "repair", H, options={"repair": 200_000})  # fmt: skip
    random = Random(9)

    def hear(time: float, data: bytes) -> None:
        if decode(data).kind is not Kind.RAND_COMPACT:
            return made.hear(time, data)
        pdu = advertising_pdu(2, ALICE[::-1], manufacturer_data(data), random_address=False)
        packet = bytearray(le_packet(37, pdu))
        if random.random() < 0.06:
            for place in random.sample(range(8 * len(data)), 2):
                packet[-4 - place // 8] ^= 1 << place % 8
        return made.packets.append((time, LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR, bytes(packet)))

    air = Bernoulli({"alice": 0.1, "bob": 0.1, "eve": 0.0})
    scene = Testbed(H, 9, air, compact=True, tap=hear)
    talk(scene)
    return made


def brute_force() -> Made:
    random = Random(3)

    def weak(size: int) -> bytes:
        return random.getrandbits(4).to_bytes(32) if size == 32 else random.randbytes(size)

    made, scene = memory("brute-force-hardened.pcapng", "Alice's generator is broken: each burst message is one of 16",
                         "brute-force", H, random=weak)  # fmt: skip
    talk(scene)
    return made


def steering(profile: Profile) -> Made:
    made, scene = memory(f"steering-{profile.label}.pcapng", "Eve forges what she missed; her own packets are in the "
                         "capture too, as a third radio hears them", "steering", profile, seed=2)  # fmt: skip
    attack = BlacklistSteering(Random(3).randbytes)

    scene.speak = keep_too(made, scene, attack.hear)
    talk(scene)
    return made


def middle() -> Made:
    made, scene = memory("middle-hardened.pcapng", "Mallory between Alice and Bob: two establishments, one key each",
                         "middle", H)  # fmt: skip
    attack = ManInTheMiddle(Random(3).randbytes)

    def heard(random: Random, sender: str, listeners: Any, now: float) -> frozenset[str]:
        return frozenset(listeners) if sender == "eve" else frozenset({"eve"} & set(listeners))

    scene.speak, scene.world = keep_too(made, scene, attack.hear), World(heard, 3, {"eve": scene.hear})
    scene.establish()
    return made


def replay() -> Made:
    made, scene = memory("replay-paper.pcapng", "an establishment, and Alice's part of it played to a restarted Bob, "
                         "who takes the old key", "replay", P)  # fmt: skip
    clear, tape = Bernoulli({"alice": 0.0, "bob": 0.0, "eve": 0.0}), Replay()

    def record(time: float, data: bytes) -> None:
        made.hear(time, data)
        tape.record(data)

    scene.tap, scene.world = record, World(clear.transmit, 3, {"eve": scene.hear})
    scene.establish()
    bob, offset = scene.responder(), scene.world.now + 20

    def play(data: bytes, delay: float) -> None:
        def now() -> None:
            made.hear(again.now + offset, data)
            again.transmit("eve", data)

        again.at(again.now + delay, now)

    def answer(time: float, data: bytes) -> None:
        made.hear(time + offset, data)
        for sent in tape.hear(data):
            play(sent, 2.5 if decode(sent).kind is Kind.ACKNOWLEDGE else 0.01)

    again = World(clear.transmit, 4, {"eve": answer})
    for sent in tape.begin():
        play(sent, 0.0)
    again.run_now({"bob": bob}, lambda name, event, now: None, lambda: False, 12.0)
    return made


def reflection() -> Made:
    made, scene = memory("reflection-hardened.pcapng", "every frame of a session comes twice, and goes back to its "
                         "sender", "reflection", H)  # fmt: skip
    scene.establish()
    attack = Reflection()

    scene.speak = keep_too(made, scene, attack.hear)
    scene.converse(scene.sessions(), TEXT)
    return made


def flood() -> Made:
    what = "requests in Alice's name, two a second: hers are not considered for T_d, and she gives up"
    made, scene = memory("flood-hardened.pcapng", what, "flood", H)
    attack = RequestFlood(H, Random(3).randbytes, ALICE)

    def send() -> None:
        data = attack.request()
        made.hear(scene.world.now, data)
        scene.world.transmit("eve", data)
        scene.world.at(scene.world.now + 0.5, send)

    scene.world.at(0.0, send)
    scene.establish(begin=0.75)
    return made


def jamming() -> Made:
    made, scene = memory("jamming-hardened.pcapng", "Eve destroys what she fails to receive: nothing of S is hers to "
                         "lack", "jamming", H, air=Jammed(DEFAULT_AIR))  # fmt: skip
    talk(scene)
    return made


def theft() -> Made:
    made, scene = memory("theft-hardened.pcapng", "a session, after Bob's record was stolen (theft-hardened.record.json"
                         "): she reads until she misses a packet", "theft", H, seed=6)  # fmt: skip
    sessions = scene.sessions(Random(6).randbytes(32))
    record = sessions["bob"].record.to_json()
    scene.converse(sessions, [f"message {n}".encode() for n in range(40)])
    made.beside = {"theft-hardened.record.json": record + "\n"}
    made.options = {"stolen": "theft-hardened.record.json"}
    return made


# --- by bearer --------------------------------------------------------------------------------------------------------


def bearer(name: str) -> Made:
    """Over Bumble's real host stack, in virtual time."""
    made = Made(f"{name}-hardened.pcapng", "Eve listens to a key and a file over virtual Bluetooth, misses 5 %", name,
                "passive", H)  # fmt: skip
    keys: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        (file := Path(folder) / "lines.txt").write_bytes(b"\n".join(TEXT) * 3)
        request = StoryRequest(model="bernoulli:alice=0.1,bob=0.1,eve=0.05", bearer=name, seed=3, target_bits=4,
                               burst=64, eve_loss_bound=0.05, file=file)  # fmt: skip
        target = Path(folder) / "capture.pcapng"
        with PcapngWriter(target) as writer:
            run_virtual(perform(stage_set(request), Silent(), capture=writer, key_log=keys.append))
        made.packets = [(-1.0, 0, target.read_bytes())]
    made.beside = {f"{name}-hardened.keys": "".join(f"{line}\n" for line in keys)}
    return made


def ipsp() -> Made:
    """The frames of `passive` as UDP over 6LoWPAN; the air has no IPSP of its own."""
    made = Made("ipsp-hardened.pcapng", "the frames of passive-hardened.pcapng in UDP over 6LoWPAN, put there by "
                "scapy", "ipsp", "passive", H)  # fmt: skip
    frames = [data for _, _, data in passive(H).packets]
    made.packets = [(number / 100, *packet) for number, packet in enumerate(by_ipsp(frames))]
    return made


def from_lab(file: str, what: str, bearer: str) -> Made:
    """As lab.py left it."""
    return Made(file, what, bearer, "passive", H, [(-1.0, 0, (HERE / file).read_bytes())], script="lab.py")


def everything() -> list[Made]:
    """The whole set."""
    made = [passive(P), passive(H), *colluding(), repair(), brute_force(), steering(P), steering(H), middle(), replay()]
    made += [reflection(), flood(), jamming(), theft()]
    made += [*(bearer(name) for name in ("le_advert", "rfcomm", "l2cap")), ipsp()]
    nodes = "two nodes on virtual Pis, Linux's own stack; "
    spied = nodes + "kept by a spy in Bob's computer (eve capture monitor:hci0), who misses nothing of his"
    return [
        *made,
        from_lab("lab-ipsp.pcapng", nodes + "a tap on the air, which misses 5 %: advertised burst, and IPSP", "ipsp"),
        from_lab("lab-rfcomm.pcapng", spied, "rfcomm"),
        from_lab("lab-l2cap.pcapng", spied + "; X25519 is mixed in", "l2cap"),
    ]


# --- writing them -----------------------------------------------------------------------------------------------------


def write(made: Made, folder: Path) -> Path:
    """The capture and what belongs to it."""
    path = folder / made.file
    if len(made.packets) == 1 and made.packets[0][0] < 0:
        path.write_bytes(made.packets[0][2])
    else:
        with PcapngWriter(path) as writer:
            for time, linktype, packet in sorted(made.packets, key=lambda packet: packet[0]):
                writer.write(time, linktype, packet)
    for name, text in made.beside.items():
        (folder / name).write_text(text)
    return path


def described(made: Made, folder: Path) -> dict[str, Any]:
    """Its table of the manifest: what Eve's own programs say of it, now."""
    stolen = [StolenRecord.parse((folder / made.options["stolen"]).read_text())] if "stolen" in made.options else []
    judge = Judge(made.options.get("repair", 0), stolen=stolen)
    for name in (made.file, *made.options.get("with", ())):
        with Capture(str(folder / name)) as capture:
            judge.hear_all(capture)
    report = judge.report()
    return {
        "file": made.file,
        "what": made.what,
        "how": f"python captures/{made.script}; bearer {made.bearer}, attack {made.attack}, "
        f"profile {made.profile.label}",
        **made.options,
        "packets": report.packets,
        "frames": report.ours,
        "kinds": report.kinds,
        "broken": report.broken,
        "contradictions": report.contradictions,
        "verdicts": [verdict.sentence for verdict in report.verdicts],
        "messages_read": sum(len(v.plaintext) for v in report.verdicts) + len(report.stolen_read),
        "sha256": hashlib.sha256((folder / made.file).read_bytes()).hexdigest(),
    }


def toml(value: Any) -> str:
    """A value as TOML; JSON's strings, numbers, lists and truth values are TOML's."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)


def make(folder: Path) -> None:
    """All captures and the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    made = everything()
    for each in made:
        write(each, folder)
    text = "# Written by `python captures/make.py`, which makes the captures too. tests/eve/test_captures.py holds\n"
    text += "# what Eve's programs say of each against this file, and each frame against tshark with our dissector.\n"
    for each in made:
        text += "\n[[capture]]\n" + "".join(f"{key} = {toml(v)}\n" for key, v in described(each, folder).items())
    (folder / "manifest.toml").write_text(text)


if __name__ == "__main__":
    about, _, more = (__doc__ or "").partition(":")
    parser = argparse.ArgumentParser(description=f"{about}.", epilog=more.partition("\n\n")[2])
    parser.add_argument(
        "folder", nargs="?", type=Path, default=HERE, metavar="FOLDER", help="default: beside this file"
    )
    make(parser.parse_args().folder)
