"""`bt-selfsecure key`: keys for other programs, which both ends hold."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.cli.client import find, node_client
from bt_selfsecure.cli.numbers import integer, real
from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from bt_selfsecure.delivery.follow import Consumer, KeyWish

DESCRIPTION: Final = """\
Keys for other programs. The two ends of a session draw them from a chain beside
it: both get the same, each under a label that says what it is for, and none of
them tells anything of another, or of what the session says. A generation is
given out once both ends have said that they hold it; the one before is then
forgotten."""
EPILOG: Final = """\
examples:
  bt-selfsecure key get bob --label backup --format hex
      At alice; `key get alice --label backup` at bob prints the same.
  bt-selfsecure key watch bob --wireguard wg0 --public-key KEY --rotate 120
      A new preshared key for that peer of wg0 every two minutes. At bob the
      same without --rotate.
  bt-selfsecure key serve kme --sae app --peer bob=app-at-bob
      Keys by REST, as ETSI GS QKD 014 has it."""
GET_TEXT: Final = """\
Print the key of this label that the peer's programs can have, too. It waits
until both ends hold one. Whoever asks for the same label gets the same key."""
WATCH_TEXT: Final = """\
Hand the key of a label to another program, and each one that takes its place,
until Ctrl-C: with each new key of the session, and every --rotate seconds.
One end rotates, the other follows."""
WATCH_EPILOG: Final = """\
With --run the command is told by BTSS_EVENT (key or lost), BTSS_PEER and
BTSS_GENERATION, never the key itself.

examples:
  bt-selfsecure key watch bob --file /run/app/key --run "systemctl reload app"
  bt-selfsecure key watch bob --wireguard wg0 --public-key KEY \\
      --rotate 120 --lost-after 600
  bt-selfsecure key watch bob --oscore ~/contexts
  bt-selfsecure key watch bob --strongswan bob@example --rotate 3600"""


CA_TEXT: Final = """\
Make certificates for a KME and its applications (SAE), NAME.crt and NAME.key in
DIR, signed by an authority there, ca.crt and ca.key, which is made at the first
time. An application's NAME is its SAE id. Who has ca.key can be anybody: it
belongs on neither Pi once all certificates are made."""
CA_EPILOG: Final = """\
example:
  bt-selfsecure key ca kme kme-alice --host 192.168.1.7
  bt-selfsecure key ca kme app                            for the application"""
SERVE_TEXT: Final = """\
Serve keys to applications (SAE) by ETSI GS QKD 014 V1.1.1, until Ctrl-C: HTTPS,
both ends with certificates of DIR/ca.crt; an application is who its certificate
names. At the other end of the node's session a KME like this one gives the same
keys by the same ids. Each key is given out once at each end, also after a
crash; what was given out is kept in DIR/keys.sqlite."""
SERVE_EPILOG: Final = """\
example, with a certificate kme-alice in kme/ (bt-selfsecure key ca):
  alice$ bt-selfsecure key serve kme --kme kme-alice \\
             --sae app-a --peer bob=app-b
  bob$   bt-selfsecure key serve kme --kme kme-bob \\
             --sae app-b --peer alice=app-a
  app-a$ curl --cert app-a.crt --key app-a.key --cacert ca.crt \\
             https://localhost:8444/api/v1/keys/app-b/enc_keys"""


def add_parser(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `key` and its commands."""
    raw = argparse.RawDescriptionHelpFormatter
    key = commands.add_parser(
        "key",
        help="keys for other programs: files, WireGuard, OSCORE, IKEv2",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=raw,
    )
    verbs = key.add_subparsers(title="commands", metavar="COMMAND", required=True)
    get = verbs.add_parser("get", help="print one", description=GET_TEXT, formatter_class=raw)
    _add_common(get, label=None)
    get.add_argument("--format", choices=("hex", "base64", "raw"), default="hex", help="how (default hex)")
    get.add_argument("--rotate", action="store_true", help="go on to the next generation first")
    get.add_argument(
        "--wait", type=real(least=0, most=86_400), default=60.0, metavar="S", help="seconds to wait (default 60)"
    )
    get.add_argument("--json", action="store_true", help="one JSON object, with the generation")
    get.set_defaults(run=_get)
    watch = verbs.add_parser(
        "watch", help="hand them to a program", description=WATCH_TEXT, epilog=WATCH_EPILOG, formatter_class=raw
    )
    _add_common(watch, label="")
    to = watch.add_argument_group("to whom, one of them")
    to.add_argument("--file", type=Path, metavar="FILE", help="a file that is replaced, for its owner alone")
    to.add_argument("--format", choices=("raw", "hex", "base64"), default="raw", help="of --file (default raw)")
    to.add_argument("--wireguard", metavar="IF", help="the preshared key of one peer of this interface")
    to.add_argument("--public-key", metavar="KEY", help="which peer of --wireguard: its public key")
    to.add_argument("--oscore", type=Path, metavar="DIR", help="a folder of contexts as aiocoap reads them")
    to.add_argument("--coap-psk", type=Path, metavar="FILE", help="identities for libcoap's server (-i)")
    to.add_argument("--strongswan", metavar="ID", help="the postquantum preshared key of this id (RFC 8784)")
    watch.add_argument("--run", dest="command", metavar="COMMAND", help="what to run after each")
    watch.add_argument("--rotate", type=real(least=1, most=86_400), metavar="S", help="a new one every S seconds")
    watch.add_argument(
        "--lost-after", type=real(least=1, most=86_400), metavar="S", help="the peer is lost after S seconds away"
    )
    watch.add_argument("--once", action="store_true", help="end after the first key")
    watch.add_argument("--json", action="store_true", help="one JSON object a line for each event")
    watch.set_defaults(run=_watch)
    ca = verbs.add_parser(
        "ca", help="certificates for `serve`", description=CA_TEXT, epilog=CA_EPILOG, formatter_class=raw
    )
    ca.add_argument("folder", type=Path, metavar="DIR", help="where they are")
    ca.add_argument("names", nargs="+", metavar="NAME", help="whose certificates to make")
    ca.add_argument(
        "--host", action="append", default=[], metavar="H", help="where it serves; again for more (default localhost)"
    )
    ca.add_argument("--days", type=integer(least=1, most=3650), default=825, metavar="N", help="valid (default 825)")
    ca.set_defaults(run=_ca)
    serve = verbs.add_parser(
        "serve", help="keys by ETSI GS QKD 014", description=SERVE_TEXT, epilog=SERVE_EPILOG, formatter_class=raw
    )
    serve.add_argument("folder", type=Path, metavar="DIR", help="certificates, and what is kept")
    serve.add_argument("--kme", default="kme", metavar="NAME", help="this KME's id and certificate (default kme)")
    serve.add_argument(
        "--sae", action="append", required=True, metavar="ID", help="an application here; again for more"
    )
    serve.add_argument(
        "--peer", action="append", required=True, metavar="PEER=ID", help="a peer of the node, and an application there"
    )
    serve.add_argument("--listen", default="127.0.0.1:8444", metavar="H:P", help="where (default 127.0.0.1:8444)")
    serve.add_argument(
        "--rotate", type=real(least=1, most=86_400), metavar="S", help="a new generation every S seconds"
    )
    serve.add_argument("--config", metavar="FILE", help="the node's configuration, if it is not the default one")
    serve.set_defaults(run=_serve)


def _add_common(parser: ArgumentParser, label: str | None) -> None:
    parser.add_argument("peer", metavar="PEER", help="name or address")
    said = "what it is for, the same at both ends"
    if label is None:
        parser.add_argument("--label", required=True, metavar="TEXT", help=said)
    else:
        parser.add_argument("--label", default=label, metavar="TEXT", help=f"{said} (default: the program's name)")
    parser.add_argument(
        "--bytes", type=integer(least=1, most=1024), default=32, metavar="N", help="length (default 32)"
    )
    parser.add_argument("--config", metavar="FILE", help="the node's configuration, if it is not the default one")


def _get(args: Namespace) -> int:
    from bt_selfsecure.delivery.consumers import formed

    if args.format == "raw" and not args.json and sys.stdout.isatty():
        raise UsageError("a raw key on a terminal is of no use: --format hex, or write it to a file")
    client = node_client(args)
    told = client.key(args.peer, args.label, length=args.bytes, rotate=args.rotate, timeout=args.wait)
    if args.json:
        form = "hex" if args.format == "hex" else "base64"
        key = formed(told["key"], form).decode().strip()
        print(json.dumps({"peer": told["peer"], "generation": told["generation"], "key": key}, indent=2))
    else:
        sys.stdout.buffer.write(formed(told["key"], args.format))
        sys.stdout.flush()
    return 0


def _watch(args: Namespace) -> int:
    from bt_selfsecure.delivery.follow import Delivery, KeyWish, follow

    client = node_client(args)
    find(client, args.peer)
    label, consumers = _consumers(args, client)
    wish = KeyWish(args.peer, args.label or label, args.bytes, args.rotate, args.lost_after)
    for event in follow(client, wish):
        for consumer in consumers:
            if isinstance(event, Delivery):
                consumer.take(event)
            else:
                consumer.lost(event)
        _tell(args, event, wish)
        if args.once and isinstance(event, Delivery):
            break
    return 0


def _tell(args: Namespace, event: Any, wish: KeyWish) -> None:
    generation = getattr(event, "generation", "")
    if args.json:
        fields = {"event": "key" if generation else "lost", "peer": event.peer, "label": wish.label}
        print(json.dumps(fields | {"generation": generation, "why": getattr(event, "why", "")}), flush=True)
    elif generation:
        print(f"{event.peer}: generation {generation} of {wish.label}", flush=True)
    else:
        print(f"{event.peer} is lost: {event.why}", file=sys.stderr, flush=True)


def _consumers(args: Namespace, client: Any) -> tuple[str, list[Consumer]]:
    """The name of the program, which is the label where none is given, and who is told."""
    from bt_selfsecure.delivery import consumers as to

    made: dict[str, Any] = {
        "file": lambda: to.KeyFile(args.file, args.format),
        "wireguard": lambda: to.WireGuard(args.wireguard, args.public_key),
        "oscore": lambda: to.OscoreFolder(args.oscore, is_lower=_is_lower(client, args.peer)),
        "coap_psk": lambda: to.CoapIdentities(args.coap_psk),
        "strongswan": lambda: to.StrongSwan(args.strongswan),
    }
    given = [name for name in made if getattr(args, name) is not None]
    if len(given) > 1 or not (given or args.command):
        options = ", ".join("--" + name.replace("_", "-") for name in made)
        raise UsageError(f"name one program that is to have the key: {options}, or --run alone")
    if args.public_key is not None and args.wireguard is None:
        raise UsageError("--public-key is of a peer of WireGuard: give --wireguard IF, too")
    if args.wireguard and args.bytes != to.WIREGUARD_BYTES:
        raise UsageError(f"WireGuard takes a key of {to.WIREGUARD_BYTES} bytes: leave --bytes out")
    chosen = [made[name]() for name in given] + ([to.RunCommand(args.command)] if args.command else [])
    return (given[0].replace("_", "-") if given else "run"), chosen


def _is_lower(client: Any, peer: str) -> bool:
    own = client.status()["address"]
    if own is None:
        raise UsageError("the node has no adapter, so no address by which the two ends tell their ids: see doctor")
    return bool(own < find(client, peer)["address"])


def _ca(args: Namespace) -> int:
    from bt_selfsecure.authority import issue

    for made in issue(args.folder, args.names, args.host, args.days):
        print(f"made {made} and {made.with_suffix('.key').name}")
    return 0


def _serve(args: Namespace) -> int:
    import asyncio

    try:
        from bt_selfsecure.delivery.etsi014 import manager, server, store
    except ImportError:
        raise UsageError("aiohttp is not installed: pip install 'bt-selfsecure[node]'") from None
    host, port = _place(args.listen)
    there: dict[str, str] = {}
    client = node_client(args)
    for pair in args.peer:
        peer, equals, sae = pair.partition("=")
        if not (peer and equals and sae):
            raise UsageError(f"--peer is {pair!r} and must be a peer and an application there, as in bob=app-b")
        there[sae] = find(client, peer)["name"]
    if both := set(args.sae) & set(there):
        raise UsageError(f"{min(both)!r} is an application here and there: give each its own id")
    place = manager.KmePlace(args.kme, frozenset(args.sae), there)
    context = server.tls(args.folder, args.kme)
    kept = store.KeyStore(args.folder / "keys.sqlite")
    try:
        print(f"serving on https://{host}:{port}/api/v1/keys, as {args.kme}, until Ctrl-C", flush=True)
        asyncio.run(server.serve(manager.KeyManager(client, kept, place, args.rotate), context, host, port))
    finally:
        kept.close()
    return 0


def _place(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 65_536):
        raise UsageError(f"--listen is {text!r} and must be an address and a port, as in 127.0.0.1:8444")
    return host.strip("[]"), int(port)
