"""Uses the local API of a running node. Standard library only: on a Pi Zero every import is felt."""

from __future__ import annotations

import binascii
import json
import os
import time
from _thread import _local  # as `threading` has it, which takes a twentieth of what Python takes to start
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.unix_http import HttpAnswer, StoppedError, UnixHttpConnection, query, quoted

if TYPE_CHECKING:
    from bt_selfsecure.node.messages import Received

ANSWER_S: Final = 30.0
"""A node answers at once, beyond what it is asked to wait for."""
PATIENCE_S: Final = 60.0
"""A node that was restarted is back by then, also on a Pi Zero."""
RETRY_S: Final = 0.5
LONGEST_S: Final = 86_400.0
"""As long as the API waits for an acknowledgement at most."""


class ApiError(UsageError):
    """The node has refused: the text is its own words."""

    def __init__(self, status: int, text: str, retry_after: float = 1.0) -> None:
        super().__init__(text)
        self.status = status
        """Of HTTP."""
        self.retry_after = retry_after
        """Seconds after which trying again is worth it, where status is 429."""


class NodeAwayError(UsageError):
    """There is no node that answers; perhaps it is just starting anew."""


class _Answer(dict[str, Any]):
    """A JSON object of a node; one of another version may lack what this one has."""

    def __missing__(self, key: str) -> Any:
        raise UsageError(f"the node's answer has no {key}, so it is of another version: restart it")


class NodeClient:
    """Asks a running node, by its socket. Every call raises `NodeAwayError` or `ApiError`, or `UsageError` for a socket
    that can't be used. Each thread that uses it keeps a connection from one call to the next."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = fspath(path)
        self._kept = _local()

    def close(self) -> None:
        """End this thread's connection; the next call opens another."""
        if connection := getattr(self._kept, "connection", None):
            connection.close()

    def status(self) -> dict[str, Any]:
        return self._object("GET", "/v1/status")

    def peers(self) -> list[dict[str, Any]]:
        peers: list[dict[str, Any]] = self._object("GET", "/v1/peers")["peers"]
        return peers

    def metrics(self) -> str:
        """Return the node's figures in Prometheus's text format."""
        return self._request("GET", "/v1/metrics").decode()

    def log_level(self, level: str | None = None) -> str:
        """Return the log level of the running node; with `level`, set it first, until the node ends."""
        method, which = ("PUT", query(level=level)) if level else ("GET", "")
        now: str = self._object(method, "/v1/log-level" + which)["level"]
        return now

    def establish(self, peer: str, *, wait: bool = False, without_continuity: bool = False) -> dict[str, Any]:
        """Agree on a new key, and return how that ended, however long it takes; with `wait` the other end begins it."""
        wishes = {"wait": wait, "without_continuity": without_continuity}
        how = query(**{name: "true" for name, wished in wishes.items() if wished}) if any(wishes.values()) else ""
        return self._object("POST", f"/v1/peers/{quoted(peer)}/establish{how}", wait=LONGEST_S)

    def confirm(self, peer: str, string: str) -> dict[str, Any]:
        """Say that the other end shows this string, or with the empty one that it shows another; return the outcome."""
        how = query(string=string) if string else query(differs="true")
        return self._object("POST", f"/v1/peers/{quoted(peer)}/confirm{how}")

    def key(
        self,
        peer: str,
        label: str,
        *,
        length: int = 32,
        after: str = "",
        rotate: bool = False,
        timeout: float = 60.0,
    ) -> dict[str, Any]:
        """Return a key for another program, as `ExportedKey` in api_types.py with `key` in bytes, as soon as both ends
        hold its generation. Raises `ApiError` with status 504 where that takes longer."""
        wishes = {"after": after} if after else {}
        wishes |= {"rotate": "true"} if rotate else {}
        how = query(label=label, bytes=length, timeout=f"{timeout:f}", **wishes)
        told = self._object("POST", f"/v1/peers/{quoted(peer)}/key{how}", wait=timeout)
        told["key"] = binascii.a2b_base64(told["key"])
        return told

    def groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = self._object("GET", "/v1/groups")["groups"]
        return groups

    def create_group(self, group: str, peers: Iterable[str]) -> dict[str, Any]:
        """Begin a group of these peers, and return it, after the burst that they share."""
        how = query(members=",".join(peers))
        return self._object("POST", f"/v1/groups/{quoted(group)}{how}", wait=LONGEST_S)

    def change_group(self, group: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> dict[str, Any]:
        """Change who is in a group, and return it."""
        how = query(add=",".join(add), remove=",".join(remove))
        return self._object("POST", f"/v1/groups/{quoted(group)}/members{how}", wait=LONGEST_S)

    def send_to_group(self, group: str, message: bytes) -> int:
        """Send to all members by one broadcast, and return the message's number once it is durable here."""
        number: int = self._object("POST", f"/v1/groups/{quoted(group)}/messages", message)["id"]
        return number

    def end_group(self, group: str, *, leave: bool = False) -> None:
        """Delete a group of this node's, or be no member any more of another's."""
        self._request("DELETE", f"/v1/groups/{quoted(group)}{query(leave='true') if leave else ''}")

    def scan(self, seconds: float) -> list[dict[str, Any]]:
        nodes: list[dict[str, Any]] = self._object("POST", "/v1/scan" + query(seconds=f"{seconds:f}"), wait=seconds)[
            "nodes"
        ]
        return nodes

    def send(self, peer: str, message: bytes, *, port: int = 0, until: str = "durable", timeout: float = 60.0) -> int:
        """Send a message, and return its number once it is `durable` here or `acknowledged` by the peer. Raises
        `UsageError` for a message that is no bytes."""
        if not isinstance(message, bytes | bytearray):
            raise UsageError(f"a message is bytes, and this is {type(message).__name__}: encode a text first")
        path = f"/v1/peers/{quoted(peer)}/messages" + query(port=port, until=until, timeout=f"{timeout:f}")
        wait = timeout if until == "acknowledged" else 0.0
        number: int = self._object("POST", path, message, wait=wait)["id"]
        return number

    def receive(
        self, *, peer: str | None = None, port: int = 0, follow: bool = False
    ) -> Generator[Received, None, None]:
        """Yield the messages that nobody acknowledged yet; with `follow` it goes on until the node stops."""
        from bt_selfsecure.node.messages import Received

        which = {"port": port, "follow": str(follow).lower()} | ({"peer": peer} if peer else {})
        with closing(UnixHttpConnection(self._path)) as connection, _in_one_line(self._path):
            answer = self._ask(connection, "GET", "/v1/messages" + query(**which))
            if follow:
                connection.wait_without_end()
            try:
                for line in answer.lines():
                    fields = json.loads(line, object_hook=_Answer)
                    message, age = binascii.a2b_base64(fields["message"]), fields.get("age_s")
                    yield Received(
                        fields["id"],
                        fields["peer"],
                        fields["port"],
                        fields["time"],
                        message,
                        age,
                        fields.get("group", ""),
                    )
            except StoppedError:
                if not follow:
                    raise

    def connection(self) -> UnixHttpConnection:
        """Return a connection for one stream, which another thread may end."""
        return UnixHttpConnection(self._path)

    def pair(
        self, way: str, carried: bytes = b"", *, over: UnixHttpConnection | None = None, **more: str
    ) -> Generator[dict[str, Any], None, None]:
        """Pair with a device: `carried` is what was read of it, empty where this node is to show something; `more` is
        as in `PairQuery`. Yield `PairingLine`s; who stops before the last one, or ends `over`, has given up."""
        with closing(over or self.connection()) as connection, _in_one_line(self._path):
            given = {name: value for name, value in more.items() if value}
            answer = self._ask(connection, "POST", "/v1/pair" + query(way=way, **given), carried)
            connection.wait_without_end()
            for line in answer.lines():
                yield json.loads(line, object_hook=_Answer)

    def compared(self, *, same: bool, string: str = "") -> None:
        """Say whether both ends of the pairing that is under way show the same string, as this one."""
        given = {"string": string} if string else {}
        self._request("POST", "/v1/pair/compared" + query(same=str(same).lower(), **given))

    def forget(self, peer: str) -> None:
        """Let a peer go that was paired."""
        self._request("DELETE", f"/v1/paired/{quoted(peer)}")

    def follow(self, *, peer: str | None = None, port: int = 0) -> Generator[Received, None, None]:
        """Yield as `receive` does, without end: a node that is restarted is waited for, and shows again what was not
        acknowledged."""
        while True:
            try:
                yield from self.receive(peer=peer, port=port, follow=True)
            except NodeAwayError as error:
                self.wait(error)

    def wait(self, error: NodeAwayError) -> None:
        """Wait until the node is back; where it does not come, raise what hinders it now, not what did at first."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            time.sleep(RETRY_S)
            try:
                self.status()
            except NodeAwayError as newer:
                error = newer
            else:
                return
        raise error

    def acknowledge(self, number: int) -> None:
        """Let the node forget this message, which was taken care of."""
        self._request("DELETE", f"/v1/messages/{number}")

    def _object(self, method: str, path: str, body: bytes | None = None, wait: float = 0.0) -> dict[str, Any]:
        with _in_one_line(self._path):
            return _Answer(json.loads(self._request(method, path, body, wait), object_hook=_Answer))

    def _request(self, method: str, path: str, body: bytes | None = None, wait: float = 0.0) -> bytes:
        connection = self._kept.connection = getattr(self._kept, "connection", None) or UnixHttpConnection(self._path)
        with _in_one_line(self._path):
            try:
                return self._ask(connection, method, path, body, wait).read()
            except ApiError:
                raise  # a whole answer
            except BaseException:
                connection.close()
                raise

    @staticmethod
    def _ask(
        connection: UnixHttpConnection, method: str, path: str, body: bytes | None = None, wait: float = 0.0
    ) -> HttpAnswer:
        answer = connection.ask(method, path, body, ANSWER_S + wait)
        if answer.status >= 400:
            text = json.loads(answer.read())["error"]
            raise ApiError(answer.status, text, float(answer.headers.get("retry-after") or 1))
        return answer


@contextmanager
def _in_one_line(path: str) -> Iterator[None]:
    """Whatever goes wrong between here and the node, as a sentence with its remedy."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        raise NodeAwayError(
            f"no node runs on {path}: `systemctl status bt-selfsecure` says why, `bt-selfsecure node` runs one by hand"
        ) from None
    except PermissionError:
        raise UsageError(f"you may not use {path}: {_membership(path)}") from None
    except TimeoutError:
        raise NodeAwayError(f"the node on {path} does not answer: see `journalctl -u bt-selfsecure`") from None
    except OSError as error:
        if "path too long" in str(error):  # it has no errno
            raise UsageError(f"{path} is too long for a Unix socket: take a path of at most 107 bytes") from None
        raise NodeAwayError(f"the node on {path} ended in mid-sentence: see `systemctl status bt-selfsecure`") from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"what answers on {path} is no node: see --config, or restart it") from None


def _membership(socket: str) -> str:
    """How to become one who may."""
    import grp
    from pathlib import Path

    for folder in reversed((path := Path(socket)).parents):
        if not os.access(folder, os.X_OK):
            return f"its folder {folder} lets nobody else pass; chmod a+x it, or choose another [node] socket"
    try:
        group = grp.getgrgid(path.stat().st_gid).gr_name
    except (OSError, KeyError):
        return "only root and its group may; use sudo, or see [node] socket_group"
    return f"join its group with `sudo usermod -aG {group} $USER` and log in again"
