"""What the commands of `bootstrap` share: where their state is, and codes that are shown and read."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bt_selfsecure.cli.client import progress
from bt_selfsecure.cli.terminal import typed
from bt_selfsecure.errors import UnreadableError, UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from bt_selfsecure.bearers.places import Place
    from bt_selfsecure.bootstrap.store import BootstrapStore
    from bt_selfsecure.protocols.bootstrap.messages import Kind

MOST_LETTERS: Final = 4096
GIVEN_BACK_S: Final = 2.0
"""The channel that was sent on takes at most so long to end."""


def add_state(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="where keys are kept (default: /var/lib/bt-selfsecure-bootstrap for root, "
        "~/.local/state/bt-selfsecure/bootstrap)",
    )


def folder_of(args: Namespace) -> Path:
    from bt_selfsecure.bootstrap.store import default_folder

    given: Path | None = args.state
    return given or default_folder()


def opened(args: Namespace, *, make: bool = False) -> BootstrapStore:
    """Return the state that the options name. Raises `UsageError` where there is none and none is to be made."""
    from bt_selfsecure.bootstrap.store import FILE, BootstrapStore
    from bt_selfsecure.files import is_there

    folder = folder_of(args)
    if not make and not is_there(folder / FILE):
        raise UsageError(f"nothing was set up in {folder}: see bt-selfsecure bootstrap --help, or give --state")
    return BootstrapStore(folder)


def address(text: str) -> str:
    """Return a device address as it is spelled everywhere, for argparse."""
    from bt_selfsecure.addresses import is_address, spelled

    if not is_address(spelled(text)):
        raise ArgumentTypeError(f"{text!r} is no device address: write it as in B8:27:EB:12:34:56")
    return spelled(text)


def place(text: str) -> Place:
    """Return an address with a port, for argparse."""
    from bt_selfsecure.bearers.places import parse_place

    try:
        return parse_place(text)
    except UsageError as error:
        raise ArgumentTypeError(str(error)) from None


# --- codes ------------------------------------------------------------------------------------------------------------


def add_code(parser: ArgumentParser, what: str) -> None:
    parser.add_argument("code", nargs="?", metavar="CODE", help=f"{what}, in quotes: 'BTSS1:...'")
    parser.add_argument("--file", metavar="FILE", help="where it is: text, picture or .wav; - for standard input")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="write what is shown here, too: as .png, .svg, or sound in .wav"
    )
    by = parser.add_argument_group("other channels (light and sound are for everybody near)")
    by.add_argument(
        "--send", choices=("light", "sound", "nfc"), help="send what is shown here so, too, until this ends"
    )
    by.add_argument(
        "--receive", choices=("light", "sound", "nfc", "camera"), help=f"take {what} so; camera is for a QR code"
    )
    by.add_argument("--led", default="ACT", metavar="NAME", help="which LED (default ACT)")
    by.add_argument("--camera", default="", metavar="SOURCE", help="which camera, as in /dev/video0, or a video")
    by.add_argument("--reader", default="usb", metavar="READER", help="NFC, as nfcpy names it (default usb)")


@contextmanager
def sent(flight: bytes, args: Namespace) -> Iterator[Callable[[], str]]:
    """Send a flight by the channel that the options name, if one, for the time of the context. Yield how far it is, in
    words: empty where nothing is sent. Raises `UsageError` where that channel is not there."""
    from threading import Event, Thread

    from bt_selfsecure.cli import channels
    from bt_selfsecure.cli.pair import emitted
    from bt_selfsecure.oob.light import round_seconds
    from bt_selfsecure.oob.qr import CodeKind

    number, began, a_round = flight[1], time.monotonic(), round_seconds(len(flight))
    match args.send:
        case "light":
            emit = channels.by_light(args.led)
            print(f"The LED {args.led} blinks flight {number}, {a_round:.0f} s a round.", file=sys.stderr, flush=True)
        case "sound":
            emit = channels.by_sound()
        case "nfc":
            emit = channels.by_nfc(args.reader, CodeKind.KANG_FLIGHT)
        case _:
            yield str
            return

    def how_far() -> str:
        rounds, at = divmod(time.monotonic() - began, a_round)
        light = f", round {rounds + 1:.0f}: {at:.0f} of {a_round:.0f} s" if args.send == "light" else ""
        return f"sending flight {number} by {args.send}{light}"

    over = Event()
    thread = Thread(target=emitted, args=(emit, flight, over), daemon=True)
    thread.start()
    try:
        if args.send == args.receive == "nfc":  # a reader does one thing at a time
            with progress(lambda: f"hold the other reader to this one, for flight {number}"):
                while thread.is_alive():
                    thread.join(0.2)
        yield how_far
    finally:
        over.set()
        thread.join(GIVEN_BACK_S)  # the LED is as before


def until_ctrl_c(how_far: Callable[[], str]) -> None:
    """Go on with what is sent, if anything is, until a person ends it."""
    from threading import Event

    if how_far():
        with suppress(KeyboardInterrupt), progress(lambda: f"{how_far()}; Ctrl-C when it has arrived"):
            Event().wait()


def show(flight: bytes, args: Namespace, *lines: str) -> None:
    """Show a flight: on a terminal as a QR code, these lines and the code as text; else the code alone."""
    from bt_selfsecure.oob.qr import CodeKind, code_of, drawn, write_picture

    code = code_of(CodeKind.KANG_FLIGHT, flight)
    match args.write.suffix if args.write else None:
        case ".png" | ".svg" as suffix:
            write_picture(code, args.write, suffix[1:])
        case ".wav":
            from bt_selfsecure.oob.sound import write_sound

            write_sound(flight, args.write)
        case None:
            pass
        case _:
            raise UsageError(f"{args.write} is neither .png, .svg nor .wav: name a file of one of them")
    if sys.stdout.isatty():
        try:
            print(drawn(code, colours=True))
        except UsageError as error:
            print(f"(no QR code here: {error})")
        print(*lines, code, sep="\n", flush=True)
    else:
        print(code, flush=True)


def given_flight(args: Namespace, kind: Kind, prompt: str) -> bytes:
    """Return the flight that the options name, or that a person types at the prompt, as a code or as the path of a file
    with it. Raises `UsageError`."""
    if sum(way is not None for way in (args.code, args.file, args.receive)) > 1:
        raise UsageError("give a code, --file where it stands, or --receive, and not two of them")
    if args.receive is not None:
        return _received(args, kind)
    if args.code is not None:
        return read_flight(args.code, kind)
    if args.file not in (None, "-"):
        return _from_file(Path(args.file), kind)
    if args.file is None and sys.stdin.isatty():
        return _asked(kind, prompt)
    return read_flight(sys.stdin.readline(MOST_LETTERS), kind)


def _received(args: Namespace, kind: Kind) -> bytes:
    from bt_selfsecure.cli import channels
    from bt_selfsecure.oob.qr import CodeKind, code_of
    from bt_selfsecure.protocols.bootstrap.messages import SIZES, Profile

    size = SIZES[Profile.HARDENED][kind]
    match args.receive:
        case "camera":
            return read_flight(channels.code_by_camera(args.camera), kind)
        case "light":
            data = channels.seen_light(args.camera, size)
        case "sound":
            data = channels.heard_sound(None, size)
        case _:
            data = channels.read_nfc(args.reader, CodeKind.KANG_FLIGHT)
    return read_flight(code_of(CodeKind.KANG_FLIGHT, data), kind)


def _asked(kind: Kind, prompt: str) -> bytes:
    """A typo burns nothing: ask again."""
    while True:
        if not (answer := typed(prompt, MOST_LETTERS)):
            raise UsageError("no code was given; nothing is lost, run this again")
        if not answer.strip():
            continue
        try:
            if answer.strip().upper().startswith("BTSS1:"):
                return read_flight(answer, kind)
            return _from_file(Path(answer.strip()), kind)
        except UsageError as error:
            print(error, file=sys.stderr)


def read_flight(text: str, kind: Kind) -> bytes:
    """Return this flight from its code. Raises `UsageError` for another one, or for what is none."""
    from bt_selfsecure.oob.qr import CodeKind, read_code
    from bt_selfsecure.protocols.bootstrap.messages import FlightError, Kind, decode

    whose = {Kind.F1: "that a node shows (bootstrap join)", Kind.F4: "that a controller shows (bootstrap admit)"}[kind]
    try:
        flight = decode(read_code(text.strip().upper(), CodeKind.KANG_FLIGHT))
    except UnreadableError as error:
        raise UsageError(f"this is not the code {whose}: {error}") from None
    except FlightError:
        raise UsageError(f"a letter is wrong or missing in the code {whose}: read it again") from None
    if flight.kind is not kind:
        raise UsageError(f"this is the code of the other side: here goes the one {whose}")
    return flight.data


def _from_file(path: Path, kind: Kind) -> bytes:
    from bt_selfsecure.oob.qr import PREFIX, codes_in_file

    try:
        with path.open("rb") as file:
            head = file.read(MOST_LETTERS)
    except OSError as error:
        raise UsageError(f"can't read {str(path)!r} ({error.strerror}): give the code, or a file with it") from None
    if head.strip().upper().startswith(PREFIX.encode()):
        return read_flight(head.decode("ascii", "replace"), kind)
    if path.suffix == ".wav":
        return _from_sound(path, kind)
    problem = UsageError(f"there is no code of ours in {str(path)!r}: a sharper or closer picture, or type the code")
    for code in codes_in_file(path):
        try:
            return read_flight(code, kind)
        except UsageError as error:
            problem = error
    raise problem


def _from_sound(path: Path, kind: Kind) -> bytes:
    from bt_selfsecure.oob.qr import CodeKind, code_of
    from bt_selfsecure.oob.sound import codecs, heard
    from bt_selfsecure.protocols.bootstrap.messages import SIZES, Profile

    codecs()
    for data in heard(path, SIZES[Profile.HARDENED][kind]):
        return read_flight(code_of(CodeKind.KANG_FLIGHT, data), kind)
    raise UsageError(f"no flight {kind.value} is to be heard in {str(path)!r}: record it nearer, or type the code")
