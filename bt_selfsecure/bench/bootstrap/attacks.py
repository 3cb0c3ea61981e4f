"""What each attack on the bootstrapping yields: those of the paper's section 5, and others. docs/attacks.md is made
from this."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from bt_selfsecure.bench.attacks import Attack, Trial
from bt_selfsecure.bench.bootstrap.testbed import JoinTestbed
from bt_selfsecure.bench.bootstrap.who import installer_has_psk
from bt_selfsecure.crypto import CCM_NONCE_BYTES, ccm_open
from bt_selfsecure.eve.bootstrap.installer import Installer
from bt_selfsecure.eve.bootstrap.outsider import bogus_flight_2, spliced, tampered
from bt_selfsecure.protocols.bootstrap import keys
from bt_selfsecure.protocols.bootstrap.messages import CHANNELS, FlightChannel, Kind, Profile, decode

FLOOD: Final = 500
HOUR_S: Final = 3600.0


def _trial(bed: JoinTestbed, success: bool) -> Trial:
    return Trial(success, bed.network_key in bed.node_keys, bed.noticed)


def _parted(bed: JoinTestbed) -> Trial:
    return _trial(bed, bed.network_key not in bed.node_keys)


def _overheard(*heard: Kind, writes: bool = False) -> Callable[[Profile, int], Trial]:
    def run(profile: Profile, seed: int) -> Trial:
        success = installer_has_psk(profile, frozenset(heard), seed, writes=writes)
        return Trial(success, not (success and writes), False)

    return run


def replay_1(profile: Profile, seed: int) -> Trial:
    """Flight 1 of a join that is over comes to the controller again."""
    bed = JoinTestbed(profile, seed)
    bed.join()
    asked = bed.give(bed.tape[Kind.F1])
    bed.give(*(data for data in asked if data != bed.tape[Kind.F4]))
    return _parted(bed)


def replay_2(wait_s: float) -> Callable[[Profile, int], Trial]:
    """Flight 2 of a join that is over comes to the server again, so much later."""

    def run(profile: Profile, seed: int) -> Trial:
        bed = JoinTestbed(profile, seed)
        bed.join()
        bed.clock += wait_s
        bed.give(bed.tape[Kind.F2])
        return _parted(bed)

    return run


def replay_3(profile: Profile, seed: int) -> Trial:
    """Flight 3 of one join comes in the place of the next one's. Success: the controller takes it."""
    bed = JoinTestbed(profile, seed)
    bed.join()
    old, taken = bed.tape[Kind.F3], bed.tape[Kind.F4]
    bed.hand = lambda kind, data: (old,) if kind is Kind.F3 else (data,)
    bed.join()
    return _trial(bed, bed.tape[Kind.F4] != taken)


def false_controller(profile: Profile, seed: int) -> Trial:
    """Has another key than SK_cs, and a flight 1 that was seen. Success: the server answers."""
    bed, impostor = JoinTestbed(profile, seed), JoinTestbed(profile, seed + 1)
    bed.hand = lambda kind, data: ()
    bed.join()
    return _trial(bed, bool(bed.give(*impostor.give(bed.tape[Kind.F1]))))


def middle(profile: Profile, seed: int) -> Trial:
    """Stands between controller and server and changes a bit of each flight there. Success: one of them is taken."""
    bed = JoinTestbed(profile, seed)
    between = [kind for kind, channel in CHANNELS[profile].items() if channel is FlightChannel.SERVER]
    changed = between[seed % len(between)]

    def hand(kind: Kind, data: bytes) -> Iterable[bytes]:
        return (tampered(data, 7919 * seed),) if kind is changed else (data,)

    bed.hand = hand
    bed.join()
    return _trial(bed, Kind(changed + 1) in bed.tape)


def bogus_2(profile: Profile, seed: int) -> Trial:
    """Sends many flights 2 that are none. Success: the node does not join."""
    bed = JoinTestbed(profile, seed)
    answered = bed.give(*(bogus_flight_2(profile, bed.draw) for _ in range(FLOOD)))
    bed.join()
    return _trial(bed, bool(answered) or not bed.is_joined)


def jam_4(profile: Profile, seed: int) -> Trial:
    """Keeps flight 4 from the node."""
    bed = JoinTestbed(profile, seed, lambda kind, data: () if kind is Kind.F4 else (data,))
    bed.join()
    return _parted(bed)


def splice(profile: Profile, seed: int) -> Trial:
    """Has no key; changes flight 4 on its way. Success: the node takes it, and PSK = E(0, IK)."""
    bed = JoinTestbed(profile, seed, lambda kind, data: (spliced(profile, data) if kind is Kind.F4 else data,))
    bed.join()
    return _trial(bed, bool(bed.joined["sbi"]) or Kind.F5 in bed.tape)


def chosen_psk(profile: Profile, seed: int) -> Trial:
    """Succeeds when the node's PSK is the one that she chose before."""
    bed = JoinTestbed(profile, seed)
    eve = Installer(profile, bed.ik, bed.node_id, bed.controller.controller_id, bed.draw)
    chosen = b"chosen by Eve..."

    def hand(kind: Kind, data: bytes) -> Iterable[bytes]:
        if kind is Kind.F1:
            eve.hear(data)
        return (eve.flight_4_for(chosen) or data,) if kind is Kind.F4 else (data,)

    bed.hand = hand
    bed.join()
    return _trial(bed, chosen in bed.node_keys)


def controller_ik(profile: Profile, seed: int) -> Trial:
    """Is the controller, and looks into flight 3. Success: it has IK, which an installer's nodes may share."""
    bed = JoinTestbed(profile, seed)
    bed.join()
    flight3, sk_cs = bed.tape[Kind.F3], bed.controller.sk_cs
    if profile is Profile.PAPER:
        plain = ccm_open(sk_cs, flight3[:CCM_NONCE_BYTES], flight3[CCM_NONCE_BYTES:])
    else:
        plain = keys.unseal(keys.down_key(sk_cs), decode(flight3))
    return _trial(bed, plain is not None and bed.ik in plain)


_OOB: Final = "IK, and the out-of-band channel of"
_ACKNOWLEDGED: Final = "The server keeps IK until it has verified flight 5, and the node until flight 8 has come."
_SURE: Final = "nothing here is by chance: what a run shows each run shows"

ATTACKS: Final[tuple[Attack[Profile], ...]] = (
    Attack("overheard-1", "the installer hears flight 1", f"{_OOB} flight 1", "she has the PSK",
           _overheard(Kind.F1), runs=20, meaning=_SURE, remedy="None is needed: RN_c stays unknown."),
    Attack("overheard-4", "the installer hears flight 4", f"{_OOB} flight 4", "she has the PSK",
           _overheard(Kind.F4), runs=20, meaning=_SURE, remedy="RN_i goes into the key of flight 4."),
    Attack("overheard-1-4", "the installer hears flights 1 and 4", f"{_OOB} both", "she has the PSK",
           _overheard(Kind.F1, Kind.F4), runs=20, meaning=_SURE,
           remedy="None here: one of both must stay secret. X25519 would help, and is not on such a device."),
    Attack("written-4", "the installer hears flight 1 and sends a flight 4 of her own", f"{_OOB} flight 1, and a "
           "sender on that of flight 4", "the node takes a PSK that is hers",
           _overheard(Kind.F1, writes=True), runs=20, meaning=_SURE, remedy="None here: keep flight 1 secret."),
    Attack("written-4-blind", "the installer sends a flight 4 and has heard nothing", "IK, and a sender on the channel "
           "of flight 4", "the node takes a PSK that is hers", _overheard(writes=True), runs=20, meaning=_SURE,
           remedy="None is needed: flight 4 rests on RN_i."),
    Attack("chosen-psk", "picks RN_c so that PSK is what she likes", f"{_OOB} flight 1, and a sender on that of flight "
           "4", "the node's PSK is one that she had chosen", chosen_psk, runs=10, meaning=_SURE,
           remedy="PSK comes of a chain of CMAC, which nobody inverts."),
    Attack("splice", "puts the first block of flight 4 in the place of its second", "no key, and the channel of flight "
           "4", "the node takes it", splice, runs=20, meaning=_SURE, remedy="CCM in the place of ECB."),
    Attack("replay-1", "shows the controller flight 1 of a join that is over", "flight 1, and the way to the "
           "controller", "node and network have no common key any more", replay_1, runs=20, meaning=_SURE,
           remedy=_ACKNOWLEDGED),
    Attack("replay-2", "sends the server flight 2 of a join that is over, within its window of time", "one flight 2, "
           "heard", "node and network have no common key any more", replay_2(1.0), runs=20, meaning=_SURE,
           remedy="The server keeps the newest TID of each node."),
    Attack("replay-2-late", "the same an hour later", "one flight 2, heard", "node and network have no common key any "
           "more", replay_2(HOUR_S), runs=20, meaning=_SURE, remedy="None is needed: TS is of the past."),
    Attack("replay-3", "answers the controller with flight 3 of an older join", "one flight 3, heard, and stands "
           "between controller and server", "the controller takes it", replay_3, runs=20, meaning=_SURE,
           remedy="None is needed: TS and TID are others."),
    Attack("false-controller", "asks the server without SK_cs", "a flight 1, and the way to the server",
           "the server answers", false_controller, runs=20, meaning=_SURE,
           remedy="None is needed: flight 2 is sealed."),
    Attack("middle", "changes what passes between controller and server", "stands between them",
           "a changed flight is taken", middle, runs=20, meaning="each run changes another bit",
           remedy="None is needed: it is sealed."),
    Attack("bogus-2", f"{FLOOD} flights 2 that are none", "the way to the server", "the node does not join", bogus_2,
           runs=5, meaning="they take the server time, and change nothing", remedy="None is needed."),
    Attack("jam-4", "keeps flight 4 from the node", "a hand on the channel of flight 4",
           "node and network have no common key any more", jam_4, runs=20, meaning=_SURE, remedy=_ACKNOWLEDGED),
    Attack("controller-ik", "the controller looks into what the server sends it", "to be the controller",
           "it has IK, which all nodes of an installer may share", controller_ik, runs=20, meaning=_SURE,
           remedy="Flight 3 has the PSK and the key of flight 4."),
)  # fmt: skip
