"""`sweep import`, `export`, `list` and `withdraw`: what goes into a record, out of it, and what counts no more."""

from __future__ import annotations

import argparse
import textwrap
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.cli.numbers import integer, real
from bt_selfsecure.cli.sweep_text import WIDTH, progress_line
from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.runs import RANGES
from bt_selfsecure.wording import counted, printable

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from bt_selfsecure.sweep.runs import StoredRun

DEFAULT: Final = "sweep.db"
SWEEP_HELP: Final = (
    f"the record (default {DEFAULT}); also a table or FILE.json, as `import` takes them, which is then not kept"
)
LONG_SILENCE: Final = 50
"""Packets in a row that one receiver missed: it may have been off."""
IMPORT: Final = """\
Add others' data to a record, as runs: all of them, or none if anything is
wrong. Runs that the record has already are refused.
"""
IMPORT_EPILOG: Final = """\
sources:
  FILE.csv          a table with one of these kinds of rows:
                    a packet and receiver: seq,receiver,heard[,rssi];
                    a packet that came: seq,receiver[,rssi], with --packets;
                    a packet that came, without a number:
                    time,receiver[,rssi][,sender]. See "joined by time".
                    One run, or more if a column `run` tells them apart.
                    Columns of our own export are read too. Commas, semicolons
                    or tabs; UTF-8, or UTF-16 with its mark. Also FILE.csv.gz.
  FILE.parquet      the same columns in Parquet
  LISTENER=FILE.csv a table a listener, without the column receiver; of any
                    of these kinds
  LISTENER=CAPTURE  one capture a listener, all taken at the same time: pcap,
                    pcapng, btsnoop or PacketLogger (.pklg), also in .gz or
                    .zst. A run for each of our bursts in them. What a capture
                    lacks was missed, so one that is cut or damaged is refused.
  FILE.json         a reception matrix like ble_office_reception.json of this
                    package, its data file beside it. A run a position.

joined by time:
  time is seconds (12.345), a date (2026-05-01T12:00:00.123Z), or since 1970 in
  seconds or a thousandth, millionth of them; or the column is called time_s,
  time_ms, time_us. The receivers' clocks may differ: offset and drift are
  found from the random delay that BLE gives each advertisement, and packets
  that nobody heard from the interval. How it was joined is shown, and kept in
  the manifest; what is not certain is refused.

examples:
  bt-selfsecure sweep import --distance 3 bob=bob.csv eve=eve.csv
  bt-selfsecure sweep import --packets 200 --condition room=office heard.csv
  bt-selfsecure sweep import --sender C0:FF:EE:00:00:01 --interval 100 all.csv
"""


# --- import -----------------------------------------------------------------------------------------------------------


def add_import(commands: _SubParsersAction[ArgumentParser]) -> None:
    parser = commands.add_parser(
        "import",
        help="add others' data to a record",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=IMPORT,
        epilog=IMPORT_EPILOG,
    )
    parser.set_defaults(run=run_import)
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="see below")
    parser.add_argument("--out", default=DEFAULT, metavar="SWEEP", help=f"record to add to (default {DEFAULT})")
    parser.add_argument("--again", action="store_true", help="take runs, too, that the record has already")
    told = parser.add_argument_group("what the data don't say of themselves")
    told.add_argument("--distance", type=_in_range("distance_m"), metavar="M", help="metres from the sender")
    told.add_argument(
        "--distance-of",
        action="append",
        type=_of_each(_in_range("distance_m"), "METRES", "eve=4.5"),
        default=[],
        metavar="LISTENER=M",
        help="of one that has another; repeatable",
    )
    told.add_argument("--bearer", default="le_advert", help="(default le_advert)")
    told.add_argument(
        "--size", type=_in_range("size_bytes"), default=64, metavar="BYTES", help="of a packet's payload (default 64)"
    )
    told.add_argument(
        "--spacing",
        "--interval",
        type=_in_range("spacing_ms"),
        metavar="MS",
        help="between two packets (default 10, or found by time)",
    )
    told.add_argument(
        "--sender", metavar="NAME", help="(default alice); where a column has senders' addresses: whose packets to take"
    )
    told.add_argument("--tx-power", type=_in_range("tx_power_dbm"), metavar="DBM", help="transmit power")
    told.add_argument(
        "--condition",
        action="append",
        default=[],
        metavar="NAMES",
        help="room,noise: these columns, one value a run, are part of the setting; room=office: says it of all runs",
    )
    told.add_argument(
        "--packets",
        type=integer(least=1),
        metavar="N",
        help="sent in each run: what a log that lists only what was heard does not have, was missed",
    )
    told.add_argument("--first", type=integer(least=0), metavar="SEQ", help="number of the first packet that was sent")
    told.add_argument("--last", type=integer(least=0), metavar="SEQ", help="number of the last one")
    clocks = parser.add_argument_group("of logs joined by time")
    clocks.add_argument(
        "--clock-offset",
        action="append",
        type=_of_each(real(), "SECONDS", "eve=0.25"),
        default=[],
        metavar="RECEIVER=S",
        help="seconds that its clock is ahead of one of which none is told, to within half an interval; repeatable",
    )
    clocks.add_argument("--one-clock", action="store_true", help="all times are by one clock, or by clocks that agree")
    clocks.add_argument(
        "--pause", type=real(least=0), metavar="S", help="a silence of all that parts two runs (0: none does)"
    )


def run_import(args: Namespace) -> int:
    """Add the runs, and say how many, and how they were joined."""
    from bt_selfsecure.sweep.circumstances import Circumstances, conditions
    from bt_selfsecure.sweep.importing import import_sources
    from bt_selfsecure.sweep.manifest import collect
    from bt_selfsecure.sweep.store import Store

    how = Circumstances(
        args.distance,
        dict(args.distance_of),
        args.bearer,
        args.size,
        10.0 if args.spacing is None else args.spacing,
        args.sender or "alice",
        args.tx_power,
        packets=args.packets,
        first=args.first,
        last=args.last,
        whose=args.sender,
        interval_ms=args.spacing,
        clock_offsets_s=dict(args.clock_offset),
        one_clock=args.one_clock,
        pause_s=args.pause,
        conditions=conditions(",".join(args.condition)) if args.condition else {},
    )
    with (
        progress_line("migrated") as migrating,
        Store(args.out, create=True, migrating=migrating) as store,
        progress_line("imported") as progress,
    ):
        first = store.next_id()
        with store.together():
            store.begin(collect(imported=args.sources))
            added = import_sources(store, args.sources, how, progress, again=args.again)
        manifests = store.manifests(since=first)
        bursts = any("captured" in manifest for manifest in manifests.values())
        runs = store.runs(since=first) if bursts else []
    for manifest in manifests.values():
        for join in manifest.get("joined", []):
            print("\n".join(_joined(join, store.addresses.get(join["sender"], join["sender"]))))
        if captured := manifest.get("captured"):
            print("\n".join(_captured(captured, {str(run.info.notes.get("burst")): run.id for run in runs})))
    print(f"{counted(added, 'run')} added to {args.out}")
    return 0


def _joined(join: dict[str, Any], sender: str) -> Iterator[str]:
    """How logs were joined by time, in 80 columns. The sender as the log has it: the manifest has its hash."""
    which = "".join(f", {what} {name}" for what, name in (("run", join["run"]), ("sender", sender)) if name)
    found = "told, fitted" if join["interval_told"] else "found"
    yield f"joined by time{which}: a packet every {1000 * join['interval_s']:.4g} ms ({found})"
    yield f"  {'receiver':<24}{'offset s':>16}{'drift ppm':>11}{'common':>8}{'off ms':>8}{'next best':>11}"
    for name, clock in join["clocks"].items():
        if name == join["reference"]:
            yield f"  {name:<24}{'the reference':>16}"
            continue
        rival = f"{clock['rival']:.1f} x" if clock["rival"] else "-"
        yield (
            f"  {name:<24}{clock['offset_s']:>16.4f}{1e6 * clock['drift']:>11.1f}{clock['matched']:>8}"
            f"{1000 * clock['residual_s']:>8.2f}{rival:>11}"
        )
    packets = sum(join["packets"])
    told = (
        f"{packets:,} packets: {join['by_several']:,} heard by several receivers, {join['by_one']:,} by one, "
        f"{join['by_none']:,} by none (gaps filled; {join['uncertain']:,} gaps may have one more or less). Left out: "
        f"{join['left_out']:,} not to be told from a neighbour, {join['outside']:,} of when not all logs ran."
    )
    yield from textwrap.wrap(told, WIDTH, initial_indent="  ", subsequent_indent="  ")
    yield from _silences(join["silences"])


def _silences(longest: dict[str, int]) -> Iterator[str]:
    """A warning for each receiver that may have been off for a while."""
    for name, silent in longest.items():
        if silent >= LONG_SILENCE:
            warning = (
                f"! {name} missed {silent:,} packets in a row. If it was off then, these are no misses, and every "
                "figure of it as Eve is too kind: cut all logs there."
            )
            yield from textwrap.wrap(warning, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _captured(captured: dict[str, Any], runs: dict[str, int]) -> Iterator[str]:
    """What captures had, and what they may not have covered, in 80 columns. `runs` by burst."""
    for name, each in captured["captures"].items():
        wrong = f"{each['wrong_crc']:,} with a wrong CRC"
        wrong += f" ({each['ours_wrong_crc']:,} like ours), which {name} missed"
        told = f"{each['file']}, {name}: {counted(each['packets'], 'packet')}, {each['ours']:,} of our bursts, "
        told += f"{each['refused']:,} of a number that no burst reaches, left out, " if each["refused"] else ""
        told = told + wrong if each["wrong_crc"] else told.removesuffix(", ")
        yield from textwrap.wrap(told, WIDTH, subsequent_indent="  ")
    for each in captured["not_covered"]:
        name, packets = each["listener"], counted(each["packets"], "packet")
        warning = (
            f"! others heard {packets} of run {runs[each['burst']]} before the capture of {name} has any packet, of "
            "anybody, or after its last. If it did not run then, these are no misses, and every figure of "
            f"{name} as Eve is too kind: cut all captures to the time that all cover (editcap -A and -B)."
        )
        yield from textwrap.wrap(warning, WIDTH, initial_indent="  ", subsequent_indent="    ")
    yield from _silences(captured["silences"])


def _in_range(column: str) -> Callable[[str], float]:
    """Argparse's type of what a column of this name may say, too."""
    numbers = RANGES[column]
    if numbers.whole:
        return integer(least=int(numbers.least), most=int(numbers.most))
    return real(least=numbers.least, most=numbers.most)


def _of_each(number: Callable[[str], float], unit: str, example: str) -> Callable[[str], tuple[str, float]]:
    """Argparse's type of LISTENER=NUMBER."""

    def pair(item: str) -> tuple[str, float]:
        name, equals, value = item.partition("=")
        if not name or not equals:
            raise ArgumentTypeError(f"{item!r} is not LISTENER={unit}: write it as in {example}")
        return name, number(value)

    return pair


# --- export -----------------------------------------------------------------------------------------------------------


def add_export(commands: _SubParsersAction[ArgumentParser]) -> None:
    parser = commands.add_parser(
        "export",
        help="write the record for other programs",
        description="Write a row a packet and receiver as CSV, JSON Lines or Parquet, and FILE.manifest.json with "
        "what was measured with. Withdrawn runs are left out; the manifest names them. A name that ends in .gz is "
        "packed, which makes JSON Lines fifty times smaller.",
    )
    parser.set_defaults(run=run_export)
    parser.add_argument("sweep", nargs="?", default=DEFAULT, metavar="SWEEP", help=SWEEP_HELP)
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="FILE.csv, FILE.jsonl, either with .gz, or FILE.parquet"
    )


def run_export(args: Namespace) -> int:
    """Write both files, and name them."""
    from bt_selfsecure.sweep.exporting import places, write
    from bt_selfsecure.sweep.importing import opened

    out = Path(args.out)
    with places(out) as parts, progress_line("exported") as progress, opened(args.sweep, progress) as store:
        beside = write(store, out, parts, progress)
    print(f"{args.out}\n{beside}")
    return 0


# --- list, withdraw ---------------------------------------------------------------------------------------------------


def add_list(commands: _SubParsersAction[ArgumentParser]) -> None:
    parser = commands.add_parser(
        "list",
        help="the record's runs, by number",
        description="List the record's runs by number: when, how far, packets, listeners and where they come from. "
        "Those that were withdrawn are there, too, and why.",
    )
    parser.set_defaults(run=run_list)
    parser.add_argument("sweep", nargs="?", default=DEFAULT, metavar="SWEEP", help=f"the record (default {DEFAULT})")


def run_list(args: Namespace) -> int:
    """Print two lines a run at most."""
    from bt_selfsecure.sweep.store import Store

    with Store(args.sweep) as store:
        runs = store.runs(withdrawn=True)
    if not runs:
        raise UsageError(f"there is no run in the sweep {args.sweep!r}: add some with `sweep run` or `sweep import`")
    print(f"{'run':>6}  {'started (UTC)':<17}{'metres':>7}{'packets':>9}  listeners, source")
    for run in runs:
        print("\n".join(_listed(run)))
    return 0


def _listed(run: StoredRun) -> Iterator[str]:
    info = run.info
    started = f"{info.started:%Y-%m-%d %H:%M}" if info.started else "-"
    metres = "-" if info.distance_m is None else f"{info.distance_m:g}"
    source = info.notes.get("imported_from", "")
    files = ", ".join(source.values()) if isinstance(source, dict) else str(source)
    conditions = [f"{name} {value}" for name, value in info.notes.get("conditions", {}).items()]
    said = printable("; ".join(filter(None, [", ".join(run.listeners), files, ", ".join(conditions)])))
    first = f"{run.id:>6}  {started:<17}{metres:>7}{info.packets:>9}  "
    yield from textwrap.wrap(said, WIDTH, initial_indent=first, subsequent_indent=" " * len(first))
    if run.withdrawn is not None:
        yield from textwrap.wrap(
            f"withdrawn: {printable(run.withdrawn)}", WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8
        )


def add_withdraw(commands: _SubParsersAction[ArgumentParser]) -> None:
    parser = commands.add_parser(
        "withdraw",
        help="let runs not count any more",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Let runs not count any more, as after a mistake. They stay in the record,\nmarked: nothing is "
        "ever deleted. All of them are withdrawn, or none.",
        epilog="example:\n  bt-selfsecure sweep withdraw field.db 3 4 --reason 'wrong distance'\n\n"
        "`sweep list` has the numbers, and afterwards the reasons.",
    )
    parser.set_defaults(run=run_withdraw)
    parser.add_argument("sweep", metavar="SWEEP", help="the record")
    parser.add_argument("runs", nargs="+", type=integer(least=1), metavar="RUN", help="number of a run")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why, for those who look at it later")


def run_withdraw(args: Namespace) -> int:
    """Mark them."""
    from bt_selfsecure.sweep.store import Store

    if not args.reason.strip():
        raise UsageError("--reason is empty: say why, for those who look at it later")
    with progress_line("migrated") as migrating, Store(args.sweep, migrating=migrating) as store:
        store.withdraw(dict.fromkeys(args.runs), args.reason.strip())
    print(f"{counted(len(set(args.runs)), 'run')} withdrawn; `sweep list` shows them")
    return 0
