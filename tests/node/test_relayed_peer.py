"""A peer that is reached through others: over which links a key is agreed on with it, and what authenticates it."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from bt_selfsecure.bearers.memory import MemoryAir
from bt_selfsecure.node.config_file import check, parse
from bt_selfsecure.node.haoxiao.peer_events import Dial, EstablishOutcome, Send, Stored
from bt_selfsecure.node.haoxiao.peer_links import ONE_WAY, LinkFacts
from bt_selfsecure.node.haoxiao.peer_machine import PeerMachine
from bt_selfsecure.node.haoxiao.settings import Settings
from bt_selfsecure.node.service import Node
from bt_selfsecure.protocols.haoxiao.frames import Kind, peek_kind
from bt_selfsecure.sansio.context import EndpointContext

ADDRESSES = {name: f"02:00:00:00:00:0{number}" for number, name in enumerate(("alice", "bob", "carol", "dave"), 1)}
PEER = '[[peer]]\nname = "{}"\naddress = "{}"\n'
KEY = b"of both ways".ljust(32)
DIALLED, CALLED = (LinkFacts(dialled, False, KEY, 0.2 if dialled else None) for dialled in (True, False))


def config(end: str, via: str = '[["bob"], ["dave"]]') -> str:
    other = {"alice": "carol", "carol": "alice"}[end]
    direct = "".join(PEER.format(name, ADDRESSES[name]) for name in ("bob", "dave"))
    return direct + PEER.format(other, ADDRESSES[other]) + f"via = {via}\n"


class Ends:
    """Two machines with one link between them."""

    def __init__(self, *, via: str = '[["bob"], ["dave"]]') -> None:
        self.now = 0.0
        self.machines: dict[str, PeerMachine] = {}
        self.sent: list[tuple[str, bytes]] = []
        self.outcomes: list[EstablishOutcome] = []
        self.seen: list[Kind | None] = []
        self.dials = 0
        for end, other in (("alice", "carol"), ("carol", "alice")):
            file = parse(config(end, via), Path("node.toml"))
            check(file)
            settings, numbers = Settings(file.config), itertools.count(1)
            machine = self.machines[end] = PeerMachine(
                settings.peer(other, ADDRESSES[other], "auto"),
                Stored(),
                EndpointContext(random.Random(end).randbytes),
                lambda numbers=numbers: next(numbers),  # type: ignore[misc]
                0.0,
            )
            machine.adapter_up(ADDRESSES[end], settings.establish(ADDRESSES[end], ADDRESSES[other]), 0.0)
            self.act(end)

    def act(self, end: str) -> None:
        machine = self.machines[end]
        while (output := machine.next_event()) is not None:
            match output:
                case Send():
                    self.sent.append((end, output.data))
                    self.seen.append(peek_kind(output.data))
                case Dial():
                    self.dials += end == "alice"
                case EstablishOutcome():
                    self.outcomes.append(output)
                case _ if hasattr(output, "token"):
                    machine.persisted(output.token, self.now)
                case _ if type(output).__name__ == "SendBurst":
                    self.sent.append((end, output.data))  # type: ignore[union-attr]
                    machine.burst_sent(self.now)
                case _:
                    pass

    def link(self, alice: LinkFacts, carol: LinkFacts) -> None:
        """A link comes, in the place of another one, as Alice dials."""
        for end, machine in self.machines.items():
            if line := machine.links.session_line:
                machine.link_down(line.number, "it is over", self.now)
                self.act(end)
        self.run(30, lambda: self.dials > 0)
        self.dials = 0
        for end, facts in (("alice", alice), ("carol", carol)):
            self.machines[end].link_up(1 + len(self.seen), "relay", facts, self.now)
            self.act(end)

    def run(self, seconds: float, is_over: Callable[[], bool] = lambda: False) -> None:
        end_at = self.now + seconds
        while not is_over():
            while self.sent:
                end, data = self.sent.pop(0)
                other = "carol" if end == "alice" else "alice"
                line = self.machines[other].links.session_line
                if line:
                    self.machines[other].receive(line.number, data, self.now)
                    self.act(other)
            timers = [(timer, end) for end, machine in self.machines.items() if (timer := machine.get_timer())]
            if not timers or min(timers)[0] > end_at:
                return
            self.now = max(self.now, min(timers)[0])
            self.machines[min(timers)[1]].handle_timer(self.now)
            self.act(min(timers)[1])


def fingerprints(ends: Ends) -> list[str]:
    return [str(machine.session.key.facts.get("fingerprint", "")) for machine in ends.machines.values()]


@pytest.mark.parametrize(
    ("more", "via", "words"),
    [
        (
            "",
            '"auto"',
            "On X25519 alone: a relay hears the whole burst. Against a relay that changes frames: on the str",
        ),
        (
            "",
            '[["bob"], ["dave"]]',
            "Against relays that change frames: that those of both ways do not work together, or",
        ),
        (
            "k",
            '"auto"',
            "On X25519 and the authentication key alone: a relay hears the whole burst. Against a relay that",
        ),
        ("b", '"auto"', "Against a relay that changes frames: on the bootstrapped key."),
    ],
)
def test_what_is_told_of_a_key_says_on_what_it_rests(tmp_path: Path, more: str, via: str, words: str) -> None:
    (tmp_path / "key").write_bytes(bytes(32))
    (tmp_path / "key").chmod(0o600)
    key = f'authentication_key_file = "{tmp_path}/key"\n' if more else ""
    file = parse(config("alice", via) + key + "bootstrapped = true\n" * (more == "b"), Path("node.toml"))
    check(file)
    told = Settings(file.config).peer("carol", ADDRESSES["carol"], "auto").rests_on(False, True, bool(more))
    assert words in told


def test_a_key_is_agreed_on_over_a_link_of_two_ways_and_confirms_nobody() -> None:
    ends = Ends()
    ends.link(DIALLED, CALLED)
    ends.run(30, lambda: all(fingerprints(ends)))
    here, there = fingerprints(ends)
    assert here == there != ""
    for machine in ends.machines.values():
        assert machine.session.key.facts["authenticated"] is False
        assert not machine.trust.is_confirmed
        assert machine.session.key.facts["secret_bits"] == 0.0


def test_no_key_comes_about_where_the_two_links_have_other_keys() -> None:
    """As where one relay has sent a share of its own."""
    ends = Ends()
    ends.link(DIALLED, LinkFacts(False, False, b"hers".ljust(32)))
    ends.run(120)
    assert fingerprints(ends) == ["", ""]


def test_over_one_of_two_ways_nobody_asks_for_a_key_nor_answers() -> None:
    ends = Ends()
    ends.link(LinkFacts(True, False), LinkFacts(False, False))
    ends.run(60)
    assert ends.seen == []
    ends.machines["alice"].establish(ends.now)
    ends.act("alice")
    assert [outcome.reason for outcome in ends.outcomes] == [ONE_WAY]
    assert ends.machines["alice"].links.trouble == ONE_WAY
    other = Ends(via='["bob"]')  # an attacker's, who asks
    other.link(LinkFacts(True, False), LinkFacts(False, False))
    request = next(data for _, data in other.sent if peek_kind(data) is Kind.REQUEST)
    line = ends.machines["carol"].links.session_line
    assert line is not None
    ends.machines["carol"].receive(line.number, request, ends.now)
    ends.act("carol")
    ends.run(10)
    assert ends.seen == []


def test_the_session_goes_on_over_one_of_two_ways() -> None:
    ends = Ends()
    ends.link(DIALLED, CALLED)
    ends.run(30, lambda: all(machine.session.is_agreed for machine in ends.machines.values()))
    ends.link(LinkFacts(True, False), LinkFacts(False, False))
    ends.machines["alice"].send(b"hello", 0, ends.now, durable=True)
    ends.act("alice")
    ends.run(30, lambda: not ends.machines["alice"].session.waiting)
    assert ends.machines["alice"].session.waiting == 0


@pytest.mark.parametrize(("name", "bearer"), [("carol", "rfcomm"), ("bob", "relay")])
def test_a_link_of_another_sort_than_is_configured_is_not_welcome(tmp_path: Path, name: str, bearer: str) -> None:
    """Whoever calls on the radio with the address of a peer that is reached through others, or the other way round."""
    folder = f'[node]\nstate_directory = "{tmp_path}/state"\nsocket = "{tmp_path}/socket"\n'
    file = parse(folder + config("alice"), Path("node.toml"))

    async def main() -> bool:
        air = MemoryAir()
        node = Node(file.config, _Media(air), ADDRESSES["alice"])
        await node.start()
        try:
            await air.bearer(ADDRESSES["alice"]).listen() if ADDRESSES["alice"] not in air.listeners else None
            link = await air.bearer(ADDRESSES[name]).connect(ADDRESSES["alice"])
            link.peer = ADDRESSES[name]
            await asyncio.sleep(0.1)
            return node._on_link(bearer, link)
        finally:
            await node.stop()

    assert asyncio.run(main()) is False


class _Media:
    def __init__(self, air: MemoryAir) -> None:
        self._air = air

    def open(self, name: str):  # type: ignore[no-untyped-def]
        return self._air.bearer(ADDRESSES["alice"])
