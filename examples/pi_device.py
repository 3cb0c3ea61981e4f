"""A Raspberry Pi as a device: the temperature of its CPU, and its green LED. LED and temperature are files of Linux, so
there is nothing to install; the LED takes root, or a udev rule. Run it with

    sudo bt-selfsecure device run examples/pi_device.py --state boiler
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

SYS = Path(os.environ.get("PI_SYS", "/sys"))
TEMPERATURE = SYS / "class/thermal/thermal_zone0/temp"
LEDS = SYS / "class/leds"
HOT, COOL = 75.0, 65.0

SENSORS = ("temperature", "led")

hot = False


def led() -> Path:
    """Return the LED's folder: it is named ACT since Linux 6.1, and led0 before."""
    for name in ("ACT", "led0"):
        if (LEDS / name).is_dir():
            return LEDS / name
    raise OSError(f"there is no LED in {LEDS}")


def temperature() -> float:
    return int(TEMPERATURE.read_text()) / 1000


def read_sensor(name: str) -> float | bool:
    if name == "temperature":
        return round(temperature(), 1)
    return int((led() / "brightness").read_text()) > 0


def execute(name: str, argument: object) -> str:
    """Do `led true`, `led false`, or `led "mmc0"`: the card's activity, as it was."""
    if name != "led":
        raise ValueError(f"there is no command {name!r}: it is led")
    if isinstance(argument, str):
        (led() / "trigger").write_text(argument)
        return f"the LED shows {argument}"
    (led() / "trigger").write_text("none")
    (led() / "brightness").write_text("1" if argument else "0")
    return f"the LED is {'on' if argument else 'off'}"


def alerts() -> Iterator[tuple[str, float]]:
    """Tell when it gets too hot, once until it has cooled down."""
    global hot
    now = temperature()
    if now > HOT and not hot:
        hot = True
        yield "the CPU is hot", round(now, 1)
    elif now < COOL:
        hot = False
