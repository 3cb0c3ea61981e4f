"""A node that only discovers peers and keeps its adapter; tests run it on a machine.

discovery_node.py NAME      its state goes to /lab/node.json, five times a second;
                            words written to /run/node.in: pause, resume, scan, power_cycle, stop
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path

from bt_selfsecure.node.adapter import AdapterSupervisor
from bt_selfsecure.node.discovery import Discovery
from bt_selfsecure.node.haoxiao.settings import PROFILES
from bt_selfsecure.protocols.haoxiao.frames import Profile

STATE, WORDS = Path("/lab/node.json"), Path("/run/node.in")


async def main(name: str) -> None:
    told: list[str] = []
    discovery = Discovery(adapter="hci0", name=name, profile=Profile.HARDENED, profiles=PROFILES, scan_interval_s=3.0)

    def adapter_up(address: str) -> None:
        told.append(address)
        discovery.wake()

    keeper = AdapterSupervisor("hci0", adapter_up=adapter_up, adapter_gone=lambda state: told.append(state.value))
    await keeper.start()
    await discovery.start()
    discovery.set_status({"name": name, "sessions": 0})
    with contextlib.suppress(FileExistsError):
        os.mkfifo(WORDS)
    words = os.open(WORDS, os.O_RDWR | os.O_NONBLOCK)
    done: list[str] = []
    while "stop" not in done:
        with contextlib.suppress(BlockingIOError):
            for word in os.read(words, 100).decode().split():
                match word:
                    case "pause":
                        await discovery.pause()
                    case "resume":
                        await discovery.resume()
                    case "power_cycle":
                        await keeper.power_cycle()
                done.append(word)
        state = {
            "adapter": keeper.status(),
            "told": told,
            "discovery": discovery.status(),
            "sightings": {address: asdict(sighting) for address, sighting in discovery.sightings.items()},
            "now": asyncio.get_running_loop().time(),
            "done": done,
        }
        STATE.with_suffix(".new").write_text(json.dumps(state))
        STATE.with_suffix(".new").replace(STATE)
        await asyncio.sleep(0.2)
    await discovery.stop()
    await keeper.stop()


logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d %(name)s: %(message)s")
asyncio.run(main(sys.argv[1]))
