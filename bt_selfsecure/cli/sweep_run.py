"""`bt-selfsecure sweep run`, `agent` and `plan`: the afternoon with the tape measure."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bt_selfsecure.cli.client import client_parser
from bt_selfsecure.cli.numbers import integer, real

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

WEB_PORT: Final = 8700
RUN: Final = """\
Measure after a plan: it says where to put the nodes, counts down, sends test
packets, collects who heard what, and goes on where it was after a crash or a
flat battery. Run it on the node that you hold; on each other node of the plan
runs `bt-selfsecure sweep agent`. Each run is written down whole or not at all.
The loss so far shows between runs, which last some seconds: to ask the
listeners in the middle of one would use the radio that is measured."""
RUN_EPILOG: Final = """\
examples:
  bt-selfsecure sweep plan > car-park.toml      then name your nodes in [roles]
  bt-selfsecure sweep run car-park.toml --web   and open the page on the phone
  bt-selfsecure sweep plan --rehearsal > rehearsal.toml
  bt-selfsecure sweep run rehearsal.toml        the same without radios

At the end it waits for Enter, or for "End the sweep" on the page: until then
places can be redone, and skipped ones taken back.

Whoever can reach the page's port and knows its address, which has a random
part, can steer the sweep; the page has no encryption. Use your own hotspot.
The address stays the same for a record (its random part is kept beside it, in
RECORD.page): a sweep that is started anew is on the phone again by itself.
"""
AGENT: Final = """\
Obey the sweeps of this node's peers: send and receive test packets, and tell
what was heard. Only peers with a [[peer]] table are obeyed, over their session.
For the packets of le_advert the node itself must not advertise or scan: set
advertise = false and scan = false in [discovery] of its configuration."""
PLAN: Final = """\
Print a plan with every key, its default and what it means; or check one. The
rehearsal is a sweep on the virtual air of this computer: Bob walks away from
Alice, past Eve, and you see by which loss a key holds, is weak, or is broken.
"""


def add_run(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `run`."""
    run = client_parser(commands, "run", "measure after a plan", RUN, RUN_EPILOG, _run)
    run.add_argument("plan", type=Path, metavar="PLAN.toml", help="see `sweep plan`")
    run.add_argument(
        "--record", type=Path, metavar="FILE", help="where runs are written (default: the plan's name with .db, here)"
    )
    run.add_argument(
        "--web",
        nargs="?",
        const=f"0.0.0.0:{WEB_PORT}",
        metavar="ADDRESS:PORT",
        help=f"serve a page to steer it from a phone (default 0.0.0.0:{WEB_PORT})",
    )
    run.add_argument("--new-address", action="store_true", help="with --web: draw the page's random part anew")
    run.add_argument(
        "--unattended", action="store_true", help="take every place as ready: for rehearsals, and where nothing moves"
    )
    run.add_argument(
        "--redo", type=real(above=0), metavar="METRES", help="withdraw what was measured there and do it again"
    )
    run.add_argument(
        "--seed", type=integer(least=0), default=1, metavar="N", help="of the virtual air's losses (default 1)"
    )


def add_agent(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `agent`."""
    agent = client_parser(
        commands,
        "agent",
        "obey the sweeps of this node's peers",
        AGENT,
        "example:\n  sudo systemctl enable --now bt-selfsecure-sweep-agent",
        _agent,
    )
    agent.add_argument("--quiet", action="store_true", help="log only what goes wrong")


def add_plan(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `plan`."""
    plan = commands.add_parser(
        "plan",
        help="print a plan to begin with, or check one",
        description=PLAN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    plan.add_argument(
        "plan", nargs="?", type=Path, metavar="PLAN.toml", help="check this one, and say how long it takes"
    )
    plan.add_argument(
        "--rehearsal",
        action="store_true",
        help="print one that needs no radio, and teaches what to look for",
    )
    plan.set_defaults(run=_plan)


def _run(args: Namespace) -> int:
    from bt_selfsecure.cli.sweep_field import run

    return run(args)


def _agent(args: Namespace) -> int:
    from bt_selfsecure.cli.sweep_field import agent

    return agent(args)


def _plan(args: Namespace) -> int:
    from bt_selfsecure.cli.sweep_field import plan

    return plan(args)
