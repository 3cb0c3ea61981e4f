"""`bt-selfsecure demo`: a key from lost packets, a file under the rolling key, an Eve, and what she has."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bt_selfsecure.air.capture import PcapngWriter
from bt_selfsecure.air.virtual_time import run_virtual
from bt_selfsecure.bench.haoxiao.naive import message_of_parting
from bt_selfsecure.cli.iot_options import needing_extra
from bt_selfsecure.cli.numbers import integer, real
from bt_selfsecure.demo import output
from bt_selfsecure.demo.outcome import Outcome
from bt_selfsecure.demo.plain import PlainStage, SilentStage, width_of, write
from bt_selfsecure.demo.scenario import Observer
from bt_selfsecure.demo.setting import ATTACKS, LARGEST_BURST, Production, StoryRequest, perform, stage_set
from bt_selfsecure.demo.summary import FinishedRun, as_object, closing
from bt_selfsecure.errors import PeerError, UsageError
from bt_selfsecure.files import folder
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.sansio.trace import Transition

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from types import FrameType

DEFAULT: Final = StoryRequest()
BURSTS: Final = {Profile.HARDENED: 200, Profile.PAPER: 400}
"""Packets of a burst by default: `hardened` goes on burst by burst until the target is met, `paper` has this one."""

IOTCRYPTO: Final = "iotcrypto"
STORIES: Final = ("relay", "group", IOTCRYPTO)
"""Beside that of the key: each a module of demo/."""

DESCRIPTION = """\
Alice and Bob agree on a key from the packets that the radio loses, and send a
file under a key that rolls at every message. Eve listens, with losses of her
own, and is told exactly what she has; at a random round the session's key is
handed to her, and you see how long it is worth anything. The endpoints, the
frames and the keys are real; the radio is a recording of 12 receivers in an
office, or a model. No Bluetooth is needed, and nothing to configure."""

EPILOG = """\
examples:
  bt-selfsecure demo
      Bob is the recording's sensor20, Eve its sensor30.
  bt-selfsecure demo --bob sensor22 --eve sensor10 --eve sensor32
      Another Bob, and two Eves who put together what they hear.
  bt-selfsecure demo --distance bob=3,eve=12 --send photo.jpg --out report
      A model of distance, your own file, and a report to read: report.html,
      eve.pcapng for Wireshark, trace.jsonl and summary.json.
  bt-selfsecure demo --model bernoulli:bob=0.1,eve=0.02
      Each misses packets with a probability of its own. The other models:
      correlated:bob=0.1,eve=0.05,rho=0.2   gilbert-elliott:bob=0.1/4,eve=0.05/2
      recording:bob=3,eve=6,position=2
  bt-selfsecure demo --profile paper --attack steering
      The paper to the letter, and its two flaws: Eve steers the key to what
      she has, and one lost ACK parts the keys.
  bt-selfsecure demo --story relay
      Another story: two that hardly hear each other, and a third that carries
      what they send and can't read it.
  bt-selfsecure demo --story group
      The recording's receivers as a group: what they have in common of a
      burst, one broadcast for all, a stolen group key that dies.
  bt-selfsecure demo --story iotcrypto
      Two companies share a boiler by signing certificates, and take it back by
      revoking: gateways, devices and a cloud on sockets of this computer.
  bt-selfsecure demo --bearer rfcomm
      The same through a real Bluetooth host stack (Bumble), two virtual
      devices joined by the lossy air.

exit status:
  0  Alice and Bob share a key that Eve does not have, and the file came across
  1  they do not; the verdict says why
  2  input that can't be used; one line says what and what to do"""


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `demo` and its options."""
    parser = subparsers.add_parser(
        "demo",
        help="see it: a key, a file, an eavesdropper, a stolen key that dies",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("name", nargs="?", metavar="STORY", choices=STORIES, help="as --story STORY")
    parser.add_argument("--story", metavar="STORY", choices=STORIES, help=f"another story: {', '.join(STORIES)}")
    air = parser.add_argument_group("the air")
    air.add_argument("--bob", metavar="RECEIVER", help=f"receiver of the recording that is Bob (default {DEFAULT.bob})")
    air.add_argument(
        "--eve",
        action="append",
        metavar="RECEIVER",
        help=f"Eve's receiver (default {', '.join(DEFAULT.eves)}); repeated, Eves collude",
    )
    air.add_argument(
        "--position", type=integer(least=0), metavar="N", help=f"where Alice stands, 0..80 (default {DEFAULT.position})"
    )
    air.add_argument("--recording", type=Path, metavar="FILE.json", help="a recording of your own")
    air.add_argument("--model", metavar="MODEL", help="a loss model instead of the recording, see the examples")
    air.add_argument("--distance", metavar="bob=M,eve=M", help="metres, for the model of distance")
    air.add_argument("--bearer", default="memory", help=f"{', '.join(LARGEST_BURST)} (default memory)")
    key = parser.add_argument_group("the key")
    key.add_argument("--profile", default="hardened", help="hardened (default), or paper: the paper to the letter")
    key.add_argument("--bob-profile", metavar="PROFILE", help="Bob's, to see what happens when the two differ")
    key.add_argument(
        "--target-bits", type=real(above=0, most=256), default=128.0, metavar="BITS", help="to 256 (default 128)"
    )
    key.add_argument(
        "--eve-loss-bound",
        type=real(above=0, below=1),
        metavar="P",
        help="what she misses at least of Bob's (default: surveyed first)",
    )
    key.add_argument("--burst", type=integer(least=1), metavar="N", help="packets of a burst (default 200, paper 400)")
    key.add_argument("--attack", metavar="ATTACK", help=f"what Eve does beside listening: {', '.join(ATTACKS)}")
    run_group = parser.add_argument_group("the run")
    run_group.add_argument("--send", type=Path, metavar="FILE", help="file to send (default: a small one of ours)")
    run_group.add_argument(
        "--seed", type=integer(least=0), default=DEFAULT.seed, metavar="N", help="same seed, same run"
    )
    run_group.add_argument("--fast", action="store_true", help="no pacing of the live view")
    run_group.add_argument("--plain", action="store_true", help="plain lines instead of the live view")
    run_group.add_argument("--json", action="store_true", help="nothing but the summary as one JSON object")
    run_group.add_argument("--out", type=Path, metavar="DIR", help="write report, capture, trace and summary there")
    run_group.add_argument(
        "--key-log", type=Path, metavar="FILE", help="write the SECRET keys there: whoever has FILE reads everything"
    )


def run(args: Namespace) -> int:
    """Tell the story and say what came of it. UsageError for input that can't be used, with nothing written."""
    if story := args.story or args.name:
        return _other_story(args, story)
    request = _request(args)
    production = stage_set(request)
    with interruptible(), ExitStack() as stack:
        keys = None if args.key_log is None else stack.enter_context(output.secret_lines(args.key_log))
        page = None if args.out is None else _page()
        part = None if args.out is None else stack.enter_context(folder(args.out, output.FILES))
        transitions: list[Transition] = []
        with (
            nullcontext() if part is None else PcapngWriter(part / output.CAPTURE) as capture,
            _stage(args, production) as stage,
        ):
            story = perform(
                production,
                stage,
                capture=capture,
                tracer=None if part is None else transitions.append,
                key_log=None if keys is None else keys.append,
            )
            _, outcome = run_virtual(story)
        result = _judged(production, outcome, _command(args))
        if part is not None and page is not None:
            output.write_trace(part / output.TRACE, transitions)
            (part / output.SUMMARY).write_text(output.to_json(as_object(result)) + "\n", encoding="utf-8")
            (part / output.REPORT).write_text(page(result), encoding="utf-8")
    if args.json:
        print(output.to_json(as_object(result)))
    else:
        write(sys.stdout, "", *closing(result, width_of(sys.stdout)), *_written(args))
    return 0 if outcome.success else 1


def _other_story(args: Namespace, name: str) -> int:
    """It has the recording and the seed alone to choose from."""
    given = [option for option in (*_OF_THE_RUN, "out", "key_log") if getattr(args, option) != _USUAL.get(option)]
    if given:
        raise UsageError(
            f"--{given[0].replace('_', '-')} is of the story of the key: leave it out, or leave {name} out"
        )
    if name == IOTCRYPTO and args.seed != DEFAULT.seed:
        raise UsageError("--seed changes nothing in iotcrypto, whose keys this computer draws: leave it out")
    stage = SilentStage() if args.json else PlainStage(sys.stdout)
    with interruptible(), needing_extra("cloud"):
        story = import_module(f"bt_selfsecure.demo.{name}")
        try:
            told = story.tell(args.seed, stage.say)
        except PeerError as error:
            print(f"bt-selfsecure: {error}", file=sys.stderr)
            return 1
    if args.json:
        print(output.to_json(told.facts))
    return 0 if told.success else 1


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C ends the run at once, although asyncio's own handler would wait until the story next awaits."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _request(args: Namespace) -> StoryRequest:
    if args.model is not None and args.distance is not None:
        raise UsageError("--distance is itself a loss model: give either --distance or --model")
    model = f"distance:{args.distance}" if args.distance is not None else args.model
    of_recording = {"--bob": args.bob, "--eve": args.eve, "--position": args.position, "--recording": args.recording}
    given = [option for option, value in of_recording.items() if value is not None]
    if model is not None and given:
        raise UsageError(f"{given[0]} is for a recording, not for the model {model}: leave one of them out")
    profile = _profile(args.profile)
    return StoryRequest(
        model=model,
        recording=args.recording,
        position=DEFAULT.position if args.position is None else args.position,
        bob=args.bob or DEFAULT.bob,
        eves=tuple(args.eve or DEFAULT.eves),
        profile=profile,
        bob_profile=None if args.bob_profile is None else _profile(args.bob_profile),
        bearer=args.bearer,
        seed=args.seed,
        target_bits=args.target_bits,
        eve_loss_bound=args.eve_loss_bound,
        burst=BURSTS[profile] if args.burst is None else args.burst,
        attack=args.attack,
        file=args.send,
    )


def _profile(name: str) -> Profile:
    for profile in Profile:
        if profile.label == name:
            return profile
    raise UsageError(f"there is no profile {name!r}: choose one of {', '.join(profile.label for profile in Profile)}")


_OF_THE_RUN: Final = (
    *("bob", "eve", "position", "recording", "model", "distance", "bearer", "profile", "bob_profile"),
    *("target_bits", "eve_loss_bound", "burst", "attack", "send"),
)
_USUAL: Final = {"bearer": "memory", "profile": "hardened", "target_bits": 128.0}


def _command(args: Namespace) -> str:
    """The command line that gives the same run, whatever was shown of it and written."""
    words = ["bt-selfsecure", "demo"]
    for name in _OF_THE_RUN:
        value, usual = getattr(args, name), _USUAL.get(name)
        for one in value if isinstance(value, list) else [value]:
            words += [] if one == usual else [f"--{name.replace('_', '-')}", str(one)]
    return shlex.join([*words, "--seed", str(args.seed)])


def _stage(args: Namespace, production: Production) -> AbstractContextManager[Observer]:
    """Where it is shown: nowhere, in plain lines, or moving."""
    if args.json:
        return nullcontext(SilentStage())
    if args.plain or not sys.stdout.isatty():
        return nullcontext(PlainStage(sys.stdout))
    try:
        from rich.console import Console

        from bt_selfsecure.demo.live import LiveStage, fits
    except ModuleNotFoundError as error:
        print(f"(No live view without {error.name}: pip install 'bt-selfsecure[demo]')")
        return nullcontext(PlainStage(sys.stdout))
    console = Console(highlight=False)
    if not fits(console):
        return nullcontext(PlainStage(sys.stdout))
    return LiveStage(production, console, paced=not args.fast)


def _judged(production: Production, outcome: Outcome, command: str) -> FinishedRun:
    """With the paper's other flaw, where its flaws are shown."""
    request = production.request
    if request.attack is None or request.profile is not Profile.PAPER:
        return FinishedRun(production, outcome, command)
    return FinishedRun(
        production, outcome, command, message_of_parting(production.model, request.seed), naive_shown=True
    )


def _page() -> Callable[[FinishedRun], str]:
    """Return what makes the report. Raises `UsageError`, before the work, for a library that is not there."""
    try:
        from bt_selfsecure.demo.report import html
    except ModuleNotFoundError as fault:
        raise UsageError(f"--out needs {fault.name}: pip install 'bt-selfsecure[demo]'") from None
    return html


def _written(args: Namespace) -> list[str]:
    lines = []
    if args.out is not None:
        from bt_selfsecure.demo.report import DRAWS

        lines += ["", f"  In {args.out}:", f"  {', '.join(output.FILES)}"]
        if not DRAWS:
            lines += ["  (No figures without matplotlib: pip install 'bt-selfsecure[plots]')"]
    if args.key_log is not None:
        lines += ["", f"  The secret keys are in {args.key_log}: delete it when you are done."]
    return lines
