"""The control link: orders and answers as messages of the nodes' sessions, or within one program for a rehearsal."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from threading import Thread
from typing import Any, Final, Protocol

from bt_selfsecure.addresses import is_address
from bt_selfsecure.errors import BtSelfSecureError, UsageError
from bt_selfsecure.node.client import ApiError, NodeAwayError, NodeClient
from bt_selfsecure.node.messages import Received
from bt_selfsecure.sweep.agent import Agent
from bt_selfsecure.sweep.orders import (
    Answer,
    Describe,
    NotAnOrderError,
    Order,
    OrderRefused,
    SendPackets,
    decode_answer,
    decode_order,
    encode,
)
from bt_selfsecure.sweep.plan import listeners
from bt_selfsecure.sweep.rehearsal import RehearsalMedium

ORDERS_PORT: Final = 9
ANSWERS_PORT: Final = 10
"""Of the messages (a pipe has 1); two, so that a node can obey and be the one from which a sweep is driven."""
STALE_S: Final = 30.0
"""An order that has waited for longer is for a run that was given up."""
RETRY_S: Final = 1.0

log = logging.getLogger(__name__)

OnAnswer = Callable[[str, Answer], None]


class Crew(Protocol):
    """A crew is the nodes of a sweep, as the one who drives it sees them."""

    addresses: Mapping[str, str]
    """By name."""

    def start(self, on_answer: OnAnswer) -> None:
        """Call `on_answer(node, answer)` in the event loop from now on."""

    def give(self, node: str, order: Order) -> None:
        """Give an order at once; what comes of it comes as an answer."""

    def progress(self) -> tuple[int, int]:
        """Return packets of the burst under way that the node at hand has sent or heard, and of how many; (0, 0): it
        has no part in it. What the others have is asked only when the air is silent again."""

    async def close(self) -> None: ...


class Hands:
    """These are an agent in this program, which does one order after the other."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._work: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        """Of the order that holds the radio, until it has given it back."""
        self._talk: set[asyncio.Task[None]] = set()

    def give(self, order: Order, answer: Callable[[Answer], None]) -> None:
        """Give an order; the newest counts, and what is under way ends. To describe itself it needs no hands."""
        loop = asyncio.get_running_loop()
        if isinstance(order, Describe):
            task = loop.create_task(self._obey(order, answer), name="description")
            self._talk.add(task)
            task.add_done_callback(self._talk.discard)
        else:
            if self._work:
                self._work.cancel()
            self._work = loop.create_task(self._obey_in_turn(order, answer), name="order")

    async def _obey_in_turn(self, order: Order, answer: Callable[[Answer], None]) -> None:
        async with self._turn:
            await self._obey(order, answer)

    async def _obey(self, order: Order, answer: Callable[[Answer], None]) -> None:
        answer(await self.agent.obey(order))

    async def close(self) -> None:
        tasks = {*self._talk, *((self._work,) if self._work else ())}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with self._turn:
            await self.agent.close()


class AirCrew:
    """This crew is of agents on the virtual air, all in this program."""

    def __init__(self, nodes: tuple[str, ...], air: RehearsalMedium, facts: Callable[[], Any]) -> None:
        self.addresses: Mapping[str, str] = {
            name: f"BA:27:EB:00:00:{number:02X}" for number, name in enumerate(nodes, 1)
        }
        self._air = air
        self._hands = {name: Hands(Agent(air.at(address), facts)) for name, address in self.addresses.items()}
        self._on_answer: OnAnswer = lambda node, answer: None
        self._sender = nodes[0]

    def start(self, on_answer: OnAnswer) -> None:
        self._on_answer = on_answer

    def give(self, node: str, order: Order) -> None:
        if isinstance(order, SendPackets):
            self._sender = node
            roles = listeners(len(order.receivers))
            self._air.roles = dict(zip(order.receivers.values(), roles, strict=True))
        self._hands[node].give(order, lambda answer: self._on_answer(node, answer))

    def progress(self) -> tuple[int, int]:
        return self._hands[self._sender].agent.progress

    async def close(self) -> None:
        for hands in self._hands.values():
            await hands.close()


class RadioCrew:
    """This crew is the node behind `client`, whose hands are in this program, and its peers, on which `sweep agent`
    runs."""

    def __init__(self, client: NodeClient, nodes: tuple[str, ...], agent: Agent) -> None:
        """Raises `UsageError` where the plan names a node that this one does not know."""
        self._client = client
        status = client.status()
        self._own = str(status["name"])
        known = {peer["name"]: peer["address"] for peer in status["peers"]} | {self._own: status["address"]}
        for name in nodes:
            if name not in known:
                raise UsageError(
                    f"the plan's node {name} is neither this one nor a peer of it, which are "
                    f"{', '.join(sorted(known))}: add a [[peer]] to its configuration, or mend [roles]"
                )
        if known[self._own] is None:
            raise UsageError("the node has no adapter that works: see `bt-selfsecure doctor`")
        self.addresses: Mapping[str, str] = {name: known[name] for name in nodes}
        self._hands = Hands(agent)
        self._on_answer: OnAnswer = lambda node, answer: None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, on_answer: OnAnswer) -> None:
        self._on_answer = on_answer
        listen_for(self._client, ANSWERS_PORT, self._received)

    def give(self, node: str, order: Order) -> None:
        if node == self._own:
            self._hands.give(order, lambda answer: self._on_answer(node, answer))
            return
        task = asyncio.get_running_loop().create_task(self._send(node, order), name=f"order for {node}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, node: str, order: Order) -> None:
        try:
            await asyncio.to_thread(self._client.send, node, encode(order), port=ORDERS_PORT)
        except BtSelfSecureError as error:
            self._on_answer(node, OrderRefused(order.tag, str(error)))

    def _received(self, message: Received) -> None:
        try:
            self._on_answer(message.peer, decode_answer(message.message))
        except NotAnOrderError as error:
            log.warning("%s: %s", message.peer, error)

    def progress(self) -> tuple[int, int]:
        return self._hands.agent.progress

    async def close(self) -> None:
        await self._hands.close()


class Servant:
    """This is `sweep agent`: it does what a configured peer's sweep orders."""

    def __init__(self, client: NodeClient, agent: Agent) -> None:
        self._client, self._hands = client, Hands(agent)

    async def run(self) -> None:
        """Serve for ever; a node that is away is waited for. Raises `UsageError` where it can't be used."""
        try:
            await asyncio.to_thread(self._client.status)
        except NodeAwayError as error:
            log.warning("%s; waiting for it", error)
        listen_for(self._client, ORDERS_PORT, self._received)
        try:
            await asyncio.Event().wait()
        finally:
            await self._hands.close()

    def _received(self, message: Received) -> None:
        if is_address(message.peer):
            log.warning("%s: an order of a stranger is not obeyed; give it a [[peer]] table", message.peer)
            return
        age = message.age_s
        if age is None or not 0 <= age <= STALE_S:
            when = "from before the node's start" if age is None else f"of {age:.0f} s ago"
            log.info("%s: an order %s is out of date", message.peer, when)
            return
        try:
            order = decode_order(message.message)
        except NotAnOrderError as error:
            log.warning("%s: %s", message.peer, error)
            return
        log.info("%s: %s", message.peer, order)
        self._hands.give(order, lambda answer: self._answer(message.peer, answer))

    def _answer(self, peer: str, answer: Answer) -> None:
        if isinstance(answer, OrderRefused):
            log.warning("%s: %s", peer, answer.reason)
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, self._send, peer, encode(answer))

    def _send(self, peer: str, answer: bytes) -> None:
        try:
            self._client.send(peer, answer, port=ANSWERS_PORT)
        except BtSelfSecureError as error:
            log.error("%s: the answer could not be sent: %s", peer, error)


def listen_for(client: NodeClient, port: int, received: Callable[[Received], None]) -> None:
    """Call `received` in the running loop with each message of this port, once, as long as the program lives. A node
    that is away is waited for."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        newest = 0
        while not loop.is_closed():
            try:
                for message in client.receive(port=port, follow=True):
                    if message.id > newest:  # else its acknowledgement was lost
                        loop.call_soon_threadsafe(received, message)
                        newest = message.id
                    client.acknowledge(message.id)
            except ApiError as error:
                log.error("%s", error)
            except (BtSelfSecureError, RuntimeError):  # the node is away; or the loop ended just now
                pass
            time.sleep(RETRY_S)

    Thread(target=read, name=f"port {port}", daemon=True).start()
