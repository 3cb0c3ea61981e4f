"""`bt-selfsecure pair show` and `pair sound`: what one device shows or sends."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.cli.pair import PairingTalk, pair_parser
from bt_selfsecure.cli.terminal import columns, wrapped
from bt_selfsecure.errors import UsageError
from bt_selfsecure.files import whole

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from threading import Event

SHOW_TEXT: Final = """\
Print a QR code, and the code as text, for the other device to read. Whoever
else sees it can pair in its place, and it knows this device in any case: show
it to nobody else, and look at the name of who has paired.
"""
SHOW_EXAMPLES: Final = """\
examples:
  bt-selfsecure pair show
  bt-selfsecure pair show --out code.png
      For a display, or paper: PNG or SVG, of mode 0600.
  bt-selfsecure pair show --compare
      For pair page at the other device, or where others look on: a code without
      a secret. Both ends show a string at last, and a person at each compares."""
SOUND_TEXT: Final = """\
Send 16 bytes as sound, again and again, until the other device has them. It is
no secret: everybody near hears it. So both ends show a string at last, and a
person at each compares.
"""
SOUND_EXAMPLES: Final = """\
examples:
  bt-selfsecure pair sound
  bt-selfsecure pair sound --out call.wav
      To be played by another program."""


def add_show(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `pair show`."""
    show = pair_parser(commands, "show", "print a QR code, and the code as text", SHOW_TEXT, SHOW_EXAMPLES, _show)
    show.add_argument("--out", type=Path, metavar="FILE", help="write the QR code to a picture, .png or .svg, too")
    show.add_argument("--compare", action="store_true", help="a code that holds no secret; people compare a string")


def _show(args: Namespace) -> int:
    from bt_selfsecure.oob.qr import CodeKind, code_of, drawn, write_picture

    if args.out and args.out.suffix not in (".png", ".svg"):
        raise UsageError(f"{str(args.out)!r} is neither .png nor .svg: name such a file")
    drawn("", colours=False)  # before anything is begun

    way, kind = ("call", CodeKind.CALL) if args.compare else ("code", CodeKind.PAIRING)

    def show(line: dict[str, Any]) -> None:
        print(drawn(line["code"], colours=sys.stdout.isatty()), line["code"], sep="\n")
        print(others_words(line, "scan", "PHOTO, or the code in quotes"), flush=True)

    def text_of(code: str) -> str:
        text = code_of(kind, bytes.fromhex(code))
        if args.out:
            with whole(args.out, 0o600) as part:
                write_picture(text, part, args.out.suffix[1:])
        return text

    return PairingTalk(args, way, show=show, text_of=text_of).run()


def others_words(line: dict[str, Any], command: str, what: str = "") -> str:
    """Return what is to be typed at the other device, in lines that fit."""
    place = f" --udp {line['place']}" if line["place"] else ""
    said = f"This device is {line['address']}. At the other: bt-selfsecure pair {command}{place} {what}"
    return "\n".join(wrapped(said, columns(), "  "))


def add_sound(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `pair sound`."""
    sound = pair_parser(commands, "sound", "send a sound", SOUND_TEXT, SOUND_EXAMPLES, _sound)
    sound.add_argument("--out", type=Path, metavar="FILE", help="write it to a WAV file, and play nothing")
    sound.add_argument(
        "--codec", choices=("ggwave", "minimodem"), default="", help="by default ggwave, where it is installed"
    )


def _sound(args: Namespace) -> int:
    from bt_selfsecure.cli.channels import by_sound
    from bt_selfsecure.oob.sound import codecs, write_sound

    if args.codec not in ("", *codecs()):
        raise UsageError(f"{args.codec} is not installed here: see docs/pairing.md")

    def write(data: bytes, over: Event) -> None:
        with whole(args.out, 0o600) as part:
            write_sound(data, part, args.codec)

    emit = write if args.out else by_sound(args.codec)

    def show(line: dict[str, Any]) -> None:
        print(others_words(line, "listen"), flush=True)

    return PairingTalk(args, "call", show=show, emit=emit).run()
