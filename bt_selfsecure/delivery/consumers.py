"""To whom keys are handed: one class a program. None of them shows a key to other users, in arguments or in a log."""

from __future__ import annotations

import base64
import json
import re
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from os import environ
from pathlib import Path
from typing import Final

from bt_selfsecure.delivery.follow import Consumer, Delivery, Lost
from bt_selfsecure.errors import UsageError
from bt_selfsecure.files import private, write_private

WIREGUARD_BYTES: Final = 32
OSCORE_BYTES: Final = 32
COMMAND_S: Final = 30.0
"""A program that is called has so long."""
_GENERATION: Final = re.compile(r"[0-9a-f]+\.[0-9]+")


class KeyFile:
    """Puts each key into a file, for its owner alone, in the place of the one before."""

    def __init__(self, path: Path, form: str = "raw") -> None:
        """`form` is "raw", "hex" or "base64"; the last two end in a newline."""
        self._path, self._form = path, form

    def take(self, delivery: Delivery) -> None:
        write_private(self._path, formed(delivery.key, self._form))

    def lost(self, lost: Lost) -> None:
        """Leave the file; `--run` is told."""


def formed(key: bytes, form: str) -> bytes:
    """Return a key as bytes ("raw"), or as a line of "hex" or "base64"."""
    if form == "raw":
        return key
    return (key.hex() if form == "hex" else base64.b64encode(key).decode()).encode() + b"\n"


class WireGuard:
    """Sets the preshared key of one peer of a WireGuard interface, beside its own keys.

    It counts from the next handshake on, up to 120 s later; until then all goes on. Where the peer is lost it becomes a
    random one: what comes after the handshake in use has ended (180 s) then needs the node's peer again.
    """

    def __init__(self, interface: str, public_key: str | None) -> None:
        if public_key is None:
            raise UsageError("--wireguard takes --public-key, too: that of the peer, as `wg show` names it")
        try:
            whole = len(base64.b64decode(public_key, validate=True)) == WIREGUARD_BYTES
        except ValueError:
            whole = False
        if not whole:
            raise UsageError(
                f"{public_key!r} is no public key of WireGuard: take what `wg pubkey` prints, 44 characters"
            )
        if shutil.which("wg") is None:
            raise UsageError("there is no `wg` here: sudo apt install wireguard-tools")
        self._interface: Final = interface
        self._public_key: Final = public_key

    def take(self, delivery: Delivery) -> None:
        self._set(delivery.key)

    def lost(self, lost: Lost) -> None:
        self._set(secrets.token_bytes(WIREGUARD_BYTES))

    def _set(self, key: bytes) -> None:
        """`wg` would make a peer of a key that is none's, and the one that is meant would go without."""
        if self._public_key not in run(["wg", "show", self._interface, "peers"], b"").decode().split():
            raise UsageError(
                f"{self._interface} has no peer {self._public_key}: give --public-key as `wg show {self._interface} "
                "peers` names it; it is the other end's key"
            )
        words = ["wg", "set", self._interface, "peer", self._public_key, "preshared-key", "/dev/stdin"]
        run(words, formed(key, "base64"))


class OscoreFolder:
    """Makes a context folder of OSCORE (RFC 8613) for each generation, as aiocoap reads it, and the link `current` to
    the newest; the one before stays, for what is under way. The ids are 00 and 01: the first is that of the end with
    the lower device address."""

    def __init__(self, folder: Path, *, is_lower: bool) -> None:
        self._folder = folder
        own, other = ("00", "01") if is_lower else ("01", "00")
        self._ids: Final = {"sender-id_hex": own, "recipient-id_hex": other}

    def take(self, delivery: Delivery) -> None:
        chain, _, number = delivery.generation.partition(".")
        settings = self._ids | {"secret_hex": delivery.key.hex(), "id-context_hex": f"{chain}{int(number):08x}"}
        file = self._folder / delivery.generation / "settings.json"
        if not file.exists():
            write_private(file, json.dumps(settings).encode() + b"\n")
        link, newest = self._folder / ".current", self._folder / "current"
        try:
            before = newest.readlink().name if newest.is_symlink() else ""
            if before == delivery.generation:
                return
            link.unlink(missing_ok=True)
            link.symlink_to(delivery.generation)
            link.replace(newest)
            for context in self._contexts():
                if context.name not in (before, delivery.generation):
                    (context / "settings.json").unlink(missing_ok=True)  # it first, lest its numbers begin anew
                    shutil.rmtree(context)
        except OSError as error:
            raise UsageError(f"can't write to {self._folder} ({error.strerror}): name a folder of yours") from None

    def _contexts(self) -> Sequence[Path]:
        return [path for path in self._folder.iterdir() if _GENERATION.fullmatch(path.name) and path.is_dir()]

    def lost(self, lost: Lost) -> None:
        """Leave what there is: OSCORE has its own replay window, and no peer to ask."""


class CoapIdentities:
    """Writes the file of DTLS-PSK keys that libcoap's server reads at its start (`-i`): the newest two generations,
    each under its own identity. libcoap takes keys as text, so the key is that of its hexadecimal digits."""

    def __init__(self, path: Path, hint: str = "") -> None:
        self._path, self._hint = path, hint

    def take(self, delivery: Delivery) -> None:
        others = [line for line in self._lines() if line.split(",")[1] != delivery.generation]
        line = f"{self._hint},{delivery.generation},{delivery.key.hex()}"
        write_private(self._path, "".join(f"{each}\n" for each in (*others[-1:], line)).encode())

    def _lines(self) -> Sequence[str]:
        """Of an earlier run, too."""
        if not self._path.exists():
            return []
        lines = private(self._path).decode(errors="replace").splitlines()
        return [line for line in lines if line.count(",") == 2 and _GENERATION.fullmatch(line.split(",")[1])]

    def lost(self, lost: Lost) -> None:
        """Leave it: what the server has read it has."""


class StrongSwan:
    """Gives strongSwan a postquantum preshared key (RFC 8784) of this id, by vici. Where the peer is lost it is taken
    away, so that a connection with `ppk_required` makes no new IKE_SA."""

    def __init__(self, ppk_id: str, socket: str = "/run/charon.vici") -> None:
        try:
            import vici
        except ImportError:
            raise UsageError("vici is not installed: pip install 'bt-selfsecure[strongswan]'") from None
        self._id, self._socket, self._vici = ppk_id, socket, vici

    def take(self, delivery: Delivery) -> None:
        self._ask("load_shared", {"id": self._unique, "type": "ppk", "data": delivery.key, "owners": [self._id]})

    def lost(self, lost: Lost) -> None:
        self._ask("unload_shared", {"id": self._unique})

    @property
    def _unique(self) -> str:
        return f"bt-selfsecure-{self._id}"

    def _ask(self, what: str, fields: Mapping[str, object]) -> None:
        import socket as sockets

        with sockets.socket(sockets.AF_UNIX) as connection:
            try:
                connection.connect(self._socket)
                getattr(self._vici.Session(connection), what)(dict(fields))
            except OSError as error:
                raise UsageError(
                    f"strongSwan does not answer on {self._socket} ({error.strerror}): is it running, and are you root?"
                ) from None
            except Exception as error:  # vici's own are below Exception alone
                raise UsageError(f"strongSwan refuses the key: {error}") from None


class RunCommand:
    """Runs a command of the user's after each delivery, and where the peer is lost. It is told by BTSS_EVENT (`key` or
    `lost`), BTSS_PEER, BTSS_GENERATION, and never the key itself."""

    def __init__(self, text: str) -> None:
        try:
            self._words: Final = shlex.split(text)
        except ValueError as error:
            raise UsageError(f"--run can't be read ({error}): quote it as for a shell") from None
        if not self._words or shutil.which(self._words[0]) is None:
            raise UsageError(f"--run names no program that can be run: {text!r}")

    def take(self, delivery: Delivery) -> None:
        run(self._words, b"", BTSS_EVENT="key", BTSS_PEER=delivery.peer, BTSS_GENERATION=delivery.generation)

    def lost(self, lost: Lost) -> None:
        run(self._words, b"", BTSS_EVENT="lost", BTSS_PEER=lost.peer, BTSS_GENERATION="")


def run(words: Sequence[str], given: bytes, **told: str) -> bytes:
    """Run a program with this on its standard input, and return what it printed. Raises `UsageError` where it fails, or
    takes too long."""
    try:
        done = subprocess.run(
            words, input=given, capture_output=True, timeout=COMMAND_S, env=environ | told, check=False
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"{words[0]} has not ended within {COMMAND_S:.0f} s: it is stopped") from None
    except OSError as error:
        raise UsageError(f"can't run {words[0]} ({error.strerror})") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(f"{' '.join(words[:4])} failed with {done.returncode}{': ' + said[-1][:200] if said else ''}")
    return done.stdout


Consumers = Sequence[Consumer]
