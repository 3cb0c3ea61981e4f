"""`bt-selfsecure coap`: CoAP secured by any of our protocols, with aiocoap."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.cli import coap_keys, coap_manager
from bt_selfsecure.cli.client import progress
from bt_selfsecure.cli.coap_options import MOST_PORT, SCHEME_HELP, Chosen, add_options, chosen, managed
from bt_selfsecure.cli.numbers import integer, real
from bt_selfsecure.errors import PeerError, UsageError
from bt_selfsecure.wording import printable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from bt_selfsecure.coap.client import CoapClient
    from bt_selfsecure.protocols.sabour.config import ClientConfig

DESCRIPTION: Final = """\
CoAP (RFC 7252) over plain UDP, DTLS-PSK, D-OTP (Tsai et al.) or Sabour's
handshake with OSCORE: a server with a few resources, and requests to any."""
EPILOG: Final = """\
example, D-OTP between two devices that get one key by hand:
  bob$   bt-selfsecure coap key alice.key --identity alice
  bob$   scp alice.key alice:
  bob$   bt-selfsecure coap pair alice --as server --key-file alice.key
  bob$   bt-selfsecure coap serve --bind 192.0.2.2 --scheme dotp --pair alice
  alice$ bt-selfsecure coap pair bob --as client --key-file alice.key
  alice$ bt-selfsecure coap get coaps://192.0.2.2/time --scheme dotp --pair bob
docs/coap.md explains schemes, keys and figures.
"""
SERVE: Final = """\
Serve until Ctrl-C or SIGTERM:
  /time       GET, observe: date and time
  /sensor     GET, observe: JSON of 315 bytes; also /index, as in paper 001
  /store/...  GET, PUT, POST (appends), DELETE, observe: in memory
"""
MOST_PAYLOAD_BYTES: Final = 65_536
METHODS: Final = {
    "get": "print a resource",
    "put": "replace a resource",
    "post": "send to a resource",
    "delete": "delete a resource",
    "observe": "print a resource now and at each change, until Ctrl-C",
}


def add_parser(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `coap` and its commands."""
    coap = commands.add_parser(
        "coap",
        help="CoAP over D-OTP, Sabour's handshake, DTLS-PSK, or plain",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = coap.add_subparsers(title="commands", metavar="COMMAND", required=True)
    serve = verbs.add_parser(
        "serve",
        help="serve time, a sensor and a store",
        description=SERVE,
        epilog=SCHEME_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS", help="an address of this computer's")
    serve.add_argument(
        "--port",
        type=integer(least=0, most=MOST_PORT),
        metavar="N",
        help="default 5683, for coaps 5684; 0: a free one",
    )
    serve.add_argument("-v", "--verbose", action="store_true", help="log handshakes and sessions")
    add_options(serve, server=True)
    serve.set_defaults(run=_serve)
    for method, what in METHODS.items():
        _add_request(verbs, method, what)
    coap_keys.add_parsers(verbs)
    coap_manager.add_parser(verbs)


def _add_request(verbs: _SubParsersAction[ArgumentParser], method: str, what: str) -> None:
    parser = verbs.add_parser(
        method,
        help=what,
        description=f"{what[0].upper()}{what[1:]}.\nExit status 1: it was refused, or nothing came back that counts.",
        epilog=SCHEME_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("uri", metavar="URI", help="as in coap://192.0.2.2/time or coaps://[fe80::1%%bt0]/sensor")
    if method in ("put", "post"):
        parser.add_argument(
            "file", nargs="?", default="-", metavar="FILE", help="what to send; - or nothing: standard input"
        )
    parser.add_argument("--json", action="store_true", help="code, content format and payload as a JSON object")
    parser.add_argument("--timeout", type=real(above=0, most=3600), default=10.0, metavar="S", help="default 10")
    parser.add_argument("-v", "--verbose", action="store_true", help="say what is sent and received, and the time")
    parser.add_argument("--server", metavar="ID", help="sabour: whom of those enrolled, if there are several")
    parser.add_argument("--device-id", metavar="ID", help="sabour: say this id, and not this device's own")
    add_options(parser, server=False)
    parser.set_defaults(run=_request, method=method)


# --- serve ------------------------------------------------------------------------------------------------------------


def _serve(args: Namespace) -> int:
    options = chosen(args, server=True)
    level = logging.INFO if args.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(message)s")
    logging.getLogger("bt_selfsecure.coap.server").setLevel(logging.ERROR)  # aiocoap's own words
    return asyncio.run(_until_signal(args, options))


async def _until_signal(args: Namespace, options: Chosen) -> int:
    from bt_selfsecure.coap.manager import ManagedSite
    from bt_selfsecure.coap.oscore import OscoreSite
    from bt_selfsecure.coap.oscore_pairs import OscorePairs
    from bt_selfsecure.coap.resources import site
    from bt_selfsecure.coap.sabour import secured
    from bt_selfsecure.coap.sabour_paper import PaperHandshakes, PaperSite
    from bt_selfsecure.coap.server import serve
    from bt_selfsecure.protocols.dotp.keys import Role

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as closing:
        whole = site()
        if options.is_paper:
            handshakes = PaperHandshakes(_sabour_server(options))
            await handshakes.open(args.bind, args.auth_port)
            closing.callback(handshakes.close)
            whole = PaperSite(whole, handshakes)
        elif options.profile is not None:
            whole = secured(whole, _sabour_server(options))
        elif options.oscore:
            for pair in options.oscore:
                closing.callback(pair.close)
            whole = OscoreSite(whole, OscorePairs(options.oscore).of)
        if manager := await closing.enter_async_context(managed(args, Role.SERVER)):
            whole = ManagedSite(whole, manager)
        serving = await serve(whole, args.bind, args.port, options.scheme)
        closing.push_async_callback(serving.close)
        print(f"serving {options.scheme.uri_scheme}://{serving.where} ({args.scheme}); Ctrl-C ends it", flush=True)
        await stop.wait()
    return 0


def _sabour_server(options: Chosen) -> Any:
    from bt_selfsecure.coap.keys import Enrolled, own_identity
    from bt_selfsecure.protocols.sabour.config import ServerConfig
    from bt_selfsecure.protocols.sabour.server import Server
    from bt_selfsecure.sansio.context import EndpointContext

    assert options.profile is not None
    devices = Enrolled(options.folder)
    if not devices:
        raise UsageError("no device is enrolled: on it `coap identity` shows its record, here `coap enrol` takes it")
    config = ServerConfig(own_identity(options.folder, os.urandom), devices, options.profile)
    return Server(config, EndpointContext(os.urandom, name="server"))


# --- requests ---------------------------------------------------------------------------------------------------------


def _request(args: Namespace) -> int:
    from bt_selfsecure.protocols.dotp.keys import ExhaustedError

    payload = _payload(args.file) if args.method in ("put", "post") else b""
    options = chosen(args, server=False)
    level = logging.INFO if args.verbose else logging.CRITICAL
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    logging.getLogger("bt_selfsecure.coap.client").setLevel(logging.CRITICAL)  # aiocoap's own words
    begun = time.monotonic()
    try:
        with contextlib.nullcontext() if args.method == "observe" else progress(lambda: f"asking {args.uri}"):
            status, output = asyncio.run(_ask(args, options, payload))
    except PeerError as error:
        print(f"bt-selfsecure: {error}", file=sys.stderr)
        return 1
    except ExhaustedError as error:
        raise UsageError(str(error)) from None
    if output is not None:
        _show(args, output)
    if args.verbose:
        print(f"Elapsed Time: {time.monotonic() - begun:.6f} seconds", file=sys.stderr)
    return status


async def _ask(args: Namespace, options: Chosen, payload: bytes) -> tuple[int, Any]:
    from bt_selfsecure.coap.client import connected
    from bt_selfsecure.protocols.dotp.keys import Role

    device = None if options.profile is None else _device(args, options)
    async with contextlib.AsyncExitStack() as closing:
        for pair in options.oscore:
            closing.callback(pair.close)
        manager = await closing.enter_async_context(managed(args, Role.CLIENT))
        client = await closing.enter_async_context(connected(options.scheme, device, args.auth_port, *options.oscore))
        if manager:
            client.before, client.after = manager.begin, manager.finish
        if args.method == "observe":
            return await _observe(args, client), None
        response = await client.request(args.method, args.uri, payload, args.timeout)
        return int(not response.code.is_successful()), response


async def _observe(args: Namespace, client: CoapClient) -> int:
    """Return only where the server has no more to tell."""
    response = None
    async for response in client.observe(args.uri, args.timeout):
        _show(args, response)
    if response is not None and response.code.is_successful():
        print(f"bt-selfsecure: {args.uri} can't be observed, or not any more: this is what it is now", file=sys.stderr)
    return 1


def _device(args: Namespace, options: Chosen) -> ClientConfig:
    from bt_selfsecure.coap.keys import device_id, enrolled, own_identity
    from bt_selfsecure.protocols.sabour.config import ClientConfig
    from bt_selfsecure.protocols.sabour.enrolment import Enrolment

    assert options.profile is not None
    identity = own_identity(options.folder, os.urandom)
    if args.device_id:
        identity = replace(identity, device_id=device_id(args.device_id))
    if not options.profile.hardened:
        return ClientConfig(identity, profile=options.profile, timeout=args.timeout)
    known = {
        device.hex(): Enrolment(device, key)
        for device, key in enrolled(options.folder).items()
        if args.server in (None, device.hex())
    }
    if len(known) != 1:
        if known:
            raise UsageError(f"{len(known)} are enrolled: say which of them the server is, by --server ID")
        raise UsageError(
            f"{f'{args.server} is not' if args.server else 'no server is'} enrolled: take its record by coap enrol"
        )
    return ClientConfig(identity, next(iter(known.values())), options.profile)


def _payload(file: str) -> bytes:
    try:
        if file == "-":
            data = sys.stdin.buffer.read(MOST_PAYLOAD_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(MOST_PAYLOAD_BYTES + 1)
    except OSError as error:
        raise UsageError(f"can't read {file!r} ({error.strerror}): give a file, or - for standard input") from None
    if len(data) > MOST_PAYLOAD_BYTES:
        raise UsageError(f"at most {MOST_PAYLOAD_BYTES:,} bytes can be sent: give less")
    return data


def _show(args: Namespace, response: Any) -> None:
    """The payload on standard output, as it is where that is no terminal; a code without one on standard error."""
    if args.json:
        text = response.payload.decode(errors="replace")
        kind = response.opt.content_format
        line = {"code": response.code.dotted, "format": None if kind is None else int(kind), "payload": text}
        sys.stdout.write(json.dumps(line) + "\n")
    elif not response.payload or not response.code.is_successful():
        said = printable(response.payload.decode(errors="replace"))
        print(f"{response.code}{said and ': '}{said}", file=sys.stderr)
    elif sys.stdout.isatty() or args.method == "observe":
        sys.stdout.write(printable(response.payload.decode(errors="replace")) + "\n")
    else:
        sys.stdout.buffer.write(response.payload)
    sys.stdout.flush()
