"""A key management entity: what ETSI GS QKD 014 asks of it, without HTTP. Its keys come from the node's peer.

Both KMEs have the node's key under a label that names master and slave, so each derives the keys of a generation by
itself; nothing passes between them but what the applications tell each other, the names.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any, Final

from bt_selfsecure.crypto import sha256
from bt_selfsecure.delivery.etsi014.api_types import (
    KEY_BITS,
    LEAST_BITS,
    MOST_BITS,
    MOST_KEYS,
    OCTET_BITS,
    EtsiKey,
    KmeStatus,
)
from bt_selfsecure.delivery.etsi014.key_ids import CHAIN_BYTES, MOST_GENERATION, MOST_INDEX, KeyId
from bt_selfsecure.delivery.etsi014.store import KeyStore
from bt_selfsecure.delivery.follow import Delivery, KeyWish, follow
from bt_selfsecure.errors import BtSelfSecureError, UsageError
from bt_selfsecure.node.client import NodeClient

MOST_STORED: Final = 1_000_000
"""What status tells at most: keys are derived when they are asked for."""
PATIENCE_S: Final = 5.0
"""A request waits so long for the node's peer."""
RETRY_S: Final = 2.0


class KmeError(BtSelfSecureError):
    """A request can't be answered: `status` is HTTP's, the text the standard's where it has one."""

    def __init__(self, status: int, text: str, **details: Any) -> None:
        super().__init__(text)
        self.status, self.details = status, details


@dataclass(frozen=True)
class KmePlace:
    """Says who is where: applications of this KME, and those of the other one with the node's peer there."""

    kme_id: str
    here: frozenset[str]
    there: Mapping[str, str]
    """Peer of the node by application (SAE) id."""


def label_of(master: str, slave: str) -> str:
    """Return the label of a pair's root; ids have any length, labels have not."""
    return "etsi014 " + sha256(len(master).to_bytes(4) + master.encode() + slave.encode()).hex()[:32]


class KeyManager:
    """Answers for the applications of `place`. Its verbs take the id that the caller's certificate has, and raise
    `KmeError`."""

    def __init__(self, client: NodeClient, store: KeyStore, place: KmePlace, rotate_s: float | None = None) -> None:
        self._client, self._store, self._place, self._rotate_s = client, store, place, rotate_s
        self._end = Event()
        self._followers: list[Thread] = []

    def status(self, master: str, slave: str) -> KmeStatus:
        """Return the standard's Status data format, table 5."""
        peer = self._peer(master, slave)
        stored, target = 0, ""
        try:
            generation = self._newest(peer, master, slave)
            stored = MOST_STORED - self._store.next_index(label_of(master, slave), generation)
        except KmeError:
            target = "unreachable"
        return {
            "source_KME_ID": self._place.kme_id,
            "target_KME_ID": target or peer,
            "master_SAE_ID": master,
            "slave_SAE_ID": slave,
            "key_size": KEY_BITS,
            "stored_key_count": max(0, stored),
            "max_key_count": MOST_STORED,
            "max_key_per_request": MOST_KEYS,
            "max_key_size": MOST_BITS,
            "min_key_size": LEAST_BITS,
            "max_SAE_ID_count": 0,
        }

    def enc_keys(self, master: str, slave: str, request: Mapping[str, Any]) -> list[EtsiKey]:
        """Return new keys for the master, by the Key request data format, table 6."""
        peer = self._peer(master, slave)
        number, size = _whole(request, "number", 1), _whole(request, "size", KEY_BITS)
        if size % OCTET_BITS:
            raise KmeError(400, "size shall be a multiple of 8")
        if not LEAST_BITS <= size <= MOST_BITS:
            raise KmeError(400, "size is out of range", min_key_size=LEAST_BITS, max_key_size=MOST_BITS)
        if not 1 <= number <= MOST_KEYS:
            raise KmeError(400, "number is out of range", max_key_per_request=MOST_KEYS)
        if _listed(request, "additional_slave_SAE_IDs", str):
            raise KmeError(400, "additional_slave_SAE_IDs are not supported", max_SAE_ID_count=0)
        _listed(request, "extension_optional", dict)
        if unsupported := _listed(request, "extension_mandatory", dict):
            raise KmeError(
                400,
                "not all extension_mandatory parameters are supported",
                extension_mandatory_unsupported=unsupported,
            )
        pair = label_of(master, slave)
        generation = self._newest(peer, master, slave)
        chain, _, count = generation.partition(".")
        if int(count) > MOST_GENERATION or self._store.next_index(pair, generation) + number > MOST_INDEX:
            raise KmeError(503, "the keys of this generation are used up")
        given = self._store.reserve(pair, generation, number, size // 8)
        chain = chain[: 2 * CHAIN_BYTES]
        return [_key(KeyId(chain, int(count), index, size // 8), key) for index, key in given]

    def dec_keys(self, slave: str, master: str, key_ids: Sequence[str]) -> list[EtsiKey]:
        """Return to the slave the keys of these names, each once, and all or none."""
        peer = self._peer(slave, master)
        names = [KeyId.parse(key_id) for key_id in key_ids]
        if not names:
            raise KmeError(400, "key_IDs is missing")
        missing = KmeError(400, "one or more keys specified are not found on KME")
        if len(names) > MOST_KEYS:
            raise KmeError(400, "number of key_IDs is out of range", max_key_per_request=MOST_KEYS)
        wanted = []
        for name in names:
            generation = self._generation(peer, master, slave, name) if name else None
            if name is None or generation is None:
                raise missing
            wanted.append((generation, name.place, name.size))
        keys = self._store.fetch(label_of(master, slave), wanted)
        if keys is None:
            raise missing
        return [_key(name, key) for name, key in zip(names, keys, strict=True) if name]

    # --- the node

    def start(self) -> None:
        """Follow the generations of all pairs, so that none is forgotten before its slave has asked."""
        for there, peer in self._place.there.items():
            for here in sorted(self._place.here):
                for master, slave in ((here, there), (there, here)):
                    wish = KeyWish(peer, label_of(master, slave), rotate_s=self._rotate_s)
                    thread = Thread(target=self._follow, args=(wish, label_of(master, slave)), daemon=True)
                    self._followers.append(thread)
                    thread.start()

    def stop(self) -> None:
        self._end.set()

    def _follow(self, wish: KeyWish, pair: str) -> None:
        while not self._end.is_set():
            try:
                for event in follow(self._client, wish):
                    if self._end.is_set():
                        return
                    if isinstance(event, Delivery):
                        self._store.keep(pair, event.generation, event.key)
            except UsageError:
                self._end.wait(RETRY_S)

    def _newest(self, peer: str, master: str, slave: str, after: str = "") -> str:
        try:
            told = self._client.key(peer, label_of(master, slave), after=after, timeout=PATIENCE_S)
        except UsageError as error:
            raise KmeError(503, f"no keys can be had from the other KME now: {error}") from None
        self._store.keep(label_of(master, slave), told["generation"], told["key"])
        return str(told["generation"])

    def _generation(self, peer: str, master: str, slave: str, name: KeyId) -> str | None:
        """The whole id of the generation that a name is of; the node is asked for one that is newer than all here."""

        def among_ours() -> str | None:
            ours = self._store.generations(label_of(master, slave))
            return next((each for each in ours if _is_of(name, each)), None)

        found = among_ours()
        if found is None:
            newest = self._newest(peer, master, slave)
            if not _is_of(name, newest) and _may_come(name, newest):
                with suppress(KmeError):
                    self._newest(peer, master, slave, after=newest)
            found = among_ours()
        return found

    def _peer(self, here: str, there: str) -> str:
        if here not in self._place.here:
            raise KmeError(401, f"{here[:64]!r} is no application of this KME")
        peer = self._place.there.get(there)
        if peer is None:
            raise KmeError(400, "unknown SAE_ID", SAE_ID=there)
        return peer


def _is_of(name: KeyId, generation: str) -> bool:
    chain, _, number = generation.partition(".")
    return chain[: 2 * CHAIN_BYTES] == name.chain and int(number) == name.generation


def _may_come(name: KeyId, newest: str) -> bool:
    chain, _, number = newest.partition(".")
    return chain[: 2 * CHAIN_BYTES] != name.chain or int(number) < name.generation


def _key(name: KeyId, key: bytes) -> EtsiKey:
    return {"key_ID": str(name), "key": base64.b64encode(key).decode()}


def _whole(request: Mapping[str, Any], name: str, default: int) -> int:
    value = request.get(name, default)
    if isinstance(value, float) and value.is_integer():  # in JSON 2.0 is an integer, too
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise KmeError(400, f"{name} shall be an integer")
    return value


def _listed(request: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    value = request.get(name, [])
    if not isinstance(value, list) or not all(isinstance(each, kind) for each in value):
        raise KmeError(400, f"{name} shall be an array of {'strings' if kind is str else 'objects'}")
    return value
