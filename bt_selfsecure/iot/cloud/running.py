"""A cloud from the start to a signal, with all that it has around it, and what it tells systemd meanwhile."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Final

from bt_selfsecure import authority
from bt_selfsecure.errors import UsageError
from bt_selfsecure.files import is_there
from bt_selfsecure.iot.cloud.api import CloudApi
from bt_selfsecure.iot.cloud.cloud import Cloud
from bt_selfsecure.iot.cloud.config import CloudConfig
from bt_selfsecure.iot.cloud.readers import Readers
from bt_selfsecure.iot.cloud.schema import migrate
from bt_selfsecure.iot.cloud.sql import CloudDatabase, SqlError, connect
from bt_selfsecure.iot.folder import IdentityFolder
from bt_selfsecure.iot.members import Member
from bt_selfsecure.node.notify import beat, notify
from bt_selfsecure.protocols.iotcrypto.certificate import Role
from bt_selfsecure.protocols.iotcrypto.messages import Profile

log = logging.getLogger(__name__)

BEAT_S: Final = 10.0


def open_base(config: CloudConfig, *, new: bool = False) -> CloudDatabase:
    """Return a connection to the database, in this program's version. Raises `UsageError`."""
    try:
        base = connect(config.cloud.database, config.cloud.state, new=new)
        try:
            migrate(base)
        except BaseException:
            base.close()
            raise
    except SqlError as error:
        raise UsageError(f"{error}: see [cloud] database") from None
    return base


def tls(config: CloudConfig) -> ssl.SSLContext | None:
    """Return what HTTPS takes; its certificate is made where it is to be of our own authority and there is none. Raises
    `UsageError`."""
    if config.api.https == "off":
        return None
    folder = config.cloud.state / "https"
    names = folder / "cloud.crt", folder / "cloud.key"
    if config.api.https == "own" and not is_there(names[0]):
        authority.issue(folder, ["cloud"], config.api.names)
        log.info("browsers and programs that are to trust this cloud take %s", folder / "ca.crt")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(*names)
    except (OSError, ssl.SSLError) as error:
        why = error.strerror or error
        raise UsageError(
            f'{names[0]} and .key can\'t be used ({why}): put them there, or set [api] https = "own"'
        ) from None
    return context


async def run_cloud(config: CloudConfig, told: Callable[[Cloud, int], None] | None = None) -> None:
    """Run until cancelled; `told` is called once it runs, with the port of REST. Raises `UsageError` and `BearerError`
    for what a person must mend first."""
    member = Member(IdentityFolder(config.cloud.state), Role.CLOUD, Profile(config.cloud.profile))
    context = tls(config)
    open_base(config, new=True).close()

    def again() -> CloudDatabase:
        try:
            return connect(config.cloud.database, config.cloud.state)
        except UsageError as error:  # it was there at the start, so whoever asks can't help it
            raise SqlError(str(error)) from None

    cloud, readers = Cloud(config, member, again), Readers(again)
    api = CloudApi(cloud, readers, context)
    try:
        ports = await api.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(_worked(cloud))
            group.create_task(_beat(cloud, api))
            if told is not None:
                await cloud.running.wait()
                told(cloud, ports[0])
    finally:
        notify(STOPPING=1)
        await api.stop()
        readers.close()


async def _worked(cloud: Cloud) -> None:
    if not cloud.config.gateways.listen:
        cloud.running.set()
        await asyncio.Event().wait()
    try:
        await cloud.run()
    except SqlError as error:
        raise UsageError(str(error)) from None


async def _beat(cloud: Cloud, api: CloudApi) -> None:
    """Tell systemd that the loop turns."""
    await cloud.running.wait()
    log.info("the cloud %r runs", cloud.member.signed.certificate.name)
    notify(READY=1)
    await beat(lambda: f"{len(cloud.gateways)} gateways; {'; '.join(api.problems()) or 'all is well'}", BEAT_S)
