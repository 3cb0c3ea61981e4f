"""`bt-selfsecure coap manager`: the D-OTP manager as a service."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bt_selfsecure.cli.coap_options import MOST_PORT, NEEDED, add_folder, folder_of
from bt_selfsecure.cli.numbers import integer, real
from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

FILE: Final = "manager.json"
DESCRIPTION: Final = """\
Run a D-OTP manager until Ctrl-C or SIGTERM: both ends of a pair ask it before
a transmission and tell it after. It grants and counts, and raises an alarm
when an end asks too often, when its number does not rise, and when a grant is
never done: in its log, in /state and in /metrics. It knows no key of a pair."""
EPILOG: Final = """\
example:
  coap key devices --identity sensor; the same for gateway and operator, and
  their lines in one file; each device gets its own line alone
  echo "kitchen sensor gateway" > pairs     pair, its client, its server
  bt-selfsecure coap manager --key-file devices --pairs pairs
  bt-selfsecure coap get coaps://192.0.2.9/time --scheme dotp --pair kitchen \\
      --manager coaps://192.0.2.1:5703 --manager-key sensor.key
  bt-selfsecure coap get coaps://192.0.2.1:5703/state --scheme dtls \\
      --key-file operator.key
PAIR is the identity of the pair's key file.
"""


def add_parser(verbs: _SubParsersAction[ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "manager",
        help="grant, count and watch over the transmissions of D-OTP pairs",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS", help="an address of this computer's")
    parser.add_argument(
        "--port", type=integer(least=0, most=MOST_PORT), default=5703, metavar="N", help="default 5703; 0: a free one"
    )
    parser.add_argument(
        "--key-file",
        type=Path,
        required=True,
        metavar="FILE",
        help="a line `IDENTITY KEY` for each device; `operator` reads /state and /metrics",
    )
    parser.add_argument(
        "--pairs", type=Path, required=True, metavar="FILE", help="a line `PAIR CLIENT SERVER` for each pair"
    )
    parser.add_argument(
        "--rate", type=integer(least=1), default=60, metavar="N", help="most grants of an end a minute (default 60)"
    )
    parser.add_argument(
        "--done",
        type=real(above=0),
        default=120.0,
        metavar="S",
        help="seconds in which a grant must be done (default 120: CoAP repeats a message for 93)",
    )
    add_folder(parser)
    parser.set_defaults(run=_run)


def _run(args: Namespace) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("bt_selfsecure.coap.server").setLevel(logging.ERROR)  # aiocoap's own words
    try:
        pairs = args.pairs.read_text()
    except OSError as error:
        raise UsageError(f"can't read {args.pairs} ({error.strerror}): write `PAIR CLIENT SERVER` lines") from None
    return asyncio.run(_until_signal(args, pairs))


async def _until_signal(args: Namespace, text: str) -> int:
    try:
        from bt_selfsecure.coap.manager import ManagerService, read_pairs
        from bt_selfsecure.coap.server import serve
    except ImportError as error:
        raise UsageError(NEEDED.format(error.name)) from None
    from bt_selfsecure.coap.keys import read_keys
    from bt_selfsecure.coap.schemes import DtlsPsk
    from bt_selfsecure.files import private
    from bt_selfsecure.protocols.dotp.manager import ManagerConfig

    config = ManagerConfig(read_pairs(text, args.pairs), most_grants=args.rate, done_s=args.done)
    keys = read_keys(private(args.key_file), args.key_file)
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with contextlib.closing(ManagerService(config, folder_of(args) / FILE)) as service:
        serving = await serve(service.site, args.bind, args.port, DtlsPsk(keys))
        print(f"serving coaps://{serving.where} (manager of {len(config.pairs)} pairs); Ctrl-C ends it", flush=True)
        await stop.wait()
        await serving.close()
    return 0
