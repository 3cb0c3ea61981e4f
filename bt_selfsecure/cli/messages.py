"""`bt-selfsecure send`, `receive`, `pipe`: what programs and people exchange with a peer."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from bt_selfsecure.cli.client import CLEAR_LINE_END, client_parser, node_client, progress
from bt_selfsecure.cli.numbers import integer, real
from bt_selfsecure.cli.terminal import columns
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.message_limits import MAX_MESSAGE_BYTES, MAX_PORT

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from bt_selfsecure.node.messages import Received
    from bt_selfsecure.node.pipe import Pipe

MAX_TIMEOUT_S: Final = 86_400
PIPE_TEXT: Final = """\
Standard input goes to the peer, what comes from the peer to standard output,
like nc, with `pipe` running at both ends. It ends when both directions have
ended; exit status 0 says that the peer's node has everything. It survives a
restart of either node. Exit status 1: the other end was interrupted.
A file that came in part can be continued: append to it with >>."""
PIPE_EXAMPLE: Final = """\
example:
  bt-selfsecure pipe alice > photo.jpg < /dev/null     at bob
  bt-selfsecure pipe bob < photo.jpg                   at alice
"""
SEND_EXAMPLE: Final = """\
examples:
  echo "pump on" | bt-selfsecure send bob
  bt-selfsecure send bob photo.jpg --wait
"""
RECEIVE_EXAMPLE: Final = """\
examples:
  bt-selfsecure receive --follow --json | while read -r line; do ...; done
  bt-selfsecure receive --peer bob --count 1 --raw > photo.jpg
"""


def add_send(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `send`."""
    send = client_parser(
        commands,
        "send",
        "send a message to a peer",
        f"Send one message of at most {MAX_MESSAGE_BYTES:,} bytes. When the command returns it is on\n"
        "this machine's disk and will reach the peer; with --wait the peer has it.",
        SEND_EXAMPLE,
        _send,
    )
    send.add_argument("peer", metavar="PEER", help="name or address")
    send.add_argument("file", nargs="?", default="-", metavar="FILE", help="the message; - or nothing: standard input")
    send.add_argument("--wait", action="store_true", help="until the peer has it; exit status 1 if that takes too long")
    send.add_argument(
        "--timeout",
        type=real(above=0, most=MAX_TIMEOUT_S),
        default=60.0,
        metavar="S",
        help="seconds for --wait (default 60)",
    )
    _port(send)


def add_receive(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `receive`."""
    receive = client_parser(
        commands,
        "receive",
        "print received messages",
        "Print the messages that wait, oldest first. Each is acknowledged, and so\nforgotten by the node, "
        "only after it was written: none is lost if this ends.",
        RECEIVE_EXAMPLE,
        _receive,
    )
    receive.add_argument("--peer", metavar="PEER", help="of this peer only")
    receive.add_argument(
        "--count", type=integer(least=1), metavar="N", help="N at most; exit status 1 if there were fewer"
    )
    receive.add_argument(
        "--follow", action="store_true", help="wait for further ones, until Ctrl-C; survives a restart of the node"
    )
    form = receive.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object a line, the message in base64")
    form.add_argument("--raw", action="store_true", help="the bytes and nothing else")
    _port(receive)


def add_pipe(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `pipe`."""
    pipe = client_parser(commands, "pipe", "a stream in each direction, like nc", PIPE_TEXT, PIPE_EXAMPLE, _pipe)
    pipe.add_argument("peer", metavar="PEER", help="name or address")


def _port(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--port",
        type=integer(least=0, most=MAX_PORT),
        default=0,
        metavar="N",
        help="0..63, to keep programs apart (default 0)",
    )


# --- send -------------------------------------------------------------------------------------------------------------


def _send(args: Namespace) -> int:
    from bt_selfsecure.node.client import ApiError

    client, message = node_client(args), read_message(args.file)
    until = "acknowledged" if args.wait else "durable"
    try:
        with progress(lambda: f"waiting for {args.peer}"):
            client.send(args.peer, message, port=args.port, until=until, timeout=args.timeout)
    except ApiError as error:
        if error.status != 504:
            raise
        print(f"bt-selfsecure: {error}", file=sys.stderr)
        return 1
    return 0


def read_message(file: str) -> bytes:
    """Return what is in this file, or on standard input for "-". Raises `UsageError`."""
    try:
        if file == "-":
            message = sys.stdin.buffer.read(MAX_MESSAGE_BYTES + 1)
        else:
            with open(file, "rb") as opened:  # noqa: PTH123  (pathlib takes a fifth of what Python takes to start)
                message = opened.read(MAX_MESSAGE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"can't read {file!r} ({error.strerror}): give a file, or - for standard input") from None
    if len(message) > MAX_MESSAGE_BYTES:
        raise UsageError(f"a message has at most {MAX_MESSAGE_BYTES:,} bytes: use `bt-selfsecure pipe` for more")
    return message


# --- receive ----------------------------------------------------------------------------------------------------------


def _receive(args: Namespace) -> int:
    from bt_selfsecure.node.client import NodeAwayError

    client = node_client(args)
    write = _write_raw if args.raw else _write_json if args.json else _write_text
    if args.follow:
        client.status()  # a node that is away from the beginning is not waited for
    messages = (client.follow if args.follow else client.receive)(peer=args.peer, port=args.port)
    done, written = 0, set()
    for received in messages:
        if received.id not in written:
            write(received)
            done += 1
        written.add(received.id)
        try:
            client.acknowledge(received.id)
        except NodeAwayError:
            if args.follow:  # it comes again
                continue
            raise
        written.remove(received.id)
        if done == args.count:
            messages.close()
            return 0
    return 0 if args.count is None else 1


def _write_raw(received: Received) -> None:
    _to_stdout(received.message)


def _write_json(received: Received) -> None:
    import base64
    import json

    line = received._asdict() | {"message": base64.b64encode(received.message).decode()}
    _to_stdout(json.dumps(line).encode() + b"\n")


def _write_text(received: Received) -> None:
    """For people: when, who, and the text without what would drive the terminal."""
    from bt_selfsecure.wording import printable

    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(received.time))
    text = received.message.decode(errors="backslashreplace").rstrip("\n")
    for line in text.split("\n"):
        _to_stdout(f"{when}  {received.peer}  {printable(line)}\n".encode(sys.stdout.encoding, "replace"))


def _to_stdout(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except UsageError as error:
        raise UsageError(f"{error}: the message stays in the node") from None


# --- pipe -------------------------------------------------------------------------------------------------------------


def _pipe(args: Namespace) -> int:
    from bt_selfsecure.addresses import spelled
    from bt_selfsecure.node.pipe import Pipe, PipeError

    client = node_client(args)
    if not any(peer["name"] == args.peer or peer["address"] == spelled(args.peer) for peer in client.peers()):
        raise UsageError(f"there is no peer {args.peer!r}: see `bt-selfsecure peers`")
    pipe = Pipe(client, args.peer, sys.stdin.fileno(), sys.stdout.fileno())
    tell = _Meter(args.peer)
    try:
        pipe.run(tell)
    except PipeError as error:
        pipe.abort()
        tell.clear()
        print(f"bt-selfsecure: {error}", file=sys.stderr)
        return 1
    except BaseException:
        pipe.abort()
        raise
    finally:
        tell.clear()
    return 0


class _Meter:
    """How much went where, on a terminal that shows nothing else: not where somebody types or reads the stream."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._shown = False
        self._start = time.monotonic()
        self._wanted = sys.stderr.isatty() and not (sys.stdin.isatty() and sys.stdout.isatty())

    def __call__(self, pipe: Pipe) -> None:
        if not self._wanted:
            return
        from bt_selfsecure.cli.status import duration

        state = ""
        if pipe.sent_all and pipe.received_all:
            state = f"; waiting until {self._peer} has it all"
        elif pipe.sent_all:
            state = "; all is sent" if pipe.sent else ""
        elif pipe.received_all:
            state = f"; {self._peer} has ended" + (", Ctrl-D ends this side" if sys.stdin.isatty() else "")
        seconds = duration(time.monotonic() - self._start)
        line = f"{_size(pipe.sent)} sent, {_size(pipe.received)} received, {seconds}{state}"[: columns() - 1]
        print("\r" + line + CLEAR_LINE_END, end="", file=sys.stderr, flush=True)
        self._shown = True

    def clear(self) -> None:
        if self._shown:
            print("\r" + CLEAR_LINE_END, end="", file=sys.stderr, flush=True)


def _size(count: int) -> str:
    """Bytes in decimal units, as disks and radios are sold by."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:,.0f} kB" if count < 1_000_000 else f"{count / 1e6:,.1f} MB"
