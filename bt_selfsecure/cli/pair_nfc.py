"""`bt-selfsecure pair nfc`: two NFC readers that are held together, or a tag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.cli.pair import PairingTalk, add_place, pair_parser
from bt_selfsecure.cli.pair_show import others_words

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from threading import Event

TEXT: Final = """\
Show what `pair show` shows as an NFC tag, by a reader on this device, until the
other device has read it; or write it to a tag, to be held to the other device.
It reaches a hand's breadth: whoever reads it can pair in the other's place.
"""
EXAMPLES: Final = """\
examples:
  bob$    bt-selfsecure pair nfc
  alice$  bt-selfsecure pair nfc --read
  bob$    bt-selfsecure pair nfc --write --device tty:AMA0:pn532"""


def add_parser(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `pair nfc`."""
    what = "hold two NFC readers together, or read or write a tag"
    nfc = pair_parser(commands, "nfc", what, TEXT, EXAMPLES, _nfc)
    nfc.add_argument("--device", default="usb", metavar="READER", help="the reader, as nfcpy names it (default usb)")
    how = nfc.add_mutually_exclusive_group()
    how.add_argument("--read", action="store_true", help="read the other device, or its tag")
    how.add_argument("--write", action="store_true", help="write a tag; it is worth something until this ends")
    add_place(nfc)


def _nfc(args: Namespace) -> int:
    from bt_selfsecure.cli.channels import by_nfc, read_nfc
    from bt_selfsecure.oob.nfc import write_tag
    from bt_selfsecure.oob.qr import CodeKind

    shown = by_nfc(args.device, CodeKind.PAIRING)
    if args.read:
        return PairingTalk(args, "code").run(read_nfc(args.device, CodeKind.PAIRING), udp=args.udp)

    def show(line: dict[str, Any]) -> None:
        print("Hold a tag to the reader." if args.write else "Hold the other reader to this one.")
        print(others_words(line, "nfc --read"), flush=True)

    def write(data: bytes, over: Event) -> None:
        if write_tag(args.device, bytes([CodeKind.PAIRING]) + data, over.is_set):
            print("The tag is written: hold it to the other device.", flush=True)

    return PairingTalk(args, "code", show=show, emit=write if args.write else shown).run()
