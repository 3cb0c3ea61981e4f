"""The options by which `coap serve` and the requests say how CoAP is secured, and what they mean."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bt_selfsecure.cli.numbers import integer
from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import AsyncIterator, Sequence

    from bt_selfsecure.coap.manager import ManagerClient
    from bt_selfsecure.coap.oscore_pairs import OscorePair
    from bt_selfsecure.coap.pairs import PairFile
    from bt_selfsecure.coap.schemes import Scheme
    from bt_selfsecure.protocols.dotp.keys import Role
    from bt_selfsecure.protocols.sabour.messages import Profile

SCHEMES: Final = ("plain", "dtls", "oscore", "dotp", "sabour")
LAYERS: Final = ("dtls", "object")
PROFILES: Final = ("hardened", "paper", "paper-hash")
MOST_PORT: Final = 65_535
SCHEME_HELP: Final = """\
schemes:
  plain   no security (coap://)
  dtls    DTLS 1.2 with a pre-shared key that stays: --key-file (coaps://)
  oscore  OSCORE with such a key: --pair, by coap pair --for oscore (coap://)
  dotp    D-OTP: --pair. Layer dtls: a key for each DTLS session (coaps://);
          layer object: a key for each datagram, no handshake (coap://)
  sabour  Sabour's handshake, then OSCORE (coap://): coap identity, coap enrol
"""
NEEDED: Final = "CoAP needs {}: install it with pip install 'bt-selfsecure[coap]'"


@dataclass(frozen=True, slots=True)
class Chosen:
    """Says what the options mean."""

    scheme: Scheme
    profile: Profile | None
    """Of Sabour's handshake; None without it."""
    folder: Path
    oscore: Sequence[OscorePair] = ()
    """Of OSCORE with keys that both ends have; each is to be closed."""

    @property
    def is_paper(self) -> bool:
        return self.profile is not None and not self.profile.hardened


def add_folder(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="where keys are kept (default: /var/lib/bt-selfsecure/coap for root, ~/.local/state/bt-selfsecure/coap)",
    )


def add_options(parser: ArgumentParser, *, server: bool) -> None:
    parser.add_argument("--scheme", choices=SCHEMES, default="plain", help="what secures it (default plain)")
    add_folder(parser)
    parser.add_argument(
        "--key-file", type=Path, metavar="FILE", help="dtls: a line `IDENTITY KEY` for each key; see coap key"
    )
    parser.add_argument(
        "--pair",
        action="append",
        default=[],
        metavar="NAME",
        help="dotp, oscore: a pair made by coap pair" + ("; may be given several times" if server else ""),
    )
    parser.add_argument("--layer", choices=LAYERS, default="dtls", help="dotp: which layer (default dtls)")
    for name, figure in (("--no-serial", "10a"), ("--one-key", "11a")):
        parser.add_argument(
            name, action="store_true", help=f"dotp, layer object, of paper: as in its Fig. {figure}, to see it fail"
        )
    parser.add_argument(
        "--profile", choices=PROFILES, default="hardened", help="sabour: paper, as published, is to be shown, not used"
    )
    parser.add_argument(
        "--auth-port",
        type=integer(least=1, most=MOST_PORT),
        default=5588,
        metavar="N",
        help="sabour's paper profiles: the port of its handshake (default 5588)",
    )
    add_manager(parser)


def add_manager(parser: ArgumentParser) -> None:
    parser.add_argument("--manager", metavar="URI", help="dotp: ask this manager first, as in coaps://192.0.2.9:5703")
    parser.add_argument("--manager-key", type=Path, metavar="FILE", help="this device's key for the manager")


@asynccontextmanager
async def managed(args: Namespace, end: Role) -> AsyncIterator[ManagerClient | None]:
    """Yield the manager that the options name, or None; at the end it is told that the last transmission is over."""
    if not args.manager:
        yield None
        return
    from bt_selfsecure.coap.client import connected
    from bt_selfsecure.coap.keys import read_keys
    from bt_selfsecure.coap.manager import ManagerClient
    from bt_selfsecure.coap.schemes import DtlsPsk
    from bt_selfsecure.files import private

    if not args.manager_key:
        raise UsageError("--manager needs --manager-key with this device's key")
    keys = read_keys(private(args.manager_key), args.manager_key)
    if len(keys) > 1:
        raise UsageError(f"{args.manager_key} has {len(keys)} keys, and a device has one")
    async with connected(DtlsPsk(keys)) as client:
        manager = ManagerClient(client, args.manager, end)
        yield manager
        await manager.finish()


def folder_of(args: Namespace) -> Path:
    from bt_selfsecure.coap.keys import default_folder

    given: Path | None = args.state
    return given or default_folder()


def chosen(args: Namespace, *, server: bool) -> Chosen:
    """Return what the options mean. Raises `UsageError` where something is missing or does not fit."""
    try:
        from bt_selfsecure.coap import client as _client  # noqa: F401 - what is not installed is told before any work
        from bt_selfsecure.coap.schemes import DotpDtls, DotpObject, DtlsPsk, Plain
    except ImportError as error:
        raise UsageError(NEEDED.format(error.name)) from None
    from bt_selfsecure.coap.keys import read_keys
    from bt_selfsecure.files import private
    from bt_selfsecure.protocols.sabour.messages import Profile

    folder = folder_of(args)
    if args.manager and args.scheme != "dotp":
        raise UsageError("--manager is for --scheme dotp")
    if args.scheme != "dtls" and args.key_file:
        raise UsageError("--key-file is for --scheme dtls; a pair takes its own by coap pair")
    if (args.no_serial or args.one_key) and (args.scheme, args.layer) != ("dotp", "object"):
        raise UsageError("--no-serial and --one-key are for --scheme dotp --layer object")
    if args.scheme not in ("dotp", "oscore") and args.pair:
        raise UsageError("--pair is for --scheme dotp and oscore")
    if args.scheme == "dtls":
        if not args.key_file:
            raise UsageError("--scheme dtls needs --key-file: make one with bt-selfsecure coap key")
        keys = read_keys(private(args.key_file), args.key_file)
        if not server and len(keys) > 1:
            raise UsageError(f"{args.key_file} has {len(keys)} keys, and a client has one")
        return Chosen(DtlsPsk(keys), None, folder)
    if args.scheme in ("dotp", "oscore") and (not args.pair or (len(args.pair) > 1 and not server)):
        raise UsageError(f"--scheme {args.scheme} needs --pair NAME" + ("" if server else ", one for a client"))
    if args.scheme == "oscore":
        return Chosen(Plain(), None, folder, [_oscore_pair(folder, name, server=server) for name in args.pair])
    if args.scheme == "dotp":
        pairs = [pair_of(folder, name) for name in args.pair]
        if args.layer == "object":
            return Chosen(DotpObject(pairs, not args.no_serial, not args.one_key), None, folder)
        return Chosen(DotpDtls(pairs), None, folder)
    names = {"hardened": Profile.HARDENED, "paper": Profile.PAPER_ECDSA, "paper-hash": Profile.PAPER_HASH}
    return Chosen(Plain(), names[args.profile] if args.scheme == "sabour" else None, folder)


def pair_of(folder: Path, name: str) -> PairFile:
    """Return the pair of this name. Raises `UsageError` where there is none, or it is in use."""
    from bt_selfsecure.coap.pairs import SUFFIX, PairFile

    return PairFile(path_of_pair(folder, name, SUFFIX))


def path_of_pair(folder: Path, name: str, suffix: str) -> Path:
    """Raises `UsageError` for a name that can't be a file's."""
    if not name or os.sep in name or name.startswith("."):
        raise UsageError(f"{name!r} can't be the name of a pair: it becomes a file's")
    return folder / f"{name}{suffix}"


def _oscore_pair(folder: Path, name: str, *, server: bool) -> OscorePair:
    from bt_selfsecure.coap.oscore_pairs import SUFFIX, OscorePair
    from bt_selfsecure.protocols.dotp.keys import Role

    pair = OscorePair(path_of_pair(folder, name, SUFFIX))
    pair.expect(Role.SERVER if server else Role.CLIENT)
    return pair
