"""`bt-selfsecure plan`: the right numbers, a table that fits a terminal, and one line for bad input."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from bt_selfsecure.air.recording import Recording
from bt_selfsecure.cli import plan
from bt_selfsecure.cli.main import parser
from bt_selfsecure.errors import UsageError
from bt_selfsecure.stats.losses import binomial_tail, lower_bound, packets_needed, packets_to_send, secret_bits

if TYPE_CHECKING:
    from pathlib import Path


def run(*words: str) -> int:
    return plan.run(parser(["plan"]).parse_args(["plan", *words]))


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert run(*words, "--json") == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_ten_percent_at_eve_takes_843_packets_at_bob(capsys: pytest.CaptureFixture[str]) -> None:
    answer = planned(capsys, "--eve-loss", "0.1", "--bob-loss", "0.2")
    assert answer["received"] == 843
    assert answer["packets"] == packets_to_send(843, 0.2) > 843 / 0.8
    assert binomial_tail(843, answer["packets"], 0.8) >= 0.99 > binomial_tail(843, answer["packets"] - 1, 0.8)
    assert answer["seconds"] == pytest.approx(answer["packets"] / 100)
    assert answer["bytes"] == 61 * answer["packets"]
    assert 128 <= answer["secret_bits"] < 129
    assert (answer["eve_loss"], answer["bob_loss"], answer["eves"]) == (0.1, 0.2, 1)
    assert (answer["eve_loss_source"], answer["bob_loss_source"]) == ("given, not measured", "given")


def test_size_rate_and_target_are_the_users(capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "--eve-loss",
        "0.5",
        "--target-bits",
        "80",
        "--packet-bytes",
        "24",
        "--interval-ms",
        "100",
        "--bob-loss",
        "0",
    )
    answer = planned(capsys, *words)
    assert (answer["packets"], answer["received"], answer["seconds"], answer["bytes"]) == (80, 80, 8, 1920)
    assert answer["secret_bits"] == answer["target_bits"] == 80


def test_a_measured_loss_is_planned_with_its_lower_bound(capsys: pytest.CaptureFixture[str]) -> None:
    answer = planned(capsys, "--measured", "45/450")
    assert answer["eve_loss"] == pytest.approx(0.0776402227018469, abs=1e-9)
    assert answer["received"] == packets_needed(128, lower_bound(45, 450))
    assert answer["eve_loss_source"] == "measured 45 of 450, 95 % bound"
    surer = planned(capsys, "--measured", "45/450", "--confidence", "0.999")
    assert surer["received"] > answer["received"]
    assert surer["eve_loss_source"].endswith("99.9 % bound")
    assert (answer["bob_loss"], answer["bob_loss_source"]) == (0.1, "assumed")


def test_colluding_eves_multiply_their_losses(capsys: pytest.CaptureFixture[str]) -> None:
    answer = planned(capsys, "--eve-loss", "0.1", "--eves", "2")
    assert answer["eve_loss"] == pytest.approx(0.01)
    assert answer["received"] == 8828
    assert answer["eves"] == 2


def test_the_recording_gives_both_losses_and_counts_eves_together(capsys: pytest.CaptureFixture[str]) -> None:
    table = Recording.load().joint_loss(33, 3, [6, 9])
    answer = planned(capsys, "--recording", "33", "--bob", "sensor20", "--eve", "6", "--eve", "sensor40")
    assert answer["bob_loss"] == pytest.approx(table.d)
    assert answer["eve_loss"] == pytest.approx(lower_bound(table.bob_only, table.received))
    assert answer["eve_loss"] < table.e_given_bob
    assert (answer["eves"], answer["bob_loss_source"]) == (2, "recorded")
    assert planned(capsys, "--recording", "33", "--bob", "3", "--eve", "6", "--bob-loss", "0.5")["bob_loss"] == 0.5
    everywhere = planned(capsys, "--recording", "all", "--bob", "3", "--eve", "6")
    assert everywhere["eve_loss_source"] == "recorded 35214 of 276082, 95 % bound"


@pytest.mark.parametrize(
    "words",
    [
        ("--eve-loss", "0.1"),
        ("--eve-loss", "0.01", "--eves", "2", "--target-bits", "256", "--bob-loss", "0.9"),
        ("--measured", "123456/1234567", "--confidence", "0.999"),
        ("--recording", "all", "--bob", "3", "--eve", "6", "--eve", "9", "--eve", "11"),
    ],
)
def test_the_table_says_all_that_the_json_says_in_80_columns(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    answer = planned(capsys, *words)
    assert run(*words) == 0
    table = capsys.readouterr().out
    assert max(map(len, table.splitlines())) <= 80
    for figure in (
        f"{answer['packets']:,}",
        f"{answer['received']:,}",
        f"{answer['bytes']:,} B",
        f"{answer['seconds']:,.1f} s",
        f"{answer['secret_bits']:.1f} secret bits",
        answer["eve_loss_source"],
        answer["bob_loss_source"],
    ):
        assert figure in table


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run("--help")
    text = capsys.readouterr().out
    assert "99 % probability" in text
    examples = [line.split()[2:] for line in text.splitlines() if line.startswith("  bt-selfsecure plan ")]
    assert len(examples) == 2
    for words in examples:
        assert run(*words) == 0, "an example of the help does not run"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("--eve-loss 0", "argument --eve-loss: 0 is out of range: give a number above 0 and below 1"),
        ("--eve-loss 1", "1 is out of range"),
        ("--eve-loss -0.1", "-0.1 is out of range"),
        ("--measured 0/400", "misses nothing"),
        ("--measured 0/0", "misses nothing"),
        ("--measured 10", "'10' is not MISSED/HEARD: write it as in 45/450"),
        ("--measured 5/4", "5 of 4 is not a count"),
        ("--measured 5/40 --confidence 1", "1 is out of range: give a number at least 0.5 and below 1"),
        ("--eve-loss 0.1 --confidence 0.9", "--confidence is of a bound that was measured: leave it out"),
        ("--eve-loss 0.1 --target-bits 300", "300 is out of range: give a number above 0 and at most 256"),
        ("--eve-loss 0.1 --target-bits 0", "0 is out of range"),
        ("--eve-loss 0.1 --eves 0", "0 is out of range: give a whole number at least 1"),
        ("--eve-loss 0.01 --eves 6", "plan against fewer Eves"),
        ("--eve-loss 0.01 --eves 999", "misses nothing"),
        ("--eve-loss 0.1 --bob-loss 1", "give a number at least 0 and below 1"),
        ("--eve-loss 0.1 --bob-loss 0.999999999", "it would take"),
        ("--eve-loss 0.1 --bob-loss 2", "2 is out of range"),
        ("--eve-loss 0.1 --packet-bytes 0", "0 is out of range: give a whole number at least 1"),
        ("--eve-loss 0.1 --interval-ms 0", "0 is out of range: give a number above 0"),
        ("--eve-loss 0.1 --bob 3", "add --recording POSITION"),
        ("--recording 33 --bob 3", "add --bob R and --eve R"),
        ("--recording 33 --bob 3 --eve 6 --eves 2", "give --eve once for each"),
        ("--recording 81 --bob 3 --eve 6", "no position 81: choose 0..80"),
        ("--recording here --bob 3 --eve 6", "'here' is not a position"),
        ("--recording 33 --bob 12 --eve 6", "no receiver '12'"),
        ("--recording 33 --bob 3 --eve 3", "none of hers is Bob's"),
        ("--eve-loss 0.1 --plot plan.pdf", "ends in .svg or .png"),
        ("--eve-loss 0.1 --plot no/such/folder/plan.svg", "can't write 'no/such/folder/plan.svg' (No such file"),
    ],
)
def test_what_can_not_be_planned_is_one_line(capsys: pytest.CaptureFixture[str], words: str, fault: str) -> None:
    with pytest.raises(UsageError) as caught:
        run(*words.split())
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == "", "nothing half-told"


@pytest.mark.parametrize("words", ["", "--eve-loss 0.1 --measured 1/2", "--eve-loss much"])
def test_the_loss_of_eve_is_asked_for_once(words: str) -> None:
    with pytest.raises(UsageError, match=r"see bt-selfsecure plan --help"):
        run(*words.split())


def test_a_plot_is_a_picture_and_the_same_each_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("plan.svg", "again.svg", "plan.png"):
        assert run("--eve-loss", "0.1", "--plot", str(tmp_path / name)) == 0
        printed = capsys.readouterr().out
        assert "843" in printed
        assert printed.endswith(f"Packets over Eve's loss are drawn in {tmp_path / name}\n")
    planned(capsys, "--eve-loss", "0.1", "--plot", str(tmp_path / "plan.png"))  # and nothing but JSON
    assert ET.parse(tmp_path / "plan.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert (tmp_path / "plan.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["again.svg", "plan.png", "plan.svg"]


def test_a_plot_that_can_not_be_put_in_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "plan.svg").mkdir()
    with pytest.raises(UsageError, match="can't write"):
        run("--eve-loss", "0.1", "--plot", str(tmp_path / "plan.svg"))
    assert [file.name for file in tmp_path.iterdir()] == ["plan.svg"]


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'bt-selfsecure\[plots\]'"):
        run("--eve-loss", "0.1", "--plot", str(tmp_path / "plan.svg"))
    assert list(tmp_path.iterdir()) == []


def test_a_longer_burst_is_planned_for_every_smaller_loss(capsys: pytest.CaptureFixture[str]) -> None:
    losses = (0.5, 0.2, 0.1, 0.05, 0.01)
    answers = [planned(capsys, "--eve-loss", str(loss)) for loss in losses]
    assert [answer["received"] for answer in answers] == [128, 398, 843, 1730, 8828]
    assert [answer["packets"] for answer in answers] == sorted(answer["packets"] for answer in answers)
    for loss, answer in zip(losses, answers, strict=True):
        assert answer["secret_bits"] == pytest.approx(secret_bits(answer["received"], loss))
