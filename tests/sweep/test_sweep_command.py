from __future__ import annotations

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sweep_data import info, receptions, simulated_sweep

from bt_selfsecure.air.models import Correlated
from bt_selfsecure.cli.main import main
from bt_selfsecure.sweep.store import Store

PAIR_FIELDS = {
    "bob", "eve", "sent", "bob_heard", "eve_heard", "eve_missed_given_bob", "e_given_b", "ci_low", "ci_high", "phi",
    "secret_bits", "verdict",
}  # fmt: skip


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> str:
    models = {metres: Correlated(0.02 * metres, 0.1, 0.1) for metres in (0.5, 1.5, 3.0)}
    return str(simulated_sweep(tmp_path_factory.mktemp("sweep") / "sweep.db", models, (100, 200), 3, 4))


def test_json_has_the_promised_fields_of_each_pair(sweep: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "analyse", sweep, "--json"]) == 0
    analysis = json.loads(capsys.readouterr().out)
    assert len(analysis["pairs"]) == 3 * 2 * 2
    for pair in analysis["pairs"]:
        assert pair.keys() >= PAIR_FIELDS | {"distance_m", "bearer", "size_bytes", "packets"}
        assert pair["e_given_b"] == pytest.approx(pair["eve_missed_given_bob"] / pair["bob_heard"])


def test_a_csv_is_analysed_without_being_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "j.csv").write_text("seq,receiver,heard\n" + "".join(f"{s},{r},1\n" for s in range(9) for r in "be"))
    assert main(["sweep", "analyse", str(tmp_path / "j.csv"), "--json"]) == 0
    assert [pair["verdict"] for pair in json.loads(capsys.readouterr().out)["pairs"]] == ["broken", "broken"]
    assert [path.name for path in tmp_path.iterdir()] == ["j.csv"]


def test_the_tables_fit_80_columns(sweep: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["analyse", sweep], ["compare", sweep, sweep]):
        assert main(["sweep", *command]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(len(line) for line in lines if not line.startswith(("A:", "B:"))) <= 80
        assert any("bob" in line for line in lines)


def test_import_adds_and_export_writes_both_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "j.csv").write_text("seq,receiver,heard\n0,bob,1\n0,eve,0\n")
    store, out = str(tmp_path / "s.db"), str(tmp_path / "o.parquet")
    arguments = ["--out", store, "--distance", "2", "--distance-of", "eve=4"]
    assert main(["sweep", "import", *arguments, str(tmp_path / "j.csv")]) == 0
    assert main(["sweep", "import", *arguments, "--again", str(tmp_path / "j.csv")]) == 0
    with Store(store) as opened:
        assert [run.info.repeat for run in opened.runs()] == [0, 1]
    assert main(["sweep", "export", store, "--out", out]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [out, f"{out}.manifest.json"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["analyse", "nothing.db"],
        ["export", "nothing.db", "--out", "x.csv"],
        ["import", "--distance-of", "eve", "x.csv"],
        ["import", "nothing.csv"],
        ["compare", "nothing.csv", "nothing.db"],
        ["study", "nothing.toml"],
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *arguments]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_two_sweeps_of_one_place_agree_and_of_another_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    near, again, far = (
        str(simulated_sweep(tmp_path / f"{seed}.db", {3.0: Correlated(loss, 0.1, 0.0)}, (400,), 3, seed))
        for seed, loss in ((1, 0.1), (2, 0.1), (3, 0.3))
    )
    for other, differs in ((again, False), (far, True)):
        assert main(["sweep", "compare", near, other, "--json"]) == 0
        rows = {row["figure"]: row for row in json.loads(capsys.readouterr().out)}
        assert rows["bob lost"]["differs"] is differs
        assert rows["eve lost"]["differs"] is False
        assert rows["bob lost"]["low"] < rows["bob lost"]["difference"] < rows["bob lost"]["high"]


def test_figures_read_off_the_paper_compare_with_bob(
    sweep: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fig7.csv").write_text("distance_m,packets,loss\n0.5,2000,0.01\n3,2000,0.5\n4.5,2000,0.02\n")
    assert main(["sweep", "compare", str(tmp_path / "fig7.csv"), sweep, "--json"]) == 0
    rows = {(row["distance_m"], row["figure"]): row for row in json.loads(capsys.readouterr().out)}
    assert rows[0.5, "bob lost"]["a"] == 0.01
    assert rows[3.0, "bob lost"]["differs"] is True
    assert rows[4.5, "bob lost"]["b"] is None
    (tmp_path / "fig7.csv").write_text("distance_m,packets,loss\n0.5,2000,10\n")
    assert main(["sweep", "compare", str(tmp_path / "fig7.csv"), sweep]) == 2
    assert "fig7.csv:2" in capsys.readouterr().err


# --- Figures and page -------------------------------------------------------------------------------------------------


def test_every_figure_is_drawn_as_svg_and_png(sweep: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "plot", sweep, "--out", str(tmp_path / "figures")]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    names = {path.stem for path in paths}
    assert names == {"loss-by-distance", "joint-loss", "bits-by-distance", "loss-by-time"}
    for path in paths:
        if path.suffix == ".svg":
            assert ET.parse(path).getroot().tag.endswith("svg")
        else:
            assert path.read_bytes().startswith(b"\x89PNG")
    drawn = (tmp_path / "figures" / "loss-by-distance.svg").read_text()
    for label in ("bob, 100 packets", "bob, 200 packets", "eve, 200 packets"):
        assert label in drawn


def test_nodes_that_take_turns_are_drawn_and_compared_by_the_parts_they_play(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = ("a", "b", "c")
    with Store(tmp_path / "turns.db", create=True) as store:
        store.begin({})
        for turn in range(3):
            alice, bob, eve = nodes[turn:] + nodes[:turn]
            heard = {bob: [seq % 5 > 0 for seq in range(100)], eve: [seq % 10 > 0 for seq in range(100)]}
            roles = {"alice": alice, "bob": bob, "eves": [eve]}
            for metres in (1.0, 2.0):
                run = replace(info(100, metres, notes={"roles": roles, "turn": turn}), sender=alice)
                store.add(run, receptions(heard))
    assert main(["sweep", "plot", str(tmp_path / "turns.db"), "--out", str(tmp_path)]) == 0
    drawn = (tmp_path / "loss-by-distance.svg").read_text()
    assert "every Bob" in drawn
    assert "every Eve" in drawn
    capsys.readouterr()
    assert main(["sweep", "compare", str(tmp_path / "turns.db"), str(tmp_path / "turns.db"), "--json"]) == 0
    shares = {row["figure"]: row["a"] for row in json.loads(capsys.readouterr().out)}
    assert shares == pytest.approx(
        {"bob lost": 0.2, "eve lost": 0.1, "eve missed of bob's": 0.0, "bob missed of eve's": 10 / 90}
    )


class Page(HTMLParser):
    """What a page asks for from elsewhere, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and value and not value.startswith("#"):
                self.asked.append(value)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_is_one_page_that_tells_how_to_do_it_again(sweep: str, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert main(["sweep", "report", sweep, "--out", str(out)]) == 0
    first = out.read_bytes()
    assert main(["sweep", "report", sweep, "--out", str(out)]) == 0
    assert out.read_bytes() == first
    page = Page(first.decode())
    assert all(address.startswith("data:") for address in page.asked)
    assert not re.search(r"@import|url\((?!#)", first.decode())
    for needed in ("Do it again", "distances_m = [0.5, 1.5, 3.0]", "repeats = 3", "bt-selfsecure sweep run", "Limits"):
        assert needed in page.text


def test_a_name_that_looks_like_html_is_shown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "j.csv").write_text("seq,receiver,heard\n0,<script>alert(1)</script>,1\n0,eve,0\n")
    assert main(["sweep", "report", str(tmp_path / "j.csv"), "--out", str(tmp_path / "r.html")]) == 0
    assert "<script>" not in (tmp_path / "r.html").read_text()


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
def test_a_real_browser_shows_the_report_on_a_phone_without_sideways_scrolling(sweep: str, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert main(["sweep", "report", sweep, "--out", str(out)]) == 0
    probe = "<script>document.title = document.documentElement.scrollWidth + '/' + window.innerWidth</script>"
    out.write_text(out.read_text().replace("</body>", probe + "</body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,844", "--dump-dom"]
    dumped = subprocess.run(
        ["chromium", *options, out.as_uri()], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    width, window = map(int, re.search(r"<title>(\d+)/(\d+)", dumped).groups())  # type: ignore[union-attr]
    assert width <= window
