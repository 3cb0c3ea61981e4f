"""Attacks on CoAP as it is served on this computer: real sockets, and Eve in the server's place.

She listens at ports of her own. Who asks there reaches the server through her, datagram by datagram, as `hear` of an
attack decides. She tells what she did and read; whether it worked she judges by what passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from bt_selfsecure.bench.coap.live_dotp import DOTP
from bt_selfsecure.bench.coap.live_dtls import HelloFlood, KnownKey
from bt_selfsecure.bench.coap.live_relay import EveRelay, Hear, LiveAttack, LivePlayer, Place, Say
from bt_selfsecure.bench.coap.live_sabour import SABOUR, FalseServing, Middle
from bt_selfsecure.bench.live import ended_by_signals
from bt_selfsecure.errors import UsageError
from bt_selfsecure.protocols.sabour.messages import Profile

KNOWN_KEY, HELLOS = "dotp/one-key", "dotp/flood"
BOTH_PORTS: Final[dict[str, Callable[[Profile, Say], Middle | FalseServing]]] = {
    "sabour/middle": Middle,
    "sabour/false-server": FalseServing,
}
"""In `paper` the handshake has a port of its own, and these are at both."""
LIVE: Final = {**dict.fromkeys([*DOTP, KNOWN_KEY, HELLOS, *SABOUR], 1), **dict.fromkeys(BOTH_PORTS, 2)}
"""Each with its number of places, at most: of `hardened` the handshake has no port of its own."""


async def attack(
    name: str,
    profile: str,
    places: list[Place],
    seconds: float,
    say: Say,
    key: str = "",
    over: asyncio.Event | None = None,
) -> bool:
    """Stand in the servers' places for so long, or until it is over (by Ctrl-C or SIGTERM, too), and return whether the
    attack succeeded. `key` is the one that is known to her. Raises `UsageError` where there are too many places or too
    few, or no use for a key."""
    wanted = 1 if profile == "hardened" else LIVE[name]
    if len(places) != wanted and name.startswith("sabour/"):
        raise UsageError(
            f"a live {name} takes --profile paper with {LIVE[name]} of 127.0.0.1:PORT, of CoAP and of the handshake, "
            "or --profile hardened with 1"
        )
    if len(places) != wanted:
        raise UsageError(f"a live {name} takes {wanted} of 127.0.0.1:PORT: see bt-selfsecure eve attack --help")
    if bool(key) != (name == KNOWN_KEY):
        raise UsageError(f"--key KEY is the one that is known to her: {KNOWN_KEY} takes it, and nothing else")
    which = Profile.HARDENED if profile == "hardened" else Profile.PAPER_ECDSA
    carried: LiveAttack
    if name in DOTP:
        carried = DOTP[name](say)
        hears: list[Hear] = [carried.hear]
    elif name in BOTH_PORTS:
        carried = both = BOTH_PORTS[name](which, say)
        hears = [both.hear_coap, both.hear]
    else:
        carried = KnownKey(say, key) if key else HelloFlood(say) if name == HELLOS else SABOUR[name](which, say)
        hears = [carried.hear]
    with ended_by_signals(over) as over:
        relays = [EveRelay(place, hear) for place, hear in zip(places, hears, strict=False)]
        for place, relay in zip(places, relays, strict=True):
            say(f"listening at {place[0]} port {relay.port}, in the place of port {place[1]}")
        waiting: list[asyncio.Future[object]] = [asyncio.ensure_future(over.wait())]
        if isinstance(carried, LivePlayer):
            waiting.append(asyncio.ensure_future(carried.play(places[0])))
        try:
            done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
            return carried.succeeded
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            for relay in relays:
                relay.close()
