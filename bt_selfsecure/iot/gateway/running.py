"""A gateway from the start to a signal, with all that it has around it, and what it tells systemd meanwhile."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from bt_selfsecure.iot.folder import IdentityFolder
from bt_selfsecure.iot.gateway.api import GatewayApi
from bt_selfsecure.iot.gateway.config import GatewayConfig
from bt_selfsecure.iot.gateway.gateway import Gateway
from bt_selfsecure.iot.gateway.store import GatewayStore
from bt_selfsecure.iot.interfaces import keep_ipsp_up
from bt_selfsecure.iot.members import Member
from bt_selfsecure.node.notify import beat, notify
from bt_selfsecure.protocols.iotcrypto.certificate import Role
from bt_selfsecure.protocols.iotcrypto.messages import Profile

log = logging.getLogger(__name__)

STORE: Final = "gateway.db"
BEAT_S: Final = 10.0


async def run_gateway(config: GatewayConfig) -> None:
    """Run until cancelled. Raises `UsageError` and `BearerError` for what a person must mend first."""
    folder = IdentityFolder(config.gateway.state)
    member = Member(folder, Role.GATEWAY, Profile(config.gateway.profile))
    store = GatewayStore(folder.path / STORE)
    try:
        gateway = Gateway(config, member, store)
        api = GatewayApi(gateway, config.gateway.socket, config.gateway.socket_group)
        await api.start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(gateway.run())
                group.create_task(_beat(gateway))
                if config.ipsp.enabled:
                    group.create_task(keep_ipsp_up(config.ipsp.adapter, None))
        finally:
            notify(STOPPING=1)
            await api.stop()
    finally:
        store.close()


async def _beat(gateway: Gateway) -> None:
    """Tell systemd that the loop turns."""
    await gateway.running.wait()
    log.info("the gateway %r runs", gateway.member.signed.certificate.name)
    notify(READY=1)
    await beat(lambda: f"{len(gateway.devices)} devices, {gateway.writer.waiting} records wait", BEAT_S)
