"""The radios of virtual Pis, on their real sockets, without a machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

from bt_selfsecure.air.models import Bernoulli
from bt_selfsecure.air.reception import LossProcess
from bt_selfsecure.lab.radio import VirtualRadio

RESET = bytes.fromhex("01030c00")
DONE = bytes.fromhex("040e0401030c00")


class Uart:
    """A machine's end of it."""

    async def open(self, radio: VirtualRadio, name: str) -> Uart:
        self._reader, self._writer = await asyncio.open_unix_connection(radio.socket(name))
        return self

    async def reset(self) -> None:
        """Reset the controller, as Linux does first, and hear that it is done."""
        self._writer.write(RESET)
        async with asyncio.timeout(60):
            assert await self._reader.readexactly(len(DONE)) == DONE

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


def test_a_machine_has_its_radio_though_the_end_of_the_killed_one_was_not_seen_yet(tmp_path: Path) -> None:
    """A killed machine's processes may hold its UART for a while, and the next was left without a controller."""

    async def main() -> None:
        radio = VirtualRadio(LossProcess(Bernoulli({"alice": 0.0}), Random(1)), ["alice"], {}, tmp_path)
        await radio.start()
        killed = await Uart().open(radio, "alice")
        await killed.reset()
        started = await Uart().open(radio, "alice")
        await started.reset()
        await killed.close()
        await started.reset()
        await started.close()
        again = await Uart().open(radio, "alice")
        await again.reset()
        await again.close()
        radio.close()

    asyncio.run(main())
