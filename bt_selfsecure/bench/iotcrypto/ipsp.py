"""Figures 11 and 12 of the paper: what 6LoWPAN over Bluetooth LE carries, and how long a packet takes there and back,
by iperf3 and ping, over distances, direct and through a gateway."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bt_selfsecure.errors import PeerError, UsageError
from bt_selfsecure.files import is_there

PACKAGES: Final = {"iperf3": "iperf3", "ping": "iputils-ping"}
IPERF3_PORT: Final = 5201
PING_INTERVAL_S: Final = 0.25
"""Longer than a packet takes there and back."""
PATIENCE_S: Final = 60.0
"""For a program beyond the time for which it was told to run."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class IpspRow:
    """Holds what was measured at one distance, one way."""

    distance_m: float
    through_gateway: bool
    peer: str
    virtual: bool
    """Whether this computer is a virtual one: then its radio is, too, and the distance is a word."""
    time: int
    """Seconds since 1970."""
    kbit_s: tuple[float, ...]
    """Of each run of iperf3, as its receiver counts."""
    round_trips_ms: tuple[float, ...]
    """Of each ping that was answered."""
    pings: int


def require_programs() -> None:
    """Raises `UsageError` for a program that is missing."""
    for program, package in PACKAGES.items():
        if shutil.which(program) is None:
            raise UsageError(f"bench ipsp needs {program}: apt install {package}")


def measure(
    peer: str, *, distance_m: float, through_gateway: bool, repeats: int, seconds: int, pings: int, tell: Tell
) -> IpspRow:
    """Measure now. `tell` is told what is being done. Raises `PeerError` where the peer does not answer."""
    round_trips = _pinged(peer, pings, tell)
    rates = []
    for number in range(1, repeats + 1):
        tell(f"iperf3 {number} of {repeats}, {seconds} s each")
        rates.append(_rate(peer, seconds))
    return IpspRow(
        distance_m, through_gateway, peer, is_virtual(), int(time.time()), tuple(rates), tuple(round_trips), pings
    )


def is_virtual(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether this computer is a virtual one, as far as its CPU tells."""
    told = cpuinfo.read_text(errors="replace")
    return bool(re.search(r"^flags\s*:.*\bhypervisor\b", told, re.MULTILINE)) or "User Mode Linux" in told


def _pinged(peer: str, count: int, tell: Tell) -> list[float]:
    tell(f"ping, {count} times")
    done = _run(
        "ping", "-n", "-c", str(count), "-i", str(PING_INTERVAL_S), "-W", "5", peer, seconds=count * PING_INTERVAL_S
    )
    found = [float(each) for each in re.findall(r"time=([0-9.]+) ms", done.stdout)]
    if not found:
        why = (done.stderr.strip() or "no answer").splitlines()[-1].removeprefix("ping: ")
        raise PeerError(f"{peer} does not answer ping ({why}): is the link up at both ends (link up --ipsp)?")
    return found


def _rate(peer: str, seconds: int) -> float:
    done = _run("iperf3", "-c", peer, "-p", str(IPERF3_PORT), "-t", str(seconds), "-J", seconds=seconds)
    try:
        told = json.loads(done.stdout)
        if "error" not in told:
            return float(told["end"]["sum_received"]["bits_per_second"]) / 1000
        why = told["error"]
    except (ValueError, KeyError, TypeError):
        why = "what it says can't be read"
    raise PeerError(f"iperf3 to {peer} failed ({why}): run `iperf3 -s` there")


def _run(*words: str, seconds: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            words, capture_output=True, text=True, timeout=seconds + PATIENCE_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise PeerError(f"{words[0]} did not end within {seconds + PATIENCE_S:.0f} s: is the link up still?") from None


# --- what was measured before -----------------------------------------------------------------------------------------


def load(path: Path) -> list[IpspRow]:
    """Return the rows of a file of results; none where there is no file. Raises `UsageError`."""
    if not is_there(path):
        return []
    try:
        return [_row(each) for each in json.loads(path.read_bytes())["rows"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no file of results ({error}): name another") from None


def to_json(rows: list[IpspRow]) -> dict[str, Any]:
    return {"rows": [asdict(row) for row in rows]}


def _row(told: Any) -> IpspRow:
    fields = {name: told[name] for name in IpspRow.__dataclass_fields__}
    fields |= {name: tuple(map(float, told[name])) for name in ("kbit_s", "round_trips_ms")}
    return IpspRow(**fields)
