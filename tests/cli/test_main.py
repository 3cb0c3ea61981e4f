"""The command: one line and exit 2 for what can't be used, 130 for Ctrl-C, and help that teaches."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace, _SubParsersAction

import pytest

from bt_selfsecure import __version__
from bt_selfsecure.cli import demo
from bt_selfsecure.cli.main import COMMANDS, main, parser


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"bt-selfsecure {__version__}\n"


@pytest.mark.parametrize("words", [["--help"], ["demo", "--help"], ["plan", "--help"]])
def test_help_tells_examples_or_exit_status(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert "exit status:" in out or "examples:" in out


@pytest.mark.parametrize(
    "words", [[], ["dance"], ["demo", "--seed", "x"], ["demo", "--position"], ["plan"], ["demo", "--no-such-option"]]
)
def test_words_that_mean_nothing_give_one_line_and_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("bt-selfsecure: ")
    assert "--help" in captured.err


def test_ctrl_c_is_130_and_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(args: Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", interrupted)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "bt-selfsecure: interrupted; nothing was left half-written\n"


def commands(of: str = "") -> set[str]:
    """Those that a parser made for this one command, or for all, knows."""
    return {name for action in parser([of] if of else None)._actions for name in action.choices or ()}


def test_open_files_that_are_used_up_are_told_in_one_line_with_the_remedy() -> None:
    code = (
        "import os, resource, sys\nfrom bt_selfsecure.cli.main import main\n"
        "newest = os.open('/', os.O_RDONLY)\nresource.setrlimit(resource.RLIMIT_NOFILE, (newest + 1, newest + 1))\n"
        "sys.exit(main(['demo']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("bt-selfsecure: Too many open files: end other programs, or raise `ulimit -n`")
    assert done.stderr.count("\n") == 1


def test_each_command_is_found_without_importing_the_others() -> None:
    assert commands() == set(COMMANDS)
    assert all(command in commands(command) for command in COMMANDS)
    assert len(commands("doctor")) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("named", [True, False])
def test_a_disk_that_takes_nothing_is_a_sentence_whichever_command_writes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, named: bool
) -> None:
    def full(args: Namespace) -> int:
        raise OSError(number, os.strerror(number), *(["/media/card/x"] if named else []))

    monkeypatch.setattr(demo, "run", full)
    assert main(["demo"]) == 2
    where = "/media/card/x" if named else "the output"
    assert capsys.readouterr().err == f"bt-selfsecure: can't write {where} ({os.strerror(number)})\n"


def lines_of(parser: ArgumentParser) -> dict[tuple[str, ...], str | None]:
    """What the lists of commands say of each, by the words that call it."""
    found: dict[tuple[str, ...], str | None] = {}
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            found |= {(line.dest,): line.help for line in action._choices_actions}
            for name, below in action.choices.items():
                found |= {(name, *words): said for words, said in lines_of(below).items()}
    return found


def test_the_lists_of_commands_say_the_same_whether_or_not_the_commands_are_imported() -> None:
    every = lines_of(parser())
    assert lines_of(parser([])) == {words: said for words, said in every.items() if len(words) == 1}
    for group in ("eve", "sweep"):
        listed = {words: said for words, said in lines_of(parser([group, "--help"])).items() if len(words) == 2}
        assert listed == {words: said for words, said in every.items() if len(words) == 2 and words[0] == group}


@pytest.mark.parametrize("words", [["--", "plan"], ["sweep", "--", "study"]])
def test_a_command_is_found_behind_two_hyphens(words: list[str]) -> None:
    """Where argparse takes it for one, as Python does since 3.13."""
    assert words[-1] in [name for called in lines_of(parser(words)) for name in called]
