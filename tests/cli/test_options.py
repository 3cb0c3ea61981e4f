"""What holds for every option of every command, found by walking through the whole command line."""

from __future__ import annotations

import contextlib
from argparse import PARSER, REMAINDER, Action, ArgumentParser, ArgumentTypeError, _SubParsersAction
from collections.abc import Iterator
from pathlib import Path

import pytest
from another_user import as_nobody

from bt_selfsecure.cli import numbers
from bt_selfsecure.cli.main import main, parser


def all_of(command: ArgumentParser) -> Iterator[ArgumentParser]:
    """A command and those below it."""
    yield command
    for action in command._actions:
        if isinstance(action, _SubParsersAction):
            for below in dict.fromkeys(action.choices.values()):
                yield from all_of(below)


COMMANDS = {command.prog: command for command in all_of(parser())}
TAUGHT = ("device", "gateway", "cloud", "iotcrypto", "link")
"""Of which no argument lacks a help."""
NUMBERS = {
    f"{name} {max(action.option_strings, default=action.dest)}": action
    for name, command in COMMANDS.items()
    for action in command._actions
    if getattr(action.type, "__module__", "") == numbers.__name__
}


def test_the_walk_finds_them_all() -> None:
    assert len(COMMANDS) > 45
    assert len(NUMBERS) > 25
    assert {"bt-selfsecure", "bt-selfsecure lab up", "bt-selfsecure sweep study"} <= set(COMMANDS)


def positional(command: ArgumentParser) -> list[Action]:
    return [action for action in command._actions if not action.option_strings]


MIXED = {
    name: command
    for name, command in COMMANDS.items()
    if positional(command) and not any(action.nargs in (PARSER, REMAINDER) for action in command._actions)
}


def word(action: Action, number: int) -> str:
    """That this one takes."""
    if action.choices is not None:
        return str(next(iter(action.choices)))
    for text in (f"x{number}", "0.5", str(number + 1), "02:00:00:00:00:01", "1/2", "x=1", "1024"):
        with contextlib.suppress(ArgumentTypeError, ValueError):
            (action.type or str)(text)  # type: ignore[operator]
            return text
    raise AssertionError(f"what does {action.dest} take?")


@pytest.mark.parametrize("command", MIXED.values(), ids=MIXED)
def test_options_may_stand_before_between_and_after_what_has_a_place(command: ArgumentParser) -> None:
    """Also before a FILE that may be left out: which versions of Python take for absent then."""
    words = [word(action, number) for number, action in enumerate(positional(command))]
    required = [
        part
        for action in command._actions
        if action.option_strings and action.required
        for part in [action.option_strings[-1], *([] if action.nargs == 0 else [word(action, 7)])]
    ]
    group = {action for group in command._mutually_exclusive_groups for action in group._group_actions}
    for option in command._actions:
        if not option.option_strings or option in group or option.dest == "help" or option.required:
            continue
        text = [option.option_strings[-1], *([] if option.nargs == 0 else [word(option, 9)])]
        if option.nargs not in (0, None):
            continue  # takes what follows
        last = command.parse_args([*words, *text, *required])
        for place in range(len(words)):
            assert command.parse_args([*required, *words[:place], *text, *words[place:]]) == last
    assert command.parse_args([*required, "--", *words]) == command.parse_args([*words, *required])


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_help_fits_80_columns(command: ArgumentParser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert [line for line in command.format_help().splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_help_says_what_a_command_does(command: ArgumentParser) -> None:
    assert command.description


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.split()[1:2] in ([each] for each in TAUGHT)])
def test_help_says_what_each_argument_is(command: str) -> None:
    of = COMMANDS[command]._actions
    assert [each.dest for each in of if not each.help and not isinstance(each, _SubParsersAction)] == []


def test_no_option_takes_python_s_own_numbers() -> None:
    """int and float take nan, inf, and whatever sense there is none in."""
    bare = [
        (name, action.dest)
        for name, command in COMMANDS.items()
        for action in command._actions
        if action.type in (int, float)
    ]
    assert bare == []


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "", "x", "0x10", "1,5", "٫"])
@pytest.mark.parametrize("action", NUMBERS.values(), ids=NUMBERS)
def test_what_is_no_finite_number_is_refused_with_what_would_be_right(action: Action, text: str) -> None:
    assert callable(action.type)
    with pytest.raises(ArgumentTypeError, match=r"is (not a|out of range: give a) ?(whole )?number"):
        action.type(text)


@pytest.mark.parametrize(
    "option",
    [
        *("plan --confidence", "plan --eve-loss", "plan --target-bits", "plan --packet-bytes", "plan --interval-ms"),
        *("plan --eves", "demo --target-bits", "demo --eve-loss-bound", "demo --burst", "sweep run --redo"),
        *("sweep import --size", "sweep import --spacing", "sweep import --packets", "eve report --confidence"),
        *("eve report --target-bits", "eve attack --runs", "eve attack --seconds", "eve capture --megabytes"),
        *(
            "eve capture --files",
            "lab up --memory",
            "lab move metres",
            "send --timeout",
            "receive --count",
            "scan --seconds",
        ),
    ],
)
@pytest.mark.parametrize("text", ["0", "-1"])
def test_what_must_be_more_than_nothing_is(option: str, text: str) -> None:
    kind = NUMBERS[f"bt-selfsecure {option}"].type
    assert callable(kind)
    with pytest.raises(ArgumentTypeError, match=r"out of range: give a .*(above 0|at least (0\.\d*)?[1-9])"):
        kind(text)


def test_limits_are_meant_as_their_names_say() -> None:
    share = numbers.real(above=0, below=1)
    assert share("0.25") == 0.25
    assert numbers.real(least=0.5, most=2)("0.5") == 0.5
    assert numbers.real(least=0.5, most=2)("2") == 2
    assert numbers.integer()("-3") == -3
    for kind, text in ((share, "0"), (share, "1"), (numbers.integer(least=1, most=3), "4"), (numbers.integer(), "1.5")):
        with pytest.raises(ArgumentTypeError):
            kind(text)


@pytest.mark.parametrize(
    "words",
    [
        "plan --eve-loss 0.1 --plot {taken}/plan.svg",
        "demo --fast --out {taken}/plan.svg",
        "demo --fast --key-log {taken}/plan.svg",
        "sweep report no-such.db --out {taken}/plan.svg",
        "sweep plot no-such.db --out {taken}/plan.svg",
        "sweep study {taken}/grid.toml --out {taken}/table.parquet",
        "sweep export no-such.db --out {taken}/table.parquet",
    ],
)
def test_an_output_that_can_not_be_written_is_told_before_the_work(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a record that is not there nothing is said yet: it was not looked for."""
    (tmp_path / "table.parquet").mkdir()
    (tmp_path / "grid.toml").write_text(
        "[study]\ntrials = 1_000_000_000\nbob_loss = [0.1]\neve_loss = [0.1]\npackets = [1_000_000]\n"
    )
    (tmp_path / "plan.svg").mkdir()
    if words.startswith("demo --fast --out") or "sweep plot" in words:
        (tmp_path / "plan.svg").rmdir()
        (tmp_path / "plan.svg").touch()
    before = sorted(tmp_path.iterdir())
    assert main(words.format(taken=tmp_path).split()) == 2
    told = capsys.readouterr()
    assert told.err.startswith("bt-selfsecure: can't write ")
    assert (told.err.count("\n"), told.out) == (1, "")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "words",
    ["demo --fast --key-log", "demo --fast --out", "plan --eve-loss 0.1 --plot", "sweep report no-such.db --out"],
)
@pytest.mark.parametrize("place", [".svg".rjust(300, "n"), "", "."], ids=["long", "empty", "folder"])
def test_a_place_that_can_not_be_is_told_in_one_line(
    words: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--out" in words and words.startswith("demo") and place in ("", "."):
        pytest.skip("is a folder, and right")
    monkeypatch.chdir(tmp_path)
    assert main([*words.split(), place]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("bt-selfsecure: can't ")
    assert told.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", ["plan --eve-loss 0.1 --plot", "demo --fast --out", "sweep analyse"])
def test_a_path_that_may_not_be_looked_at_is_told_in_one_line(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In another one's folder."""
    assert main([*words.split(), str(tmp_path / "nowhere" / "x.svg")]) == 2, "what it imports, nobody may not read"
    capsys.readouterr()
    (locked := tmp_path / "locked").mkdir(mode=0)
    with as_nobody():
        assert main([*words.split(), str(locked / "x.svg")]) == 2
    told = capsys.readouterr().err
    assert (told.count("\n"), told.startswith("bt-selfsecure: can't ")) == (1, True)
    assert "Permission denied" in told


@pytest.mark.parametrize("text", [str(2**63), "9" * 400, "1e19", "-" + "9" * 400])
@pytest.mark.parametrize("action", NUMBERS.values(), ids=NUMBERS)
def test_a_number_that_nothing_can_count_to_is_refused(action: Action, text: str) -> None:
    """Floats, clocks and databases raise OverflowError for it, after the work."""
    assert callable(action.type)
    with pytest.raises(ArgumentTypeError):
        action.type(text)
