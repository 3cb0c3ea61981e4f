"""`bt-selfsecure pair light`: an LED that blinks at one device, and the camera of the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.cli.pair import PairingTalk, add_place, pair_parser
from bt_selfsecure.cli.pair_show import others_words

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

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
    from bt_selfsecure.cli.channels import by_light, seen_light
    from bt_selfsecure.oob.light import round_seconds

    if args.read is not None:
        return PairingTalk(args, "call").run(seen_light(args.read, CALL_BYTES), udp=args.udp)
    emit = by_light(args.led)

    def show(line: dict[str, Any]) -> None:
        print(f"The LED {args.led} blinks, {round_seconds(CALL_BYTES):.0f} s a round, until the other device has it.")
        print(others_words(line, "light --read"), flush=True)

    return PairingTalk(args, "call", show=show, emit=emit).run()
