"""`bt-selfsecure demo`, whole: what it says, writes and returns."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from on_a_terminal import ended, spawn

from bt_selfsecure.air.recording import OFFICE
from bt_selfsecure.cli.main import main

DATA = Path(__file__).parents[2] / "bt_selfsecure" / "air" / "data"
OTHERS = ("memory", "rfcomm", "l2cap")
FILES = ["eve.pcapng", "report.html", "summary.json", "trace.jsonl"]
PROMISED = {
    *("established", "equal_keys", "sent", "received", "eve_missed_given_bob", "secret_bits", "target_bits"),
    *("file_sha256_sent", "file_sha256_received", "rounds", "rounds_until_thief_is_out"),
}


def summary(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> dict[str, Any]:
    assert main(["demo", "--json", *words]) == status
    captured = capsys.readouterr()
    assert captured.err == ""
    answer: dict[str, Any] = json.loads(captured.out)
    return answer


# --- a run ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bearer", ["le_advert", *(pytest.param(name, marks=pytest.mark.long) for name in OTHERS)])
def test_each_bearer_gives_a_key_and_the_file_and_a_capture_without_errors(
    bearer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = summary(capsys, "--bearer", bearer, "--out", str(tmp_path / "out"))
    assert answer.keys() >= PROMISED
    assert answer["success"] is answer["established"] is answer["equal_keys"] is True
    assert answer["eve_has_key"] is False
    assert answer["sent"] >= answer["received"] > answer["eve_missed_given_bob"] > 0
    assert answer["planned_bits"] >= answer["target_bits"] == 128
    assert answer["file_sha256_sent"] == answer["file_sha256_received"] != ""
    assert answer["rounds"] == 67
    assert 1 <= answer["rounds_until_thief_is_out"] == answer["rounds_read"] + 1
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == FILES
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == answer
    assert tshark(tmp_path / "out" / "eve.pcapng") > answer["sent"] / 2


def tshark(capture: Path) -> int:
    """Packets, none of which tshark complains about."""
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed (apt-get install tshark)")
    faults = ["-Y", '_ws.malformed || _ws.expert.severity == "Error"']
    for words in (faults, []):
        done = subprocess.run(["tshark", "-r", capture, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        if words:
            assert done.stdout == ""
    return done.stdout.count("\n")


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        summary(capsys, "--seed", seed, "--target-bits", "20", "--out", str(tmp_path / name))
    for file in FILES:
        a, b, c = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert a == b, file
        assert a != c, file


@pytest.mark.long
@pytest.mark.parametrize("bearer", ["rfcomm", "le_advert"])
def test_virtual_bluetooth_too_gives_the_same_bytes_for_the_same_seed(
    bearer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--bearer", bearer, "--target-bits", "20", "--out", str(tmp_path))
    first, second = ([summary(capsys, *words), *map(Path.read_bytes, sorted(tmp_path.iterdir()))] for _ in "ab")
    assert len(first) == 1 + len(FILES)
    assert first == second


def test_the_command_in_the_summary_gives_the_same_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a file"
    file.write_bytes(b"something" * 99)
    first = summary(
        capsys, *("--bob", "3", "--eve", "6", "--eve", "sensor12", "--eve-loss-bound", "0.1", "--send", str(file))
    )
    command = first["command"]
    assert command.startswith("bt-selfsecure demo ")
    done = subprocess.run(
        f"{sys.executable} -m bt_selfsecure.cli.main {command.removeprefix('bt-selfsecure')} --json",
        shell=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert json.loads(done.stdout) == first


def test_colluding_eves_miss_less_than_one(capsys: pytest.CaptureFixture[str]) -> None:
    bound = ("--eve-loss-bound", "0.1")  # the same burst, so that the two can be compared
    one = summary(capsys, "--eve", "sensor30", *bound)
    two = summary(capsys, "--eve", "sensor30", "--eve", "sensor12", *bound)
    assert (one["eves"], two["eves"]) == (1, 2)
    assert two["e_given_b"] < one["e_given_b"] / 2


@pytest.mark.parametrize(
    "words",
    [
        ("--distance", "bob=3,eve=20"),
        pytest.param(("--model", "bernoulli:bob=0.1,eve=0.3"), marks=pytest.mark.long),
        ("--model", "correlated:bob=0.2,eve=0.3,rho=0.2"),
        pytest.param(("--model", "gilbert-elliott:bob=0.1/4,eve=0.3/4"), marks=pytest.mark.long),
        ("--model", "recording:bob=3,eve=6,position=2"),
    ],
)
def test_every_model_can_be_the_air(words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    answer = summary(capsys, *words)
    assert answer["established"] is True
    assert answer["air"].startswith("model ")


def test_an_eve_who_misses_nothing_means_no_key_and_1(capsys: pytest.CaptureFixture[str]) -> None:
    answer = summary(capsys, "--bearer", "l2cap", "--model", "bernoulli:bob=0.1,eve=0", status=1)
    assert answer["established"] is False
    assert "target was not reached" in answer["verdict"]
    assert answer["eve_missed_given_bob"] == answer["secret_bits"] == 0


def test_a_key_that_eve_heard_whole_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    """By an assumption that is wrong: she is said to miss half, and misses nothing."""
    answer = summary(capsys, "--model", "bernoulli:bob=0.1,eve=0", "--eve-loss-bound", "0.5", status=1)
    assert answer["established"] is answer["equal_keys"] is answer["eve_has_key"] is True
    assert answer["file_sha256_sent"] == answer["file_sha256_received"]


# --- the paper's flaws ------------------------------------------------------------------------------------------------


def test_paper_and_steering_show_both_flaws(capsys: pytest.CaptureFixture[str]) -> None:
    answer = summary(capsys, "--profile", "paper", "--attack", "steering", status=1)
    assert answer["established"] is answer["equal_keys"] is answer["eve_has_key"] is True
    assert answer["eve_missed_given_bob"] == 0
    assert 1 <= answer["naive_reading_parted_at"] <= 300
    assert main(["demo", "--profile", "paper", "--attack", "steering"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "K_0 is hers." in out
    assert "Both ends go on, as the paper has it." in out
    assert f"parted the two keys for ever at message {answer['naive_reading_parted_at']}" in out
    assert f"still together after {answer['rounds']} rounds" in out


def test_hardened_and_steering_end_with_a_key_that_eve_does_not_have_and_a_report(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer = summary(capsys, "--attack", "steering")
    assert (answer["established"], answer["eve_has_key"]) == (True, False)
    assert answer["attacks_reported"] > 0
    assert main(["demo", "--attack", "steering"]) == 0
    assert "What is not in Alice's list Bob drops" in " ".join(capsys.readouterr().out.split())


def test_without_an_attack_the_papers_eve_does_not_have_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    answer = summary(capsys, "--profile", "paper")
    assert answer["eve_missed_given_bob"] > 0
    assert answer["naive_reading_parted_at"] is None


# --- what it says -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--profile", "paper", "--attack", "steering"], ["--attack", "steering"]])
def test_lines_are_plain_and_no_wider_than_80_columns(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["demo", *words])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert "verdict" in out


def test_a_terminal_without_utf_8_gets_ascii(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bt_selfsecure.cli.main", "demo"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert b"# Bob and Eve   B Bob only" in done.stdout


def in_a_terminal(
    *words: str, size: tuple[int, int] = (24, 80), interrupt: bool = False, **env: str
) -> tuple[int, str]:
    """Exit status, and all that a terminal of so many lines and columns was sent."""
    environment = {**os.environ, "TERM": "xterm-256color", "LINES": str(size[0]), "COLUMNS": str(size[1]), **env}
    pid, terminal = spawn([sys.executable, "-m", "bt_selfsecure.cli.main", "demo", *words], environment)
    out, end = b"", time.monotonic() + 90
    while time.monotonic() < end and select.select([terminal], [], [], 30)[0]:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux: the other end is closed
            break
        out += piece
        if interrupt and b"Secret bits" in out:
            interrupt = False
            os.kill(pid, signal.SIGINT)
    status, rest = ended(pid, terminal)
    return status, (out + rest).decode()


def assert_cursor_is_shown(out: str) -> None:
    assert out.rfind("\x1b[?25h") > out.rfind("\x1b[?25l") >= 0


COLOUR = r"\x1b\[[0-9;]*[34]8;"


def test_the_live_view_moves_and_leaves_the_terminal_as_it_was() -> None:
    status, out = in_a_terminal("--fast")
    assert status == 0
    assert_cursor_is_shown(out)
    assert out.count("Secret bits: Bob kept") > 20
    assert "Eve stole K_" in out
    assert "verdict" in out.rpartition("\x1b[?25h")[2]
    assert re.search(COLOUR, out)


def test_the_live_view_fits_80_columns_and_24_lines_and_no_color_means_none() -> None:
    _, out = in_a_terminal("--fast", NO_COLOR="1")
    picture = out.rpartition("\x1b[?25h")[0].rpartition("\x1b[2K")[2]
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in picture.replace("\r", "").splitlines()]
    assert 18 <= len(lines) < 24
    assert max(map(len, lines)) <= 80
    assert not re.search(COLOUR, out)


def test_ctrl_c_shows_the_cursor_again_and_leaves_nothing(tmp_path: Path) -> None:
    status, out = in_a_terminal("--out", str(tmp_path / "out"), interrupt=True)
    assert status == 130
    assert "verdict" not in out  # as at the end of the whole show
    assert_cursor_is_shown(out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "size", "env"),
    [(["--plain"], (24, 80), {}), ([], (24, 80), {"TERM": "dumb"}), ([], (24, 50), {}), ([], (10, 80), {})],
    ids=["--plain", "dumb", "narrow", "low"],
)
def test_where_it_cannot_move_there_are_plain_lines(
    words: list[str], size: tuple[int, int], env: dict[str, str]
) -> None:
    status, out = in_a_terminal(*words, size=size, **env)
    assert status == 0
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= size[1]


def test_without_rich_there_are_plain_lines_and_a_hint(tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("raise ModuleNotFoundError('no', name='rich')\n")
    status, out = in_a_terminal(PYTHONPATH=str(tmp_path))
    assert status == 0
    assert out.startswith("(No live view without rich: pip install")


# --- what it writes ---------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Open elements, and every address that the page refers to."""

    VOID = frozenset({"meta", "br", "img", "link", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.headings = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.headings += tag == "h2"
        if tag not in self.VOID:
            self.open.append(tag)
        self.references += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "action")
        ]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["--bob", "3"], marks=pytest.mark.long),
        ["--attack", "steering"],
        ["--profile", "paper", "--attack", "steering"],
        ["--model", "bernoulli:bob=1,eve=0.1", "--eve-loss-bound", "0.1"],
    ],
    ids=["a key", "attacked", "broken", "nobody hears"],
)
def test_the_report_is_well_formed_and_refers_to_nothing_outside(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["demo", *words, "--out", str(tmp_path)])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert page.headings >= 6
    assert [address for address in page.references if not address.startswith("#")] == []
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert {address.removeprefix("#") for address in page.references} <= set(ids)


def test_a_hostile_file_name_is_text_in_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "<script>alert(1)<"
    file.write_bytes(b"x" * 500)
    assert main(["demo", "--send", str(file), "--out", str(tmp_path / "out")]) == 0
    assert "<script" not in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("profile", ["hardened", pytest.param("paper", marks=pytest.mark.long)])
def test_no_file_holds_a_secret_and_the_key_log_holds_them_all(
    profile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "keys.log"
    assert main(["demo", "--profile", profile, "--out", str(tmp_path / "out"), "--key-log", str(log)]) == 0
    out = capsys.readouterr().out
    assert "secret keys are in" in out
    assert log.stat().st_mode & 0o777 == 0o600
    keys = {line.split()[-1] for line in log.read_text().splitlines()}
    assert "BTSS_K0" in log.read_text()
    assert len(keys) > 60  # K_0, and a key of each round
    for file in (tmp_path / "out").iterdir():
        content = file.read_bytes()
        for key in keys:
            assert key.encode() not in content, file
            assert bytes.fromhex(key) not in content, file
    assert not any(key in out for key in keys)


def test_a_second_run_replaces_the_files_and_touches_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    for file in FILES:
        (tmp_path / file).write_text("old")
    summary(capsys, "--seed", "2", "--target-bits", "20", "--out", str(tmp_path))
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*FILES, "mine.txt"])
    assert json.loads((tmp_path / "summary.json").read_text())["seed"] == 2


# --- input that can't be used -----------------------------------------------------------------------------------------


def truncated(folder: Path) -> Path:
    for file in DATA.glob("ble_office_reception.*"):
        content = file.read_bytes()
        (folder / file.name).write_bytes(content if file.suffix == ".json" else content[: len(content) // 2])
    return folder / OFFICE


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--model quantum:bob=1", "unknown loss model 'quantum'"),
        ("--model bernoulli:bob=0.1", "no Eve"),
        ("--model bernoulli:bob=2,eve=0.1", "probability"),
        ("--distance bob=3", "no Eve"),
        ("--distance bob=3,eve=12 --model bernoulli:bob=0.1,eve=0.1", "--distance"),
        ("--distance bob=3,eve=12 --position 3", "--position"),
        ("--bob 12", "no receiver '12'"),
        ("--eve nobody", "no receiver 'nobody'"),
        ("--bob sensor20 --eve sensor20", "share one receiver"),
        ("--position 81", "no position 81: choose 0..80"),
        ("--position -1", "--position: -1 is out of range"),
        ("--recording {folder}/none.json", "can't read"),
        ("--recording {truncated}", "truncated"),
        ("--send {folder}/none", "can't read"),
        ("--send {folder}", "can't read"),
        ("--send {folder}/empty", "is empty"),
        ("--send {folder}/large", "at most"),
        ("--profile soft", "no profile 'soft'"),
        ("--bob-profile paper", "'hardened', Bob's 'paper'"),
        ("--bearer pigeon", "no bearer 'pigeon'"),
        ("--attack magic", "steering"),
        ("--attack steering --bearer rfcomm", "memory"),
        ("--seed -1", "seed"),
        ("--seed 1.5", "--seed"),
        ("--target-bits 0", "--target-bits: 0 is out of range: give a number above 0 and at most 256"),
        ("--target-bits 257", "--target-bits"),
        ("--eve-loss-bound 0", "bound"),
        ("--eve-loss-bound 1", "bound"),
        ("--model jammed", "jammed stands before another loss model: write it as in jammed:bernoulli:bob=0.1,eve=0.3"),
        ("--model jammed:jammed:bernoulli:bob=0.1,eve=0.05", "jammed stands before another loss model"),
        (
            "--model gilbert-elliott",
            "loss model 'gilbert-elliott' lacks its figures: write it as in gilbert",
        ),
        ("--model bernoulli:bob", "'bob' is not a new KEY=VALUE: write the model as in bernoulli:bob=0.1,eve=0.05"),
        ("--burst 0", "burst"),
        ("--out {folder}/empty", "can't write"),
        ("--out {folder}/none/out", "can't write"),
        ("--out /proc/out", "can't write"),
        ("--out {taken}", "report.html (it is a folder): give --out another one"),
        ("--key-log {folder}", "can't write"),
        ("--key-log {folder}/none/log", "can't write"),
    ],
)
def test_one_line_says_what_cannot_be_used_and_nothing_is_written(
    words: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    (inputs / "empty").touch()
    (inputs / "large").write_bytes(bytes(1_000_001))
    (taken := inputs / "taken" / "report.html").mkdir(parents=True)
    given = words.format(folder=inputs, truncated=truncated(inputs), taken=taken.parent).split()
    before = sorted(inputs.iterdir())
    out = [] if "--out" in given else ["--out", str(outputs)]
    assert main(["demo", "--json", *given, *out]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("bt-selfsecure: ")
    assert captured.err.count("\n") == 1
    assert named in captured.err
    assert not outputs.exists()
    assert sorted(inputs.iterdir()) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o500)
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "can't write into" in capsys.readouterr().err


def test_without_matplotlib_the_report_has_all_but_its_figures_and_one_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ModuleNotFoundError('no', name='matplotlib')\n")
    words = [sys.executable, "-m", "bt_selfsecure", "demo", "--out", str(tmp_path / "out")]
    done = subprocess.run(words, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines().count("  (No figures without matplotlib: pip install 'bt-selfsecure[plots]')") == 1
    written = (tmp_path / "out/report.html").read_text()
    assert "<svg" not in written
    assert "<figcaption" not in written
    page = Page()
    page.feed(written)
    assert page.open == []
    assert page.headings >= 6
