"""docs/lab-sheet.md: its commands are run, and its answers quote what they print."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from math import log2
from pathlib import Path

import pytest
from amounts import at_length

from bt_selfsecure.cli.main import parser

CHECKOUT = Path(__file__).parents[2]
sys.path.insert(0, str(CHECKOUT / "tests/eve"))

from carriers import DISSECTOR, nobody, require  # noqa: E402

SHEET = (CHECKOUT / "docs/lab-sheet.md").read_text(encoding="utf-8")
TASKS, _, ANSWERS = SHEET.partition("## Answers\n")
PARTS = dict(re.findall(r"^## (\d)\. ((?:.|\n)+?)(?=^## |\Z)", TASKS, re.MULTILINE))
ANSWER = dict(re.findall(r"^(\d+)\. ((?:.|\n)+?)(?=^\d+\. |\Z)", ANSWERS, re.MULTILINE))
FILTER = re.compile(r"`(btss\.[^`]+)`\s+in\s+`(captures/[^`]+)`")


def commands(text: str) -> list[str]:
    """Those on lines of their own, without comments and what the shell does with them."""
    lines = re.findall(r"^    ((?:bt-selfsecure|wireshark) .*)", text, re.MULTILINE)
    return [line.partition("#")[0].strip(" &") for line in lines]


def questions(text: str) -> list[str]:
    return re.findall(r"\*Q(\d+)\.\*", text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like the checkout, but for what the commands write."""
    folder = tmp_path_factory.mktemp("class")
    for name in ("captures", "bt_selfsecure"):
        (folder / name).symlink_to(CHECKOUT / name)
    return folder


@cache
def printed(folder: Path, command: str) -> str:
    words = shlex.split(command)
    if words[0] == "wireshark":
        require("tshark")
        words = [
            *nobody(),
            "tshark",
            "-X",
            f"lua_script:{DISSECTOR}",
            *words[1:-1],
            "-r",
            words[-1],
            "-Y",
            "btss.plain",
        ]
    else:
        words = [sys.executable, "-m", "bt_selfsecure.cli.main", *words[1:]]
    done = subprocess.run(words, cwd=folder, env=os.environ | {"HOME": str(folder)}, capture_output=True, text=True)
    undecided = "what was not looked at, or not decided:" in done.stdout  # then eve report ends with 2
    assert done.returncode in ((2,) if undecided else (0, 1)), done.stderr  # 1: Eve succeeded
    assert done.stdout.strip(), command
    return done.stdout


@cache
def shown(folder: Path, expression: str, capture: str) -> str:
    """What Wireshark has of the packets that a filter finds."""
    require("tshark")
    words = ["tshark", "-X", f"lua_script:{DISSECTOR}", "-r", capture, "-Y", expression, "-V"]
    return subprocess.run([*nobody(), *words], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("part", ["1", "2", at_length("3"), at_length("4")])
def test_every_command_does_its_work_and_every_answer_quotes_what_it_prints(folder: Path, part: str) -> None:
    text = PARTS[part]
    told = [printed(folder, command) for command in commands(text)]
    told += [shown(folder, *found) for found in FILTER.findall(text)]
    assert all(told), FILTER.findall(text)
    said = " ".join(" ".join(told).split())
    if "(attacks.md" in text:
        said += (CHECKOUT / "docs/attacks.md").read_text(encoding="utf-8")
    for number in questions(text):
        for quoted in re.findall(r"`([^`]+)`", ANSWER[number]):
            assert " ".join(quoted.split()) in said, (number, quoted)


def test_every_filter_is_named_with_a_capture_in_which_it_finds_something(folder: Path) -> None:
    pairs = FILTER.findall(SHEET)
    assert len(pairs) == len(re.findall("`btss", SHEET)) >= 4
    for expression, capture in pairs:
        assert shown(folder, expression, capture).strip(), (expression, capture)


def test_every_command_also_of_the_live_part_is_one_that_there_is() -> None:
    lines = [line for line in commands(SHEET) if line.startswith("bt-selfsecure")]
    assert len(lines) >= 25
    knowing = parser()
    for line in lines:
        knowing.parse_args(shlex.split(line)[1:])


def test_every_question_has_its_answer() -> None:
    assert [number for part in PARTS.values() for number in questions(part)] == list(ANSWER)
    assert questions(TASKS) == list(ANSWER) == [str(number) for number in range(1, len(ANSWER) + 1)]


def test_what_is_reckoned_by_hand_is_right() -> None:
    assert "0.95^64 = 3.8 %, that is 4.7 bits; 0.95^1730 = 2^-128" in ANSWER["5"]
    assert round(100 * 0.95**64, 1) == 3.8
    assert round(-64 * log2(0.95), 1) == 4.7
    assert round(-1730 * log2(0.95)) == 128
    assert "14.6 %" in ANSWER["6"]
    assert round(100 * 105 / 717, 1) == 14.6
