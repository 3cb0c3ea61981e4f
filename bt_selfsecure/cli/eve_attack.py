"""`bt-selfsecure eve attack`: what she tries, shown on the virtual air, or live on devices of one's own."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bt_selfsecure.cli.numbers import integer, real
from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

DESCRIPTION = """\
Carry an attack out. Without --live on the virtual air, on endpoints of its own,
as docs/attacks.md tells: how often it succeeds against each profile.

  passive colluding repair brute-force brute-force-sound steering middle
  replay reflection flood jamming theft stolen-disk

With --live from this computer's radio, against the devices whose addresses
follow: Alice's, and Bob's where the attack needs both.

  steering ALICE     hears Alice's advertised burst, and forges in her name what
                     it missed, for Bob to hear
  flood BOB          asks Bob for keys, without end
  middle ALICE BOB   waits for Alice, dials Bob, and is each for the other; both
                     must take this computer for the other one
  replay DEVICE --capture FILE
                     dials a device and plays all frames of a capture: to the
                     one they were for, or back to the one they came from

Live attacks are carried out against devices that are listed as yours in
/etc/bt-selfsecure/eve.toml, and against no others:
  own = ["B8:27:EB:12:34:56", "B8:27:EB:65:43:21"]"""
LIVE = {"steering": 1, "flood": 1, "middle": 2, "replay": 1}
"""Each with its number of addresses."""


def add(commands: _SubParsersAction[ArgumentParser]) -> None:
    """`attack`."""
    attack = commands.add_parser(
        "attack", help="carry an attack out: on the virtual air, or live on your own devices",
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    attack.add_argument("name", metavar="NAME", help="of the attack")
    attack.add_argument("targets", nargs="*", metavar="ADDRESS", help="with --live: of the device, or the two")
    attack.add_argument("--profile", choices=("paper", "hardened", "both"), default="both")
    attack.add_argument(
        "--runs", type=integer(least=1), metavar="N", help="on the virtual air (default: as in docs/attacks.md)"
    )
    attack.add_argument("--json", action="store_true", help="one JSON object instead of the text")
    attack.add_argument("--live", action="store_true", help="from this computer's radio")
    attack.add_argument("--adapter", default="hci0", help="of a live attack (default hci0)")
    attack.add_argument(
        "--bearer", default="rfcomm", help="that a live attack dials by, as in rfcomm#3 (default rfcomm)"
    )
    attack.add_argument(
        "--seconds", type=real(above=0), default=60.0, metavar="S", help="that a live attack lasts (default 60)"
    )
    attack.add_argument("--capture", metavar="FILE", help="that a live replay plays")
    attack.add_argument("--own", type=Path, metavar="FILE", help="list of your devices (default: see above)")
    attack.set_defaults(run=run)


def run(args: Namespace) -> int:
    """0 if the attack failed, 1 if it succeeded at least once."""
    if args.live:
        return _live(args)
    if args.targets:
        raise UsageError("addresses are for --live: on the virtual air there is nobody else's device")
    from bt_selfsecure.core.frames import Profile
    from bt_selfsecure.demo.trials import ATTACKS, carry_out, find

    if args.name not in [attack.name for attack in ATTACKS]:
        raise UsageError(f"there is no attack {args.name!r}: choose one of {', '.join(a.name for a in ATTACKS)}")
    attack = find(args.name)
    profiles = [profile for profile in Profile if args.profile in (profile.label, "both")]
    results = {profile.label: carry_out(attack, profile, args.runs) for profile in profiles}
    if args.json:
        told = {label: [asdict(trial) for trial in trials] for label, trials in results.items()}
        print(json.dumps({"attack": attack.name, "aim": attack.aim, "runs": told}, indent=2))
    else:
        print(f"{attack.name}: {attack.what}\nneeds:  {attack.needs}\naim:    {attack.aim}\n")
        print(f"{'':<10}{'succeeded':>12}{'of runs':>10}{'both have a key':>18}{'noticed':>10}")
        for label, trials in results.items():
            success, keys, noticed = (sum(getattr(t, name) for t in trials) for name in asdict(trials[0]))
            print(f"{label:<10}{success:>12}{len(trials):>10}{keys:>18}{noticed:>10}")
        print(f"\nWhat helps: {attack.remedy}")
    return int(any(trial.success for trials in results.values() for trial in trials))


def _live(args: Namespace) -> int:
    from bt_selfsecure.eve.targets import DEFAULT_PATH, OwnDevices

    if args.name not in LIVE:
        raise UsageError(f"{args.name} is not carried out live: choose one of {', '.join(LIVE)}")
    if len(args.targets) != LIVE[args.name]:
        raise UsageError(f"a live {args.name} takes {LIVE[args.name]} address(es): see bt-selfsecure eve attack --help")
    if (args.name == "replay") != bool(args.capture):
        raise UsageError("--capture FILE is what a live replay plays, and nothing else takes it")
    OwnDevices(args.own or DEFAULT_PATH).require(*args.targets)
    from bt_selfsecure.eve.live import Live

    live = Live(args.adapter, args.bearer, args.seconds, partial(print, flush=True))
    return int(live.run(args.name, [target.upper() for target in args.targets], args.capture))
