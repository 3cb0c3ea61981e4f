"""Figures 8 to 10 as an object and as text, beside what the paper prints."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from bt_selfsecure.bench.iotcrypto.figures import (
    PAPER_ADDED_BYTES,
    PAPER_CERTIFICATE_BYTES,
    PAPER_CONNECTION_BYTES,
    PAPER_SHARE,
    certificate_parts,
    connection_bytes,
    connection_parts,
    figure_8,
    figure_9,
    figure_10,
)
from bt_selfsecure.bench.iotcrypto.peers import peers
from bt_selfsecure.protocols.iotcrypto.limits import MOST_NAME_BYTES
from bt_selfsecure.protocols.iotcrypto.messages import Profile


def figures(which: Sequence[str]) -> dict[str, Any]:
    """Return the figures of these numbers, measured now."""
    made: dict[str, Any] = {}
    if "8" in which:
        made["8"] = {
            "packets": [{"message": name, "plain": plain, "encrypted": sealed} for name, plain, sealed in figure_8()],
            "paper_added": PAPER_ADDED_BYTES,
            "connection": {
                profile.value: [{"what": what, "bytes": size} for what, size in connection_bytes(profile)]
                for profile in Profile
            },
            "paper_connection": PAPER_CONNECTION_BYTES,
            "connection_parts": {profile.value: connection_parts(profile) for profile in Profile},
            "certificate_parts": certificate_parts(),
            "paper_certificate": PAPER_CERTIFICATE_BYTES,
            "peers": [asdict(peer) for peer in peers()],
        }
    if "9" in which:
        measured = figure_9()
        made["9"] = {
            "microseconds": {name: round(seconds * 1e6) for name, seconds in measured.parts_s.items()},
            "connection_microseconds": round(measured.total_s * 1e6),
            "verification_share": round(measured.verification(with_dtls=True), 3),
            "verification_share_without_dtls": round(measured.verification(with_dtls=False), 3),
            "paper_verification_share": PAPER_SHARE,
            "cpu_share_one_device": measured.cpu_share(1, 10.0, 3600.0),
            "cpu_share_hundred_devices_each_second": measured.cpu_share(100, 1.0, 3600.0),
        }
    if "10" in which:
        keys = ("structure", "cbor", "cbor_hex", "json", "c")
        made["10"] = {
            "sizes": [dict(zip(keys, row, strict=True)) for row in figure_10()],
            "paper_certificate": PAPER_CERTIFICATE_BYTES,
            "longest_name": MOST_NAME_BYTES,
        }
    return made


def lines(made: dict[str, Any]) -> Iterator[str]:
    """Yield the figures as text of 80 columns."""
    if figure := made.get("8"):
        yield "Figure 8: bytes of a packet (UDP payload)      plain  encrypted  added"
        for row in figure["packets"]:
            added = row["encrypted"] - row["plain"]
            yield f"  {row['message']:42} {row['plain']:7} {row['encrypted']:10} {added:6}"
        yield f"  paper: {figure['paper_added']} bytes added"
        for profile, rows in figure["connection"].items():
            parts = " + ".join(str(row["bytes"]) for row in rows)
            yield f"A connection, {profile}: {sum(row['bytes'] for row in rows)} = {parts}"
        yield f"  paper: {figure['paper_connection']}; each: DTLS handshake, then the messages in their records"
        of_profiles = [*figure["connection_parts"].values()]
        yield f"{'What is in a connection':48}" + "".join(f"{name:>10}" for name in figure["connection_parts"])
        for part in of_profiles[0]:
            yield f"  {part:46}" + "".join(f"{parts[part]:10}" for parts in of_profiles)
        told = ", ".join(f"{name} {size}" for name, size in figure["certificate_parts"].items())
        whole = sum(figure["certificate_parts"].values())
        yield from textwrap.wrap(
            f"A certificate: {whole} (paper: {figure['paper_certificate']}) = {told}", 80, subsequent_indent="  "
        )
        handshake = of_profiles[0]["DTLS handshake"]
        yield f"The transmission then begins with a DTLS handshake of its own: {handshake}"
        yield "Beside it, bytes of a handshake              credential handshake"
        for peer in figure["peers"]:
            yield f"  {peer['name']:42} {peer['credential_bytes']:10} {peer['handshake_bytes']:9}  {peer['source']}"
    if figure := made.get("9"):
        yield "Figure 9: CPU time of a connection's cryptography, both ends together"
        whole = sum(figure["microseconds"].values())
        for name, spent in figure["microseconds"].items():
            yield f"  {name:42} {spent:7} us {100 * spent / whole:5.1f} %"
        yield f"  all of a connection, measured as one         {figure['connection_microseconds']:7} us"
        shares = (100 * figure[f"verification_share{which}"] for which in ("", "_without_dtls"))
        yield "  certificate verification: {:.0f} %; without DTLS {:.0f} %".format(*shares)
        yield f"  paper: {figure['paper_verification_share']}"
        yield f"  of one CPU, one device read every 10 s:      {100 * figure['cpu_share_one_device']:.4f} %"
        share = 100 * figure["cpu_share_hundred_devices_each_second"]
        yield f"  of one CPU, 100 devices read every second:   {share:.2f} %"
    if figure := made.get("10"):
        yield "Figure 10: bytes of a structure              CBOR  CBOR hex   JSON      C"
        for row in figure["sizes"]:
            yield f"  {row['structure']:40} {row['cbor']:6} {row['cbor_hex']:9} {row['json']:6} {row['c']:6}"
        yield f"  names have {figure['longest_name']} bytes; paper: a certificate has {figure['paper_certificate']}"
