"""What an installer carries to a node: who it is, its IK, and where its controllers are. A file of its owner's alone.

{"format": "bt-selfsecure bootstrap setup", "version": 1, "network": "home", "node": "lamp", "node_id": "8f...",
 "ik": "...", "controllers": [{"name": "hall", "id": "c0...", "nid": "udp:192.0.2.1:5702", "address": "B8:27:...",
 "udp": ""}]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from bt_selfsecure.addresses import is_address
from bt_selfsecure.bearers.places import parse_place
from bt_selfsecure.bootstrap.nid import parse_nid
from bt_selfsecure.errors import UnreadableError, UsageError
from bt_selfsecure.files import private
from bt_selfsecure.node.config import NAME
from bt_selfsecure.protocols.bootstrap import limits
from bt_selfsecure.protocols.bootstrap.config import Controller
from bt_selfsecure.sansio.value import value

FORMAT: Final = "bt-selfsecure bootstrap setup"
CONTROLLER_FORMAT: Final = "bt-selfsecure bootstrap controller"
VERSION: Final = 1


@value
class ControllerPlace:
    """Says where a controller is: for flight 5, and as a peer of the node."""

    name: str
    controller_id: bytes
    nid: str
    """As in "udp:192.0.2.1:5702" or "bt:B8:27:EB:12:34:56"."""
    address: str = ""
    """Its Bluetooth device address, or its node's; empty where there is to be no peer."""
    udp: str = ""
    """Where its node listens, if that has no radio."""

    def told(self) -> dict[str, str]:
        """Return it as a JSON object."""
        return {
            "name": self.name,
            "id": self.controller_id.hex(),
            "nid": self.nid,
            "address": self.address,
            "udp": self.udp,
        }

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> ControllerPlace:
        """Return what `told` told. Raises `ValueError`, `KeyError`, `TypeError` or `UsageError` for anything else."""
        name, address, udp = str(data["name"]), str(data["address"]), str(data["udp"])
        if not NAME.accepts(name) or (address and not is_address(address)):
            raise UnreadableError("no name or no address")
        if udp:
            parse_place(udp)
        parse_nid(str(data["nid"]))
        return cls(name, of_size(data["id"], limits.ID_BYTES), str(data["nid"]), address, udp)


@value
class NodeSetup:
    """Holds all of a setup."""

    network: str
    node: str
    node_id: bytes
    ik: bytes = field(repr=False)
    controllers: tuple[ControllerPlace, ...]

    def to_json(self) -> str:
        """Return the text above. It holds IK."""
        data = {
            "format": FORMAT,
            "version": VERSION,
            "network": self.network,
            "node": self.node,
            "node_id": self.node_id.hex(),
            "ik": self.ik.hex(),
            "controllers": [one.told() for one in self.controllers],
        }
        return json.dumps(data, indent=1) + "\n"

    @classmethod
    def from_file(cls, path: Path) -> NodeSetup:
        """Return the setup in a file. Raises `UsageError` where it is none, or others may read it."""
        data = _read(path, FORMAT, "bootstrap enrol at the server writes one")
        try:
            network, node = str(data["network"]), str(data["node"])
            if not NAME.accepts(network) or not NAME.accepts(node) or not data["controllers"]:
                raise UnreadableError("no name, or no controller")
            return cls(
                network,
                node,
                of_size(data["node_id"], limits.ID_BYTES),
                of_size(data["ik"], limits.KEY_BYTES),
                tuple(ControllerPlace.read(one) for one in data["controllers"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, UsageError):
            raise _damaged(path) from None


def controller_json(place: ControllerPlace, controller: Controller) -> str:
    """Return what a controller in a process of its own needs. It holds SK_cs."""
    data = {
        "format": CONTROLLER_FORMAT,
        "version": VERSION,
        **place.told(),
        "sk_cs": controller.sk_cs.hex(),
        "domain": controller.domain,
    }
    return json.dumps(data, indent=1) + "\n"


def controller_from_file(path: Path) -> tuple[ControllerPlace, Controller]:
    """Return the place and the keys of a controller. Raises `UsageError` as `NodeSetup.from_file`."""
    data = _read(path, CONTROLLER_FORMAT, "bootstrap serve --add-controller NAME --out FILE writes one")
    try:
        sk_cs = of_size(data["sk_cs"], limits.KEY_BYTES)
        place = ControllerPlace.read(data)
        return place, Controller(place.controller_id, sk_cs, str(data["domain"]))
    except (ValueError, KeyError, TypeError, UsageError):
        raise _damaged(path) from None


def of_size(text: Any, size: int) -> bytes:
    """Return the bytes that so many hexadecimal digits say. Raises `ValueError` or `TypeError`."""
    data = bytes.fromhex(text)
    if len(data) != size:
        raise UnreadableError("another size")
    return data


def _read(path: Path, kind: str, how: str) -> dict[str, Any]:
    try:
        data = json.loads(private(path))
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or (data.get("format"), data.get("version")) != (kind, VERSION):
        raise UsageError(f"{path} is no file of {kind!r}, version {VERSION}: {how}")
    return data


def _damaged(path: Path) -> UsageError:
    return UsageError(f"{path} is damaged: copy it again, or let it be written anew")
