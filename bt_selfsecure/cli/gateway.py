"""`bt-selfsecure gateway`: run one, and ask a running one."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.cli.iot_options import needing_extra, run_until_signal
from bt_selfsecure.cli.terminal import columns, wrapped
from bt_selfsecure.errors import UsageError
from bt_selfsecure.wording import printable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from bt_selfsecure.iot.gateway.config import GatewayConfig

DESCRIPTION: Final = """\
Between IoT-Crypto devices and their cloud: takes devices over IPv4, IPv6 and
Bluetooth (IPSP), verifies who they are, reads their sensors, passes commands
down and readings and alerts up. What the cloud can't take now is kept."""
EPILOG: Final = """\
examples:
  bt-selfsecure gateway config > gateway.toml      then edit it
  bt-selfsecure gateway run --config gateway.toml
  bt-selfsecure gateway status
  bt-selfsecure gateway ask boiler temperature
  bt-selfsecure gateway command boiler lamp true
docs/iot.md explains it all.
"""
ANSWER_S: Final = 60.0


def add_parser(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `gateway` and its commands."""
    group = commands.add_parser(
        "gateway",
        help="a gateway of an IoT network",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run = _verb(
        verbs, "run", "run it until Ctrl-C or SIGTERM; what devices said and the cloud lacks waits on the disk", _run
    )
    run.add_argument("-v", "--verbose", action="store_true", help="log what is told at level debug, too")
    status = _verb(verbs, "status", "how it, its cloud and its devices are; exit status 1: it has a problem", _status)
    status.add_argument("--json", action="store_true", help="as GET /v1/status")
    ask = _verb(verbs, "ask", "read a device's sensors now; each is a line, its name and what it says", _ask)
    ask.add_argument("device", metavar="DEVICE", help="name or id")
    ask.add_argument("sensor", nargs="*", metavar="SENSOR", help="default: all")
    command = _verb(verbs, "command", "have a device do something; exit status 1: it was not done", _command)
    command.add_argument("device", metavar="DEVICE", help="name or id")
    command.add_argument("name", metavar="NAME", help="of the command, as the device's program has it")
    command.add_argument("argument", nargs="?", metavar="VALUE", help="a number, true, false, null, or text")
    _verb(verbs, "metrics", "print figures for Prometheus; as GET /v1/metrics on its socket", _metrics)
    _verb(
        verbs,
        "doctor",
        "is this machine fit for it, and if not, what to do; exit status 1: something is in its way",
        _doctor,
    )
    _verb(verbs, "config", "check the configuration and print it with every key explained", _config)


def _verb(verbs: _SubParsersAction[ArgumentParser], name: str, what: str, run: Any) -> ArgumentParser:
    parser = verbs.add_parser(name, help=what.partition(";")[0], description=f"{what[0].upper()}{what[1:]}.")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="its configuration (default /etc/bt-selfsecure/gateway.toml)"
    )
    parser.set_defaults(run=run)
    return parser


def _read(args: Namespace) -> GatewayConfig:
    with needing_extra():
        from bt_selfsecure.iot.gateway.config import DEFAULT_PATH, read_config
    return read_config(args.config or DEFAULT_PATH)[0]


# --- run --------------------------------------------------------------------------------------------------------------


def _run(args: Namespace) -> int:
    from bt_selfsecure.cli.node import begin_log

    config = _read(args)
    begin_log("debug" if args.verbose else config.gateway.log_level)
    with needing_extra():
        from bt_selfsecure.iot.gateway.running import run_gateway
    return run_until_signal(run_gateway(config))


# --- a running one ----------------------------------------------------------------------------------------------------


def _request(args: Namespace, method: str, target: str) -> bytes:
    """Return what the running gateway answers. Raises `UsageError`."""
    from bt_selfsecure.node.unix_http import UnixHttpConnection

    path = _read(args).gateway.socket
    try:
        connection = UnixHttpConnection(path)
        answer = connection.ask(method, target, None, ANSWER_S)
        body = answer.read()
        connection.close()
    except (FileNotFoundError, ConnectionRefusedError):
        raise UsageError(f"no gateway runs on {path}: bt-selfsecure gateway run runs one") from None
    except OSError as error:
        why = error.strerror or error
        raise UsageError(f"the gateway on {path} can't be asked ({why}): be root, or of its socket's group") from None
    if answer.status != 200:
        raise UsageError(json.loads(body)["error"])
    return body


def _status(args: Namespace) -> int:
    told = json.loads(_request(args, "GET", "/v1/status"))
    if args.json:
        print(json.dumps(told))
        return int(bool(told["problems"]))
    own, cloud = told["gateway"], told["cloud"]
    print(f"gateway {own['name']!r} of {told['owner']['name']!r}, network {told['network']!r}")
    print(f"cloud: {cloud['name']!r} at {cloud['where']}" if cloud else "cloud: none connected")
    print(f"records that wait: {told['waiting']:,}")
    for problem in told["problems"]:
        print(f"problem: {problem}")
    print(f"devices: {len(told['devices'])}")
    for device in told["devices"]:
        readings = ", ".join(f"{name} {_short(value)}" for name, value in device["readings"].items())
        ago = f" ({time.time() - device['read_ms'] / 1000:.0f} s ago)" if readings else ""
        line = printable(f"  {device['name']} at {device['where']}: {readings or 'no readings yet'}{ago}")
        print(*wrapped(line, columns(), "    "), sep="\n")
    return int(bool(told["problems"]))


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value)


def _ask(args: Namespace) -> int:
    from bt_selfsecure.node.unix_http import query, quoted

    sensors = "".join(f"&sensor={quoted(name)}" for name in args.sensor)
    told = json.loads(_request(args, "POST", "/v1/request" + query(device=args.device) + sensors))
    for name, value in told["readings"].items():
        print(printable(f"{name} {json.dumps(value)}"))
    return 0


def _command(args: Namespace) -> int:
    from bt_selfsecure.node.unix_http import query

    given = {"device": args.device, "name": args.name, "argument": json.dumps(_value(args.argument))}
    told = json.loads(_request(args, "POST", "/v1/command" + query(**given)))
    print(printable(f"{'done' if told['done'] else 'not done'}{told['text'] and ': ' + told['text']}"))
    return int(not told["done"])


def _value(text: str | None) -> Any:
    """Return a number, true, false or null as such, and else the text."""
    try:
        value = None if text is None else json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, (dict, list)) else value


def _metrics(args: Namespace) -> int:
    print(_request(args, "GET", "/v1/metrics").decode(), end="")
    return 0


# --- this machine -----------------------------------------------------------------------------------------------------


def _doctor(args: Namespace) -> int:
    with needing_extra():
        from bt_selfsecure.iot.gateway.doctor import examine
    from bt_selfsecure.cli.doctor import lines
    from bt_selfsecure.iot.gateway.config import DEFAULT_PATH
    from bt_selfsecure.node.doctor.findings import Verdict

    failed = False
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for name, finding in examine(args.config or DEFAULT_PATH):
        print(lines(name, finding, coloured), flush=True)
        failed = failed or finding.verdict is Verdict.FAILURE
    return int(failed)


def _config(args: Namespace) -> int:
    with needing_extra():
        from bt_selfsecure.iot.gateway.config import DEFAULT_PATH, default_config, read_config, render

    path = args.config or DEFAULT_PATH
    config, origin = default_config() if args.config is None and not path.exists() else read_config(path)
    print(render(config, origin), end="")
    return 0
