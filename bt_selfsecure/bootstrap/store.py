"""What server, controllers and nodes keep: one SQLite file in a folder of its owner's alone.

Keys that are not needed any more are overwritten (`secure_delete`), and the roll-back journal is emptied at each
commit. Rows change by revision: a service and a command at once do not overwrite each other's.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from bt_selfsecure.bootstrap.setup import ControllerPlace, NodeSetup
from bt_selfsecure.errors import BtSelfSecureError, UsageError
from bt_selfsecure.node.set_aside import give_to_owner
from bt_selfsecure.protocols.bootstrap.config import Controller
from bt_selfsecure.protocols.bootstrap.records import (
    BootstrapRecordError,
    Gone,
    Installation,
    NodeRecord,
    Record,
    Row,
    Step,
    TidReservation,
    Transaction,
    read_record,
)

ROOTS_FOLDER: Final = Path("/var/lib/bt-selfsecure-bootstrap")
FILE: Final = "bootstrap.db"
OPEN_S: Final = 5.0
"""Another program may have the file for so long."""
MIGRATIONS: Final = (
    """
    CREATE TABLE controller (
        id BLOB PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        domain TEXT NOT NULL,
        sk_cs BLOB NOT NULL,
        place TEXT NOT NULL          -- JSON of setup.ControllerPlace, nothing secret
    ) STRICT;
    CREATE TABLE node (
        id BLOB PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        address TEXT NOT NULL,       -- device address of its peer, or empty
        udp TEXT NOT NULL,           -- where its node listens, or empty
        shared INTEGER NOT NULL,     -- whether its IK was given to other nodes, too
        revision INTEGER NOT NULL,
        record TEXT NOT NULL         -- JSON of records.NodeRecord, holds keys
    ) STRICT;
    CREATE TABLE transactions (
        controller BLOB NOT NULL,
        key BLOB NOT NULL,
        record TEXT NOT NULL,        -- JSON of records.Transaction or TidReservation, holds keys
        PRIMARY KEY (controller, key)
    ) STRICT;
    CREATE TABLE installation (
        network TEXT PRIMARY KEY,
        setup TEXT NOT NULL,         -- JSON: the node's name and its controllers, nothing secret
        record TEXT NOT NULL         -- JSON of records.Installation, holds keys
    ) STRICT;
    """,
)
"""Each brings a file from its place in the tuple to the next; the newest is the file's user_version."""


class ChangedMeanwhileError(BtSelfSecureError):
    """Another program has changed the row: nothing was written, and the flight will come again."""


class KnownController(NamedTuple):
    """Is a controller of a server."""

    controller: Controller
    place: ControllerPlace


class KnownNode(NamedTuple):
    """Is a node of a server."""

    name: str
    address: str
    udp: str
    is_shared: bool
    record: NodeRecord


class KnownNetwork(NamedTuple):
    """Is a network that this node belongs to, or will."""

    network: str
    node: str
    controllers: tuple[ControllerPlace, ...]
    record: Installation

    def place(self, controller_id: bytes) -> ControllerPlace:
        """Return where this controller is. Raises `UsageError` for one that the setup did not name."""
        for one in self.controllers:
            if one.controller_id == controller_id:
                return one
        raise UsageError(f"the setup of {self.network} names no controller {controller_id.hex()}: enrol anew")


def default_folder() -> Path:
    """Return where the state is if nobody says where: the system's place for root, else the user's."""
    if os.geteuid() == 0:
        return ROOTS_FOLDER
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "bt-selfsecure/bootstrap"


@contextlib.contextmanager
def held(folder: Path, what: str) -> Iterator[None]:
    """Keep others from doing this in the folder. Raises `UsageError` while another program does it."""
    try:
        lock = os.open(folder / f"{what}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give_to_owner(folder / f"{what}.lock")
    except OSError as error:
        raise UsageError(f"can't lock {folder / what} ({error.strerror}): name a folder of yours") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UsageError(f"another bt-selfsecure bootstrap {what} runs on {folder}: end it, or give --state") from None
    finally:
        os.close(lock)


class BootstrapStore:
    """Is the file. Raises `UsageError` where it can't be used."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self.path: Final = folder / FILE
        with self._told():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            if (mode := self.path.stat().st_mode & 0o777) & 0o077:
                raise UsageError(f"{self.path} holds keys and others may read it (mode {mode:03o}): chmod 600 it")
            give_to_owner(self.path)
            self._database = sqlite3.connect(self.path, timeout=OPEN_S, isolation_level=None)
            for pragma in ("secure_delete = ON", "journal_mode = TRUNCATE", "synchronous = FULL"):
                self._database.execute(f"PRAGMA {pragma}")
            self._migrate()

    def close(self) -> None:
        self._database.close()

    def _migrate(self) -> None:
        with self._changing():
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            if version > len(MIGRATIONS):
                raise UsageError(f"{self.path} is of a newer bt-selfsecure (format {version}): upgrade this one")
            for number, script in enumerate(MIGRATIONS[version:], version + 1):
                for statement in filter(str.strip, script.split(";")):
                    self._database.execute(statement)
                self._database.execute(f"PRAGMA user_version = {number}")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            why = f"{error}".replace("\n", " ")
            raise UsageError(f"can't use {self.path} ({why}): make room, end what holds it, or move it away") from None
        except OSError as error:
            raise UsageError(f"can't use {self.path} ({error.strerror}): name another folder by --state") from None
        except BootstrapRecordError as error:
            raise UsageError(f"{self.path}: {error}: move the file away, and enrol anew") from None

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """All of it or nothing, on the disk at the end."""
        with self._told():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with self._told():
            return self._database.execute(query, values).fetchall()

    # --- the server ---------------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Return a number that is another one when another program has changed the file."""
        ((version,),) = self._rows("PRAGMA data_version")
        return int(version)

    def controllers(self) -> dict[bytes, KnownController]:
        """Return all controllers by ID_c."""
        found = {}
        for controller_id, name, domain, sk_cs, place in self._rows(
            "SELECT id, name, domain, sk_cs, place FROM controller ORDER BY name"
        ):
            with self._told_damaged():
                where = ControllerPlace.read({**json.loads(place), "name": name, "id": controller_id.hex()})
                found[controller_id] = KnownController(Controller(controller_id, sk_cs, domain), where)
        return found

    @contextlib.contextmanager
    def _told_damaged(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{self.path} is damaged: move it away, and enrol anew") from None

    def add_controller(self, controller: Controller, place: ControllerPlace) -> None:
        """Raises `UsageError` for a name that another one has."""
        row = controller.controller_id, place.name, controller.domain, controller.sk_cs, json.dumps(place.told())
        with self._changing():
            if self._database.execute("SELECT 1 FROM controller WHERE name = ?", (place.name,)).fetchone():
                raise UsageError(f"there is a controller {place.name!r} already: name another")
            self._database.execute("INSERT INTO controller VALUES (?, ?, ?, ?, ?)", row)

    def nodes(self) -> list[KnownNode]:
        """Return all nodes, in the order of their names."""
        rows = self._rows("SELECT name, address, udp, shared, record FROM node ORDER BY name")
        return [self._known(row) for row in rows]

    def node(self, name: str) -> KnownNode | None:
        """Return the node of this name, or with this id in hexadecimal digits."""
        query = "SELECT name, address, udp, shared, record FROM node WHERE name = ? OR lower(hex(id)) = ?"
        rows = self._rows(query, name, name.lower())
        return self._known(rows[0]) if rows else None

    def _known(self, row: tuple[str, str, str, int, str]) -> KnownNode:
        record = self._read(row[4])
        assert isinstance(record, NodeRecord)
        return KnownNode(row[0], row[1], row[2], bool(row[3]), record)

    def put_node(self, node: KnownNode) -> None:
        """Write a node that is new, or anew in the place of the one of its name."""
        record = node.record
        row = record.node_id, node.name, node.address, node.udp, int(node.is_shared), record.revision, record.to_json()
        with self._changing():
            self._database.execute("DELETE FROM node WHERE name = ?", (node.name,))
            self._database.execute("INSERT INTO node VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def write_nodes(self, rows: Sequence[Row]) -> None:
        """Write what an SBS asks for. Raises `ChangedMeanwhileError` where a row is not the one that it had."""
        with self._changing():
            for row in rows:
                assert isinstance(row, NodeRecord)
                change = "UPDATE node SET record = ?, revision = ? WHERE id = ? AND revision = ?"
                values = row.to_json(), row.revision, row.node_id, row.revision - 1
                if self._database.execute(change, values).rowcount != 1:
                    raise ChangedMeanwhileError("the node was enrolled or revoked in the meantime")

    def record_of(self, node_id: bytes) -> NodeRecord | None:
        """Return what an SBS has of this node now."""
        rows = self._rows("SELECT record FROM node WHERE id = ?", node_id)
        record = self._read(rows[0][0]) if rows else None
        assert record is None or isinstance(record, NodeRecord)
        return record

    # --- a controller -------------------------------------------------------------------------------------------------

    def transactions(self, controller_id: bytes) -> dict[bytes, Transaction | TidReservation]:
        """Return what an SBR has kept, by key."""
        kept: dict[bytes, Transaction | TidReservation] = {}
        for key, text in self._rows("SELECT key, record FROM transactions WHERE controller = ?", controller_id):
            record = self._read(text)
            assert isinstance(record, Transaction | TidReservation)
            kept[key] = record
        return kept

    def write_transactions(self, controller_id: bytes, rows: Sequence[Row]) -> None:
        """Write what an SBR asks for."""
        with self._changing():
            for row in rows:
                key = controller_id, row.key_of_row
                self._database.execute("DELETE FROM transactions WHERE controller = ? AND key = ?", key)
                if not isinstance(row, Gone):
                    self._database.execute("INSERT INTO transactions VALUES (?, ?, ?)", (*key, row.to_json()))

    def psk_of(self, flight1: bytes) -> bytes | None:
        """Return the PSK of a join by this flight 1, if it is done."""
        for (text,) in self._rows("SELECT record FROM transactions"):
            record = self._read(text)
            if isinstance(record, Transaction) and record.flight1 == flight1 and record.step is Step.DONE:
                return record.psk
        return None

    # --- a node -------------------------------------------------------------------------------------------------------

    def networks(self) -> list[KnownNetwork]:
        """Return the networks that this node was set up for."""
        found = []
        for network, setup, text in self._rows("SELECT network, setup, record FROM installation ORDER BY network"):
            record = self._read(text)
            assert isinstance(record, Installation)
            with self._told_damaged():
                data = json.loads(setup)
                places = tuple(ControllerPlace.read(one) for one in data["controllers"])
                found.append(KnownNetwork(network, str(data["node"]), places, record))
        return found

    def put_setup(self, setup: NodeSetup) -> None:
        """Write what an installer has brought, in the place of what was there of that network."""
        places = [one.told() for one in setup.controllers]
        told = json.dumps({"node": setup.node, "controllers": places})
        record = Installation(setup.node_id, setup.ik, tuple(one.controller_id for one in setup.controllers))
        with self._changing():
            self._database.execute(
                "INSERT OR REPLACE INTO installation VALUES (?, ?, ?)", (setup.network, told, record.to_json())
            )

    def write_installation(self, network: str, rows: Sequence[Row]) -> None:
        """Write what an SBI asks for."""
        with self._changing():
            for row in rows:
                assert isinstance(row, Installation)
                self._database.execute("UPDATE installation SET record = ? WHERE network = ?", (row.to_json(), network))

    def _read(self, text: str) -> Record:
        with self._told():
            return read_record(text)


class NodesNow(Mapping[bytes, NodeRecord]):
    """Is what an SBS has, as it is in the file now: who is enrolled and revoked meanwhile is seen."""

    def __init__(self, store: BootstrapStore) -> None:
        self._store: Final = store

    def __getitem__(self, node_id: bytes) -> NodeRecord:
        found = self._store.record_of(node_id)
        return ({} if found is None else {node_id: found})[node_id]

    def __iter__(self) -> Iterator[bytes]:
        return iter([node.record.node_id for node in self._store.nodes()])

    def __len__(self) -> int:
        return len(self._store.nodes())


class ControllersNow(Mapping[bytes, Controller]):
    """Is whom an SBS answers, as it is in the file now; read again when another program has changed that."""

    def __init__(self, store: BootstrapStore) -> None:
        self._store: Final = store
        self._version = -1
        self._known: dict[bytes, Controller] = {}

    def __getitem__(self, controller_id: bytes) -> Controller:
        return self._now()[controller_id]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def _now(self) -> dict[bytes, Controller]:
        """A stranger's datagram costs no more than the question whether anything has changed."""
        if (version := self._store.version) != self._version:
            self._known = {key: one.controller for key, one in self._store.controllers().items()}
            self._version = version
        return self._known
