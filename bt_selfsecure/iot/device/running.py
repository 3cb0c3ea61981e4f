"""A device from the start to a signal."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from bt_selfsecure.iot.device.device import Device, DeviceConfig
from bt_selfsecure.iot.device.program import Program
from bt_selfsecure.iot.device.store import DeviceStore
from bt_selfsecure.iot.folder import IdentityFolder
from bt_selfsecure.iot.interfaces import keep_ipsp_up
from bt_selfsecure.iot.members import Member
from bt_selfsecure.node.notify import notify
from bt_selfsecure.protocols.iotcrypto.certificate import Role
from bt_selfsecure.protocols.iotcrypto.messages import Profile

STORE: Final = "device.db"


async def run_device(
    state: Path,
    program: Program,
    config: DeviceConfig,
    profile: Profile = Profile.HARDENED,
    ipsp: tuple[str, str] | None = None,
) -> None:
    """Run until cancelled; with `ipsp`, an adapter and a gateway's device address, over Bluetooth. Raises `UsageError`
    and `BearerError` for what a person must mend first."""
    folder = IdentityFolder(state)
    member = Member(folder, Role.DEVICE, profile)
    store = DeviceStore(folder.path / STORE)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(Device(member, program, store, config).run())
            if ipsp is not None:
                group.create_task(keep_ipsp_up(*ipsp))
            notify(READY=1)
    finally:
        store.close()
