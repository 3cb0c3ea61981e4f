"""Keys for other programs: a chain beside the session, and the generation of it that both ends hold. Sans-IO.

    X_0     = Expand(K_0, "btss export")
    X_{g+1} = Expand(X_g, "btss export next")
    key     = Expand(X_g, "btss export key " || label)         of generation g

An end says in a message of the session (port 13) that it holds a generation, and forgets the one before when it has
heard the same of the peer. So a key is given to a program only where the other end can give it, too. Who is behind goes
forward to what the peer says; nobody goes back.
"""

from __future__ import annotations

from dataclasses import field, replace
from typing import Any, Final

from bt_selfsecure.crypto import hkdf_expand
from bt_selfsecure.errors import LocalError, UnreadableError
from bt_selfsecure.sansio.value import value

PORT: Final = 13
"""Of the session's messages that are about generations."""
NAME_BYTES: Final = 8
MAX_KEY_BYTES: Final = 1024
MAX_LABEL_BYTES: Final = 64
MOST_AHEAD: Final = 1 << 16
"""A peer is followed over so many generations at once, and no further: each takes two hashes."""
_VERSION: Final = 1
_GENERATION_BYTES: Final = 4
_LAST: Final = (1 << 8 * _GENERATION_BYTES) - 1


@value
class Generation:
    """Is one link X_g of the chain that begins with a K_0."""

    name: bytes
    """Of the chain: Expand(X_0, "btss export name", 8), which tells nothing of it."""
    number: int
    """g."""
    root: bytes = field(repr=False)
    """X_g, 32 bytes."""

    @classmethod
    def first(cls, export_root: bytes) -> Generation:
        """Return that of X_0."""
        return cls(hkdf_expand(export_root, b"btss export name", NAME_BYTES), 0, export_root)

    def at(self, number: int) -> Generation:
        """Return a later one of the same chain, or this one."""
        root = self.root
        for _ in range(number - self.number):
            root = hkdf_expand(root, b"btss export next")
        return replace(self, number=number, root=root)

    @property
    def id(self) -> str:
        """Name it as both ends do: the chain in hex, a dot, and g."""
        return f"{self.name.hex()}.{self.number}"

    def key(self, label: str, length: int = 32) -> bytes:
        """Return the key of this label, of so many bytes. Raises `UnreadableError` for a label of none or more than
        `MAX_LABEL_BYTES` bytes, `LocalError` for a length that is not 1 to `MAX_KEY_BYTES`."""
        if not 1 <= length <= MAX_KEY_BYTES:
            raise LocalError(f"an exported key has 1 to {MAX_KEY_BYTES} bytes, not {length}")
        return hkdf_expand(self.root, b"btss export key " + checked(label), length)

    @property
    def held(self) -> bytes:
        """Return the message that says that this end holds it: version, name, g; 13 bytes."""
        return bytes([_VERSION]) + self.name + self.number.to_bytes(_GENERATION_BYTES)


def checked(label: str) -> bytes:
    """Return a label's bytes. Raises `UnreadableError`, which says what it must be."""
    name = label.encode()
    if not 1 <= len(name) <= MAX_LABEL_BYTES:
        raise UnreadableError(f"a text of 1 to {MAX_LABEL_BYTES} bytes")
    return name


def parse_held(message: bytes) -> tuple[bytes, int] | None:
    """Read `Generation.held`: the chain's name, and g; None for what is none."""
    if len(message) != 1 + NAME_BYTES + _GENERATION_BYTES or message[0] != _VERSION:
        return None
    return message[1 : 1 + NAME_BYTES], int.from_bytes(message[1 + NAME_BYTES :])


@value
class KeptGenerations:
    """Holds what of it must be on disk before anything of it is said."""

    fresh: Generation | None = None
    """Of the K_0 that the session uses, from which nobody wanted a key."""
    offered: Generation | None = None
    """Of a K_0 that the session does not use yet, and may never: the peer may not have it."""
    newest: Generation | None = None
    """Which this end holds, and says so."""
    agreed: Generation | None = None
    """Which the peer said that it holds, too: the newest, or the one before."""
    wanted: bool = False
    """Whether a program here or there has asked for a key."""

    def to_fields(self) -> dict[str, Any]:
        """Return it as fields of JSON."""
        of = {"fresh": self.fresh, "offered": self.offered, "newest": self.newest, "agreed": self.agreed}
        links = {name: [one.name.hex(), one.number, one.root.hex()] for name, one in of.items() if one}
        return links | {"wanted": self.wanted}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> KeptGenerations:
        """Read what `to_fields` has written. Raises `ValueError`, `KeyError` or `TypeError` for anything else."""
        links = {}
        for which in ("fresh", "offered", "newest", "agreed"):
            if which in fields:
                name, number, root = fields[which]
                links[which] = Generation(bytes.fromhex(name), int(number), bytes.fromhex(root))
        return cls(**links, wanted=bool(fields["wanted"]))


class Generations:
    """Follows one peer's. What `receive` and the wishes change is in `kept`; `to_say` is the message that is to go to
    the peer then, once `kept` is on disk, or with it."""

    def __init__(self, kept: KeptGenerations) -> None:
        self.kept = kept
        self.to_say: bytes = b""

    @property
    def agreed(self) -> Generation | None:
        """Return the generation that both ends hold, whose keys may be used; None where there is none."""
        return self.kept.agreed

    def offer(self, export_root: bytes, *, continues: bool) -> None:
        """Take X_0 of a K_0 that was agreed on; `use` when the session has gone over to it. Unless it `continues` the
        key before it, whose continuity key then is in it, the peer may be another one: nothing is held in common."""
        agreed = self.kept.agreed if continues else None
        fresh, offered = (self.kept.fresh, Generation.first(export_root)) if export_root else (None, None)
        self.kept = replace(self.kept, fresh=fresh, offered=offered, agreed=agreed)

    def use(self) -> None:
        """Take note that both ends use the K_0 of the last `offer`."""
        if self.kept.offered:
            self._go_over()
        if self.kept.wanted:
            self._begin()

    def want(self) -> None:
        """Take note that a program here asks for a key."""
        if not self.kept.wanted:
            self.kept = replace(self.kept, wanted=True)
        if self.kept.newest is None:
            self._begin()

    def rotate(self) -> bool:
        """Go on to the next generation; return whether that is possible: the peer must have come to the last one."""
        newest = self.kept.newest
        if newest is None or newest != self.kept.agreed or newest.number == _LAST:
            return False
        self._hold(newest.at(newest.number + 1))
        return True

    def say_again(self) -> None:
        """Say what this end holds: the peer may have forgotten, or this end that it said so."""
        if self.kept.newest and self.kept.wanted:
            self.to_say = self.kept.newest.held

    def receive(self, message: bytes) -> bool:
        """Take what the peer says; return whether another generation is agreed on by it. Whatever is no such message,
        or of a chain that this end has not, changes nothing."""
        held = parse_held(message)
        if held is None:
            return False
        name, number = held
        if self.kept.offered and name == self.kept.offered.name:  # the peer uses that K_0
            self._go_over()
        if self.kept.fresh and name == self.kept.fresh.name:
            self.kept = replace(self.kept, wanted=True)
            self._begin()
        newest = self.kept.newest
        if newest is None or name != newest.name or not 0 <= number - newest.number <= MOST_AHEAD:
            return False
        if number > newest.number:
            newest = newest.at(number)
            self._hold(newest)
        if self.kept.agreed == newest:
            return False
        self.kept = replace(self.kept, agreed=newest)
        return True

    def _go_over(self) -> None:
        """The K_0 of the last `offer` is in use."""
        self.kept = replace(self.kept, fresh=self.kept.offered, offered=None)

    def _begin(self) -> None:
        if self.kept.fresh:
            self._hold(self.kept.fresh)
            self.kept = replace(self.kept, fresh=None)

    def _hold(self, generation: Generation) -> None:
        self.kept = replace(self.kept, newest=generation)
        self.to_say = generation.held
