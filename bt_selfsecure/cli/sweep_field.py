"""What `bt-selfsecure sweep run`, `agent` and `plan` do; their options are `sweep_run`'s."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bt_selfsecure.cli.client import node_client
from bt_selfsecure.cli.sweep_screen import Screen
from bt_selfsecure.cli.sweep_text import progress_line
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.doctor.host_system import HostSystem
from bt_selfsecure.sweep import plan as plans
from bt_selfsecure.sweep.agent import Agent
from bt_selfsecure.sweep.control import AirCrew, Crew, RadioCrew, Servant
from bt_selfsecure.sweep.driver import Driver
from bt_selfsecure.sweep.environment import facts_of
from bt_selfsecure.sweep.events import Redo
from bt_selfsecure.sweep.kernel import KernelEnvironment
from bt_selfsecure.sweep.plan import Place, Plan, metres
from bt_selfsecure.sweep.record import Book
from bt_selfsecure.sweep.rehearsal import RehearsalMedium
from bt_selfsecure.sweep.states import State
from bt_selfsecure.sweep.store import Store
from bt_selfsecure.wording import counted

if TYPE_CHECKING:
    from argparse import Namespace
    from socket import socket

STATE_VARIABLE: Final = "STATE_DIRECTORY"
"""Set by systemd."""
GOODBYE_S: Final = 4.0
"""The page asks once a second: it sees the end."""


# --- run --------------------------------------------------------------------------------------------------------------


def run(args: Namespace) -> int:
    plan = plans.load(args.plan)
    if not (sys.stdin.isatty() or args.web or args.unattended):
        raise UsageError("there is no terminal to ask you on: add --web, or --unattended where nothing is to be moved")
    if args.new_address and not args.web:
        raise UsageError("--new-address is about the page: add --web")
    record = args.record or Path(os.environ.get(STATE_VARIABLE, "")) / f"{args.plan.stem}.db"
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    again = [] if args.redo is None else _places(plan, args.redo)
    crew = _crew(args, plan)
    with ExitStack() as stack:
        listener = stack.enter_context(_listener(args.web)) if args.web else None
        migrating = stack.enter_context(progress_line("migrated"))
        store = stack.enter_context(Store(record, create=True, migrating=migrating))  # what is refused leaves no file
        with suppress(asyncio.CancelledError):  # SIGTERM
            asyncio.run(_sweep(args, store, plan, crew, again, listener))
    return 0


async def _sweep(
    args: Namespace, store: Store, plan: Plan, crew: Crew, again: list[Place], listener: socket | None
) -> None:
    driver = Driver(plan, Book(store, plan), crew)
    for place in again:
        driver.do(Redo(place))
    _end_at_sigterm()
    async with AsyncExitStack() as stack:
        address = ""
        if listener:
            from bt_selfsecure.sweep.web import serve, token_beside

            token = token_beside(store.path, new=args.new_address)
            address = await stack.enter_async_context(serve(driver, listener, token))
        screen = Screen(driver, store.path, address)
        stack.enter_context(screen.shown(unattended=args.unattended))
        await driver.run()
        if listener and driver.sweep.state is State.OVER:
            await asyncio.sleep(GOODBYE_S)


def _places(plan: Plan, distance_m: float) -> list[Place]:
    """At this distance: one in every turn of the ring, the last first."""
    places = [place for place in plan.places() if place.distance_m == distance_m]
    if not places:
        known = ", ".join(metres(place) for place in plan.places())
        raise UsageError(f"--redo {distance_m:g} is no place of the plan: {known}")
    return places[::-1]


def _listener(where: str) -> socket:
    from bt_selfsecure.phone.guard import listening

    return listening(where, "--web")


def _end_at_sigterm() -> None:
    """As at Ctrl-C: the radio is given back."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _crew(args: Namespace, plan: Plan) -> Crew:
    if plan.is_virtual:
        return AirCrew(plan.nodes, RehearsalMedium(args.seed), facts_of(HostSystem(), None))
    client = node_client(args)
    return RadioCrew(client, plan.nodes, Agent(KernelEnvironment(client), facts_of(HostSystem(), client)))


# --- agent and plan ---------------------------------------------------------------------------------------------------


def agent(args: Namespace) -> int:
    clock = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(level="WARNING" if args.quiet else "INFO", format=f"{clock}%(message)s")
    client = node_client(args)

    async def serve() -> None:
        _end_at_sigterm()
        await Servant(client, Agent(KernelEnvironment(client), facts_of(HostSystem(), client))).run()

    with suppress(asyncio.CancelledError):
        asyncio.run(serve())
    return 0


def plan(args: Namespace) -> int:
    if args.plan is None:
        print(plans.rehearsal() if args.rehearsal else plans.example(), end="")
        return 0
    if args.rehearsal:
        raise UsageError(f"--rehearsal prints a plan, and {args.plan} is one to check: leave one of them out")
    plan = plans.load(args.plan)
    runs = len(plan.places()) * sum(1 for _ in plan.runs_at(plan.places()[0]))
    print(f"{args.plan}: {counted(len(plan.places()), 'place')}, {counted(runs, 'run')}, {plans.minutes(plan)}")
    return 0
