"""What REST shows of the database. `Scope` is the numbers of the devices that whoever asks may know of."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any, Final

from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.iot.cloud.api_operations import AlertsQuery, ConnectionsQuery, DevicesQuery, ReadingsQuery
from bt_selfsecure.iot.cloud.api_types import (
    Alert,
    AlertList,
    CommandInfo,
    CommandList,
    ConnectionInfo,
    ConnectionList,
    DeviceInfo,
    DeviceList,
    GatewayInfo,
    Reading,
    ReadingList,
    TrustInfo,
)
from bt_selfsecure.iot.cloud.sql import CloudDatabase, Row
from bt_selfsecure.iot.cloud.store import CLOUD
from bt_selfsecure.protocols.iotcrypto.certificate import Role, SignedCertificate

Scope = Collection[int] | None
"""None: all."""
JudgeFile = Callable[[bytes | None, Role], TrustInfo]
"""Given a certificate as a file holds it; returns what is thought of it now."""
SHOWN_COMMANDS: Final = 100


class NotThereError(BtSelfSecureError):
    """There is nothing of this name, or nothing for whoever asks."""


def _within(column: str, scope: Scope) -> str:
    """Return what narrows a query to the scope; its numbers are ours, so they stand in the text."""
    return "" if scope is None else f" AND {column} IN ({', '.join(map(str, scope)) or 'NULL'})"


def _id(text: str) -> bytes:
    """Raises `NotThereError`."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 16:
        raise NotThereError(f"{text[:64]!r} is no id, which has 32 hexadecimal digits")
    return found


def signed_by(base: CloudDatabase, signer: bytes) -> list[tuple[int, bytes]]:
    """Return numbers and certificates of those that say to be signed by this party."""
    return [
        (no, signed)
        for no, signed in base.execute(
            "SELECT no, signed FROM member JOIN signature ON member = no WHERE signer = ? AND signed IS NOT NULL",
            (signer,),
        )
    ]


def numbers_of(base: CloudDatabase, ids: Collection[bytes]) -> list[tuple[int, bytes]]:
    """Return numbers and certificates of these."""
    found = []
    for each in ids:
        found += base.execute("SELECT no, signed FROM member WHERE id = ? AND signed IS NOT NULL", (each,))
    return [(no, signed) for no, signed in found]


def is_signed(signed: bytes, party: Any) -> bool:
    """Return whether a certificate brings along a right signature of this party's."""
    read = SignedCertificate.decode(signed)
    return any(one.signer == party.id and read.certificate.signed_by(party, one.signature) for one in read.signatures)


# --- what is there ----------------------------------------------------------------------------------------------------


def counts(base: CloudDatabase, scope: Scope) -> tuple[int, int, int]:
    """Return how many gateways and devices are connected, and how many alerts nobody has seen."""
    gateways = base.execute("SELECT count(*) FROM connection WHERE gateway = ? AND left_ms IS NULL", (CLOUD,))
    devices = base.execute(
        f"SELECT count(DISTINCT member) FROM connection WHERE gateway <> ? AND left_ms IS NULL"
        f"{_within('member', scope)}",
        (CLOUD,),
    )
    alerts = base.execute(f"SELECT count(*) FROM alert WHERE seen_ms IS NULL{_within('device', scope)}")
    return gateways[0][0], devices[0][0], alerts[0][0]


def gateways(base: CloudDatabase, scope: Scope, judge: JudgeFile) -> list[GatewayInfo]:
    """Return all gateways; of a partner those at which one of its devices is or was."""
    rows = base.execute(
        "SELECT m.id, m.name, m.expires, m.signed, c.joined_ms, c.left_ms, c.reason, (SELECT count(DISTINCT d.member) "
        f"FROM connection d WHERE d.gateway = m.no AND d.left_ms IS NULL{_within('d.member', scope)}) "
        "FROM member m JOIN connection c ON c.number = (SELECT max(number) FROM connection WHERE member = m.no) "
        "WHERE m.role = ?"
        + (
            ""
            if scope is None
            else f" AND EXISTS (SELECT 1 FROM connection s WHERE s.gateway = m.no{_within('s.member', scope)})"
        )
        + " ORDER BY m.name, m.id",
        (int(Role.GATEWAY),),
    )
    return [
        GatewayInfo(
            id=identity.hex(),
            name=name,
            expires=expires,
            connected=left is None,
            since_ms=joined if left is None else left,
            reason=reason,
            devices=devices,
            trust=judge(signed, Role.GATEWAY),
        )
        for identity, name, expires, signed, joined, left, reason, devices in rows
    ]


_DEVICES: Final = """
SELECT m.id, m.name, m.expires, m.signed, g.id, c.joined_ms, c.left_ms, c.reason, n.time, n.readings FROM member m
LEFT JOIN connection c ON c.number = (SELECT max(number) FROM connection WHERE member = m.no)
LEFT JOIN member g ON g.no = c.gateway LEFT JOIN newest n ON n.device = m.no WHERE m.role = ?
"""


def devices(base: CloudDatabase, scope: Scope, query: DevicesQuery, judge: JudgeFile) -> DeviceList:
    """Return some devices."""
    sql, given = _DEVICES + _within("m.no", scope), [int(Role.DEVICE)]
    arguments: list[Any] = [*given]
    if query.gateway:
        sql += " AND g.id = ? AND c.left_ms IS NULL"
        arguments.append(_id(query.gateway))
    if query.after:
        sql += " AND m.id > ?"
        arguments.append(_id(query.after))
    rows = base.execute(f"{sql} ORDER BY m.id LIMIT {query.limit + 1}", arguments)
    shown = [_device(row, judge) for row in rows[: query.limit]]
    return DeviceList(devices=shown, next=shown[-1]["id"] if len(rows) > query.limit else "")


def device(base: CloudDatabase, scope: Scope, identity: str, judge: JudgeFile) -> DeviceInfo:
    """Return one device. Raises `NotThereError`."""
    rows = base.execute(f"{_DEVICES}{_within('m.no', scope)} AND m.id = ?", (int(Role.DEVICE), _id(identity)))
    if not rows:
        raise NotThereError(f"there is no device {identity}: GET /v1/devices lists them")
    return _device(rows[0], judge)


def _device(row: Row, judge: JudgeFile) -> DeviceInfo:
    identity, name, expires, signed, gateway, joined, left, reason, read, readings = row
    return DeviceInfo(
        id=identity.hex(),
        name=name,
        expires=expires,
        gateway=gateway.hex() if gateway else "",
        connected=joined is not None and left is None,
        since_ms=(joined if left is None else left) or 0,
        reason=reason or "",
        read_ms=read or 0,
        readings=json.loads(readings or "{}"),
        trust=judge(signed, Role.DEVICE),
    )


def device_number(base: CloudDatabase, scope: Scope, identity: str) -> int:
    """Raises `NotThereError`."""
    rows = base.execute(
        f"SELECT no FROM member WHERE id = ? AND role = ?{_within('no', scope)}", (_id(identity), int(Role.DEVICE))
    )
    if not rows:
        raise NotThereError(f"there is no device {identity}: GET /v1/devices lists them")
    return int(rows[0][0])


# --- what was ---------------------------------------------------------------------------------------------------------


def readings(base: CloudDatabase, scope: Scope, identity: str, query: ReadingsQuery) -> ReadingList:
    """Return some readings of a device. Raises `NotThereError`."""
    no = device_number(base, scope, identity)
    names = {number: each.hex() for number, each in base.execute("SELECT no, id FROM member WHERE role = 2")}
    found: list[Row] = []
    for (day,) in base.execute("SELECT day FROM reading_day ORDER BY day DESC"):
        found += base.execute(
            f"SELECT number, time, gateway, readings FROM reading_{day} WHERE device = ? AND number < ? AND time >= ? "
            f"AND time <= ? ORDER BY number DESC LIMIT {query.limit + 1 - len(found)}",
            (no, query.before, query.from_ms, query.to_ms),
        )
        if len(found) > query.limit:
            break
    shown = [
        Reading(number=number, time_ms=time, gateway=names.get(gateway, ""), readings=json.loads(text))
        for number, time, gateway, text in found[: query.limit]
    ]
    return ReadingList(readings=shown, next=shown[-1]["number"] if len(found) > query.limit else 0)


def connections(base: CloudDatabase, scope: Scope, query: ConnectionsQuery) -> ConnectionList:
    """Return some connections."""
    sql = (
        "SELECT c.number, m.id, m.name, g.id, c.joined_ms, c.left_ms, c.reason FROM connection c "
        f"JOIN member m ON m.no = c.member LEFT JOIN member g ON g.no = c.gateway WHERE c.number < ?"
        f"{_within('c.member', scope)}"
    )
    arguments: list[Any] = [query.before]
    if query.at_ms:
        sql += " AND c.joined_ms <= ? AND (c.left_ms IS NULL OR c.left_ms > ?)"
        arguments += [query.at_ms, query.at_ms]
    if query.member:
        sql += " AND m.id = ?"
        arguments.append(_id(query.member))
    rows = base.execute(f"{sql} ORDER BY c.number DESC LIMIT {query.limit + 1}", arguments)
    shown = [
        ConnectionInfo(
            number=number,
            member=member.hex(),
            name=name,
            gateway=gateway.hex() if gateway else "",
            joined_ms=joined,
            left_ms=left,
            reason=reason,
        )
        for number, member, name, gateway, joined, left, reason in rows[: query.limit]
    ]
    return ConnectionList(connections=shown, next=shown[-1]["number"] if len(rows) > query.limit else 0)


def alerts(base: CloudDatabase, scope: Scope, query: AlertsQuery) -> AlertList:
    """Return some alerts."""
    unseen = " AND a.seen_ms IS NULL" if query.unseen else ""
    rows = base.execute(
        "SELECT a.number, m.id, m.name, g.id, a.time, a.received, a.text, a.value, a.seen_by, a.seen_ms FROM alert a "
        "JOIN member m ON m.no = a.device JOIN member g ON g.no = a.gateway WHERE a.number < ?"
        f"{unseen}{_within('a.device', scope)} ORDER BY a.number DESC LIMIT {query.limit + 1}",
        (query.before,),
    )
    shown = [
        Alert(
            number=number,
            device=of.hex(),
            name=name,
            gateway=gateway.hex(),
            time_ms=time,
            received_ms=received,
            text=text,
            value=json.loads(value),
            seen_by=seen_by,
            seen_ms=seen_ms,
        )
        for number, of, name, gateway, time, received, text, value, seen_by, seen_ms in rows[: query.limit]
    ]
    return AlertList(alerts=shown, next=shown[-1]["number"] if len(rows) > query.limit else 0)


def see(base: CloudDatabase, number: int, who: str, now_ms: int) -> None:
    """Note that somebody has seen an alert. Raises `NotThereError`."""
    if not base.execute(
        "UPDATE alert SET seen_by = coalesce(seen_by, ?), seen_ms = coalesce(seen_ms, ?) WHERE number = ? "
        "RETURNING number",
        (who, now_ms, number),
    ):
        raise NotThereError(f"there is no alert {number}: GET /v1/alerts lists them")


# --- commands ---------------------------------------------------------------------------------------------------------


def begin_command(base: CloudDatabase, row: Row) -> Row | None:
    """Note a command (id, device, who, name, argument, time) before it is given; return None, or what is known of the
    one that has this id already: device, name, argument, done, text."""
    new = base.execute(
        "INSERT INTO command (id, device, who, name, argument, asked_ms, text) VALUES (?, ?, ?, ?, ?, ?, '') "
        "ON CONFLICT (id) DO NOTHING RETURNING id",
        row,
    )
    if new:
        return None
    return base.execute("SELECT device, name, argument, done, text FROM command WHERE id = ?", row[:1])[0]


def end_command(base: CloudDatabase, identity: str, done: bool, text: str) -> None:
    """Note what became of a command."""
    base.execute("UPDATE command SET done = ?, text = ? WHERE id = ?", (int(done), text, identity))


def commands(base: CloudDatabase, identity: str) -> CommandList:
    """Return a device's last commands. Raises `NotThereError`."""
    rows = base.execute(
        "SELECT id, who, name, argument, asked_ms, done, text FROM command WHERE device = ? ORDER BY asked_ms DESC "
        f"LIMIT {SHOWN_COMMANDS}",
        (device_number(base, None, identity),),
    )
    return CommandList(
        commands=[
            CommandInfo(
                id=each,
                who=who,
                name=name,
                argument=json.loads(argument),
                asked_ms=asked,
                done=None if done is None else bool(done),
                text=text,
            )
            for each, who, name, argument, asked, done, text in rows
        ]
    )
