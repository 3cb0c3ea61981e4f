"""`bt-selfsecure pair light`: an LED that blinks at one device, and the camera of the other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.cli.client import progress
from bt_selfsecure.cli.pair import PairingTalk, add_place, pair_parser
from bt_selfsecure.cli.pair_show import others_words
from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from threading import Event

CALL_BYTES: Final = 16
TEXT: Final = """\
Let an LED of this device blink 16 bytes, again and again, half a minute each
time; or read one by a camera, or from a video. It is no secret: who sees the
LED has them. So both ends show a string at last, and a person at each compares.
"""
EXAMPLES: Final = """\
examples:
  bob$    sudo bt-selfsecure pair light
      The LED named ACT; see /sys/class/leds for others.
  alice$  bt-selfsecure pair light --read
  alice$  bt-selfsecure pair light --read video.mp4"""
LONGEST_S: Final = 180.0
LOOK_S: Final = 5.0


def add_parser(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `pair light`."""
    light = pair_parser(commands, "light", "let an LED blink, or read one by a camera", TEXT, EXAMPLES, _light)
    light.add_argument("--led", default="ACT", metavar="NAME", help="which LED (default ACT)")
    light.add_argument(
        "--read",
        nargs="?",
        const="",
        metavar="SOURCE",
        help="read the other's LED: by a camera (as in /dev/video0), from a video, or by the camera that is there",
    )
    add_place(light)


def _light(args: Namespace) -> int:
    if args.read is not None:
        return PairingTalk(args, "call").run(_seen(args.read), udp=args.udp)
    from bt_selfsecure.oob.light import Led, blinking, round_seconds

    led = Led(args.led)

    def show(line: dict[str, Any]) -> None:
        print(f"The LED {args.led} blinks, {round_seconds(CALL_BYTES):.0f} s a round, until the other device has it.")
        print(others_words(line, "light --read"), flush=True)

    def emit(code: str, over: Event) -> None:
        with led:
            began = time.monotonic()
            for at in blinking(bytes.fromhex(code), led):
                if over.wait(max(0.0, began + at - time.monotonic())):
                    return

    return PairingTalk(args, "call", show=show, emit=emit).run()


def _seen(source: str) -> bytes:
    from bt_selfsecure.oob.camera import SIZE_OF_LIGHT, frames
    from bt_selfsecure.oob.light import round_seconds, seen

    pictures: list[bytes] = []
    times: list[float] = []
    looked = 0.0
    needed = round_seconds(CALL_BYTES)
    with frames(source, SIZE_OF_LIGHT) as taken, progress(lambda: _how_far(times, needed)):
        for picture in taken:
            pictures.append(picture.grey)
            times.append(picture.at)
            if picture.at - looked > LOOK_S and picture.at > needed:
                looked = picture.at
                if found := seen(pictures, times, CALL_BYTES):
                    return found
            if picture.at > LONGEST_S:
                break
        if found := seen(pictures, times, CALL_BYTES):
            return found
    raise UsageError("no LED of ours was seen: fix the camera, let the LED fill a part of the picture, and wait longer")


def _how_far(times: list[float], needed: float) -> str:
    at = times[-1] if times else 0.0
    return f"{at:.0f} s seen; a round takes {needed:.0f} s"
