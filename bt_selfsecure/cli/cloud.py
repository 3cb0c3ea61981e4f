"""`bt-selfsecure cloud`: run one, see one, and what its owner does with tokens, backups and exports."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.cli.iot_options import needing_extra, run_until_signal
from bt_selfsecure.cli.numbers import integer
from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from bt_selfsecure.iot.cloud.config import CloudConfig

DESCRIPTION: Final = """\
Above the gateways of an IoT network: keeps their readings and alerts, and who
was connected to whom, in SQLite or PostgreSQL; shows them by REST and on a
page; passes commands and trust lists down."""
EPILOG: Final = """\
examples:
  bt-selfsecure cloud up --demo                see one live, on this computer
  bt-selfsecure cloud config > cloud.toml      then edit it
  bt-selfsecure cloud run --config cloud.toml
  bt-selfsecure cloud token add anna --role operator
  bt-selfsecure cloud backup monday.db
  bt-selfsecure cloud export --to ./into-kafka --cursor place
docs/cloud.md explains it all.
"""
DEMO_S: Final = 60.0


def add_parser(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `cloud` and its commands."""
    group = commands.add_parser(
        "cloud",
        help="the cloud server of an IoT network",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    up = verbs.add_parser(
        "up",
        help="a living network on this computer",
        description="Run a cloud, a gateway and three devices on this computer, a process each, until Ctrl-C.",
    )
    up.add_argument("--demo", action="store_true", required=True, help="all of it made up here, on loopback")
    up.add_argument("--folder", type=Path, metavar="DIR", help="where it lives, and stays (default: gone at the end)")
    up.set_defaults(run=_up)
    run = _verb(
        verbs, "run", "run it until Ctrl-C or SIGTERM; it takes from gateways, and serves REST and the page", _run
    )
    run.add_argument("-v", "--verbose", action="store_true", help="log what is told at level debug, too")
    _add_token(verbs)
    backup = _verb(verbs, "backup", "copy the database to a file, while the cloud runs", _backup)
    backup.add_argument("file", type=Path, metavar="FILE", help="to be made; of PostgreSQL by pg_dump, for pg_restore")
    export = _verb(
        verbs,
        "export",
        "readings and alerts as lines of JSON, in the order in which they came, for other systems",
        _export,
    )
    export.add_argument("--cursor", type=Path, metavar="FILE", help="keeps the place: the next time goes on from there")
    export.add_argument("--follow", action="store_true", help="go on with what comes, until Ctrl-C")
    export.add_argument("--to", metavar="COMMAND", help="run with each piece on its input; what fails comes again")
    _verb(verbs, "config", "check the configuration and print it with every key explained", _config)


def _verb(verbs: _SubParsersAction[ArgumentParser], name: str, what: str, run: Any) -> ArgumentParser:
    parser = verbs.add_parser(name, help=what.partition(";")[0], description=f"{what[0].upper()}{what[1:]}.")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="its configuration (default /etc/bt-selfsecure/cloud.toml)"
    )
    parser.set_defaults(run=run)
    return parser


def _add_token(verbs: _SubParsersAction[ArgumentParser]) -> None:
    token = verbs.add_parser(
        "token",
        help="who may use REST and the page",
        description="Make, list and revoke tokens: whoever has one may use REST and the page, as far as its role goes.",
    )
    kinds = token.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add = _verb(kinds, "add", "make a token and print it, this once; the cloud keeps its hash alone", _token_add)
    add.add_argument("name", metavar="NAME", help="who gets it")
    add.add_argument(
        "--role",
        choices=("viewer", "operator", "owner", "partner"),
        default="viewer",
        help="what it may (default viewer)",
    )
    add.add_argument("--days", type=integer(least=1, most=3650), default=90, metavar="N", help="it counts (default 90)")
    add.add_argument(
        "--certificate", type=Path, metavar="FILE", help="of a partner: its company's, which it is bound to"
    )
    _verb(kinds, "list", "print name, role and last day of each", _token_list)
    revoke = _verb(kinds, "revoke", "let a token count no more", _token_revoke)
    revoke.add_argument("name", metavar="NAME", help="whose it is, as `cloud token list` has it")


def _read(args: Namespace) -> CloudConfig:
    with needing_extra("cloud"):
        from bt_selfsecure.iot.cloud.config import DEFAULT_PATH, read_config
    return read_config(args.config or DEFAULT_PATH)[0]


def _run(args: Namespace) -> int:
    from bt_selfsecure.cli.node import begin_log

    config = _read(args)
    begin_log("debug" if args.verbose else config.cloud.log_level)
    with needing_extra("cloud"):
        from bt_selfsecure.iot.cloud.running import run_cloud
    return run_until_signal(run_cloud(config))


def _config(args: Namespace) -> int:
    with needing_extra("cloud"):
        from bt_selfsecure.iot.cloud.config import DEFAULT_PATH, default_config, read_config, render

    path = args.config or DEFAULT_PATH
    config, origin = default_config() if args.config is None and not path.exists() else read_config(path)
    print(render(config, origin), end="")
    return 0


# --- a demonstration --------------------------------------------------------------------------------------------------


def _up(args: Namespace) -> int:
    from bt_selfsecure.cli.try_nodes import Dots, folder_for, signals_as_ctrl_c

    with needing_extra("cloud"):
        from bt_selfsecure.iot.demo.network import DemoNetwork
    from bt_selfsecure.node.two_nodes import SIGNALS

    with signals_as_ctrl_c(), folder_for(args.folder) as folder:
        network = DemoNetwork(folder)
        try:
            network.start()
            dots = Dots("A cloud, a gateway and three devices start, a process each ")
            until = time.monotonic() + DEMO_S
            while not network.is_living():
                if time.monotonic() > until:
                    raise UsageError(f"the network did not come to life in {DEMO_S:.0f} s: see the logs in {folder}")
                time.sleep(0.5)
                dots.go_on()
            _tell(network)
            while True:
                network.is_living()
                time.sleep(1)
        finally:
            for number in SIGNALS:  # a second Ctrl-C must not leave anything behind either
                signal.signal(number, signal.SIG_IGN)
            network.stop()


_TO_TRY: Final = """\
Switch the lamp, which makes an alert, too:
  curl -X POST -H "$auth" \\
    "$api/devices/$lamp/commands?name=switch&argument=true"
Revoke it, as its owner, and see its connection end:
  bt-selfsecure iotcrypto revoke $lamp --state "$owner"
  curl -X POST -H "$auth" --data-binary "@$owner/revocations.list" \\
    $api/trust/lists
Ctrl-C ends it all."""


def _tell(network: Any) -> None:
    lamp = next(each for each in network.ask("/v1/devices")["devices"] if each["name"] == "lamp")
    print("\nThe page of the network:", f"{network.url}/#token={network.token}", sep="\n")
    print("\nIn a second terminal:")
    print(f"  api={network.url}/v1 lamp={lamp['id']}")
    print(f"  auth='Authorization: Bearer {network.token}'")
    print(f"  owner={shlex.quote(str(network.owner.path))}")
    print(_TO_TRY, flush=True)


# --- tokens -----------------------------------------------------------------------------------------------------------


def _token_add(args: Namespace) -> int:
    from bt_selfsecure.iot.cloud.tokens import TokenRole, make_token
    from bt_selfsecure.iot.folder import read_signed

    role = TokenRole[args.role.upper()]
    partner = read_signed(args.certificate).encode() if args.certificate else None
    base = _base(args)
    print(make_token(base, args.name, role, args.days, int(time.time() * 1000), partner))
    base.close()
    return 0


def _token_list(args: Namespace) -> int:
    from bt_selfsecure.iot.cloud.tokens import list_tokens
    from bt_selfsecure.wording import printable

    base = _base(args)
    for name, role, expires in list_tokens(base):
        print(printable(f"{name}: {role}, until {time.strftime('%Y-%m-%d', time.localtime(expires / 1000))}"))
    base.close()
    return 0


def _token_revoke(args: Namespace) -> int:
    from bt_selfsecure.iot.cloud.tokens import revoke_token

    base = _base(args)
    was_there = revoke_token(base, args.name)
    base.close()
    if not was_there:
        raise UsageError(f"there is no token {args.name!r}: bt-selfsecure cloud token list shows them")
    return 0


def _base(args: Namespace) -> Any:
    config = _read(args)
    with needing_extra("cloud"):
        from bt_selfsecure.iot.cloud.running import open_base
    return open_base(config, new=config.cloud.state.is_dir())


# --- copies -----------------------------------------------------------------------------------------------------------


def _backup(args: Namespace) -> int:
    config = _read(args)
    with needing_extra("cloud"):
        from bt_selfsecure.iot.cloud.copies import back_up
    back_up(config, args.file)
    return 0


def _export(args: Namespace) -> int:
    with needing_extra("cloud"):
        from bt_selfsecure.iot.cloud.copies import Cursor, batches, hand_over

    base, cursor = _base(args), Cursor(args.cursor)
    try:
        for last, records in batches(base, cursor.place, follow=args.follow):
            lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            if args.to:
                hand_over(args.to, lines)
            else:
                print(lines, end="", flush=True)
            cursor.put(last)
    finally:
        base.close()
    return 0
