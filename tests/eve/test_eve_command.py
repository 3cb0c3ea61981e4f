"""`bt-selfsecure eve`: the summary, one line for what can't be read, and Wireshark with our dissector installed."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from carriers import FIXTURES, advertisement, by_rfcomm, findings, run, wires, write

from bt_selfsecure.air.capture import LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR
from bt_selfsecure.cli.main import main
from bt_selfsecure.eve.wireshark import HERE, folders

NORDIC = str(FIXTURES / "nrf52_sniffer.pcapng")


def test_json_sums_up_all_files_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = write(tmp_path / "ours.pcapng", by_rfcomm(wires()))
    wlan = write(tmp_path / "wlan.pcapng", [(105, bytes(60))])
    assert main(["eve", "read", NORDIC, str(ours), str(wlan), NORDIC, "--json"]) == 0
    carried = len(list(by_rfcomm(wires())))
    assert json.loads(capsys.readouterr().out) == {
        "packets": 2 * 832 + carried + 1,
        "by_linktype": {"272 NORDIC_BLE": 2 * 832, "201 BLUETOOTH_HCI_H4_WITH_PHDR": carried, "105": 1},
        "crc_bad": 64,
        "ours": len(wires()),
        "skipped": {"link type 105 is not read": 1},
        "read": [],
        "iotcrypto": {"gateways": [], "conversations": [], "not_kept": 0},
    }


def test_of_each_direction_all_messages_are_listed_or_as_many_as_asked_for_and_the_last_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    captures = Path(__file__).parents[2] / "captures"
    files = [str(captures / f"colluding-{number}.pcapng") for number in (1, 2)]
    for asked, shown in ((), 6), (("--messages", "2"), 2), (("--messages", "0"), 0):
        assert main(["eve", "read", *files, *asked]) == 0
        there, back = capsys.readouterr().out.split("messages that Eve can read\n")[1].split("    responder")
        for told, direction in ((there, "initiator to responder"), (f"    responder{back}", "responder to initiator")):
            assert re.match(rf" +{direction}: 6 messages, the last of round \d+\n", told)
            assert len(re.findall(r"^ +\d+  ", told, re.MULTILINE)) == shown
    assert main(["eve", "read", *files, "--json"]) == 0
    assert [len(each["messages"]) for each in json.loads(capsys.readouterr().out)["read"]] == [6, 6]


def test_the_table_says_the_same_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eve", "read", str(FIXTURES / "ubertooth.pcapng")]) == 0
    lines = {line[:34].strip(): line[34:].strip() for line in capsys.readouterr().out.splitlines()}
    assert lines == {
        "packets": "1,106",
        "256 BLUETOOTH_LE_LL_WITH_PHDR": "1,106",
        "with a wrong CRC": "133",
        "frames of ours": "0",
    }


def test_a_file_that_was_cut_short_is_summed_up_to_there_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path := tmp_path / "cut.pcapng").write_bytes(Path(NORDIC).read_bytes()[:-20])
    assert main(["eve", "read", str(path)]) == 0
    out = capsys.readouterr().out
    assert "831" in out
    assert "skipped: the file ends in the middle of a packet (1)" in out


def test_a_frame_with_a_wrong_check_is_not_counted_as_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = next(wire for wire in wires() if len(wire) == 24)
    wrong = right[:-1] + bytes([right[-1] ^ 1])
    path = write(
        tmp_path / "x.pcapng", [(LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR, advertisement(data)) for data in (right, wrong)]
    )
    assert main(["eve", "read", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ours"] == 1


@pytest.fixture
def empty(tmp_path: Path) -> str:
    (path := tmp_path / "empty.pcap").touch()
    return str(path)


@pytest.mark.parametrize("name", ["/nonexistent", "/", __file__, "empty"])
def test_what_can_not_be_read_gives_one_line_and_2(name: str, empty: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = empty if name == "empty" else name
    assert main(["eve", "read", name]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert repr(name) in captured.err


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("name", ["/nonexistent", "/", __file__, "empty"])
def test_one_file_that_can_not_be_read_does_not_discard_what_the_others_hold(
    name: str, first: bool, empty: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = empty if name == "empty" else name
    names = [name, NORDIC] if first else [NORDIC, name]
    for command, counted in (("read", 832), ("report", 832)):
        assert main(["eve", command, *names, "--json"]) == 2
        captured = capsys.readouterr()
        assert json.loads(captured.out)["packets"] == counted
        assert captured.err.count("\n") == 1
        assert repr(name) in captured.err


def test_a_sniffers_output_is_read_from_standard_input() -> None:
    command = [sys.executable, "-m", "bt_selfsecure.cli.main", "eve", "read", "-", "--json"]
    with Path(NORDIC).open("rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["packets"] == 832
    assert done.stderr == ""


def test_a_terminal_is_no_standard_input_to_wait_at() -> None:
    keyboard, terminal = pty.openpty()
    command = [sys.executable, "-m", "bt_selfsecure.cli.main", "eve", "read", "-"]
    done = subprocess.run(command, stdin=terminal, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == ("bt-selfsecure: standard input is the terminal: pipe a capture into it, or name a file\n")
    os.close(keyboard)
    os.close(terminal)


# --- Wireshark --------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_after_the_installation_tshark_knows_our_filters_and_our_profile(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(home / "ours.pcapng", by_rfcomm(wires()))
    assert main(["eve", "install-wireshark"]) == 0
    installed = [Path(line) for line in capsys.readouterr().out.splitlines() if line.startswith("/")]
    assert len(installed) == len([*HERE.glob("*/*.lua"), *HERE.glob("profile/*")])
    assert all(home in file.parents and file.exists() for file in installed)
    tshark = ("tshark", "-C", "bt-selfsecure", "-r", path, "-Y", "btss.kind == 2")
    assert run(*tshark, "--color", "-T", "fields", "-e", "frame.coloring_rule.name").split("\n") == [
        "bt_selfsecure burst",
        "bt_selfsecure burst",
        "",
    ]
    assert "<section>Kind</section>" in run(*tshark, "-T", "psml")


def test_every_colour_filter_of_the_profile_is_one_that_tshark_takes() -> None:
    rules = [line for line in (HERE / "profile/colorfilters").read_text().splitlines() if line.startswith("@")]
    assert len(rules) >= 6
    names, expressions = zip(*(line.split("@")[1:3] for line in rules), strict=True)
    assert all(name.startswith("bt_selfsecure ") for name in names)
    every = " || ".join(f"({expression})" for expression in expressions)
    run("tshark", "-X", f"lua_script:{HERE / 'haoxiao/bt_selfsecure.lua'}", "-r", NORDIC, "-Y", every, "-c", "1")


def test_installed_and_named_on_the_command_line_the_dissector_is_there_once(home: Path) -> None:
    attacked = HERE.parents[2] / "captures/steering-paper.pcapng"
    assert main(["eve", "install-wireshark"]) == 0
    assert len(findings(attacked, "conflict")) == 42
    assert run("tshark", "-r", attacked, "-Y", "btss.conflict").count("\n") == 42


@pytest.mark.long
def test_a_second_installation_replaces_the_dissector_and_keeps_what_the_user_set(home: Path) -> None:
    assert main(["eve", "install-wireshark"]) == 0
    plugins, configuration = folders()
    dissector = plugins / "bt_selfsecure.lua"
    preferences = configuration / "profiles/bt-selfsecure/preferences"
    dissector.write_text("old")
    preferences.write_text("btss.keylog_file: /home/eve/keys\n")
    assert main(["eve", "install-wireshark"]) == 0
    assert dissector.read_bytes() == (HERE / "haoxiao/bt_selfsecure.lua").read_bytes()
    assert preferences.read_text() == "btss.keylog_file: /home/eve/keys\n"


def test_without_tshark_the_folders_are_those_of_the_manual(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = folders()
    monkeypatch.setenv("PATH", str(home))
    assert folders() == known == (home / ".local/lib/wireshark/plugins", home / ".config/wireshark")


def test_a_folder_that_can_not_be_written_gives_one_line_and_2(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / ".local").write_text("a file where a folder should be")
    assert main(["eve", "install-wireshark"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "can't write" in captured.err


def test_the_dissector_is_where_the_readme_of_a_checkout_says() -> None:
    captures = Path(__file__).parents[2] / "captures"
    for file in HERE.glob("*/*.lua"):
        assert (captures / file.name).samefile(file)


def test_help_names_every_attack_that_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    from bt_selfsecure.bench.papers import names

    with pytest.raises(SystemExit):
        main(["eve", "attack", "--help"])
    out = capsys.readouterr().out
    assert set(names()) <= set(out.split())
    assert all(len(line) <= 80 for line in out.splitlines())
