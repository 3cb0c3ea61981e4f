"""`eve report` and `eve attack` as people call them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from amounts import at_length

from bt_selfsecure.bench.papers import PAPERS, names
from bt_selfsecure.cli.eve_report import lines
from bt_selfsecure.cli.main import main
from bt_selfsecure.demo.verdict_page import pieces
from bt_selfsecure.eve.haoxiao.verdict import Judge
from bt_selfsecure.eve.sources.packet import UNHEARD

CAPTURES = Path(__file__).parents[2] / "captures"


def of(name: str) -> str:
    return str(CAPTURES / f"{name}.pcapng")


def test_a_locked_out_eve_is_0_and_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eve", "report", of("passive-hardened")]) == 0
    out = capsys.readouterr().out
    assert "Locked out: Eve lacks 4 of the 57 packets of S" in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_broken_key_is_1_and_its_messages_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eve", "report", of("steering-paper")]) == 1
    out = capsys.readouterr().out
    assert "BROKEN" in out
    assert "The sensor sends line 1." in out
    assert "somebody forges" in out


def test_two_eves_together_have_what_neither_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eve", "report", of("colluding-1")]) == 0
    assert main(["eve", "report", of("colluding-2")]) == 0
    assert main(["eve", "report", of("colluding-1"), of("colluding-2"), "--json"]) == 1
    out = capsys.readouterr().out
    told = json.loads(out[out.index("{") :])
    assert told["captures"] == 2
    assert told["verdicts"][0]["has_key"] is True
    there, back = told["verdicts"][0]["read"]
    assert (there["direction"], len(there["messages"])) == ("initiator to responder", 6)
    assert [bytes.fromhex(each) for each in there["messages"].values()][:2] == [
        b"The sensor sends line 1.",
        b"The gateway sends line 1.",
    ]
    assert there["messages"].keys() == back["messages"].keys()


@pytest.mark.long
def test_damaged_packets_are_made_good_within_the_work_that_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eve", "report", of("repair-hardened")]) == 0
    assert main(["eve", "report", of("repair-hardened"), "--repair", "1000"]) == 0
    assert main(["eve", "report", of("repair-hardened"), "--repair", "1000000"]) == 1
    assert "repaired" in capsys.readouterr().out


def test_a_stolen_record_opens_messages(capsys: pytest.CaptureFixture[str]) -> None:
    record = str(CAPTURES / "theft-hardened.record.json")
    assert main(["eve", "report", of("theft-hardened"), "--stolen", record]) == 0
    assert "with what was stolen: 43 messages read" in capsys.readouterr().out


def test_of_each_direction_all_messages_are_listed_or_as_many_as_asked_for_and_the_last_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    said = "(sent|received) by whose record was stolen: (\\d+) messages, the last of round (\\d+)"
    record = ("--stolen", str(CAPTURES / "theft-hardened.record.json"), "--html", str(page))
    for asked, shown in (((), [3, 40]), (("--messages", "2"), [2, 2]), (("--messages", "0"), [0, 0])):
        assert main(["eve", "report", of("theft-hardened"), *record, *asked]) == 0
        for told in (capsys.readouterr().out, page.read_text()):
            assert re.findall(said, told) == [("sent", "3", "2"), ("received", "40", "39")]
            _, *lists = told.split("the last of round")
            assert [len(re.findall(r"^ +\d+  message \d+\b", each, re.MULTILINE)) for each in lists] == shown


@pytest.mark.long
def test_the_page_is_one_file_without_outside_resources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eve", "report", of("passive-hardened"), "--html", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 2
    assert re.search(r'(src|href)="(?!#)', page) is None
    assert "Locked out" in page


def cut(name: str, packets: int, file: Path) -> str:
    """A capture of only so many packets."""
    data, at = Path(of(name)).read_bytes(), 0
    while True:
        kind, length = (int.from_bytes(data[start : start + 4], "little") for start in (at, at + 4))
        packets -= kind == 6  # an enhanced packet block
        if packets < 0:
            break
        at += length
    file.write_bytes(data[:at])
    return str(file)


@pytest.mark.parametrize("packets", [0, 1, 2])
def test_of_one_thing_no_line_speaks_as_of_several_and_no_heading_stands_alone(
    packets: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    main(["eve", "report", cut("passive-hardened", packets, tmp_path / "cut.pcapng"), "--html", str(page)])
    out = capsys.readouterr().out
    text = re.sub(r"<(style|svg).*?</\1>", "", page.read_text(), flags=re.DOTALL)
    expected = f"{packets} packet" + "s" * (packets != 1)
    assert f"1 capture, {expected}, " in out
    assert f"1 capture, {expected} " in text
    assert re.findall(r"\b1 [a-z]+s\b", out + text) == []
    for told, heading, sentence in ((out, "what this can't tell:", "\n- "), (text, "can not tell</h2>", "<li>")):
        assert (heading in told) == (sentence in told) == (packets > 0)


@pytest.mark.parametrize(
    ("place", "fault"), [("nowhere/page.html", "No such file or directory"), (".", "it is a folder")]
)
def test_a_place_that_takes_no_page_is_told_before_anything_is_heard(
    place: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Judge, "hear_all", lambda *heard: pytest.fail("the work was begun"))
    assert main(["eve", "report", of("passive-hardened"), "--html", str(tmp_path / place)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert fault in captured.err
    assert list(tmp_path.iterdir()) == []


def test_without_a_verdict_the_page_that_was_there_stays(tmp_path: Path) -> None:
    (page := tmp_path / "page.html").write_text("of yesterday")
    assert main(["eve", "report", "/nonexistent", "--html", str(page)]) == 2
    assert page.read_text() == "of yesterday"
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["report", "/nonexistent"], "can't read '/nonexistent'"),
        (["report", of("theft-hardened"), "--stolen", of("theft-hardened")], "no session record of version 1 to 2"),
        (["report", of("theft-hardened"), "--stolen", "/nonexistent"], "give a node's journal.db"),
        (["report", "-", "--repair", "-1"], "argument --repair: -1 is out of range: give a whole number at least 0"),
        (
            ["report", "-", "--confidence", "1"],
            "argument --confidence: 1 is out of range: give a number at least 0.5",
        ),
        (["attack", "wizardry"], "there is no attack 'wizardry': choose one of passive"),
        (["attack", "steering", "B8:27:EB:00:00:01"], "addresses are for --live"),
        (["attack", "steering", "--runs", "0"], "argument --runs: 0 is out of range: give a whole number at least 1"),
        (["attack", "passive", "--live"], "passive is not carried out live: choose one of steering"),
        (["attack", "middle", "B8:27:EB:00:00:01", "--live"], "a live middle takes 2 addresses: see"),
        (["attack", "flood", "--live"], "a live flood takes 1 address: see"),
        (["attack", "replay", "B8:27:EB:00:00:01", "--live"], "--capture FILE is what a live replay plays"),
        (["attack", "flood", "B8:27:EB:00:00:01", "--live", "--own", "/nonexistent"], "attacks need a list of devices"),
    ],
)
def test_what_can_not_be_used_gives_one_line_and_2(
    words: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eve", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert fault in captured.err


def test_an_attack_on_the_virtual_air_tells_what_came_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eve", "attack", "replay", "--runs", "2", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [trial["success"] for trial in told["runs"]["paper"]] == [True, True]
    assert [trial["success"] for trial in told["runs"]["hardened"]] == [False, False]
    assert main(["eve", "attack", "reflection", "--runs", "1", "--profile", "hardened"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_an_attack_of_another_seed_is_another_run_and_of_the_same_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    def trials(seed: int, runs: int) -> list[object]:
        main(["eve", "attack", "passive", "--profile", "paper", "--json", "--seed", str(seed), "--runs", str(runs)])
        return list(json.loads(capsys.readouterr().out)["runs"]["paper"])

    assert trials(3, 20) == trials(3, 20) == trials(0, 23)[3:]
    assert trials(3, 20) != trials(0, 20)


@pytest.mark.parametrize(
    ("chosen", "labels"),
    [
        ("both", ["paper", "hardened"]),
        at_length("paper", ["paper"]),
        at_length("hardened", ["hardened"]),
    ],
)
def test_what_an_attack_means_is_told_for_each_profile_by_its_own_figures(
    chosen: str, labels: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["eve", "attack", "colluding", "--runs", "100", "--profile", chosen])
    out = capsys.readouterr().out
    rows = {
        line.split()[0]: int(line.split()[1]) for line in out.splitlines() if re.match(r"(paper|hardened) +\d", line)
    }
    words = " ".join(out[out.index("means:") :].split())
    chances = {label: figures for *figures, label in re.findall(r"(\d+) to (\d+) % \((\d+) of 100, (\w+)\)", words)}
    assert list(chances) == list(rows) == labels
    for label, (low, high, success) in chances.items():
        assert int(low) < int(success) < int(high)
        assert int(success) == rows[label]
    if "hardened" in chances:  # in which nothing but her misses keeps the key from her
        (low, high, _), (share,) = chances["hardened"], re.findall(r"(\d+) % of runs", words)
        assert int(low) <= int(share) <= int(high)
    assert "in `paper` a lost acknowledge ends some of these without a key" in words


ADDRESSES = ("B8:27:EB:00:00:01", "B8:27:EB:00:00:02")


@pytest.mark.parametrize("at", range(4))
def test_live_may_stand_anywhere_among_the_arguments(at: int, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["middle", *ADDRESSES]
    words[at:at] = ["--live"]
    assert main(["eve", "attack", *words, "--own", "/nonexistent"]) == 2
    assert "attacks need a list of devices" in capsys.readouterr().err  # so it was taken for a live one, on both


def test_an_attack_tells_its_setting_and_what_its_figures_mean(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eve", "attack", "everything", "--runs", "2"]) == 1
    out = capsys.readouterr().out
    told = " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    assert "a burst of 64 packets, of which Bob misses 10 %, and Eve none; X25519 off" in told
    assert "16 to 100 % (2 of 2, paper) and 16 to 100 % (2 of 2, hardened), at 95 % confidence" in told
    assert "in this setting and not for every key" in told
    assert main(["eve", "attack", "passive", "--runs", "1", "--json"]) == 0
    assert "target 1 bit, where a node has 128" in json.loads(capsys.readouterr().out)["setting"]


@pytest.mark.parametrize("command", ["read", "report", "attack", "capture"])
def test_help_names_the_exit_statuses_and_fits_80_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["eve", command, "--help"])
    out = capsys.readouterr().out
    assert "exit status: 0" in out
    assert max(map(len, out.splitlines())) <= 80


def test_every_attack_says_its_setting_and_meaning_and_help_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["eve", "attack", "--help"])
    words = capsys.readouterr().out.split()
    assert {*names()} <= {*words}
    assert all(paper.setting_of(row) and row.meaning for paper in PAPERS.values() for row in paper.attacks)


def test_what_is_not_decided_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eve", "report", of("steering-hardened")]) == 2
    out = capsys.readouterr().out
    assert "what was not looked at, or not decided:\n- establishment 1: a packet or the response is forged\n" in out


@pytest.mark.parametrize("why", sorted(UNHEARD))
def test_behind_what_was_not_read_eve_may_have_a_key(why: str) -> None:
    judge = Judge()
    judge.hear_all([], {why: 1})
    report = judge.report()
    assert not report.decided
    assert "may have given her one" in report.conclusion
    assert report.open_ends == [f"{why} (1)"]
    assert f"- {why} (1)" in " ".join(line.strip() for line in lines(report))
    assert "What was not looked at, or not decided" in "".join(pieces(report, 128.0))
    judge = Judge()
    judge.hear_all([], {"link type 1 is not read": 1})
    assert judge.report().decided
