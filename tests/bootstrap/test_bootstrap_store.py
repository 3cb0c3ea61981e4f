"""What is kept of bootstrapping, and for whom it can be read: files, formats, erased keys, changes at once."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from bt_selfsecure.bootstrap.controller import SbrController
from bt_selfsecure.bootstrap.joining import FlightRefusedError, JoiningNode
from bt_selfsecure.bootstrap.nid import parse_nid, shown_nid
from bt_selfsecure.bootstrap.server import SbsServer
from bt_selfsecure.bootstrap.setup import ControllerPlace, NodeSetup, controller_from_file, controller_json
from bt_selfsecure.bootstrap.store import BootstrapStore, ChangedMeanwhileError, KnownNode, held
from bt_selfsecure.errors import UsageError
from bt_selfsecure.protocols.bootstrap.config import Controller
from bt_selfsecure.protocols.bootstrap.messages import decode
from bt_selfsecure.protocols.bootstrap.records import NodeRecord

CONTROLLER = Controller(b"c" * 8, b"k" * 16, "home")
PLACE = ControllerPlace("hall", CONTROLLER.controller_id, "udp:127.0.0.1:5702", "02:00:00:00:00:01")
IK = bytes(range(100, 116))
NODE_ID = b"n" * 8
SETUP = NodeSetup("home", "lamp", NODE_ID, IK, (PLACE,))
DAY_S = 86_400.0


@pytest.fixture
def store(tmp_path: Path) -> BootstrapStore:
    made = BootstrapStore(tmp_path / "state")
    made.add_controller(CONTROLLER, PLACE)
    made.put_node(KnownNode("lamp", "", "", False, NodeRecord(NODE_ID, IK, "home")))
    made.put_setup(SETUP)
    return made


class Loop:
    """Takes the place of UDP: server and controller of one store, and what comes out for persons and nodes."""

    def __init__(self, store: BootstrapStore) -> None:
        self.server = SbsServer(store, 365 * DAY_S, lambda event: None)
        self.out: list[bytes] = []
        self.controller = SbrController(store, CONTROLLER, self.ask, lambda data, source: self.out.append(data))

    def ask(self, data: bytes) -> None:
        self.server.take(data, lambda answer: self.controller.from_server(answer))


async def joined(store: BootstrapStore) -> bytes:
    """Let the node of the store join; return the PSK."""
    loop, node = Loop(store), JoiningNode(store, store.networks()[0])
    node.take(await loop.controller.admit(node.show()))
    record = store.networks()[0].record
    loop.controller.from_node(record.flight5, "the node")
    node._sbi.receive_frame(loop.out[-1], 0.0)
    node._events()
    loop.controller.close()
    psk = store.networks()[0].record.key
    assert psk == store.nodes()[0].record.key
    return psk


# --- who may read it, and what is left of keys ------------------------------------------------------------------------


def test_the_file_is_its_owners_alone(store: BootstrapStore) -> None:
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.folder.stat().st_mode & 0o777 == 0o700
    store.close()
    store.path.chmod(0o640)
    with pytest.raises(UsageError, match="others may read it"):
        BootstrapStore(store.folder)


def test_a_dead_key_is_nowhere_in_the_folder(store: BootstrapStore) -> None:

    psks = [asyncio.run(joined(store)) for _ in range(3)]
    store.close()
    kept = b"".join(path.read_bytes() for path in store.folder.iterdir() if path.is_file())
    for dead in (IK, *psks[:-1]):
        assert dead.hex().encode() not in kept
        assert dead not in kept
    assert psks[-1].hex().encode() in kept


def test_the_log_and_errors_show_no_key(store: BootstrapStore, caplog: pytest.LogCaptureFixture) -> None:

    caplog.set_level("DEBUG")
    psk = asyncio.run(joined(store))
    for secret in (IK, psk, CONTROLLER.sk_cs):
        assert secret.hex() not in caplog.text


# --- formats ----------------------------------------------------------------------------------------------------------


def test_a_file_of_a_newer_program_is_left_alone(store: BootstrapStore) -> None:
    store.close()
    with sqlite3.connect(store.path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    before = store.path.read_bytes()
    with pytest.raises(UsageError, match="newer bt-selfsecure"):
        BootstrapStore(store.folder)
    assert store.path.read_bytes() == before


def test_all_is_there_when_the_file_is_opened_again(store: BootstrapStore) -> None:
    before = store.controllers(), store.nodes(), store.networks()
    store.close()
    again = BootstrapStore(store.folder)
    assert (again.controllers(), again.nodes(), again.networks()) == before


@pytest.mark.parametrize("damage", ["not a database", "cut", "a record"])
def test_a_damaged_file_is_told_in_a_sentence(store: BootstrapStore, damage: str) -> None:
    store.close()
    match damage:
        case "not a database":
            store.path.write_bytes(b"x" * 5000)
        case "cut":
            os.truncate(store.path, store.path.stat().st_size // 2)
        case _:
            with sqlite3.connect(store.path) as database:
                database.execute("UPDATE node SET record = '{}'")
            database.close()
    with pytest.raises(UsageError, match=r"can't use|damaged") as told:
        BootstrapStore(store.folder).nodes()
    assert "\n" not in str(told.value)


def test_a_place_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="name another folder by --state"):
        BootstrapStore(tmp_path / "file" / "state")


# --- two at once ------------------------------------------------------------------------------------------------------


def test_a_service_does_not_overwrite_what_a_command_has_changed(store: BootstrapStore) -> None:
    known = store.nodes()[0]
    other = BootstrapStore(store.folder)
    other.put_node(known._replace(record=replace(known.record, revoked=True, revision=1)))
    with pytest.raises(ChangedMeanwhileError):
        store.write_nodes([replace(known.record, revision=1)])
    assert store.nodes()[0].record.revoked


def test_a_row_that_is_refused_leaves_the_others_of_its_turn_as_they_were(store: BootstrapStore) -> None:
    good, stranger = replace(store.nodes()[0].record, revision=1), NodeRecord(b"x" * 8, IK, revision=1)
    with pytest.raises(ChangedMeanwhileError):
        store.write_nodes([good, stranger])
    assert store.nodes()[0].record.revision == 0


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    refused = pytest.raises(UsageError, match="another bt-selfsecure bootstrap serve runs")
    with held(tmp_path, "serve"), held(tmp_path, "join"), refused, held(tmp_path, "serve"):
        pass
    with held(tmp_path, "serve"):
        pass


def test_a_name_is_given_once(store: BootstrapStore) -> None:
    with pytest.raises(UsageError, match="a controller 'hall' already"):
        store.add_controller(replace(CONTROLLER, controller_id=b"d" * 8), PLACE)


# --- a full disk ------------------------------------------------------------------------------------------------------


def test_a_disk_that_takes_nothing_ends_in_no_flight_and_no_loss(
    store: BootstrapStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The controller's flight 2 comes again later; nothing has left before that."""

    def full(self: BootstrapStore, rows: object) -> None:
        raise UsageError("can't use it (database or disk is full): make room")

    async def tried() -> None:
        loop, node = Loop(store), JoiningNode(store, store.networks()[0])
        flight1 = node.show()
        with monkeypatch.context() as patch:
            patch.setattr(BootstrapStore, "write_nodes", full)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loop.controller.admit(flight1), 0.05)
        assert "disk is full" in caplog.text
        assert store.nodes()[0].record == NodeRecord(NODE_ID, IK, "home")
        node.take(await loop.controller.admit(flight1))
        loop.controller.close()

    asyncio.run(tried())


# --- setups and places ------------------------------------------------------------------------------------------------


def test_a_setup_is_read_as_it_was_written_and_only_if_it_is_its_owners(tmp_path: Path) -> None:
    file = tmp_path / "lamp.setup"
    file.write_text(SETUP.to_json())
    file.chmod(0o600)
    assert NodeSetup.from_file(file) == SETUP
    assert IK.hex() not in repr(SETUP)
    file.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        NodeSetup.from_file(file)


@pytest.mark.parametrize(
    "change", [{"ik": "00"}, {"version": 2}, {"controllers": []}, {"network": "a b"}, {"controllers": [{"name": "x"}]}]
)
def test_a_damaged_setup_is_told_and_shows_nothing(tmp_path: Path, change: dict[str, object]) -> None:
    file = tmp_path / "lamp.setup"
    file.write_text(json.dumps({**json.loads(SETUP.to_json()), **change}))
    file.chmod(0o600)
    with pytest.raises(UsageError) as told:
        NodeSetup.from_file(file)
    assert IK.hex() not in str(told.value)


def test_a_controllers_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "hall.key"
    file.write_text(controller_json(PLACE, CONTROLLER))
    file.chmod(0o600)
    assert controller_from_file(file) == (PLACE, CONTROLLER)


@pytest.mark.parametrize(
    ("nid", "place"),
    [
        ("udp:192.0.2.1:5702", ("192.0.2.1", 5702)),
        ("udp:[fe80::1%eth0]:9", ("fe80::1%eth0", 9)),
        ("bt:B8:27:EB:12:34:56", ("B8:27:EB:12:34:56",)),
    ],
)
def test_an_nid_names_a_place(nid: str, place: tuple[str, int]) -> None:
    assert parse_nid(nid) == place
    assert shown_nid(parse_nid(nid)) == nid


@pytest.mark.parametrize(
    "nid", ["", "udp:", "192.0.2.1:5702", "udp:hall:5702", "udp:192.0.2.1:0", "bt:", "bt:hci0", "B8:27:EB:12:34:56"]
)
def test_what_is_no_nid_is_told(nid: str) -> None:
    with pytest.raises(UsageError, match="as "):
        parse_nid(nid)


# --- the node's end ---------------------------------------------------------------------------------------------------


def test_a_code_is_shown_again_until_it_is_used_up(store: BootstrapStore) -> None:
    first = JoiningNode(store, store.networks()[0]).show()
    assert JoiningNode(store, store.networks()[0]).show() == first
    assert JoiningNode(store, store.networks()[0]).show(anew=True) != first
    assert decode(first).node_id == NODE_ID


def test_a_flight_4_that_nobody_waits_for_is_told(store: BootstrapStore) -> None:
    with pytest.raises(FlightRefusedError, match="no answer to the code"):
        JoiningNode(store, store.networks()[0]).take(bytes([1, 4]) + bytes(40))


def test_a_psk_at_its_end_is_logged(store: BootstrapStore, caplog: pytest.LogCaptureFixture) -> None:
    known = store.nodes()[0]
    store.put_node(known._replace(record=replace(known.record, until=1000.0, revision=1)))
    SbsServer(store, DAY_S, lambda event: None, lambda: 999.0).tell_ended()
    assert caplog.text == ""
    SbsServer(store, DAY_S, lambda event: None, lambda: 1001.0).tell_ended()
    assert "the PSK of lamp has come to its end" in caplog.text
