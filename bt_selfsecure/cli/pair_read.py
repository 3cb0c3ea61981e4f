"""`bt-selfsecure pair scan` and `pair listen`: what one device reads or hears of the other."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bt_selfsecure.cli.pair import PairingTalk, add_place, pair_parser
from bt_selfsecure.errors import UnreadableError, UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

CALL_BYTES: Final = 16
MOST_CODE_LETTERS: Final = 1000
SCAN_TEXT: Final = """\
Read the code that `pair show` prints at the other device: from pictures of the
QR code, from the code as text in quotes, from - for a text on standard input,
or, where nothing is given, by the camera of this device.
"""
SCAN_EXAMPLES: Final = """\
examples:
  bt-selfsecure pair scan photo.jpg
  bt-selfsecure pair scan 'BTSS1:...'
  bt-selfsecure pair scan --camera /dev/video0
  bt-selfsecure pair scan --udp 127.0.0.1:5701 photo.jpg"""
LISTEN_TEXT: Final = """\
Hear the sound that `pair sound` plays at the other device, by the microphone,
or from a recording. Everybody near hears it: so both ends show a string at
last, and a person at each compares.
"""
LISTEN_EXAMPLES: Final = """\
examples:
  bt-selfsecure pair listen
  bt-selfsecure pair listen recording.wav"""


def add_scan(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `pair scan`."""
    what = "read a QR code from pictures, a camera, or as text"
    scan = pair_parser(commands, "scan", what, SCAN_TEXT, SCAN_EXAMPLES, _scan)
    scan.add_argument("source", nargs="*", metavar="PICTURE|CODE", help="pictures, of which one has it; or the code")
    scan.add_argument("--camera", default="", metavar="DEVICE", help="which camera, as in /dev/video0")
    add_place(scan)


def _scan(args: Namespace) -> int:
    way, carried = _read(_code(args))
    return PairingTalk(args, way).run(carried, udp=args.udp)


def _read(text: str) -> tuple[str, bytes]:
    """The way of pairing that a code is for, and what it carries."""
    from bt_selfsecure.oob.qr import CodeKind, read_code

    with suppress(UnreadableError):
        return "call", read_code(text, CodeKind.CALL)
    try:
        return "code", read_code(text, CodeKind.PAIRING)
    except UnreadableError as error:
        raise UsageError(str(error)) from None


def _code(args: Namespace) -> str:
    from bt_selfsecure.cli.channels import code_by_camera
    from bt_selfsecure.oob.qr import PREFIX, codes_in_file

    if not args.source:
        return code_by_camera(args.camera)
    if args.camera:
        raise UsageError("give pictures, or --camera: not both")
    if args.source == ["-"]:
        return sys.stdin.read(MOST_CODE_LETTERS)
    if len(args.source) == 1 and (args.source[0].startswith(PREFIX) or not Path(args.source[0]).exists()):
        return str(args.source[0])
    found = {code for picture in args.source for code in codes_in_file(Path(picture))}
    if len(found) != 1:
        many = f"{len(found)} codes are" if found else "no code of ours is"
        raise UsageError(f"{many} to be seen there: take a sharper picture of the one code, or type it in quotes")
    return found.pop()


def add_listen(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `pair listen`."""
    what = "hear the sound of the other device"
    listen = pair_parser(commands, "listen", what, LISTEN_TEXT, LISTEN_EXAMPLES, _listen)
    listen.add_argument("recording", nargs="?", type=Path, metavar="FILE", help="a recording, as a WAV file")
    add_place(listen)


def _listen(args: Namespace) -> int:
    from bt_selfsecure.cli.channels import heard_sound

    return PairingTalk(args, "call").run(heard_sound(args.recording, CALL_BYTES), udp=args.udp)
