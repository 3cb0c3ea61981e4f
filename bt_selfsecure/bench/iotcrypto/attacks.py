"""What each attack on IoT-Crypto yields against the real machines, and what Eve sees from outside."""

from __future__ import annotations

from typing import Final

from bt_selfsecure.bench.attacks import Attack, Trial
from bt_selfsecure.bench.iotcrypto.testbed import EXPIRES, NOW, Testbed
from bt_selfsecure.dtls.endpoint import Dtls
from bt_selfsecure.dtls.listener import DtlsListener
from bt_selfsecure.dtls.values import Credentials
from bt_selfsecure.eve.iotcrypto.attacks import Impostor, NegotiationRecorder, with_forged_signer
from bt_selfsecure.eve.iotcrypto.outside import Outside
from bt_selfsecure.protocols.iotcrypto.certificate import Role, SignedCertificate
from bt_selfsecure.protocols.iotcrypto.limits import CLOCK_SKEW_S
from bt_selfsecure.protocols.iotcrypto.lists import ListKind
from bt_selfsecure.protocols.iotcrypto.messages import Advertisement, Profile


def impostor(profile: Profile, seed: int) -> Trial:
    """Succeeds when the device ends with a key that is hers."""
    bed = Testbed(profile, seed)
    eve = Impostor(profile, bed.gateway, bed.random)
    bed.run(bed.initiator(bed.device_keys, bed.device), None, answers=eve.hear)
    return Trial(bool(bed.device_key) and bed.device_key == eve.key, bool(bed.device_key), bed.noticed)


def recorded(profile: Profile, seed: int) -> Trial:
    """Succeeds when a stolen device's key gives the session key of before."""
    bed, eve = Testbed(profile, seed), NegotiationRecorder(profile)

    def overheard(data: bytes) -> list[bytes]:
        eve.hear(data)
        return [data]

    gateway = bed.responder(bed.gateway_keys, bed.gateway)
    bed.run(bed.initiator(bed.device_keys, bed.device), gateway, overheard, overheard)
    success = eve.key(bed.device_keys.ecdh) == bed.device_key
    return Trial(success, bed.device_key == bed.gateway_key != b"", bed.noticed)


def stolen_device(profile: Profile, seed: int) -> Trial:
    """Succeeds when another device takes the stolen one for its gateway."""
    bed = Testbed(profile, seed)
    stolen_keys, stolen = bed.signed(Role.DEVICE, "stolen")
    bed.run(bed.initiator(bed.device_keys, bed.device), bed.responder(stolen_keys, stolen))
    return Trial(bed.device_key == bed.gateway_key != b"", bool(bed.device_key), bed.noticed)


def revoked(profile: Profile, seed: int) -> Trial:
    """Succeeds when a device is trusted once its revocation is there, in the connection or in a new one."""
    bed = Testbed(profile, seed)
    bed.run(bed.initiator(bed.device_keys, bed.device), bed.responder(bed.gateway_keys, bed.gateway))
    before = bed.device_key == bed.gateway_key != b""
    bed.gateways_trust.take(bed.list_of(ListKind.REVOCATIONS, bed.device.certificate.id))
    stays = bed.gateways_trust.judge(bed.device, NOW + 1, bed.asked(Role.DEVICE)).is_trusted
    bed.run(bed.initiator(bed.device_keys, bed.device), bed.responder(bed.gateway_keys, bed.gateway))
    return Trial(stays or bool(bed.gateway_key), before, bed.noticed)


def forged_signer(profile: Profile, seed: int) -> Trial:
    """Succeeds when a gateway takes a device whose third-party signature nobody made, or that is of another's."""
    bed = Testbed(profile, seed)
    keys, _ = bed.member(Role.DEVICE, "hers")
    signed = with_forged_signer(keys, Role.DEVICE, bed.owner, bed.random)
    if seed % 2:
        signed = SignedCertificate(signed.certificate, bed.device.signatures)
    bed.run(bed.initiator(keys, signed), bed.responder(bed.gateway_keys, bed.gateway))
    return Trial(bool(bed.gateway_key), bool(bed.device_key), bed.noticed)


def transitive(profile: Profile, seed: int) -> Trial:
    """Succeeds when a gateway takes a device that was signed by a party whom a trusted party signed."""
    bed = Testbed(profile, seed)
    partner_keys, partner = bed.member(Role.PARTY, "partner")
    bed.gateways_trust.take(bed.list_of(ListKind.PARTIES, partner))
    third_keys, third = bed.member(Role.PARTY, "third")
    assert third.signed_by(partner, partner_keys.sign(third).signature)
    keys, certificate = bed.member(Role.DEVICE, "of the third")
    signed = SignedCertificate(certificate, (third_keys.sign(certificate),))
    bed.run(bed.initiator(keys, signed), bed.responder(bed.gateway_keys, bed.gateway))
    return Trial(bool(bed.gateway_key), bool(bed.device_key), bed.noticed)


def rogue_gateway(profile: Profile, seed: int) -> Trial:
    """Succeeds when a device that follows a replayed advertisement to her comes as far as a certificate of hers."""
    bed, eve = Testbed(profile, seed), Outside()
    eve.hear(Advertisement(bed.gateway.certificate.id, 5711, 5712).encode())  # she heard it, and sends it again
    assert eve.gateways == {bed.gateway.certificate.id}
    return Trial(_connected(bed.random(16), bed.random(16)), False, True)


def expired(profile: Profile, seed: int) -> Trial:
    """Succeeds when a device is trusted once its certificate, or its signer's, has expired."""
    bed = Testbed(profile, seed)
    keys, device = bed.signed(Role.DEVICE, "boiler", NOW + 60)
    bed.run(bed.initiator(keys, device), bed.responder(bed.gateway_keys, bed.gateway))
    judgement = bed.gateways_trust.judge(device, NOW, bed.asked(Role.DEVICE))
    late = bed.gateways_trust.judge(device, judgement.until, bed.asked(Role.DEVICE)).is_trusted
    owners = bed.gateways_trust.judge(bed.device, EXPIRES, bed.asked(Role.DEVICE)).is_trusted
    return Trial(late or owners, bed.gateway_key != b"", True)


def _with_clock(profile: Profile, seed: int, now: int) -> Trial:
    bed = Testbed(profile, seed)
    keys, device = bed.signed(Role.DEVICE, "boiler", NOW - 7 * 86_400)
    bed.gateways_trust.take(bed.list_of(ListKind.REVOCATIONS, serial=NOW - 10 * 86_400))
    bed.run(bed.initiator(keys, device, now), bed.responder(bed.gateway_keys, bed.gateway, now))
    return Trial(bool(bed.gateway_key), bool(bed.device_key), bed.noticed)


def clock_far(profile: Profile, seed: int) -> Trial:
    """Succeeds when an expired certificate counts again, with the clock before what the owner has signed."""
    return _with_clock(profile, seed, NOW - 10 * 86_400 - CLOCK_SKEW_S - 1 - seed)


def clock_near(profile: Profile, seed: int) -> Trial:
    """Succeeds when an expired certificate counts again, with the clock after what the owner has signed."""
    return _with_clock(profile, seed, NOW - 8 * 86_400 - seed)


def outside(profile: Profile, seed: int) -> Trial:
    """Succeeds when she knows, without any key, which device opens a transmission."""
    bed, eve = Testbed(profile, seed), Outside()
    bed.run(bed.initiator(bed.device_keys, bed.device), bed.responder(bed.gateway_keys, bed.gateway))
    _connected(bed.device_key, bed.device_key, bed.identity, eve)
    return Trial(eve.identities == [bed.device.certificate.id.hex()], bool(bed.device_key), False)


def _connected(hers: bytes, theirs: bytes, identity: bytes = b"office", eve: Outside | None = None) -> bool:
    """Return whether DTLS comes up between a client and a server with these keys; Eve hears all of it."""
    listener = DtlsListener(lambda name: theirs, lambda size: bytes(size), 0.0)
    client = Dtls.client(lambda hint: Credentials(identity, hers), 0.0)
    server: Dtls | None = None
    for _ in range(8):
        for data in client.frames_to_send(0.0):
            if eve is not None:
                eve.hear(data)
            if server is not None:
                server.receive_frame(data, 0.0)
                continue
            answer = listener.receive_frame(data, b"device", 0.0)
            if isinstance(answer, Dtls):
                server = answer
            else:
                for back in answer:
                    client.receive_frame(back, 0.0)
        for data in server.frames_to_send(0.0) if server else ():
            client.receive_frame(data, 0.0)
    return client.established


_ALIKE: Final = "the rules of trust are the same in both profiles"

ATTACKS: Final[tuple[Attack[Profile], ...]] = (
    Attack("impostor", "answers in the gateway's name, with its certificate and a key of her own",
           "the network's common key, which every device has", "the device has its key with her", impostor, runs=20,
           remedy="The proof: the gateway signs its ephemeral key.",
           meaning="in `paper` nothing proves the gateway's ephemeral key, in any run"),
    Attack("recorded", "reads what she recorded, once she has a device's keys",
           "the common key, the negotiation heard, later the device's X25519 key", "she has the session key", recorded,
           runs=20, remedy="The second ephemeral key, which is the default.",
           meaning="in `paper`, and in `hardened` without a second ephemeral key, in every run"),
    Attack("stolen-device", "makes a gateway of a stolen device's keys", "the keys of any device of the owner's",
           "another device takes her for its gateway", stolen_device, runs=20,
           remedy="A role in each certificate, which who signs it signs.", meaning="the paper has no role"),
    Attack("revoked", "goes on with a device that was revoked", "a device's keys, and a connection that is up",
           "the gateway trusts it after the list has come", revoked, runs=20,
           remedy="Lists close connections, within 2 s.", meaning=_ALIKE),
    Attack("forged-signer", "shows a certificate of hers as signed by the owner", "the common key",
           "the gateway takes it", forged_signer, runs=20, remedy="None is needed.", meaning=_ALIKE),
    Attack("transitive", "has a device signed by a party that a trusted party signed", "such a party's keys",
           "the gateway takes it", transitive, runs=20, remedy="None is needed: it is not transitive.", meaning=_ALIKE),
    Attack("rogue-gateway", "sends a gateway's advertisement again, with her own address", "a sender in reach",
           "the device shows her its certificate", rogue_gateway, runs=20,
           remedy="The advertisement is a hint. With the common key she is the impostor.", meaning=_ALIKE),
    Attack("expired", "goes on with a certificate that expires while it is connected", "nothing",
           "it is trusted a second later", expired, runs=20, remedy="Each judgement says until when.", meaning=_ALIKE),
    Attack("clock-far", "sets the gateway's clock back to before what the owner has signed", "its source of time",
           "an expired certificate counts again", clock_far, runs=20,
           remedy="What the owner signs has a time: before it nobody is trusted.", meaning=_ALIKE),
    Attack("clock-near", "sets it back by less than that", "its source of time", "an expired certificate counts again",
           clock_near, runs=20, remedy="None here: sign lists often, and take time from who can prove it.",
           meaning=_ALIKE),
    Attack("outside", "listens, without any key", "a receiver", "she knows which device opens a transmission", outside,
           runs=20, remedy="The PSK identity is of the session.",
           meaning="sizes and times, and the gateway's id in its advertisement, she sees in both"),
)  # fmt: skip
