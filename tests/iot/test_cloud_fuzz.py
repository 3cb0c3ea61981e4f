"""Strange bytes at all that a cloud reads of others: proofs of partners, requests, lists, and what gateways bring.

pytest -m long tests/iot/test_cloud_fuzz.py        a million of each parser, a hundred thousand requests
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from cloud_network import RunningCloud, cloud_at
from fuzzing import mutated
from iot_network import company
from test_cloud_store import GATEWAY, arrival, counts_of, reading

from bt_selfsecure.errors import UsageError
from bt_selfsecure.iot.cloud import api
from bt_selfsecure.iot.cloud.api_operations import OPERATIONS
from bt_selfsecure.iot.cloud.schema import migrate
from bt_selfsecure.iot.cloud.sql import connect
from bt_selfsecure.iot.cloud.store import Arrival, CloudStore
from bt_selfsecure.iot.cloud.tokens import NoTokenError, ProofReader, make_proof
from bt_selfsecure.node.query import read_query
from bt_selfsecure.protocols.iotcrypto.certificate import Certificate, Role, SecretKeys
from bt_selfsecure.protocols.iotcrypto.lists import ListKind
from bt_selfsecure.protocols.iotcrypto.records import AlertRecord, JoinedRecord, LeftRecord, StartedRecord
from bt_selfsecure.protocols.iotcrypto.transmission_messages import RecordBatch

NOW_S = 1_800_000_000
URL, TOKEN = "https://cloud.example:8443/v1/devices", "btss_" + "x" * 43
KEYS = SecretKeys.generate(random.Random(1).randbytes)
PARTNER = KEYS.certificate(Role.PARTY, "Partner", 1_700_000_000, 1_900_000_000)
ODD: list[Callable[[random.Random], Any]] = [
    lambda rng: rng.choice([None, True, False, [], {}, "", "\ud800", "GET", float("nan"), float("inf"), -1.5e300]),
    lambda rng: rng.choice([1, -1]) * 10 ** rng.randrange(600),
    lambda rng: NOW_S + rng.randrange(-120, 120),
    lambda rng: "".join(chr(rng.randrange(0x1_0000)) for _ in range(rng.randrange(80))),
    lambda rng: [[{}]] * rng.randrange(9),
]


def checked(proofs: ProofReader, proof: str, partner: Certificate = PARTNER) -> bool:
    """Whether it is taken."""
    try:
        proofs.check(proof, partner, "GET", URL, TOKEN, NOW_S)
    except NoTokenError:
        return False
    return True


def fuzz_proofs(seed: int, count: int) -> None:
    """A proof that was changed is not the partner's; the one that was not is taken once."""
    rng, proofs = random.Random(seed), ProofReader()
    proof = make_proof(KEYS, "GET", URL, TOKEN, NOW_S)
    assert checked(proofs, proof)
    for _ in range(count):
        assert not checked(proofs, mutated(proof.encode(), rng, longest=99).decode("utf-8", "surrogateescape"))


def fuzz_own_proofs(seed: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a partner that signs what it likes get by with another time, another request, or the same once more."""
    rng, proofs = random.Random(seed), ProofReader()
    dumps, taken = json.dumps, 0
    for _ in range(count):
        changed = {rng.choice(["jti", "htm", "htu", "iat", "ath", "typ", "alg"]): rng.choice(ODD)(rng)}
        monkeypatch.setattr(json, "dumps", lambda part, changed=changed: dumps(part | changed))
        proof = make_proof(KEYS, "GET", URL, TOKEN, NOW_S)
        monkeypatch.undo()
        if checked(proofs, proof):
            taken += 1
            assert abs(NOW_S - changed.get("iat", NOW_S)) <= 60
            assert not checked(proofs, proof)
    assert taken


def fuzz_queries(seed: int, count: int) -> None:
    rng = random.Random(seed)
    kinds = [each.operation.query for each in OPERATIONS.values()]
    names = sorted({name for kind in kinds for name in kind.__annotations__} | {"nothing"})
    values = ["1", "7e5", "true", "viewer", "00" * 16, "lamp", "9" * 20, "-1", "\u0661", "\ud800", ""]
    taken = 0
    for _ in range(count):
        value = rng.choice(values)
        texts = [value, mutated(value.encode("utf-8", "surrogatepass"), rng).decode("latin-1")]
        given = {rng.choice(names): rng.choice(texts) for _ in range(rng.randrange(3))}
        try:
            read_query(given, rng.choice(kinds))
        except UsageError:
            continue
        taken += 1
    assert taken


def fuzz_records(folder: Path, seed: int, count: int) -> None:
    """What a gateway brings is read or counted as damaged; the rest is kept, in order."""
    rng, base = random.Random(seed), connect("", folder, new=True)
    migrate(base)
    store, device = CloudStore(base), reading(0).device
    samples = arrival(
        1,
        reading(1, bytes(16)),
        AlertRecord(bytes(16), 1, 7, "hot", 1.5),
        JoinedRecord(GATEWAY.certificate.id, 2, GATEWAY),
        LeftRecord(bytes(16), 3, "gone"),
        StartedRecord(bytes(16), 4),
    ).batch.records
    good, first = 0, 1
    while first <= count:
        records = [mutated(rng.choice(samples), rng, longest=99) for _ in range(20)]
        good += 1
        records.append(arrival(1, reading(good)).batch.records[0])
        batches = RecordBatch(b"epoch 01", first, tuple(records[:9])), RecordBatch(b"epoch 01", first, tuple(records))
        assert store.take([Arrival(GATEWAY, each) for each in batches], 1_800_000_000_000) == [True, True]
        first += len(records)
    assert store.counts["damaged"] > count / 4
    assert counts_of(base, device) == list(range(max(1, good - 499), good + 1))
    base.close()


async def fuzz_requests(running: RunningCloud, lists: list[bytes], seed: int, count: int) -> None:
    """HTTP as it comes over the wire, with what an owner may, one connection after the other."""
    rng = random.Random(seed)
    token, address = running.rest().token, running.url.removeprefix("http://").split(":")
    operations = [each.operation for each in OPERATIONS.values()]
    paths = [(each.method, each.path) for each in operations if "tokens" not in each.path]
    seen: dict[int, int] = {}
    for _ in range(count):
        method, path = rng.choice(paths)
        path = path.replace("{device}", rng.choice(["00" * 16, "zz", "%00", "%ff"])).replace("{number}", "7")
        if rng.random() < 0.5:
            path += "?" + quote_from_bytes(mutated(b"limit=5&name=lamp&argument=true", rng), "=&%")
        path = mutated(path.encode(), rng).decode("latin-1") if rng.random() < 0.2 else path
        body = mutated(rng.choice(lists), rng, longest=99) if method == "POST" and rng.random() < 0.7 else b""
        said = f"Bearer {token}".encode()
        said = mutated(said, rng) if rng.random() < 0.2 else said
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
        sent = head.encode("latin-1") + b"Authorization: " + said + b"\r\nDPoP: " + rng.randbytes(9).hex().encode()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(sent + b"\r\n\r\n" + body)
        async with asyncio.timeout(30):
            answer = await reader.read()
        writer.close()
        if answer:
            status = int(answer.split(b" ", 2)[1])
            seen[status] = seen.get(status, 0) + 1
            assert status < 500, (sent, body, answer)
    assert {200, 400, 401, 404} <= {*seen}, seen


def fuzz_rest(path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, count: int) -> None:
    monkeypatch.setattr(api, "STRANGERS_PER_MINUTE", 1_000_000)

    async def main() -> None:
        owner = company(path)
        lists = [owner.sign_list(kind, ()).encode() for kind in ListKind]
        async with cloud_at(path, owner, requests_per_minute=1_000_000) as running:
            await fuzz_requests(running, lists, seed, count)

    asyncio.run(main())


def test_a_proof_that_was_changed_is_refused() -> None:
    fuzz_proofs(1, 1_000)


def test_a_partner_that_signs_strange_proofs_gets_nothing_by_them(monkeypatch: pytest.MonkeyPatch) -> None:
    fuzz_own_proofs(1, 500, monkeypatch)


def test_parameters_are_read_or_refused_in_a_line() -> None:
    fuzz_queries(1, 5_000)


def test_damaged_records_hold_up_and_lose_no_good_one(tmp_path: Path) -> None:
    fuzz_records(tmp_path, 1, 3_000)


def test_no_request_makes_the_cloud_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fuzz_rest(tmp_path, monkeypatch, 1, 300)


MILLION = 1_000_000
PARTS = 10


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_million_of_each(part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fuzz_proofs(100 + part, MILLION // PARTS)
    fuzz_own_proofs(100 + part, MILLION // PARTS // 10, monkeypatch)
    fuzz_queries(100 + part, MILLION // PARTS)
    fuzz_records(tmp_path, 100 + part, MILLION // PARTS)
    fuzz_rest(tmp_path, monkeypatch, 100 + part, MILLION // PARTS // 10)
