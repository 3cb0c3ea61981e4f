"""What each of Eve's attacks on Sabour's handshake yields on the virtual air. docs/protocols/sabour.md is made from
this.

The attacks are in `eve.sabour.attacks` and have what is public and what Eve's radio brings; what they claim is held
against the truth here.
"""

from __future__ import annotations

from random import Random
from typing import Final

from bt_selfsecure.bench.attacks import Attack, Trial
from bt_selfsecure.bench.sabour.testbed import Testbed, eve_between
from bt_selfsecure.eve.sabour.attacks.flood import Flood
from bt_selfsecure.eve.sabour.attacks.forgery import FalseDevice, FalseServer
from bt_selfsecure.eve.sabour.attacks.middle import ManInTheMiddle
from bt_selfsecure.eve.sabour.attacks.points import POINTS, InvalidPoints
from bt_selfsecure.eve.sabour.attacks.replay import Replay
from bt_selfsecure.protocols.sabour.keys import PayloadKey
from bt_selfsecure.protocols.sabour.messages import Profile

RESPONSE: Final = b'{"value": 29054}'
FLOOD_S: Final = 0.001
"""From one M1 of the flood to the next."""
FLOODED_S: Final = 1.2


def _trial(scene: Testbed, success: bool) -> Trial:
    return Trial(success, scene.established, scene.noticed)


def middle(profile: Profile, seed: int) -> Trial:
    """Succeeds when the keys of both ends are hers, so she reads the response, and the device takes one that she
    made."""
    scene, random = Testbed(profile, seed, eve_between), Random(seed).randbytes
    mallory = ManInTheMiddle(profile, scene.parties, random)
    scene.speak = mallory.hear
    scene.run(scene.client(), scene.server())
    keys = mallory.keys()
    if keys is None or scene.keys != {"client": [keys[0]], "server": [keys[1]]}:
        return _trial(scene, False)
    (with_client,), (with_server,) = scene.keys["client"], scene.keys["server"]
    hers_with_client, hers_with_server = keys
    assert isinstance(with_client, PayloadKey)
    assert isinstance(with_server, PayloadKey)
    assert isinstance(hers_with_client, PayloadKey)
    assert isinstance(hers_with_server, PayloadKey)
    read = hers_with_server.open(with_server.seal(RESPONSE, random))
    taken = with_client.open(hers_with_client.seal(b"{}", random))
    return _trial(scene, (read, taken) == (RESPONSE, b"{}"))


def false_device(profile: Profile, seed: int) -> Trial:
    """The device is off. Success: the server believes that it is there."""
    scene = Testbed(profile, seed)
    forger = FalseDevice(profile, scene.parties, Random(seed).randbytes)
    scene.speak = forger.hear
    scene.run(None, scene.server(), forger.begin())
    return _trial(scene, bool(scene.keys["server"]))


def false_server(profile: Profile, seed: int) -> Trial:
    """The server is off. Success: the device believes that it is there."""
    scene = Testbed(profile, seed)
    scene.speak = FalseServer(profile, scene.parties, Random(seed).randbytes).hear
    scene.run(scene.client(), None)
    return _trial(scene, bool(scene.keys["client"]))


def replay(profile: Profile, seed: int) -> Trial:
    """Succeeds when a server that was restarted believes that the device is there again."""
    scene, tape = Testbed(profile, seed), Replay(profile)

    def listen(data: bytes) -> tuple[bytes, ...]:
        tape.record(data)
        return ()

    scene.speak = listen
    scene.run(scene.client(), scene.server())
    scene.keys["server"].clear()
    scene.noticed = False
    scene.speak = tape.hear
    scene.run(None, scene.server(), tape.begin())
    return _trial(scene, bool(scene.keys["server"]))


def points(profile: Profile, seed: int) -> Trial:
    """Succeeds when an end goes on with a PK that is no valid point."""
    scene = Testbed(profile, seed)
    eve = InvalidPoints(profile, scene.device.device_id, POINTS[profile][seed % len(POINTS[profile])])
    scene.speak = eve.hear
    scene.run(None, scene.server(), eve.begin())
    to_server = eve.taken
    scene.run(scene.client(), None)
    return _trial(scene, to_server or eve.taken)


def flood(profile: Profile, seed: int) -> Trial:
    """Succeeds when no key comes about."""
    scene = Testbed(profile, seed)
    eve = Flood(profile, scene.device.device_id, Random(seed).randbytes)
    for number in range(round(FLOODED_S / FLOOD_S)):
        scene.world.at(number * FLOOD_S, lambda: scene.world.transmit("eve", eve.m1()))
    scene.run(scene.client(), scene.server())
    return _trial(scene, not scene.established)


_UNPROVED: Final = "in `paper` a SIG is made by a key that came in the same message: it proves nothing, in any run"

ATTACKS: Final[tuple[Attack[Profile], ...]] = (
    Attack("middle", "stands between device and server", "both hear her and not each other",
           "she reads the response, and the device takes hers", middle, runs=20,
           remedy="Keys that were enrolled: what is signed names both PK.", meaning=_UNPROVED),
    Attack("false-device", "forges SIG_C, while the device is off", "a sender in reach of the server, the device's id",
           "the server takes her for the device", false_device, runs=20, remedy="The device's key is enrolled.",
           meaning=_UNPROVED),
    Attack("false-server", "forges SIG_S, while the server is off", "a sender in reach of the device",
           "the device takes her for the server", false_server, runs=20, remedy="The server's key is enrolled.",
           meaning=_UNPROVED),
    Attack("replay", "plays M1 and M3 of a device again", "one handshake, heard; a server that was restarted",
           "the server takes the device for present", replay, runs=20, remedy="What is signed names the server's PK.",
           meaning="in `paper` nothing of the server's is in SIG_C. She gets no key by it"),
    Attack("points", "offers a PK that is no valid point", "a sender in reach", "an end goes on with it", points,
           runs=20, remedy="None is needed: both profiles check.",
           meaning="each run has another point, of every kind that there is"),
    Attack("flood", f"M1 in the device's name, {1 / FLOOD_S:.0f} a second", "a sender in reach of the server, the "
           "device's id", "no key comes about", flood, runs=3,
           remedy="M3 is waited for in 16 handshakes: more M1 than that in a round trip displace the true one.",
           meaning="who sends more than 16 M1 in a round trip of the device's disturbs it as long as she does"),
)  # fmt: skip
