"""`bt-selfsecure iotcrypto`: keys, certificates, whose word counts, and whose does not any more."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.cli.iot_options import add_state, folder_of, needing_extra
from bt_selfsecure.cli.numbers import integer
from bt_selfsecure.errors import UnreadableError, UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from bt_selfsecure.iot.folder import IdentityFolder
    from bt_selfsecure.protocols.iotcrypto.certificate import Certificate, SignedCertificate
    from bt_selfsecure.protocols.iotcrypto.lists import TrustList

DESCRIPTION: Final = """\
Keys and certificates of IoT-Crypto: a company signs its devices, gateways and
cloud, trusts partners' signatures, and revokes. Files are small and binary."""
EPILOG: Final = """\
example, a company with one device:
  iotcrypto key --network office            the company's keys
  iotcrypto certificate --role party --name ACME
  iotcrypto prepare cellar --role gateway --name cellar
  iotcrypto prepare boiler --role device --name boiler
  scp -r boiler pi@192.0.2.7:               there: device run --state boiler
  iotcrypto revoke boiler/certificate       stolen; the list goes to gateways
a partner's gateway takes this device, and this device the partner's gateway:
  iotcrypto sign --list partners-gateway    both companies, each the other's
docs/iot.md explains who signs what.
"""
ROLES: Final = ("party", "device", "gateway", "cloud")


def add_parser(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `iotcrypto` and its commands."""
    group = commands.add_parser(
        "iotcrypto",
        help="certificates and trust of IoT networks",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    key = verbs.add_parser("key", help="make keys", description="Draw the two secrets of a certificate; mode 0600.")
    key.add_argument("--network", metavar="NAME", help="draw the common key of a network of this name, too")
    add_state(key)
    key.set_defaults(run=_key)

    certificate = verbs.add_parser(
        "certificate",
        help="make or renew this one's own certificate",
        description="Write a certificate of the keys that are here, signed by themselves. Others' signatures are of "
        "one certificate: have a renewed one signed again.",
    )
    _add_subject(certificate)
    add_state(certificate)
    certificate.set_defaults(run=_certificate)

    prepare = verbs.add_parser(
        "prepare",
        help="all that a new member needs, as a folder to copy to it",
        description="Make keys, certificate, this company's signature, and copy owner, network and lists. To have keys "
        "that never were here, run key and certificate there, and sign here.",
    )
    prepare.add_argument("folder", type=Path, metavar="DIR", help="where; made if need be")
    _add_subject(prepare)
    add_state(prepare)
    prepare.set_defaults(run=_prepare)

    sign = verbs.add_parser(
        "sign",
        help="sign another's certificate",
        description="Add this party's signature to a certificate's file: whoever trusts this party trusts it.",
    )
    sign.add_argument("file", type=Path, metavar="FILE", help="a certificate, or a folder with one")
    sign.add_argument(
        "--list", action="store_true", help="into this owner's list of signatures: the file stays as it is"
    )
    add_state(sign)
    sign.set_defaults(run=_sign)

    trust = verbs.add_parser(
        "trust",
        help="trust a party's signatures; name the owner of a folder",
        description="Add a party's certificate to this owner's list: whom it signs is trusted. It is not transitive.",
    )
    trust.add_argument("file", nargs="?", type=Path, metavar="FILE", help="certificate of a party")
    what = trust.add_mutually_exclusive_group()
    what.add_argument("--remove", metavar="ID", help="take this party off the list")
    what.add_argument("--owner", type=Path, metavar="FILE", help="say who is the owner of this folder")
    what.add_argument(
        "--take", type=Path, metavar="FILE", help="take a list of the owner's, as a gateway would bring it"
    )
    trust.add_argument(
        "--code", metavar="CODE", help="with FILE or --owner: its id, from `show --qr` there, to be compared"
    )
    add_state(trust)
    trust.set_defaults(run=_trust)

    revoke = verbs.add_parser(
        "revoke",
        help="trust a certificate no more",
        description="Add an id to this owner's revocations. The list goes to gateways by the cloud, or by copying the "
        "file revocations.list to them and `trust --take`; they close what is connected within 2 s.",
    )
    kinds = "a certificate's file, a code, or an id in hexadecimal: copy that, as a typo shows in a code alone"
    revoke.add_argument("who", metavar="WHO", help=kinds)
    revoke.add_argument("--undo", action="store_true", help="take the id off the list")
    add_state(revoke)
    revoke.set_defaults(run=_revoke)

    show = verbs.add_parser(
        "show",
        help="show a certificate or list, or all of a folder",
        description="Show it, and say what is wrong with it. Exit status 1: it is not valid (any more).",
    )
    show.add_argument("file", nargs="?", type=Path, metavar="FILE", help="default: all of this folder")
    show.add_argument("--qr", action="store_true", help="the certificate's id as a QR code, and as text below it")
    show.add_argument("--json", action="store_true", help="one JSON object")
    add_state(show)
    show.set_defaults(run=_show)


def _add_subject(parser: ArgumentParser) -> None:
    parser.add_argument("--role", choices=ROLES, required=True, help="what it is for; who signs it signs that, too")
    parser.add_argument("--name", required=True, help="whose it is, 1 to 32 bytes")
    parser.add_argument(
        "--days", type=integer(least=1, most=36_500), default=730, metavar="N", help="until it expires (default 730)"
    )


def _key(args: Namespace) -> int:
    from bt_selfsecure.iot.folder import new_network

    folder = folder_of(args)
    network = new_network(args.network) if args.network else None
    print(f"keys of {folder.make_key().id.hex()} are in {folder.path}")
    if network:
        folder.put_network(network, new=True)
    return 0


def _certificate(args: Namespace) -> int:
    folder = folder_of(args)
    with needing_extra():
        from bt_selfsecure.protocols.iotcrypto.certificate import Role
    signed = folder.certify(Role[args.role.upper()], args.name, args.days)
    print(_line(signed.certificate))
    return 0


def _prepare(args: Namespace) -> int:
    owner = folder_of(args)
    with needing_extra():
        from bt_selfsecure.iot.folder import IdentityFolder, prepare
        from bt_selfsecure.protocols.iotcrypto.certificate import Role
    signed = prepare(IdentityFolder(args.folder), Role[args.role.upper()], args.name, args.days, owner)
    print(f"{args.folder}: {_line(signed.certificate)}")
    return 0


def _sign(args: Namespace) -> int:
    folder = folder_of(args)
    from bt_selfsecure.files import write_private
    from bt_selfsecure.iot.folder import CERTIFICATE, add_signature, read_signed
    from bt_selfsecure.protocols.iotcrypto.lists import ListedSignature, ListKind

    signed = read_signed(args.file)
    if not signed.certificate.is_self_signed:
        raise UsageError(f"{args.file}: its own signature is wrong: get it again")
    by = folder.party_secrets().sign(signed.certificate)
    if args.list:
        before = folder.list_of(ListKind.SIGNATURES)
        entries = [one for one in (before.entries if before else ()) if _subject(one) != signed.certificate.id]
        made = folder.sign_list(ListKind.SIGNATURES, (*entries, ListedSignature(signed.certificate.id, by)))
        print(_line_of_list(made))
    else:
        path = args.file / CERTIFICATE if args.file.is_dir() else args.file
        write_private(path, add_signature(signed, by).encode())
        print(f"signed: {_line(signed.certificate)}")
    return 0


def _subject(entry: object) -> bytes:
    return getattr(entry, "subject", b"")


def _trust(args: Namespace) -> int:
    folder = folder_of(args)
    from bt_selfsecure.iot.folder import read_public, read_signed
    from bt_selfsecure.protocols.iotcrypto.canonical import MalformedError
    from bt_selfsecure.protocols.iotcrypto.certificate import Certificate, Role
    from bt_selfsecure.protocols.iotcrypto.lists import ListKind, TrustList
    from bt_selfsecure.protocols.iotcrypto.trust import NotTakenError

    if sum(each is not None for each in (args.file, args.remove, args.owner, args.take)) != 1:
        raise UsageError("give one of FILE, --remove, --owner and --take: see bt-selfsecure iotcrypto trust --help")
    if args.code is not None:
        if not (args.file or args.owner):
            raise UsageError("--code is compared with a certificate: give FILE or --owner FILE with it")
        shown = read_signed(args.file or args.owner).certificate
        if _id(args.code) != shown.id:
            raise UsageError(
                f"the code is not of this certificate ({shown.id.hex()}): it may be another's, don't trust it"
            )
    if args.owner:
        owner = read_signed(args.owner).certificate
        folder.put_owner(owner)
        print(f"owner: {_line(owner)}")
        return 0
    if args.take:
        try:
            taken = TrustList.decode(read_public(args.take, "a list"))
            trust = folder.trust()
            if trust.take(taken):
                folder.put_list(taken)
        except (MalformedError, NotTakenError) as error:
            raise UsageError(f"{args.take} is not taken: {error}") from None
        print(_line_of_list(taken))
        return 0
    before = folder.list_of(ListKind.PARTIES)
    parties = [one for one in (before.entries if before else ()) if isinstance(one, Certificate)]
    if args.remove:
        gone = _id(args.remove)
        kept = tuple(one for one in parties if one.id != gone)
        if len(kept) == len(parties):
            raise UsageError(f"{gone.hex()} is not on the list: `iotcrypto show` prints who is")
    else:
        new = read_signed(args.file).certificate
        if new.role is not Role.PARTY or not new.is_self_signed:
            raise UsageError(f"{new.name!r} is no party, which alone signs for others: to trust it itself, sign it")
        kept = (*(one for one in parties if one.id != new.id), new)
    print(_line_of_list(folder.sign_list(ListKind.PARTIES, kept)))
    return 0


def _revoke(args: Namespace) -> int:
    folder = folder_of(args)
    from bt_selfsecure.protocols.iotcrypto.lists import ListKind

    who = _id(args.who)
    before = folder.list_of(ListKind.REVOCATIONS)
    entries = before.entries if before else ()
    if (who in entries) != args.undo:
        raise UsageError(f"{who.hex()} is {'not revoked' if args.undo else 'revoked already'}: nothing was changed")
    if who == folder.signed().certificate.id and not args.undo:
        raise UsageError("that is this owner itself, without whom it trusts nobody: nothing was changed")
    kept = tuple(one for one in entries if one != who)
    print(_line_of_list(folder.sign_list(ListKind.REVOCATIONS, kept if args.undo else (*kept, who))))
    return 0


def _id(text: str) -> bytes:
    """Return the id that a code, hexadecimal digits or a certificate's file say. Raises `UsageError`."""
    from bt_selfsecure.files import is_there
    from bt_selfsecure.iot.folder import read_signed
    from bt_selfsecure.oob.qr import PREFIX, CodeKind, read_code
    from bt_selfsecure.protocols.iotcrypto.canonical import MalformedError
    from bt_selfsecure.protocols.iotcrypto.certificate import id_on_label

    try:
        if text.startswith(PREFIX):
            return id_on_label(read_code(text, CodeKind.IOTCRYPTO_ID))
        if len(text) == 32:
            return bytes.fromhex(text)
    except MalformedError as error:
        raise UsageError(f"a letter of the code {text!r} is wrong ({error}): type it again") from None
    except UnreadableError as error:
        raise UsageError(str(error)) from None
    except ValueError:
        pass
    if not is_there(Path(text)):
        raise UsageError(
            f"{text!r} is no file, no id (32 hexadecimal digits) and no code: `iotcrypto show` prints them"
        )
    return read_signed(Path(text)).certificate.id


# --- show -------------------------------------------------------------------------------------------------------------


def _show(args: Namespace) -> int:
    folder = folder_of(args)
    from bt_selfsecure.iot.folder import expires_soon, read_public, read_signed
    from bt_selfsecure.oob.qr import CodeKind, code_of, drawn
    from bt_selfsecure.protocols.iotcrypto.canonical import MalformedError
    from bt_selfsecure.protocols.iotcrypto.certificate import label_of
    from bt_selfsecure.protocols.iotcrypto.lists import TrustList

    if args.file is None:
        signed, lists = folder.signed(), folder.lists()
    elif args.file.is_dir():
        signed, lists = read_signed(args.file), []
    else:
        try:
            signed, lists = None, [TrustList.decode(read_public(args.file, "a certificate or list"))]
        except MalformedError:
            signed, lists = read_signed(args.file), []
    if args.qr:
        if signed is None:
            raise UsageError("a code is of a certificate's id, and this is a list: name a certificate")
        code = code_of(CodeKind.IOTCRYPTO_ID, label_of(signed.certificate.id))
        print(drawn(code, colours=sys.stdout.isatty()))
        print(code)
        return 0
    told: dict[str, Any] = {"lists": [_list_object(one) for one in lists]}
    wrong = ""
    if signed is not None:
        wrong = _wrong(signed, folder, own=args.file is None)
        told = {"certificate": _object(signed), "problem": wrong or None} | told
    if args.json:
        print(json.dumps(told))
    else:
        if signed is not None:
            print(_line(signed.certificate))
            for by in signed.signatures:
                print(f"  signed by {by.signer.hex()}")
        for one in lists:
            print(_line_of_list(one))
            for name in _list_object(one)["entries"]:
                print(f"  {name}")
        if wrong:
            print(f"problem: {wrong}")
        elif signed is not None and (soon := expires_soon(signed.certificate, time.time())):
            print(f"warning: {soon}")
    return int(bool(wrong))


def _wrong(signed: SignedCertificate, folder: IdentityFolder, *, own: bool) -> str:
    """Say why a certificate is not valid now: revoked here, too, and of the folder's own, why its owner would not trust
    it."""
    from bt_selfsecure.protocols.iotcrypto.certificate import Role
    from bt_selfsecure.protocols.iotcrypto.lists import ListKind
    from bt_selfsecure.protocols.iotcrypto.trust import TrustVerdict

    certificate = signed.certificate
    if not certificate.is_self_signed:
        return TrustVerdict.FORGED.words
    if time.time() >= certificate.expires:
        return TrustVerdict.EXPIRED.words
    revoked = folder.list_of(ListKind.REVOCATIONS)
    if revoked and certificate.id in revoked.entries:
        return TrustVerdict.REVOKED.words
    if not own or certificate.role is Role.PARTY:
        return ""
    verdict = folder.trust().judge(signed, int(time.time())).verdict
    return "" if verdict is TrustVerdict.TRUSTED else verdict.words


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _line(certificate: Certificate) -> str:
    name, role, until = certificate.name, certificate.role.name.lower(), _date(certificate.expires)
    return f"{certificate.id.hex()} {role} {name!r}, until {until}"


def _line_of_list(made: TrustList) -> str:
    return f"{made.kind.name.lower()} of {made.owner.hex()}: {len(made.entries)}, signed {_date(made.serial)}"


def _object(signed: SignedCertificate) -> dict[str, Any]:
    of = signed.certificate
    return {
        "id": of.id.hex(),
        "role": of.role.name.lower(),
        "name": of.name,
        "created": of.created,
        "expires": of.expires,
        "signed_by": [by.signer.hex() for by in signed.signatures],
    }


def _list_object(made: TrustList) -> dict[str, Any]:
    from bt_selfsecure.protocols.iotcrypto.certificate import Certificate
    from bt_selfsecure.protocols.iotcrypto.lists import ListedSignature

    names = []
    for entry in made.entries:
        match entry:
            case Certificate():
                names.append(_line(entry))
            case ListedSignature():
                names.append(f"{entry.subject.hex()} by {entry.by.signer.hex()}")
            case _:
                names.append(entry.hex())
    return {"kind": made.kind.name.lower(), "owner": made.owner.hex(), "serial": made.serial, "entries": names}
