"""What gateways bring is kept once, in order, whoever is cut when: in SQLite and in PostgreSQL."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bt_selfsecure.errors import UsageError
from bt_selfsecure.iot.cloud import queries
from bt_selfsecure.iot.cloud.api_operations import AlertsQuery, ConnectionsQuery, ReadingsQuery
from bt_selfsecure.iot.cloud.copies import batches
from bt_selfsecure.iot.cloud.schema import MIGRATIONS, migrate
from bt_selfsecure.iot.cloud.sql import CloudDatabase, SqlError
from bt_selfsecure.iot.cloud.store import DAY_MS, MOST_MS, Arrival, CloudStore
from bt_selfsecure.protocols.iotcrypto.certificate import Role, SecretKeys, SignedCertificate
from bt_selfsecure.protocols.iotcrypto.records import (
    AlertRecord,
    JoinedRecord,
    KeptRecord,
    LeftRecord,
    ReadingRecord,
    StartedRecord,
    encode_record,
)
from bt_selfsecure.protocols.iotcrypto.transmission_messages import RecordBatch

Open = Callable[[], CloudDatabase]
NOW_MS = 1_800_000_000_000
EPOCH = b"epoch 01"
DEVICE, OTHER = bytes(range(16)), bytes(range(1, 17))


def certified(role: Role, name: str, seed: int = 1) -> SignedCertificate:
    keys = SecretKeys.generate(random.Random(seed).randbytes)
    return SignedCertificate(keys.certificate(role, name, 1_700_000_000, 1_900_000_000))


GATEWAY, SECOND = certified(Role.GATEWAY, "cellar"), certified(Role.GATEWAY, "roof", 2)


def reading(count: int, device: bytes = DEVICE) -> ReadingRecord:
    return ReadingRecord(device, NOW_MS + count, {"count": count})


def arrival(first: int, *records: KeptRecord, gateway: SignedCertificate = GATEWAY, epoch: bytes = EPOCH) -> Arrival:
    return Arrival(gateway, RecordBatch(epoch, first, tuple(map(encode_record, records))))


def counts_of(base: CloudDatabase, device: bytes = DEVICE) -> list[int]:
    found = queries.readings(base, None, device.hex(), ReadingsQuery(limit=500))
    return [int(str(each["readings"]["count"])) for each in reversed(found["readings"])]


def take(store: CloudStore, *arrivals: Arrival) -> Sequence[bool]:
    return store.take(arrivals, NOW_MS)


def test_a_batch_that_comes_again_is_acknowledged_and_not_kept_twice(open_again: Open) -> None:
    base = open_again()
    store = CloudStore(base)
    batch = arrival(1, reading(1), reading(2))
    assert take(store, batch, batch) == [True, True]
    assert take(store, batch) == [True]
    assert take(store, arrival(2, reading(2), reading(3))) == [True]
    assert counts_of(base) == [1, 2, 3]


def test_a_batch_after_a_gap_is_neither_kept_nor_acknowledged(open_again: Open) -> None:
    base = open_again()
    store = CloudStore(base)
    assert take(store, arrival(1, reading(1)), arrival(3, reading(3))) == [True, False]
    assert take(store, arrival(2, reading(2)), arrival(3, reading(3))) == [True, True]
    assert counts_of(base) == [1, 2, 3]


def test_a_cloud_that_is_cut_and_started_again_goes_on_where_its_disk_is(open_again: Open) -> None:
    take(CloudStore(open_again()), arrival(1, reading(1)))
    base = open_again()
    store = CloudStore(base)
    assert take(store, arrival(1, reading(1)), arrival(2, reading(2))) == [True, True]
    assert counts_of(base) == [1, 2]
    numbers = [record["number"] for _, records in batches(base, 0, follow=False) for record in records]
    assert numbers == sorted(set(numbers))


def test_what_fails_before_the_commit_leaves_nothing_and_comes_again(
    open_again: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = open_again()
    store = CloudStore(base)
    take(store, arrival(1, reading(1)))
    put = base.put

    def fail(table: str, *given: object) -> None:
        if table == "new_stream":
            raise SqlError("the disk is full")
        put(table, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(base, "put", fail)
    with pytest.raises(SqlError):
        take(store, arrival(2, reading(2)))
    monkeypatch.undo()
    assert counts_of(base) == [1]
    assert take(store, arrival(2, reading(2))) == [True]
    assert counts_of(base) == [1, 2]


def test_stores_and_gateways_count_for_themselves(open_again: Open) -> None:
    base = open_again()
    store = CloudStore(base)
    take(store, arrival(1, reading(1)), arrival(1, reading(2), epoch=b"epoch 02"))
    take(store, arrival(1, reading(3), gateway=SECOND))
    assert counts_of(base) == [1, 2, 3]


def test_an_alert_that_came_by_two_gateways_is_one(open_again: Open) -> None:
    base = open_again()
    store = CloudStore(base)
    alert = AlertRecord(DEVICE, NOW_MS, (1 << 64) - 1, "hot\ttab \\ \N{SNOWMAN}".replace("\t", " "), None)
    take(store, arrival(1, alert), arrival(1, alert, gateway=SECOND))
    (found,) = queries.alerts(base, None, AlertsQuery())["alerts"]
    assert (found["text"], found["value"], found["seen_ms"]) == (alert.text, None, None)
    queries.see(base, found["number"], "anna", NOW_MS + 5)
    queries.see(base, found["number"], "otto", NOW_MS + 9)
    (found,) = queries.alerts(base, None, AlertsQuery())["alerts"]
    assert (found["seen_by"], found["seen_ms"]) == ("anna", NOW_MS + 5)
    assert queries.alerts(base, None, AlertsQuery(unseen=True))["alerts"] == []


def test_what_is_no_record_is_counted_and_holds_nothing_up(open_again: Open) -> None:
    base = open_again()
    store = CloudStore(base)
    bad = Arrival(GATEWAY, RecordBatch(EPOCH, 1, (b"\xff\xff", encode_record(reading(2)))))
    assert take(store, bad) == [True]
    assert counts_of(base) == [2]
    assert store.counts["damaged"] == 1


def test_times_of_wrong_clocks_and_values_of_every_kind_are_kept(open_again: Open) -> None:
    base = open_again()
    values = {"text": "tab \\t \\ 'x' \N{SNOWMAN}", "null": None, "yes": True, "big": (1 << 64) - 1, "real": -1.5e300}
    take(CloudStore(base), arrival(1, ReadingRecord(DEVICE, (1 << 64) - 1, values), ReadingRecord(DEVICE, 0, {})))
    found = queries.readings(base, None, DEVICE.hex(), ReadingsQuery())["readings"]
    assert [each["time_ms"] for each in found] == [0, MOST_MS]
    assert found[1]["readings"] == values


def test_the_structure_is_known_now_and_at_any_time_before(open_again: Open) -> None:
    base = open_again()
    store = CloudStore(base)
    device = certified(Role.DEVICE, "boiler", 3)
    one, id_ = device.certificate, device.certificate.id
    store.gateway_came(GATEWAY, 1000)
    take(store, arrival(1, StartedRecord(GATEWAY.certificate.id, 1000), JoinedRecord(id_, 2000, device)))
    take(store, arrival(3, LeftRecord(id_, 3000, "gone"), JoinedRecord(id_, 4000, device)))
    take(store, arrival(5, StartedRecord(GATEWAY.certificate.id, 5000)))
    at = {
        time: {each["name"] for each in queries.connections(base, None, ConnectionsQuery(at_ms=time))["connections"]}
        for time in (500, 1500, 2500, 3500, 4500, 5500)
    }
    both, alone = {one.name, "cellar"}, {"cellar"}
    assert at == {500: set(), 1500: alone, 2500: both, 3500: alone, 4500: both, 5500: alone}
    store.started(6000)
    assert queries.counts(base, None) == (0, 0, 0)
    told = queries.connections(base, None, ConnectionsQuery(member=id_.hex()))["connections"]
    assert [each["reason"] for each in told] == ["the gateway was started", "gone"]


def test_old_days_go_whole_and_what_is_young_stays(open_again: Open) -> None:
    base = open_again()
    store = CloudStore(base)
    for day in range(4):
        store.take([arrival(day + 1, reading(day))], NOW_MS + day * DAY_MS)
    assert counts_of(base) == [0, 1, 2, 3]
    assert store.prune(NOW_MS + 3 * DAY_MS, 1, 1, 1) == 2
    assert counts_of(base) == [2, 3]
    assert CloudStore(base).prune(NOW_MS + 30 * DAY_MS, 1, 1, 1) == 2
    assert counts_of(base) == []
    store = CloudStore(base)
    store.take([arrival(5, reading(9))], NOW_MS + 30 * DAY_MS)
    ((last, _),) = batches(base, 0, follow=False)
    assert last > 4  # no number comes again, so that an export goes on


def test_readings_are_paged_over_days(open_again: Open) -> None:
    base = open_again()
    store = CloudStore(base)
    for number in range(10):
        store.take([arrival(2 * number + 1, reading(number), reading(100, OTHER))], NOW_MS + number * DAY_MS // 3)
        store.take([arrival(number + 1, reading(number, OTHER), gateway=SECOND)], NOW_MS + number * DAY_MS // 3)
    seen, before = [], 2**53 - 1
    while before:
        page = queries.readings(base, None, DEVICE.hex(), ReadingsQuery(before=before, limit=3))
        seen += [each["readings"]["count"] for each in page["readings"]]
        before = page["next"]
    assert seen == list(range(9, -1, -1))
    pieces = [records for _, records in batches(base, 0, follow=False)]
    assert len([record for piece in pieces for record in piece]) == len(
        {record["number"] for piece in pieces for record in piece}
    )


def test_one_server_takes_from_gateways_and_no_other(open_again: Open) -> None:
    first, second = open_again(), open_again()
    assert first.claim()
    assert not second.claim()
    first.close()
    assert open_again().claim()


def test_a_database_is_brought_to_the_newest_version_and_one_of_a_later_program_refused(open_again: Open) -> None:
    base = open_again()
    take(CloudStore(base), arrival(1, reading(1)))
    later = (*MIGRATIONS, "ALTER TABLE member ADD COLUMN place TEXT")
    assert migrate(base, later) == len(MIGRATIONS)
    assert migrate(base, later) == len(later)
    assert base.execute("SELECT place FROM member") == [(None,)] * 2
    assert counts_of(base) == [1]
    with pytest.raises(UsageError, match="upgrade the program"):
        migrate(base)


def test_a_migration_that_fails_leaves_the_version_before(open_again: Open) -> None:
    base = open_again()
    with pytest.raises(SqlError):
        migrate(base, (*MIGRATIONS, "ALTER TABLE member ADD COLUMN place TEXT; SELECT nonsense FROM nowhere"))
    assert migrate(base) == len(MIGRATIONS)
    assert "place" not in str(base.execute("SELECT * FROM member LIMIT 0"))
    migrate(base, (*MIGRATIONS, "ALTER TABLE member ADD COLUMN place TEXT"))


def test_a_file_that_is_no_database_is_told_in_a_line(tmp_path: Path) -> None:
    from bt_selfsecure.iot.cloud.sql import connect

    (tmp_path / "cloud.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(UsageError, match=r"put a backup in its place"):
        connect("", tmp_path)
