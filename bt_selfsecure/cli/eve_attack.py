"""`bt-selfsecure eve attack`: what she tries, shown on the virtual air, or live on devices of one's own."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import textwrap
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.addresses import parse_address
from bt_selfsecure.cli.numbers import integer, real
from bt_selfsecure.errors import UsageError
from bt_selfsecure.wording import counted

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from collections.abc import Mapping, Sequence

    from bt_selfsecure.bench.attacks import Attack, Trial
    from bt_selfsecure.bench.papers import Paper

DESCRIPTION = """\
Carry an attack out. Without --live on the virtual air, on endpoints of its own,
as docs/attacks.md tells: how often it succeeds against `paper`, `hardened`,
`hardened` with X25519 (as nodes have it) and with an authentication key.

{names}

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

Of those on CoAP, --live takes servers of this computer, and stands in their
place for whoever asks at her own ports; --profile says which of Sabour's:

  dotp/known-text dotp/generator dotp/replay dotp/loss dotp/crossing
  dotp/change dotp/deafen dotp/impersonation dotp/exhaustion 127.0.0.1:5683
                               layer object; the last: a pair with --bits 40
  dotp/one-key 127.0.0.1:5683 --key KEY   layer object: reads all that passes
  dotp/one-key 127.0.0.1:5684 --key KEY   layer dtls: is served after a session
  dotp/flood 127.0.0.1:5684               layer dtls: hellos without end
  sabour/middle 127.0.0.1:5683 127.0.0.1:5588   paper: CoAP, and M1 to M4
  sabour/middle 127.0.0.1:5683                  hardened
  sabour/false-server, with the same: no server needs to be there
  sabour/replay sabour/false-device sabour/points sabour/flood 127.0.0.1:5588
                                                paper
  the same 127.0.0.1:5683                       hardened
These four learn the device's id from a handshake that passes, and then call
the server themselves; sabour/replay waits until it has been started again.

Whether it succeeded she judges by what passed when her time is over, or at
Ctrl-C: she read something; the server answered what she changed, or more than
it was asked, or nothing any more.

On IoT-Crypto she has the folder of a stolen device, --stolen DIR. She calls on
a gateway of this computer at its negotiation port, or is one at ports of hers,
which she prints, for a device that you point there. It ends when it succeeds:

  iotcrypto/impostor 127.0.0.1:5711        asks the gateway for its certificate,
                                           and shows it to devices
  iotcrypto/stolen-device                  is a gateway by the stolen keys
  iotcrypto/forged-signer iotcrypto/transitive 127.0.0.1:5711   calls

Others are carried out against devices that are listed as yours in
/etc/bt-selfsecure/eve.toml, and against no others:
  own = ["B8:27:EB:12:34:56", "B8:27:EB:65:43:21"]"""
EPILOG = """\
exit status: 0  the attack failed, in every run
             1  it succeeded, at least once
             2  it was not carried out: input that can't be used
"""
LIVE = {"steering": 1, "flood": 1, "middle": 2, "replay": 1}
"""Each with its number of addresses."""
ON: Final = {
    "dotp": "On D-OTP's object layer, `paper` (as it is, and in two readings without what\nmends it) and `hardened`:",
    "sabour": "On Sabour's handshake, `paper` in both readings and `hardened`:",
    "bootstrap": "On Kang's bootstrapping, `paper` and `hardened`:",
    "pairing": "On pairing by a picture, a sound or a light:",
    "iotcrypto": "On IoT-Crypto, `paper` and `hardened`:",
}


class _WithNames(argparse.RawDescriptionHelpFormatter):
    """Writes the names of the attacks from their tables, which are imported when somebody asks for help."""

    def add_text(self, text: str | None) -> None:
        super().add_text(text and text.replace("{names}", _names()))


def _names() -> str:
    from bt_selfsecure.bench.papers import PAPERS, names

    parts = []
    for paper in PAPERS:
        of_it = " ".join(name for name in names() if name.rpartition("/")[0] == paper)
        lines = textwrap.fill(of_it, 80, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
        parts.append(f"{ON[paper]}\n\n{lines}" if paper else lines)
    return "\n\n".join(parts)


def add(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `attack`."""
    attack = commands.add_parser(
        "attack", help="carry an attack out: on the virtual air, or live on your own devices",
        description=DESCRIPTION, epilog=EPILOG, formatter_class=_WithNames,
    )  # fmt: skip
    attack.add_argument("name", metavar="NAME", help="of the attack")
    attack.add_argument(
        "targets", nargs="*", metavar="ADDRESS", help="with --live: of the device, or the two; or a server's, with port"
    )
    attack.add_argument(
        "--profile", choices=("paper", "hardened", "both"), default="both",
        help="of what is attacked; live it is paper unless hardened is named (default both)",
    )  # fmt: skip
    attack.add_argument(
        "--runs", type=integer(least=1), metavar="N", help="on the virtual air (default: as in docs/attacks.md)"
    )
    attack.add_argument(
        "--seed", type=integer(least=0), default=0, metavar="N",
        help="of the first run on the virtual air, the next has N + 1: same seed, same run (default 0)",
    )  # fmt: skip
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
    attack.add_argument("--key", metavar="KEY", help="that became known, for a live dotp/one-key")
    attack.add_argument("--stolen", type=Path, metavar="DIR", help="of a device, for a live attack on IoT-Crypto")
    attack.add_argument("--own", type=Path, metavar="FILE", help="list of your devices (default: see above)")
    attack.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Attack and return 0 if the attack failed, 1 if it succeeded at least once."""
    if args.live:
        return _live(args)
    if args.targets:
        raise UsageError("addresses are for --live: on the virtual air there is nobody else's device")
    from bt_selfsecure.bench.attacks import carry_out, find
    from bt_selfsecure.bench.papers import named, names

    found = named(args.name)
    if found is None:
        raise UsageError(f"there is no attack {args.name!r}: choose one of {', '.join(names())}")
    paper, name = found
    attack = find(paper.attacks, name)
    results = {
        label: carry_out(attack, ends, args.runs, partial(_progress, label), seed=args.seed)
        for label, ends in paper.chosen(args.profile).items()
    }
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    if args.json:
        runs = {label: [asdict(trial) for trial in trials] for label, trials in results.items()}
        about = {"aim": attack.aim, "setting": paper.setting_of(attack), "meaning": attack.meaning}
        print(json.dumps({"attack": args.name, **about, "runs": runs}, indent=2))
    else:
        print("\n".join(_lines(args.name, paper, attack, results)))
    return int(any(trial.success for trials in results.values() for trial in trials))


def _progress(label: str, number: int) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{label}: {counted(number, 'run')}", end="", file=sys.stderr, flush=True)


def _lines(name: str, paper: Paper, attack: Attack[Any], results: Mapping[str, Sequence[Trial]]) -> list[str]:
    """For a terminal of 80 columns: the setting, the figures, and what they mean."""
    out = [
        *_row("needs", attack.needs),
        *_row("aim", attack.aim),
        *_row("setting", f"the virtual air; {paper.setting_of(attack)}"),
        "",
        f"{'':<29}{'succeeded':>11}{'of runs':>9}{paper.established:>17}{'noticed':>9}",
    ]
    for label, trials in results.items():
        if not trials:
            out.append(f"{label:<29}{'–':>11}  nothing of what is attacked")
            continue
        success, keys, noticed = (sum(getattr(trial, name) for trial in trials) for name in asdict(trials[0]))
        out.append(f"{label:<29}{success:>11}{len(trials):>9}{keys:>17}{noticed:>9}")
    from bt_selfsecure.stats.losses import clopper_pearson

    chances = []
    for label in (label for label in paper.judged if results.get(label)):
        success = sum(trial.success for trial in results[label])
        low, high = clopper_pearson(success, len(results[label]))
        chances.append(f"{100 * low:.0f} to {100 * high:.0f} % ({success} of {len(results[label])}, {label})")
    judged = (
        f"a chance of {' and '.join(chances)}, at 95 % confidence, in this setting{paper.scope}: " if chances else ""
    )
    means = f"{judged}{attack.meaning}."
    return [
        f"{name}: {attack.what}",
        *out, "", *_row("means", means), *_row("what helps", attack.remedy),
    ]  # fmt: skip


def _row(name: str, text: str) -> list[str]:
    return textwrap.wrap(text, 80, initial_indent=f"{name + ':':<12}", subsequent_indent=" " * 12)


def _live(args: Namespace) -> int:
    from bt_selfsecure.eve.targets import DEFAULT_PATH, OwnDevices

    if args.name.startswith("iotcrypto/"):
        return _live_on_iotcrypto(args)
    if "/" in args.name:
        return _live_on_coap(args)
    if args.name not in LIVE:
        raise UsageError(f"{args.name} is not carried out live: choose one of {', '.join(LIVE)}")
    if len(args.targets) != LIVE[args.name]:
        takes = counted(LIVE[args.name], "address")
        raise UsageError(f"a live {args.name} takes {takes}: see bt-selfsecure eve attack --help")
    if (args.name == "replay") != bool(args.capture):
        raise UsageError("--capture FILE is what a live replay plays, and nothing else takes it")
    targets = [parse_address(target) for target in args.targets]
    OwnDevices(args.own or DEFAULT_PATH).require(*targets)
    from bt_selfsecure.eve.haoxiao.live import LiveAttacks

    live = LiveAttacks(args.adapter, args.bearer, args.seconds, partial(print, flush=True))
    return int(live.run(args.name, targets, args.capture))


def _live_on_coap(args: Namespace) -> int:
    try:
        from bt_selfsecure.bench.coap.live import LIVE as ON_COAP
        from bt_selfsecure.bench.coap.live import attack
        from bt_selfsecure.bench.coap.live_relay import place_of
    except ImportError as error:
        raise UsageError(f"CoAP needs {error.name}: install it with pip install 'bt-selfsecure[coap]'") from None
    if args.name not in ON_COAP:
        raise UsageError(f"{args.name} is not carried out live: choose one of {', '.join(ON_COAP)}")
    places = [place_of(target) for target in args.targets]
    return int(
        asyncio.run(attack(args.name, args.profile, places, args.seconds, partial(print, flush=True), args.key or ""))
    )


def _live_on_iotcrypto(args: Namespace) -> int:
    from bt_selfsecure.cli.iot_options import needing_extra

    with needing_extra():
        from bt_selfsecure.bench.coap.live_relay import place_of
        from bt_selfsecure.bench.iotcrypto.live import LIVE as ON_IOTCRYPTO
        from bt_selfsecure.bench.iotcrypto.live import attack
        from bt_selfsecure.iot.folder import IdentityFolder
        from bt_selfsecure.protocols.iotcrypto.messages import Profile
    if args.name not in ON_IOTCRYPTO:
        raise UsageError(f"{args.name} is not carried out live: choose one of {', '.join(ON_IOTCRYPTO)}")
    if args.stolen is None:
        raise UsageError("--stolen DIR is the folder of a device that she has: `iotcrypto prepare` makes one")
    places = [place_of(target) for target in args.targets]
    profile = Profile.HARDENED if args.profile == "hardened" else Profile.PAPER
    say = partial(print, flush=True)
    return int(asyncio.run(attack(args.name, profile, places, IdentityFolder(args.stolen), args.seconds, say)))
