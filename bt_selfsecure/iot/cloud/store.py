"""What the cloud keeps of what gateways bring: each record once, in one transaction with the number that it had."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from bt_selfsecure.iot.cloud.sql import CloudDatabase, Row
from bt_selfsecure.protocols.iotcrypto.canonical import MalformedError
from bt_selfsecure.protocols.iotcrypto.certificate import Role, SignedCertificate
from bt_selfsecure.protocols.iotcrypto.records import (
    AlertRecord,
    JoinedRecord,
    KeptRecord,
    LeftRecord,
    ReadingRecord,
    StartedRecord,
    decode_record,
)
from bt_selfsecure.protocols.iotcrypto.transmission_messages import RecordBatch

log = logging.getLogger(__name__)

DAY_MS: Final = 86_400_000
MOST_MS: Final = (1 << 53) - 1
"""A time beyond this, as of a wrong clock, is kept as this: JSON's readers have no larger whole numbers."""
CLOUD: Final = 0
"""In the place of a gateway's number: of a gateway, which is connected to the cloud itself."""
MOST_KNOWN: Final = 65_536
"""Numbers, and newest readings, that are held in memory."""


class Arrival(NamedTuple):
    """Is a batch, and the gateway that brought it."""

    gateway: SignedCertificate
    batch: RecordBatch


class CloudStore:
    """Is the one writer of records. Each method returns once all is on the disk, and raises `SqlError`."""

    def __init__(self, base: CloudDatabase) -> None:
        self._base: Final = base
        self.counts: Final[Counter[str]] = Counter()
        """Since the start: readings, alerts, damaged."""
        self._last = 0
        self._members: dict[bytes, int] = {}
        self._streams: dict[tuple[int, bytes], int] = {}
        self._newest: dict[int, dict[str, Any]] = {}
        self._days: set[int] = set()
        self.forget()

    def forget(self) -> None:
        """Take what is in memory from the database again: after a failure nobody knows what was committed."""
        self._members.clear()
        self._streams.clear()
        self._newest.clear()
        self._days = {day for (day,) in self._base.execute("SELECT day FROM reading_day")}
        self._last = self._base.execute("SELECT last FROM counter")[0][0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._base.transaction():
                yield
                self._base.execute("UPDATE counter SET last = ?", (self._last,))
        except Exception:
            self.forget()
            raise

    # --- records ------------------------------------------------------------------------------------------------------

    def take(self, arrivals: Sequence[Arrival], now_ms: int) -> list[bool]:
        """Keep the batches in one transaction; return for each whether it may be acknowledged."""
        counted: Counter[str] = Counter()
        with self._transaction():
            group = _Group(now_ms, counted)
            taken = [self._take_batch(group, *arrival) for arrival in arrivals]
            self._put(group)
        self.counts.update(counted)
        return taken

    def _take_batch(self, group: _Group, gateway: SignedCertificate, batch: RecordBatch) -> bool:
        by = self.number_of(gateway.certificate.id, Role.GATEWAY, gateway, group.now_ms)
        stream = by, batch.epoch
        if stream not in self._streams:
            rows = self._base.execute("SELECT last FROM stream WHERE gateway = ? AND epoch = ?", stream)
            if len(self._streams) >= MOST_KNOWN:
                self._streams.clear()
            self._streams[stream] = rows[0][0] if rows else 0
        new = batch.after(self._streams[stream])
        if new is None:
            return False
        for data in new:
            try:
                record = decode_record(data)
            except MalformedError as error:
                log.error("a record of the gateway %r is not read: %s", gateway.certificate.name, error)
                group.counted["damaged"] += 1
                continue
            self._take_record(group, by, record)
        if new:
            self._streams[stream] += len(new)
            group.streams[stream] = self._streams[stream]
        return True

    def _take_record(self, group: _Group, gateway: int, record: KeptRecord) -> None:
        time = min(record.time, MOST_MS)
        match record:
            case ReadingRecord(device=device, readings=readings):
                no = self.number_of(device, Role.DEVICE, None, group.now_ms)
                newest = self._newest_of(no)
                newest.update(readings)
                group.newest[no] = time, newest
                self._last += 1
                text = json.dumps(readings, ensure_ascii=False)
                group.readings.append((self._last, no, gateway, time, group.day, text))
            case AlertRecord(device=device, id=number, text=text, value=value):
                no = self.number_of(device, Role.DEVICE, None, group.now_ms)
                self._last += 1
                row = self._last, no, gateway, time, group.now_ms, f"{number:016x}", text, json.dumps(value)
                group.counted["alerts"] += len(
                    self._base.execute(
                        "INSERT INTO alert (number, device, gateway, time, received, alert, text, value) "
                        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (device, alert) DO NOTHING RETURNING number",
                        row,
                    )
                )
            case JoinedRecord(device=device, signed=signed):
                if device != signed.certificate.id:
                    group.counted["damaged"] += 1
                    return
                self._join(self.number_of(device, Role.DEVICE, signed, group.now_ms), gateway, time)
            case LeftRecord(device=device, reason=reason):
                self._leave(time, reason, gateway, self.number_of(device, Role.DEVICE, None, group.now_ms))
            case StartedRecord():
                self._leave(time, "the gateway was started", gateway)

    def _put(self, group: _Group) -> None:
        if group.readings:
            if group.day not in self._days:
                self._base.make_day(group.day)
                self._base.execute("INSERT INTO reading_day VALUES (?) ON CONFLICT DO NOTHING", (group.day,))
                self._days.add(group.day)
            self._base.put(f"reading_{group.day}", "number, device, gateway, time, day, readings", group.readings)
            group.counted["readings"] += len(group.readings)
            rows = [(no, time, json.dumps(all_of, ensure_ascii=False)) for no, (time, all_of) in group.newest.items()]
            self._replace("newest", "device", "device, time, readings", rows)
        self._replace("stream", "gateway, epoch", "gateway, epoch, last", [(*at, n) for at, n in group.streams.items()])

    def _replace(self, table: str, key: str, columns: str, rows: Iterable[Row]) -> None:
        """Insert rows, each in the place of the one with its key."""
        self._base.execute(f"CREATE TEMPORARY TABLE IF NOT EXISTS new_{table} AS SELECT * FROM {table} LIMIT 0")
        self._base.put(f"new_{table}", columns, rows)
        others = ", ".join(f"{name} = excluded.{name}" for name in columns.split(", ") if name not in key)
        self._base.execute(
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM new_{table} WHERE true "
            f"ON CONFLICT ({key}) DO UPDATE SET {others}"
        )
        self._base.execute(f"DELETE FROM new_{table}")

    def _newest_of(self, device: int) -> dict[str, Any]:
        if device not in self._newest:
            if len(self._newest) >= MOST_KNOWN:
                self._newest.clear()
            rows = self._base.execute("SELECT readings FROM newest WHERE device = ?", (device,))
            self._newest[device] = json.loads(rows[0][0]) if rows else {}
        return self._newest[device]

    # --- members and structure ----------------------------------------------------------------------------------------

    def number_of(self, identity: bytes, role: Role, signed: SignedCertificate | None, now_ms: int) -> int:
        """Return the number of a member, which is new perhaps; with `signed`, its certificate is kept, too."""
        known = self._members.get(identity)
        if known is not None and (signed is None or role is Role.GATEWAY):
            return known
        name, expires = (signed.certificate.name, signed.certificate.expires) if signed else ("", 0)
        change = "name = excluded.name, expires = excluded.expires, signed = excluded.signed" if signed else "id = ?"
        rows = self._base.execute(
            "INSERT INTO member (id, role, name, expires, signed, first_ms) VALUES (?, ?, ?, ?, ?, ?) "
            f"ON CONFLICT (id) DO UPDATE SET {change} RETURNING no",
            (
                *(identity, int(role), name, expires, signed.encode() if signed else None, now_ms),
                *(() if signed else (identity,)),
            ),
        )
        if len(self._members) >= MOST_KNOWN:
            self._members.clear()
        no: int = rows[0][0]
        self._members[identity] = no
        if signed:
            self._base.execute("DELETE FROM signature WHERE member = ?", (no,))
            signers = {one.signer for one in signed.signatures}
            self._base.put("signature", "signer, member", [(signer, no) for signer in signers])
        return no

    def gateway_came(self, gateway: SignedCertificate, now_ms: int) -> None:
        """Note that a gateway is connected."""
        with self._transaction():
            self._members.pop(gateway.certificate.id, None)
            self._join(self.number_of(gateway.certificate.id, Role.GATEWAY, gateway, now_ms), CLOUD, now_ms)

    def gateway_went(self, gateway: bytes, reason: str, now_ms: int) -> None:
        """Note that a gateway is not connected any more."""
        with self._transaction():
            self._leave(now_ms, reason, CLOUD, self.number_of(gateway, Role.GATEWAY, None, now_ms))

    def started(self, now_ms: int) -> None:
        """Note that the cloud was started: no gateway is connected to it."""
        with self._transaction():
            self._leave(now_ms, "the cloud was started", CLOUD)

    def _join(self, member: int, gateway: int, time: int) -> None:
        self._leave(time, "it came back", gateway, member)
        self._last += 1
        self._base.execute(
            "INSERT INTO connection (number, member, gateway, joined_ms, reason) VALUES (?, ?, ?, ?, '')",
            (self._last, member, gateway, time),
        )

    def _leave(self, time: int, reason: str, gateway: int, member: int | None = None) -> None:
        which, whom = (" AND member = ?", [member]) if member is not None else ("", [])
        self._base.execute(
            f"UPDATE connection SET left_ms = ?, reason = ? WHERE gateway = ? AND left_ms IS NULL{which}",
            (time, reason, gateway, *whom),
        )

    # --- what has been kept long enough -------------------------------------------------------------------------------

    def prune(self, now_ms: int, readings_days: int, alerts_days: int, structure_days: int) -> int:
        """Let go of what is older; return how many days of readings went."""
        with self._transaction():
            old = [day for day in self._days if day < now_ms // DAY_MS - readings_days]
            for day in old:
                self._base.execute(f"DROP TABLE reading_{day}")
                self._base.execute("DELETE FROM reading_day WHERE day = ?", (day,))
            alerts, structure = (now_ms - days * DAY_MS for days in (alerts_days, structure_days))
            self._base.execute("DELETE FROM alert WHERE received < ?", (alerts,))
            self._base.execute("DELETE FROM command WHERE asked_ms < ?", (alerts,))
            self._base.execute("DELETE FROM connection WHERE left_ms < ?", (structure,))
        self._days.difference_update(old)
        return len(old)


class _Group:
    """Holds what one transaction has of readings, to be written at once."""

    def __init__(self, now_ms: int, counted: Counter[str]) -> None:
        self.now_ms, self.day, self.counted = now_ms, now_ms // DAY_MS, counted
        self.readings: list[Row] = []
        self.newest: dict[int, tuple[int, dict[str, Any]]] = {}
        self.streams: dict[tuple[int, bytes], int] = {}
