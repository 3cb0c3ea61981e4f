"""`bt-selfsecure device`: a device of an IoT network, whose sensors and commands a person writes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from bt_selfsecure.cli.iot_options import add_state, needing_extra, run_until_signal, state_of
from bt_selfsecure.cli.numbers import integer
from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

GROUP: Final = """\
A device of an IoT network: sensors and commands that a person writes in a few
lines of Python. Its certificate, signed by its owner, says who it is; it takes
a gateway that its owner trusts, and no other."""
DESCRIPTION: Final = """\
Run a device until Ctrl-C or SIGTERM: it finds its gateway, agrees on keys, and
answers by what MODULE says, a file with any of these:

  SENSORS = ("temperature",)
  def read_sensor(name): ...          a number, text, True, False or None
  def execute(name, argument): ...    do it; the text returned is the status
  def alerts(): ...                   each second: texts, or (text, value)

What raises is told as a failure. Alerts are kept until the gateway has them,
and a command is done once, over restarts and power cuts, too."""
EPILOG: Final = """\
examples:
  bt-selfsecure device run examples/laptop_device.py --state boiler
  bt-selfsecure device run bt_selfsecure.iot.device.local_node
      the node on this computer as sensors: its peers, keys and alarms
  bt-selfsecure device run pi.py --ipsp B8:27:EB:12:34:56
      over Bluetooth, to the gateway with this address
docs/iot.md explains it all.
"""
GROUP_EPILOG: Final = """\
examples, at its owner's and then at the device:
  bt-selfsecure iotcrypto prepare boiler --role device --name boiler
  bt-selfsecure device run examples/laptop_device.py --state boiler
docs/iot.md explains it all.
"""
MOST_PORT: Final = 65_535


def add_parser(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `device` and its one command."""
    group = commands.add_parser(
        "device",
        help="a device of an IoT network",
        description=GROUP,
        epilog=GROUP_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run = verbs.add_parser(
        "run",
        help="run a device",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("module", metavar="MODULE", help="a file ending in .py, or the dotted name of a module")
    run.add_argument(
        "--gateway",
        metavar="PLACE",
        help="its address and negotiation port, as in 192.0.2.1:5711 (default: whoever advertises and is trusted)",
    )
    port = integer(least=1, most=MOST_PORT)
    run.add_argument("--transmission-port", type=port, default=5712, metavar="N", help="with --gateway (default 5712)")
    run.add_argument(
        "--advertisement-port", type=port, default=5710, metavar="N", help="where gateways advertise (default 5710)"
    )
    run.add_argument("--ipsp", metavar="ADDRESS", help="dial this gateway over Bluetooth (IPSP), and keep it up")
    run.add_argument("--adapter", default="hci0", metavar="HCI", help="with --ipsp (default hci0)")
    run.add_argument("--profile", choices=("hardened", "paper"), default="hardened", help="of the whole network")
    run.add_argument("-v", "--verbose", action="store_true", help="log what is told at level debug, too")
    add_state(run)
    run.set_defaults(run=_run)


def _run(args: Namespace) -> int:
    from bt_selfsecure.addresses import is_address, spelled
    from bt_selfsecure.bearers.places import parse_place
    from bt_selfsecure.cli.node import begin_log

    begin_log("debug" if args.verbose else "info")
    with needing_extra():
        from bt_selfsecure.iot.device.device import DeviceConfig
        from bt_selfsecure.iot.device.program import Program
        from bt_selfsecure.iot.device.running import run_device
        from bt_selfsecure.protocols.iotcrypto.messages import Profile
    if args.ipsp and not is_address(spelled(args.ipsp)):
        raise UsageError(f"{args.ipsp!r} is no device address: write it as in B8:27:EB:12:34:56")
    place = parse_place(args.gateway) if args.gateway else None
    config = DeviceConfig(place, args.transmission_port, args.advertisement_port)
    program = Program.load(args.module)
    ipsp = (args.adapter, spelled(args.ipsp)) if args.ipsp else None
    return run_until_signal(run_device(state_of(args), program, config, Profile(args.profile), ipsp))
