"""`bt-selfsecure pair` and the table of its commands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from bt_selfsecure.cli.commands import Command, add_commands

if TYPE_CHECKING:
    from argparse import ArgumentParser, _SubParsersAction

DESCRIPTION = """\
Make two devices know each other by what a person carries from one to the other.
They get an authentication key of their own, and agree on a session's key with
it; then each is a confirmed peer of the other, or neither is. A node runs at
both, and each end takes one of:

  shown or sent here    read there
  pair show             pair scan          a QR code, or the code as text
  pair words            pair words W W W   three words: 18 bits, one guess a run
  pair sound            pair listen        a sound; ends with comparing a string
  pair light            pair light --read  an LED; ends with comparing a string
  pair nfc              pair nfc --read    two readers held together, or a tag
  pair page             pair page          a phone; ends with comparing a string
"""
EPILOG = """\
example:
  bob$    bt-selfsecure pair show
  alice$  bt-selfsecure pair scan photo.jpg
docs/pairing.md says what each way proves, and to whom.
"""
COMMANDS: Final = {
    "show": Command("pair_show", "print a QR code, and the code as text", "add_show"),
    "scan": Command("pair_read", "read a QR code from pictures, a camera, or as text", "add_scan"),
    "words": Command("pair_words", "show three words, or type those of the other device"),
    "sound": Command("pair_show", "send a sound", "add_sound"),
    "listen": Command("pair_read", "hear the sound of the other device", "add_listen"),
    "light": Command("pair_light", "let an LED blink, or read one by a camera"),
    "nfc": Command("pair_nfc", "hold two NFC readers together, or read or write a tag"),
    "page": Command("pair_page", "a page on the phone: codes, photos, and the string"),
    "compared": Command("pair", "for scripts: whether both ends show the same string", "add_compared"),
    "forget": Command("pair", "let a peer go that was paired", "add_forget"),
}


def add_parser(subparsers: _SubParsersAction[ArgumentParser], words: Sequence[str] | None) -> None:
    """Add `pair` and its commands, or as many of them as these words need."""
    pair = subparsers.add_parser(
        "pair",
        help="make two devices know each other: QR code, words, sound, light, NFC",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_commands(pair.add_subparsers(title="commands", metavar="COMMAND", required=True), COMMANDS, words)
