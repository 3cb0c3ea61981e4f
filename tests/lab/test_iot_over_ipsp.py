"""A gateway and two devices, three machines, over Bluetooth (IPSP) alone, and their cloud on this computer: readings,
commands, alerts, expiry, revocation, and power cuts in mid traffic."""

from __future__ import annotations

import json
import time
import urllib.error
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from iot_machines import DEVICES, GATEWAY, STRANGER, IotNetwork, rows
from postgres_server import running_server
from running_lab import RunningLab

from bt_selfsecure.protocols.iotcrypto.lists import ListKind

pytestmark = [pytest.mark.lab, pytest.mark.timeout(7200)]

BOILER, LAMP = DEVICES
CUTS = 10
"""Of each machine, and of the cloud with its database."""
CLOSED_S = 2.0
"""For a connection with whoever is not trusted any more."""


def begin(network: IotNetwork) -> None:
    for name in network.lab.names:
        network.begin(name)
    network.wait_for_news()


def command(network: IotNetwork) -> None:
    place = f"/v1/devices/{network.id(LAMP)}"
    switch = f"{place}/commands?name=lamp&argument=true&id={7:016x}"
    for _ in range(2):  # the second time it is told what became of it
        assert network.cloud.ask(switch, b"")["text"] == "lamp True"
    assert network.cloud.ask(f"{place}/ask?sensor=lamp", b"") == {"readings": {"lamp": True}}


def cut_each(network: IotNetwork) -> float:
    """Return the seconds in which the slowest was back."""
    slowest = 0.0
    for name in (*network.lab.names, "cloud"):
        begun = time.monotonic()
        network.cut(name)
        network.wait_for_news()
        slowest = max(slowest, time.monotonic() - begun)
    return slowest


def expire(network: IotNetwork, seconds: float) -> None:
    """A certificate expires while its device is connected, and is renewed."""
    while True:
        expires = network.certify(LAMP, seconds)
        network.cut(LAMP)  # so that it shows this one
        network.wait_for_news(LAMP, until=expires)
        if time.time() < expires - 1:
            break
        seconds *= 2  # this computer is busy
    network.wait_for(lambda told: not told[LAMP]["connected"])
    assert 0 <= network.left_ms(LAMP) / 1000 - expires < CLOSED_S
    assert "expired" in network.cloud.devices()[LAMP]["reason"]
    network.certify_for_long(LAMP)
    network.wait_for_news()


def revoke(network: IotNetwork) -> None:
    """A device is revoked while it is connected, and does not come back, not even anew."""
    made = network.owner.sign_list(ListKind.REVOCATIONS, (bytes.fromhex(network.id(LAMP)),))
    begun = time.monotonic()
    assert network.cloud.ask("/v1/trust/lists", made.encode()) == {"new": True}
    network.wait_for(lambda told: not told[LAMP]["connected"])
    assert time.monotonic() - begun < CLOSED_S
    network.cut(LAMP)
    network.wait_for_news(BOILER)
    with pytest.raises(urllib.error.HTTPError):
        network.cloud.ask(f"/v1/devices/{network.id(LAMP)}/ask", b"")
    seen = len(network.log(GATEWAY))
    while "revoked" not in network.log(GATEWAY)[seen:] and "revoked" not in network.log(LAMP):
        network.wait_for_news(BOILER)


def judge(network: IotNetwork, cuts: int) -> None:
    """Nothing lost, nothing doubled, nothing of a stranger or after the end of trust."""
    left_ms = network.left_ms(LAMP)
    status = "bt-selfsecure gateway status --json --config /lab/gateway.toml"
    stores = {name: network.kept(name) for name in DEVICES}
    until = time.monotonic() + 120
    while json.loads(network.lab.run(GATEWAY, status).out)["waiting"]:
        assert time.monotonic() < until, network.logs()
    store = network.kept(GATEWAY) / "gateway.db"
    network.end()
    ((last,),) = rows(store, "SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")
    with closing(network.cloud.base()) as base:
        ((epochs, taken),) = base.execute("SELECT count(*), max(last) FROM stream")
        assert (epochs, taken) == (1, last), "a record was lost between gateway and cloud, or the gateway's store"
        members = {name: no for no, name in base.execute("SELECT no, name FROM member")}
        assert {*members} == {*network.lab.names}, "whoever was not trusted has a place in the network"
        assert STRANGER in network.log(GATEWAY), "the stranger did not even try"
        days = [day for (day,) in base.execute("SELECT day FROM reading_day ORDER BY day")]
        for name in DEVICES:
            where = f"WHERE device = {members[name]} ORDER BY number"
            found = [base.execute(f"SELECT time, readings FROM reading_{day} {where}") for day in days]
            readings = [(time_ms, json.loads(text)) for rows_of_day in found for time_ms, text in rows_of_day]
            counts = [each["count"] for _, each in readings if "count" in each]  # it was asked for the lamp alone, too
            assert counts == sorted({*counts}), "doubled, or out of order"
            assert len(counts) > cuts
            # What was read and not yet on the gateway's disk is nobody's yet: at most one with each cut.
            assert counts[-1] - counts[0] + 1 - len(counts) <= 2 * cuts + 4
            arrived = [int(id_, 16) for (id_,) in base.execute(f"SELECT alert FROM alert {where}")]
            waiting = [id_ for (id_,) in rows(stores[name] / "device.db", "SELECT id FROM alert ORDER BY id")]
            assert len(arrived) > cuts
            assert arrived == list(range(arrived[0], arrived[0] + len(arrived))), "lost or doubled"
            assert arrived[0] & 0xFFFFFFFF == 0
            later = [id_ for id_ in waiting if id_ > arrived[-1]]
            assert later == list(range(arrived[-1] + 1, arrived[-1] + 1 + len(later)))
            if name == LAMP:
                assert all(time_ms <= left_ms for time_ms, _ in readings)


def test_two_devices_over_bluetooth_are_read_commanded_cut_and_revoked(
    lab_of: Callable[..., RunningLab], tmp_path: Path
) -> None:
    network = IotNetwork(lab_of(GATEWAY, *DEVICES), tmp_path)
    try:
        begin(network)
        command(network)
        for name in (GATEWAY, "cloud"):
            network.cut(name)
            network.wait_for_news()
        revoke(network)
        judge(network, 1)
    finally:
        network.end()


@pytest.mark.long
def test_ten_cuts_of_each_lose_and_double_nothing_and_who_is_not_trusted_any_more_is_closed(
    lab_of: Callable[..., RunningLab], tmp_path: Path
) -> None:
    with running_server() as postgres:
        lab = lab_of(GATEWAY, *DEVICES, options=("--memory", "300"))  # a lab of its own
        network = IotNetwork(lab, tmp_path, postgres)
        try:
            begin(network)
            command(network)
            slowest = max(cut_each(network) for _ in range(CUTS))
            expire(network, slowest + 10)
            revoke(network)
            judge(network, CUTS)
        finally:
            network.end()
