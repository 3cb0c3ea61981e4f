"""`bt-selfsecure coap key`, `pair`, `identity`, `enrol`, `devices`: what both ends must have in advance."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bt_selfsecure.cli.client import node_client, progress
from bt_selfsecure.cli.coap_options import NEEDED, add_folder, folder_of, path_of_pair
from bt_selfsecure.cli.numbers import integer
from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from collections.abc import Callable

    from bt_selfsecure.protocols.dotp.record import DotpRecord

NODE_PORT: Final = 14
"""Of a node's session, on which a key goes from one end to the other."""
PAIR: Final = """\
Begin one end of a pair, for D-OTP or OSCORE; begin the other one with the
same key and the other --as. NAME is what this end calls it. The pair keeps its
own state from then on: a key file is not needed any more, and must not be used
again."""
PAIR_EPILOG: Final = """\
a key comes from one of:
  --key-file FILE   coap key made it; the same file at both ends
  --over PEER       the node's session with that peer: the client draws the key
                    and sends it, the server waits for it
  --sn N            32 bits by hand, as in the paper: to be shown, not used
"""
ENROL: Final = """\
Take a record as `coap identity` shows it at the other end; see to it that it
comes from there. A QR code is read by a phone, or from a picture of it:
  zbarimg -q --raw code.png | bt-selfsecure coap enrol --file -"""
MOST_RECORD_LETTERS: Final = 1000


def add_parsers(verbs: _SubParsersAction[ArgumentParser]) -> None:
    key = verbs.add_parser(
        "key",
        help="make a key file",
        description="Write a new key of 256 bits to FILE, which must not exist, as a line `IDENTITY KEY`; mode 0600.",
    )
    key.add_argument("file", type=Path, metavar="FILE")
    key.add_argument("--identity", default="client", metavar="ID", help="whose key it is (default: client)")
    key.set_defaults(run=_key)

    pair = verbs.add_parser(
        "pair",
        help="begin one end of a pair, for D-OTP or OSCORE",
        description=PAIR,
        epilog=PAIR_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    pair.add_argument("name", metavar="NAME")
    pair.add_argument("--as", dest="role", choices=("client", "server"), required=True, help="which end this is")
    pair.add_argument(
        "--for", dest="scheme", choices=("dotp", "oscore"), default="dotp", help="what it is used by (default dotp)"
    )
    source = pair.add_mutually_exclusive_group()
    source.add_argument("--key-file", type=Path, metavar="FILE")
    source.add_argument("--over", metavar="PEER", help="a peer of the node on this computer")
    source.add_argument("--sn", type=integer(least=0, below=1 << 32), metavar="N", help="the paper's serial number")
    policies = ("per-session", "per-io-inc1", "per-io-prng", "per-io-nrprng")
    pair.add_argument(
        "--policy",
        choices=policies,
        default="per-io-nrprng",
        metavar="POLICY",
        help=f"with --sn: when the key changes: {', '.join(policies)} (the default)",
    )
    pair.add_argument(
        "--bits",
        choices=("40", "64", "96"),
        default="64",
        help="with --sn: size of a key (default 64; 40, to see its numbers run out after 256)",
    )
    pair.add_argument("--identity", default="pair", metavar="ID", help="with --sn: the pair's name on the wire")
    pair.add_argument("--config", type=Path, metavar="FILE", help="the node's configuration, if not the default one")
    add_folder(pair)
    pair.set_defaults(run=_pair)

    identity = verbs.add_parser(
        "identity",
        help="show this device's record, for coap enrol at others",
        description="Show who this device is for Sabour's handshake, id and public key, as 80 hexadecimal digits. The "
        "first time they are drawn.",
    )
    identity.add_argument("--qr", action="store_true", help="as a QR code, and the code as text below it")
    add_folder(identity)
    identity.set_defaults(run=_identity)
    enrol = verbs.add_parser(
        "enrol",
        help="trust a device or server, by its record",
        description=ENROL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    enrol.add_argument(
        "record", nargs="?", metavar="RECORD", help="80 hexadecimal digits, or in quotes a code: 'BTSS1:...'"
    )
    enrol.add_argument("--file", metavar="FILE", help="where the record stands; - for standard input")
    add_folder(enrol)
    enrol.set_defaults(run=_enrol)
    devices = verbs.add_parser("devices", help="who is enrolled", description="List who is enrolled: id, public key.")
    devices.add_argument(
        "--remove", metavar="ID", help="strike this one off; also a server that runs serves it no more"
    )
    add_folder(devices)
    devices.set_defaults(run=_devices)


def _key(args: Namespace) -> int:
    from bt_selfsecure.coap.keys import new_key
    from bt_selfsecure.files import write_private

    if not args.file.parent.is_dir():
        raise UsageError(f"there is no folder {args.file.parent}: make it, or name another")
    write_private(args.file, new_key(args.identity, os.urandom), new=True)
    return 0


def _pair(args: Namespace) -> int:
    from bt_selfsecure.coap.keys import secret_of
    from bt_selfsecure.coap.pairs import SUFFIX, PairFile
    from bt_selfsecure.files import private
    from bt_selfsecure.protocols.dotp.keys import Role
    from bt_selfsecure.protocols.dotp.record import DotpRecord

    is_oscore = args.scheme == "oscore"
    if is_oscore:
        try:
            from bt_selfsecure.coap.oscore_pairs import SUFFIX as OSCORE_SUFFIX
            from bt_selfsecure.coap.oscore_pairs import OscorePair
        except ImportError as error:
            raise UsageError(NEEDED.format(error.name)) from None
        if args.sn is not None:
            raise UsageError("--sn is the paper's, for D-OTP alone: give --key-file or --over")
    path = path_of_pair(folder_of(args), args.name, OSCORE_SUFFIX if is_oscore else SUFFIX)
    if path.exists():
        raise UsageError(f"there is a pair {args.name!r} already: name another, or remove {path}")
    role = Role(args.role)
    if args.sn is None and not args.over and not args.key_file:
        raise UsageError("a pair needs a key: give --key-file, --over or --sn, see bt-selfsecure coap pair --help")
    if args.sn is not None:
        PairFile.begin(path, args.identity, _of_paper(args, role))
        return 0

    def begin(line: bytes, where: str) -> None:
        identity, secret = secret_of(line, where)
        if is_oscore:
            OscorePair.begin(path, role, identity, secret)
        else:
            PairFile.begin(path, identity, DotpRecord.hardened(role, secret))

    if args.over:
        _over_node(args, begin)
    else:
        begin(private(args.key_file), str(args.key_file))
    return 0


def _of_paper(args: Namespace, role: object) -> DotpRecord:
    from bt_selfsecure.protocols.dotp.keys import Policy, Role
    from bt_selfsecure.protocols.dotp.record import DotpRecord

    assert isinstance(role, Role)
    return DotpRecord.paper(role, args.sn, Policy(args.policy), int(args.bits))


def _over_node(args: Namespace, begin: Callable[[bytes, str], None]) -> None:
    """The client's end draws a key, keeps it and sends it under the node's; the server's takes it once it is kept."""
    from bt_selfsecure.coap.keys import new_key

    node = node_client(args)
    if args.role == "client":
        line = new_key(os.urandom(3).hex(), os.urandom)
        number = node.send(args.over, line, port=NODE_PORT)
        begin(line, "the new key")
        print(f"the key is on its way to {args.over} (message {number})")
        return
    messages = node.follow(peer=args.over, port=NODE_PORT)
    with progress(lambda: f"waiting for a key from {args.over}"):
        received = next(messages)
    messages.close()
    begin(received.message, f"what {args.over} sent")
    node.acknowledge(received.id)


def _identity(args: Namespace) -> int:
    from bt_selfsecure.coap.keys import code_of_record, own_identity
    from bt_selfsecure.oob.qr import drawn

    record = own_identity(folder_of(args), os.urandom).enrolment
    if args.qr:
        code = code_of_record(record)
        print(drawn(code, colours=sys.stdout.isatty()), f"{record.device_id.hex()}", code, sep="\n")
    else:
        print(record.encode().hex())
    return 0


def _enrol(args: Namespace) -> int:
    from bt_selfsecure.coap.keys import enrol, enrolment

    if (args.record is None) == (args.file is None):
        raise UsageError("give a record, or --file FILE where it stands")
    record = enrolment((args.record if args.file is None else _read(args.file)).strip())
    enrol(folder_of(args), record)
    print(f"{record.device_id.hex()} is enrolled")
    return 0


def _read(file: str) -> str:
    try:
        if file == "-":
            return sys.stdin.read(MOST_RECORD_LETTERS)
        with Path(file).open(encoding="ascii", errors="replace") as opened:
            return opened.read(MOST_RECORD_LETTERS)
    except OSError as error:
        raise UsageError(f"can't read {file!r} ({error.strerror}): give a file, or - for standard input") from None


def _devices(args: Namespace) -> int:
    from bt_selfsecure.coap.keys import device_id, enrolled, strike_off

    if args.remove:
        strike_off(folder_of(args), device_id(args.remove))
    devices = enrolled(folder_of(args))
    for device, key in devices.items():
        print(device.hex(), key.hex())
    if not devices and not args.remove:
        print("nobody is enrolled", file=sys.stderr)
    return 0
