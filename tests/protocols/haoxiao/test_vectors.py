"""The vectors in the folder beside this: the code gives exactly these bytes, and so does another, shorter program.

Everything below the first test is written from docs/protocols/haoxiao.md with hashlib, hmac and the cryptography
package alone, as somebody else would: it reads nothing but the JSON.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import runpy
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

VECTORS = Path(__file__).parent / "vectors"
FILES = [f"{what}-{profile}.json" for what in ("establishment", "session") for profile in ("paper", "hardened")]


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


def test_the_code_gives_exactly_the_bytes_of_the_vectors() -> None:
    """Where this fails, other implementations no longer work with ours: that needs another version nibble."""
    made = runpy.run_path(str(VECTORS / "make.py"))["everything"]()
    assert sorted(made) == sorted(["exported.json", "frames.json", "group.json", "relay.json", *FILES])
    for name, content in made.items():
        assert json.loads(json.dumps(content)) == load(name), name


# --- the other implementation -----------------------------------------------------------------------------------------


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def hs(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


def hkdf_expand(prk: bytes, info: bytes, length: int = 32) -> bytes:
    blocks, block = b"", b""
    while len(blocks) < length:
        block = hs(prk, block + info + bytes([len(blocks) // 32 + 1]))
        blocks += block
    return blocks[:length]


def xor(*operands: bytes) -> bytes:
    width = max(map(len, operands))
    return bytes(reduce(int.__xor__, column) for column in zip(*(o.ljust(width, b"\0") for o in operands), strict=True))


def mgf1(seed: bytes, length: int) -> bytes:
    return b"".join(sha256(seed + i.to_bytes(4)) for i in range(length // 32 + 1))[:length]


def oaep(message: bytes, seed: bytes) -> bytes:
    block = sha256(b"") + b"\x01" + message
    masked = xor(block, mgf1(seed, len(block)))
    return xor(seed, mgf1(masked, 32)) + masked


def received_set(data: bytes) -> list[int]:
    form, body = data[0], data[1:]
    if form == 1:
        return [8 * i + bit for i, octet in enumerate(body) for bit in range(8) if octet >> bit & 1]
    seqs, value, shift = [0], 0, 0
    for octet in body:
        value |= (octet & 127) << shift
        shift += 7
        if octet < 128:
            seqs.append(seqs[-1] + (value >> 1))
            value = shift = 0
    return seqs[1:]


class Establishment:
    """One of the vectors, read frame by frame."""

    def __init__(self, vector: dict[str, Any], *, hardened: bool) -> None:
        self.vector, self.hardened = vector, hardened
        self.random = {end: [bytes.fromhex(data) for data in drawn] for end, drawn in vector["random"].items()}
        self.wire = {frame["kind"]: bytes.fromhex(frame["wire"]) for frame in vector["frames"]}
        self.burst = [bytes.fromhex(f["wire"]) for f in vector["frames"] if f["kind"] == "RAND"]

    def of(self, name: str) -> bytes:
        return bytes.fromhex(self.vector[name])

    def share(self, end: str) -> X25519PrivateKey | None:
        """The first thing that is drawn, where shares are exchanged."""
        return X25519PrivateKey.from_private_bytes(self.random[end][0]) if "X25519" in self.vector["name"] else None

    def offer(self, end: str) -> bytes:
        """Message of request or accept."""
        offer = bytes.fromhex(self.vector["identity"][end])
        if not self.hardened:
            return offer
        share = self.share(end)
        names = self.continuity_names(end)
        flags = 2 * bool(share) + 4 * bool(self.vector["authentication_key"]) + (0, 8, 24)[len(names)]
        offer += bytes([flags])
        if end == "initiator":
            offer += self.vector["burst"].to_bytes(2) + self.vector["t_1_ms"].to_bytes(4) + sha256(self.of("rand_data"))
            offer += sha256(b"btss burst list" + self.list())
        return offer + (share.public_key().public_bytes_raw() if share else b"") + b"".join(names)

    def messages(self) -> list[bytes]:
        """What the initiator drew for its burst packets."""
        drawn = self.random["initiator"]
        return drawn[-10:-2] if self.hardened else drawn[-8:]

    def list(self) -> bytes:
        """The only piece of the list."""
        return b"".join(sha256(message)[:4] for message in self.messages())

    def continuity(self) -> bytes:
        """The key that both ends have, or nothing."""
        initiator, responder = (self.vector["continuity_keys"][end] for end in ("initiator", "responder"))
        return next((bytes.fromhex(key) for key in initiator if key in responder), b"")

    def continuity_names(self, end: str) -> Sequence[bytes]:
        """All that the initiator has; of the responder the one that both have."""
        common = [self.continuity().hex()] if self.continuity() else []
        keys = self.vector["continuity_keys"]["initiator"] if end == "initiator" else common
        return [hkdf_expand(bytes.fromhex(key), b"btss continuity name", 8) for key in keys]

    def padded(self, kind: int, rand: bytes, message: bytes, seed: bytes) -> bytes:
        """A request or accept as it goes out, [2] and [3]."""
        head = bytes([(3 if self.hardened else 1) << 4 | kind]) + len(message).to_bytes(2) + b"\0\0"
        body = head + rand + message if self.hardened else head + oaep(head + rand + message, seed)
        return body + sha256(body)[: 16 if self.hardened else 32]


def establishments() -> list[Any]:
    return [
        pytest.param(Establishment(vector, hardened=profile == "hardened"), id=f"{profile}-{vector['name']}")
        for profile in ("paper", "hardened")
        for vector in load(f"establishment-{profile}.json")["establishments"]
    ]


each_establishment = pytest.mark.parametrize("e", establishments())


@each_establishment
def test_request_and_accept_follow_from_the_random_bytes(e: Establishment) -> None:
    skipped = 1 if e.share("initiator") else 0
    rand_data = e.random["initiator"][skipped]
    request_rand, seed = e.random["initiator"][-2:] if e.hardened else e.random["initiator"][1:3]
    assert rand_data == e.of("rand_data")
    assert e.wire["REQUEST"] == e.padded(0, request_rand, e.offer("initiator"), seed)
    accept_rand, seed, nonce = e.random["responder"][skipped : skipped + 3]
    assert nonce == e.of("responder_nonce")
    assert e.wire["ACCEPT"] == e.padded(1, accept_rand, request_rand[:8] + e.offer("responder"), seed)
    assert e.of("pair") == sha256(b"btss pair" + request_rand + accept_rand)[:8]


@each_establishment
def test_burst_packets_carry_the_next_random_bytes(e: Establishment) -> None:
    request_rand = e.random["initiator"][-2 if e.hardened else -10]
    for seq, (wire, message) in enumerate(zip(e.burst, e.messages(), strict=True)):
        body = bytes([0x32 if e.hardened else 0x12, 0, 32]) + seq.to_bytes(2) + request_rand[:8] + message
        assert wire == body + sha256(body)[:16]
        assert len(wire) == 61
    if e.hardened:
        body = bytes([0x37, 0, 32, 0, 0]) + request_rand[:8] + e.list()
        assert e.wire["RAND_LIST"] == body + sha256(body)[:16]


@each_establishment
def test_k_0_and_k_d_follow_from_the_packets_that_were_received(e: Establishment) -> None:
    lost = {f["wire"] for f in e.vector["frames"] if f["lost"]}
    kept = {seq: wire[13:45] for seq, wire in enumerate(e.burst) if wire.hex() not in lost}
    assert received_set(e.of("cpr_s")) == sorted(kept) == e.vector["received"]
    digest = sha256(b"".join(sha256(kept[seq]) for seq in sorted(kept)))
    if not e.hardened:
        k0 = digest
        kd = hs(k0, b"\0" + b"\0\0\0\1")  # PBKDF2, salt "0", one iteration, first block
    else:
        parts = (e.wire["REQUEST"], e.wire["ACCEPT"], e.of("cpr_s"))
        transcript = sha256(b"".join(len(part).to_bytes(4) + part for part in parts))
        alice, bob = e.share("initiator"), e.share("responder")
        secret = bob.exchange(X25519PublicKey.from_public_bytes(e.wire["REQUEST"][-48:-16])) if bob else b""
        assert not alice or secret == alice.exchange(X25519PublicKey.from_public_bytes(e.wire["ACCEPT"][-48:-16]))
        authentication = sha256(b"btss authentication" + e.of("authentication_key"))
        extra = secret + authentication + sha256(b"btss continuity" + e.continuity())
        k0 = hkdf_expand(hs(transcript, digest + extra), b"btss initial key")
        kd = hkdf_expand(k0, b"btss derived key")
    assert (k0, kd) == (e.of("k0"), e.of("kd"))
    assert e.of("continuity_key") == (hkdf_expand(k0, b"btss continuity") if e.hardened else b"")
    assert e.of("export_root") == hkdf_expand(k0, b"btss export")


@each_establishment
def test_response_acknowledge_and_end_are_proved_by_k_d(e: Establishment) -> None:
    pair, kd, cpr_s, rand_data = (e.of(name) for name in ("pair", "kd", "cpr_s", "rand_data"))
    version, nonce = (0x30 if e.hardened else 0x10), e.of("responder_nonce")
    commitment = sha256(b"btss nonce" + nonce)[:16]
    response = bytes([version | 4, 0, 8 + len(cpr_s), 0, 0]) + commitment + pair + cpr_s
    acknowledge = bytes([version | 5, 0, 8, 0, 0]) + rand_data + pair
    end = bytes([version | 6, 0, 24, 0, 0]) + pair + nonce
    if e.hardened:
        macs = [hs(kd, body)[:16] for body in (response, acknowledge, end)]
    else:
        macs = [hmac.new(kd, cpr_s, hashlib.md5).digest(), hs(kd, rand_data), hs(kd, pair + nonce)]  # [9], [10]
    assert [e.wire[kind] for kind in ("RESPONSE", "ACKNOWLEDGE", "END")] == [
        body + mac for body, mac in zip((response, acknowledge, end), macs, strict=True)
    ]


@each_establishment
def test_fingerprint_and_short_authentication_string_follow_from_k_0(e: Establishment) -> None:
    name = sha256(b"btss fingerprint" + e.of("k0")).hex()
    assert e.vector["fingerprint"] == "-".join((name[:4], name[4:8], name[8:12]))
    info = b"btss sas" + e.of("responder_nonce") + e.of("rand_data")
    value = hkdf_expand(e.of("k0"), info, 16)
    words = load("establishment-hardened.json")["word_list"]
    chosen = int.from_bytes(value[8:11])
    assert e.vector["sas"] == {
        "digits": f"{int.from_bytes(value[:8]) % 10**6:06d}",
        "words": [words[chosen >> shift & 63] for shift in (18, 12, 6, 0)],
    }


# --- the session ------------------------------------------------------------------------------------------------------


def data_of_paper(round_: dict[str, Any], attempt: dict[str, Any]) -> tuple[bytes, bytes]:
    """Data frame and ACK of one attempt by [2] and [11] to [13]."""
    key, message, rand = (bytes.fromhex(x) for x in (round_["key"], round_["message"], attempt["rand"]))
    k_h, k_e, k_a = sha256(key + b"H"), sha256(key + b"E"), sha256(key + b"A")
    fields = bytes([1, attempt["retran"]]) + len(message).to_bytes(2)
    p_p = fields + round_["seq"].to_bytes(8) + round_["alpha"].to_bytes(2) + rand + message
    p_m = oaep(p_p, bytes.fromhex(attempt["oaep_seed"]))
    mac = hs(k_h, p_m)
    p_c = Cipher(algorithms.AES(k_e), modes.CTR(mac[:16])).encryptor().update(p_m)
    head = b"\x18" + (attempt["retran"] << 12 | len(p_c)).to_bytes(2) + bytes([round_["seq"] % 256])
    half = len(p_m) // 2
    return head + p_c + mac, hs(k_a, p_m[half:] + p_m[:half])


def data_of_hardened(round_: dict[str, Any], attempt: dict[str, Any]) -> tuple[bytes, bytes]:
    key, message, rand = (bytes.fromhex(x) for x in (round_["key"], round_["message"], attempt["rand"]))
    keys = hkdf_expand(key, b"btss round", 96)
    associated = round_["seq"].to_bytes(8) + bytes([attempt["retran"]])
    sealed = AESSIV(keys[:64]).encrypt(rand + message, [associated])
    siv, ciphertext = sealed[:16], sealed[16:]
    head = b"\x38" + (attempt["retran"] << 12 | len(ciphertext)).to_bytes(2) + bytes([round_["seq"] % 256])
    return head + ciphertext + siv, hs(keys[64:], siv)[:16]


def next_key(round_: dict[str, Any], attempt: dict[str, Any], *, hardened: bool) -> bytes:
    key, message, rand = (bytes.fromhex(x) for x in (round_["key"], round_["message"], attempt["rand"]))
    seq = round_["seq"].to_bytes(8)
    if hardened:
        fresh = rand + sha256(message) + seq + bytes([attempt["retran"]])
        return hkdf_expand(key, b"btss next key" + fresh)
    return sha256(xor(key, message, rand) if attempt["retran"] == 0 else xor(key, message, rand, seq))


@pytest.mark.parametrize("profile", ["paper", "hardened"])
def test_each_round_follows_from_the_one_before(profile: str) -> None:
    vector, hardened = load(f"session-{profile}.json"), profile == "hardened"
    k0 = bytes.fromhex(vector["k0"])
    assert k0.hex() == load(f"establishment-{profile}.json")["establishments"][0]["k0"]
    labels = {"initiator": b"initiator to responder", "responder": b"responder to initiator"}
    keys = {
        role: hkdf_expand(k0, b"btss chain " + label) if hardened else sha256(k0 + label)
        for role, label in labels.items()
    }
    assert {role: key.hex() for role, key in keys.items()} == vector["chains"]
    for number, round_ in enumerate(vector["rounds"]):
        assert round_["seq"] == number // 2
        assert round_["key"] == keys[round_["sender"]].hex()
        accepted = round_["attempts"][round_["accepted_attempt"]]
        for attempt in round_["attempts"]:
            wire, ack = (data_of_hardened if hardened else data_of_paper)(round_, attempt)
            assert attempt["wire"] == wire.hex()
            if attempt is accepted:
                message = ack if hardened else ack + round_["next_alpha"].to_bytes(2)
                head = bytes([0x39 if hardened else 0x19, attempt["retran"] << 4, len(message), round_["seq"] + 1])
                assert {*round_["acknowledgements"]} == {(head + message).hex()}
        keys[round_["sender"]] = next_key(round_, accepted, hardened=hardened)
        assert round_["next_key"] == keys[round_["sender"]].hex()
        assert round_["next_alpha"] == (round_["alpha"] + 1) % vector["checkpoint_rounds"]


@pytest.mark.parametrize("profile", ["paper", "hardened"])
def test_resynchronisation_follows_from_the_keys_that_each_end_names(profile: str) -> None:
    """The sender of one direction and the receiver of the other are the restarted responder."""
    vector, hardened = load(f"session-{profile}.json")["resynchronisation"], profile == "hardened"
    version, peer = (0x30 if hardened else 0x10), {"initiator": "responder", "responder": "initiator"}

    def mac(key: bytes, label: bytes, data: bytes) -> bytes:
        return hs(hkdf_expand(key, b"btss mac " + label) if hardened else sha256(key + label), data)[:16]

    def name(key: bytes) -> bytes:
        return mac(key, b"checkpoint id", b"")[:8]

    def named(kind: int, seq: int, rand: bytes, fields: bytes, keys: list[bytes], label: bytes) -> bytes:
        message = fields + b"".join(map(name, keys))
        message += b"".join(mac(key, label, rand + message[: len(fields) + 8 * len(keys)]) for key in keys)
        return bytes([version | kind]) + len(message).to_bytes(2) + bytes([seq]) + rand + message

    wires = [(frame["from"], bytes.fromhex(frame["wire"])) for frame in vector["frames"]]
    kinds = {sender: [wire[0] & 15 for role, wire in wires if role == sender] for sender in peer}
    for sender, direction in vector["directions"].items():
        hers, his = ([bytes.fromhex(key) for key in direction[f"{end}_keys"]] for end in ("sender", "receiver"))
        from_sender = [wire for role, wire in wires if role == sender]
        from_receiver = [wire for role, wire in wires if role == peer[sender]]
        calls = [wire for wire in from_receiver if wire[0] & 15 == 10]
        requests = [wire for wire in from_sender if wire[0] & 15 == 11]
        (response,) = [wire for wire in from_receiver if wire[0] & 15 == 12]
        for call in calls:
            label = b"resync challenge" if call[3] else b"resync call"
            assert call == named(10, call[3], call[4:20], b"", his, label)
        for request in requests:
            assert request[20:28] == direction["unacknowledged"].to_bytes(2) + direction["oldest"].to_bytes(6)
            assert request[28:44] in (bytes(16), *(call[4:20] for call in calls))
            assert request == named(11, 0, request[4:20], request[20:44], hers, b"resync request")
        common = next(key for key in his if key in hers)
        answered = next(wire for wire in requests if wire[4:20] == response[20:36])
        message = answered[4:20] + name(common) + direction["expected"].to_bytes(8)
        body = bytes([version | 12, 0, 32, 0]) + response[4:20] + message
        assert response == body + mac(common, b"resync response", response[4:20] + message)
        seq = max(direction["expected"], direction["oldest"])
        fresh = answered[4:20] + response[4:20] + seq.to_bytes(8)
        key = hkdf_expand(hs(common, fresh), b"btss resync") if hardened else sha256(common + b"resync" + fresh)
        assert (direction["seq"], direction["key"]) == (seq, key.hex())
        assert direction["checkpoints"] == [common.hex(), key.hex()]
    assert {10, 11, 12} == {*kinds["initiator"], *kinds["responder"]}
    assert {wire[3] for _, wire in wires if wire[0] & 15 == 10} == {0, 1}


@pytest.mark.parametrize("profile", ["paper", "hardened"])
def test_the_vectors_have_five_rounds_each_way_and_both_sorts_of_retransmission(profile: str) -> None:
    rounds = load(f"session-{profile}.json")["rounds"]
    assert [round_["sender"] for round_ in rounds] == ["initiator", "responder"] * 5
    sorts = {(len(r["attempts"]), r["accepted_attempt"], len(r["acknowledgements"])) for r in rounds}
    assert sorts == {(1, 0, 1), (2, 1, 1), (2, 0, 2)}


def test_the_relay_s_key_and_frames_are_those_of_the_page() -> None:
    """Read once more by offsets alone: heads of 18 bytes, and the key of the two shares."""
    vectors = load("relay.json")
    shares = {}
    for frame in vectors["frames"]:
        wire = bytes.fromhex(frame["wire"])
        assert (wire[0] >> 4, wire[0] & 15, int.from_bytes(wire[14:18])) == (1, frame["ttl"], frame["link"])
        assert [wire[2:8].hex(), wire[8:14].hex(), wire[18:].hex()] == [
            frame[name] for name in ("source", "destination", "body")
        ]
        assert ("DATAGRAM", "REQUEST", "REPLY", "ERROR", "SHARE")[wire[1]] == frame["kind"]
        if frame["kind"] == "SHARE":
            shares[wire[18]] = wire[23:]
    label = b"btss relay shares"
    assert hkdf_expand(sha256(label + shares[0] + shares[1]), label).hex() == vectors["key"]


# --- a group ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", load("group.json")["epochs"], ids=["secret", "common"])
def test_an_epoch_of_a_group_by_the_specification_alone(epoch: dict[str, Any]) -> None:
    group, tokens, secret = (bytes.fromhex(epoch[name]) for name in ("group", "tokens", "secret"))
    common = sha256(b"btss group common" + tokens)
    key = hkdf_expand(hs(common, secret), b"btss group")
    assert key.hex() == epoch["group_key"]
    key = hkdf_expand(key, b"btss chain group " + group + epoch["epoch"].to_bytes(4))
    assert epoch["closed"] == (b"\x03" + group + epoch["epoch"].to_bytes(4)).hex()
    assert epoch["leave"] == (b"\x05" + group + epoch["epoch"].to_bytes(4)).hex()
    welcome = bytes.fromhex(epoch["welcome"])
    assert welcome[:45] == b"\x01" + group + epoch["epoch"].to_bytes(4) + secret
    assert welcome[53:59] == b"\x05lamps"
    assert bool(welcome[59:]) is any(welcome[45:53]) is bool(tokens)
    for i, one in enumerate(epoch["rounds"]):
        message, rand = bytes.fromhex(one["message"]), bytes.fromhex(one["rand"])
        assert key.hex() == one["key"]
        pieces = []
        for index, fragment in enumerate(map(bytes.fromhex, one["fragments"])):
            assert fragment[:3] == bytes([0x3D, i, index << 4 | len(one["fragments"]) - 1])
            pieces.append(fragment[3:])
        assert xor(*pieces) == bytes(21), "the last is the exclusive or of the others"
        parts = hkdf_expand(key, b"btss round", 96)
        plain = AESSIV(parts[:64]).decrypt(b"".join(pieces[:-1]), [i.to_bytes(8) + b"\0"])
        assert plain.rstrip(b"\0") == rand + message + b"\x80"
        head = group + epoch["epoch"].to_bytes(4) + i.to_bytes(8)
        assert one["repair"] == (b"\x02" + head + rand + bytes([len(message)]) + message).hex()
        assert one["report"] == (b"\x04" + head[:-8] + (i + 1).to_bytes(8) + bytes(5)).hex()
        key = hkdf_expand(key, b"btss next key" + rand + sha256(message) + i.to_bytes(8) + b"\0")
