"""DTLS with ECDHE and certificates of both ends in the programs that run our schemes: so that what is compared is the
security and not the language.

It has the cipher that RFC 7252 asks of a device with certificates, which is the shortest too. For the bench alone: keys
of devices are enrolled here, and not certified.

python -m bt_selfsecure.bench.coap.certificates HOST PORT FOLDER
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bt_selfsecure.bench.dtls_certificates import take_certificates
from bt_selfsecure.coap.channels import Channel, DtlsChannel, DtlsGate, Gate
from bt_selfsecure.coap.resources import site
from bt_selfsecure.coap.schemes import Channels
from bt_selfsecure.coap.server import serve
from bt_selfsecure.dtls.endpoint import Dtls
from bt_selfsecure.dtls.values import Credentials, DtlsConfig
from bt_selfsecure.sansio.context import Random

CIPHERS: Final = "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"
ENDS: Final = ("client", "server")
_MAKE: Final = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={0}"


def make_certificates(folder: Path) -> None:
    """Write END.key and END.crt of both ends, each signed by itself (P-256)."""
    for end in ENDS:
        files = ["-keyout", str(folder / f"{end}.key"), "-out", str(folder / f"{end}.crt")]
        subprocess.run([*_MAKE.format(end).split(), *files], check=True, capture_output=True)


@dataclass(frozen=True, slots=True)
class DtlsCertificates:
    """Is that scheme: one end of it, with its files in a folder."""

    folder: Path
    end: str
    uri_scheme = "coaps"

    def client(self) -> Channels:
        config = DtlsConfig(ciphers=CIPHERS, prepare=self._prepare)

        def connect(now: float) -> Channel:
            return DtlsChannel(Dtls.client(lambda _hint: Credentials(b"", b""), now, config))

        return connect

    def gate(self, random: Random, now: float) -> Gate:
        config = DtlsConfig(ciphers=CIPHERS, prepare=self._prepare)
        return DtlsGate(lambda _identity: None, lambda _identity: True, random, now, config)

    def _prepare(self, context: Any) -> None:
        """Give libssl this end's certificate, and whom it trusts: the other end's alone."""
        (other,) = (end for end in ENDS if end != self.end)
        names = (f"{self.end}.crt", f"{self.end}.key", f"{other}.crt")
        take_certificates(context, *(self.folder / name for name in names))


async def main(host: str, port: int, folder: Path) -> None:
    """Serve until the process ends."""
    await serve(site(), host, port, DtlsCertificates(folder, "server"))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
