"""Eve attacks what is listed as one's own, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from bt_selfsecure.cli.main import main
from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.targets import OwnDevices

MINE, OTHERS = "B8:27:EB:12:34:56", "B8:27:EB:00:00:01"


def test_what_is_listed_may_be_attacked_however_it_is_spelt(tmp_path: Path) -> None:
    (path := tmp_path / "eve.toml").write_text(f'own = ["{MINE.lower()}"]\n')
    OwnDevices(path).require(MINE)
    path.write_text(f'own = ["{MINE.replace(":", "-")}"]\n')
    OwnDevices(path).require(MINE)


@pytest.mark.parametrize("others", [OTHERS, OTHERS.lower().replace(":", "-")])
@pytest.mark.parametrize("attack", [["steering"], ["flood"], ["middle", MINE], ["replay"]])
def test_a_live_attack_on_a_strangers_device_is_refused_before_the_radio_is_touched(
    attack: list[str], others: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path := tmp_path / "eve.toml").write_text(f'own = ["{MINE}"]\n')
    capture = ["--capture", "nowhere"] if attack == ["replay"] else []
    assert main(["eve", "attack", *attack, others, "--live", "--own", str(path), *capture]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{OTHERS} is not listed as yours in {path}" in said


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "can't be read"),
        ("own = [\n", "end of document"),
        ("\nmine = []\n", "line 2: there is one key"),
        ('own = "B8:27:EB:12:34:56"', "line 1: there is one key"),
        (f'own = [\n"{MINE}",\n"B8:27:EB"]', "line 3: 'B8:27:EB' is no device address"),
    ],
)
def test_a_wrong_list_is_refused_with_the_line_at_fault(text: str | None, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "eve.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=fault) as refused:
        OwnDevices(path)
    assert "\n" not in str(refused.value)
