"""What a device would take today instead of Sabour: EDHOC (RFC 9528), then OSCORE, both ends aiocoap as it is.

Its library, lakers, has no wheels for Pis: so this is for the bench alone.

python -m bt_selfsecure.bench.coap.edhoc HOST PORT FILE
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Final

import aiocoap
from aiocoap.credentials import CredentialsMap
from aiocoap.edhoc import CoseKeyForEdhoc
from aiocoap.oscore_sitewrapper import OscoreSiteWrapper
from aiocoap.util import hostportjoin

from bt_selfsecure.coap.resources import site
from bt_selfsecure.files import private

ENDS: Final = ("client", "server")
SUITE, METHOD = 2, 3
"""P-256 and AES-CCM-16-64-128 (lakers has no other), both ends prove themselves by static Diffie-Hellman keys."""


def new_secrets() -> str:
    """Return the secrets of both ends, as `credentials` takes them."""
    return json.dumps({end: CoseKeyForEdhoc.generate().d.hex() for end in ENDS})


def credentials(secrets: str, own: str) -> dict[str, Any]:
    """Return aiocoap's credentials of one end, with the other's, by key id."""
    keys, records = {}, {}
    for number, (end, secret) in enumerate(json.loads(secrets).items()):
        keys[end] = {1: 2, -1: 1, -4: bytes.fromhex(secret)}
        records[end] = CoseKeyForEdhoc.from_map(keys[end]).as_ccs(kid=bytes([number]), subject=end)
    peer = ENDS[own == "client"]
    return {
        "edhoc-oscore": {
            "suite": SUITE,
            "method": METHOD,
            "own_cred": records[own],
            "own_cred_style": "by-key-id",
            "private_key": keys[own],
            "peer_cred": records[peer],
        }
    }


async def serve(host: str, port: int, secrets: str) -> None:
    """Serve until the process ends."""
    known = CredentialsMap()
    names = {hostportjoin(each, port) for each in (host, host.partition("%")[0])}  # also without a zone
    known.load_from_dict({f"coap://{name}/*": credentials(secrets, "server") for name in names})
    await aiocoap.Context.create_server_context(
        OscoreSiteWrapper(site(), known),
        bind=(host, port),
        transports=["simplesocketserver"],
        server_credentials=known,
    )
    await asyncio.Event().wait()


async def get(uri: str, origin: str, secrets: str) -> bytes:
    """Return a resource of a server, after a handshake with it."""
    context = await aiocoap.Context.create_client_context(transports=["oscore", "simple6"])
    context.client_credentials.load_from_dict({f"{origin}/*": credentials(secrets, "client")})
    try:
        request = aiocoap.Message(code=aiocoap.GET, uri=uri)
        return bytes((await context.request(request).response_raising).payload)
    finally:
        await context.shutdown()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), private(Path(sys.argv[3])).decode()))
