"""A pairing of two whole nodes in virtual time, while plugs are pulled and adapters come and go."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from node_world import ADDRESSES, World, until, virtual

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.api_operations import PairQuery

CALL = PairQuery(way="call")
ENDS = ("alice", "bob")


class Meeting:
    """Alice reads what Bob shows. `told` has what each end was told, by its event."""

    def __init__(self, world: World) -> None:
        self.nodes = [world.nodes[name] for name in ENDS]
        self.told: list[dict[str, dict[str, Any]]] = [{}, {}]
        self.tasks: list[asyncio.Task[None]] = []

    async def pair(self, end: int, carried: bytes) -> None:
        async for line in self.nodes[end].pairing.pair(CALL, carried):
            self.told[end][line["event"]] = dict(line)

    async def begin(self) -> None:
        self.tasks.append(asyncio.create_task(self.pair(1, b"")))
        await until(lambda: self.told[1])
        self.tasks.append(asyncio.create_task(self.pair(0, bytes.fromhex(self.told[1]["shown"]["code"]))))

    async def have(self, event: str) -> None:
        await until(lambda: all(event in told for told in self.told), 60.0)

    async def compare(self) -> None:
        """What both ends show by then, as two people do."""
        while not all("paired" in told for told in self.told):
            strings = {told["string"]["string"] for told in self.told}
            if len(strings) == 1:
                for node in self.nodes:
                    with contextlib.suppress(UsageError):
                        node.pairing.compared(True, *strings, "a person")
            await asyncio.sleep(1.0)


@contextlib.asynccontextmanager
async def meeting(world: World) -> AsyncIterator[Meeting]:
    for name in ENDS:
        await world.start(name)
    them = Meeting(world)
    try:
        await them.begin()
        yield them
    finally:
        for task in them.tasks:
            task.cancel()
        await asyncio.gather(*them.tasks, return_exceptions=True)
        await world.close()


@pytest.mark.parametrize("moment", ["keyed", "string"])
@pytest.mark.parametrize("who", ENDS)
def test_two_can_pair_again_after_one_had_its_plug_pulled_in_the_middle(tmp_path: Path, who: str, moment: str) -> None:
    """It has a key on the disk that the other end has forgotten, and asks nobody for that one."""
    world = World(tmp_path)

    async def main() -> None:
        async with meeting(world) as them:
            await them.have(moment)
            await asyncio.sleep(1.0)
            shutil.copytree(tmp_path / who, tmp_path / "on disk")
        shutil.rmtree(tmp_path / who)
        (tmp_path / "on disk").rename(tmp_path / who)
        async with meeting(world) as them:
            await them.have("string")
            await asyncio.wait_for(them.compare(), 60.0)
            assert [told["paired"]["address"] for told in them.told] == [ADDRESSES["bob"], ADDRESSES["alice"]]

    virtual(main())


@pytest.mark.parametrize("moment", ["keyed", "string"])
@pytest.mark.parametrize("who", ENDS)
def test_two_are_paired_though_an_adapter_is_gone_for_a_while(tmp_path: Path, who: str, moment: str) -> None:
    world = World(tmp_path)

    async def main() -> None:
        async with meeting(world) as them:
            await them.have(moment)
            node = world.nodes[who]
            await node._end()
            await asyncio.sleep(3.0)
            await node._begin(ADDRESSES[who])
            await them.have("string")
            await asyncio.wait_for(them.compare(), 60.0)

    virtual(main())
