from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sweep_data import BEGAN, info, receptions, recorded, simulated, simulated_sweep

from bt_selfsecure.air.models import Bernoulli, Correlated
from bt_selfsecure.cli.main import main
from bt_selfsecure.cli.sweep_text import progress_line
from bt_selfsecure.sweep.analysis import analyse
from bt_selfsecure.sweep.figures import loss_by_distance
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


LONG = ("kitchen-window-left", "kitchen-window-right", "kitchen-door-left", "k\u00fcche")


@pytest.fixture(scope="module", params=["a plan", "long names", "extremes"])
def any_sweep(request: pytest.FixtureRequest, sweep: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("any") / "sweep.db"
    if request.param == "a plan":
        return sweep
    if request.param == "long names":
        so = {"conditions": {"room": "a long hall with stairs", "noise": "microwave oven at full power"}}
        run = info(100, 1234.5, notes=so, started=BEGAN)
        return recorded(path, (run, simulated(Bernoulli(dict.fromkeys(LONG, 0.15)), 100, 1, LONG)))
    nearly, most = [seq > 0 for seq in range(2000)], [seq % 500 > 0 for seq in range(2000)]
    heard = {"bob": most, "near": nearly, "all": [True] * 2000, "deaf": [False] * 2000}
    return recorded(path, *((info(2000, None), receptions(heard)) for _ in range(12)))


@pytest.mark.parametrize("command", ["analyse", "analyse --all", "analyse --runs", "compare"])
def test_the_tables_fit_80_columns(any_sweep: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *command.split(), *[any_sweep] * (1 + (command == "compare"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if not line.startswith(("A:", "B:"))) <= 80
    for line in lines:  # no column runs into the next
        assert not re.search(r"\d%|%\d|[a-z]\d+/\d+\d,", line)


def test_pairs_stay_told_apart_where_names_are_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = simulated(Bernoulli(dict.fromkeys(LONG, 0.15)), 100, 1, LONG)
    path = recorded(tmp_path / "s.db", (info(100), rows))
    assert main(["sweep", "compare", path, path]) == 0
    missed = [line.split("missed of") for line in capsys.readouterr().out.splitlines() if "missed of" in line]
    pairs = [(eve.split()[-1], bob.split("'s")[0]) for eve, bob in missed]
    assert len(pairs) == 2 * len(set(pairs)) == 2 * 4 * 3  # pooled, and the least of a run
    assert main(["sweep", "analyse", path]) == 0
    listed = [line.split()[:2] for line in capsys.readouterr().out.splitlines() if line.endswith(("weak~", "holds~"))]
    assert len({tuple(pair) for pair in listed}) == 4 * 3


def test_many_settings_are_told_in_a_screen_and_each_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {loss: simulated(Bernoulli({"bob": 0.1, "eve": loss}), 600, 1) for loss in (0.0, 0.01, 0.5)}
    runs = [(info(600, 0.1 * (1 + at)), rows[0.5]) for at in range(145)]
    runs[70], runs[80] = (runs[70][0], rows[0.0]), (runs[80][0], rows[0.01])
    path = recorded(tmp_path / "s.db", *runs)
    assert main(["sweep", "analyse", path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert "145 runs in 145 settings" in lines[0]
    assert "290 pairs of Bob and Eve: 1 broken, 1" in lines[2]
    worst = [line for line in lines if line.endswith(" m")]
    assert worst[0].split()[:3] == ["bob", "eve", "broken"]
    assert worst[0].endswith("7.1 m")
    assert any("--all" in line for line in lines)
    assert main(["sweep", "analyse", path, "--all"]) == 0
    assert sum(line.endswith("sent by alice") for line in capsys.readouterr().out.splitlines()) == 145


def test_each_run_of_a_pair_is_told_on_demand(sweep: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Store(sweep) as store:
        (pair, *_) = (pair for pair in analyse(store).pairs if pair.bob == "bob")
    assert main(["sweep", "analyse", sweep, "--runs"]) == 0
    rows = {tuple(line.split()[:4]) for line in capsys.readouterr().out.splitlines() if line}
    for run in pair.each_run:
        assert (f"{run.run}", f"{run.sent}", f"{run.bob_heard}", f"{run.eve_missed_given_bob}") in rows


def test_conditions_are_shown_wherever_a_setting_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = simulated(Bernoulli({"bob": 0.1, "eve": 0.3}), 100, 1)
    runs = [
        (info(100, metres, notes={"conditions": {"room": room}}), rows)
        for room in ("office", "hall")
        for metres in (1.0, 2.0, 3.0)
    ]
    path = recorded(tmp_path / "s.db", *runs)
    for command in (["analyse", path], ["analyse", path, "--all"], ["compare", path, path]):
        assert main(["sweep", *command]) == 0
        out = capsys.readouterr().out
        assert "room office" in out
        assert "room hall" in out
    assert main(["sweep", "compare", path, path, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["conditions"]["room"] for row in told} == {"office", "hall"}
    assert main(["sweep", "plot", path, "--out", str(tmp_path)]) == 0
    for name in ("loss-by-distance", "joint-loss", "bits-by-distance"):
        assert "room office" in (tmp_path / f"{name}.svg").read_text()
    assert main(["sweep", "report", path, "--out", str(tmp_path / "r.html")]) == 0
    assert "1 m, room office" in Page((tmp_path / "r.html").read_text()).text.replace("\N{NO-BREAK SPACE}", " ")


def test_sweeps_of_other_conditions_are_compared_by_distance_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = simulated(Bernoulli({"bob": 0.1, "eve": 0.3}), 100, 1)
    rooms = [(info(100, notes={"conditions": {"room": room}}), rows) for room in ("office", "hall")]
    one, other = recorded(tmp_path / "a.db", *rooms), recorded(tmp_path / "b.db", (info(100), rows))
    assert main(["sweep", "compare", one, other, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["figure"] for row in told if row["difference"] == 0] == [row["figure"] for row in told]


def test_only_the_listeners_that_are_named_are_judged(sweep: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "analyse", sweep, "--json", "--listeners", "bob, eve"]) == 0
    assert len(json.loads(capsys.readouterr().out)["pairs"]) == 3 * 2 * 2
    assert main(["sweep", "analyse", sweep, "--json", "--listeners", "eve"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["pairs"], {row["listener"] for row in told["listeners"]}) == ([], {"eve"})
    for wrong in ("bob,mouse", "bob,,eve", ""):
        assert main(["sweep", "analyse", sweep, "--listeners", wrong]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


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
    for text in (
        "distance_m,packets,loss\n0.5,2000,10\n",
        "distance_m,packets,loss\ninf,2000,0.1\n",
        "distance_m,packets,loss\n0.5,2000,0,01\n",
        "distance_m,packets,loss,\n0.5,2000,0,01\n",
    ):
        (tmp_path / "fig7.csv").write_text(text)
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
    for label in (">bob<", ">eve<", ">100 packets<", ">200 packets<"):
        assert drawn.count(label) == 1


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
        {"bob lost": 0.2, "eve lost": 0.1}
        | {f"eve missed of bob's{run}": 0.0 for run in ("", ", least of a run")}
        | {f"bob missed of eve's{run}": 10 / 90 for run in ("", ", least of a run")}
    )


@pytest.mark.parametrize(
    ("listeners", "panels", "lines"),
    [
        (("bob", "eve"), {"bob", "eve"}, {"200 packets", "400 packets", "800 packets"}),
        (("bob", "eve", "eve2", "eve3"), {"200 packets", "400 packets", "800 packets"}, {"bob", "eve", "eve2", "eve3"}),
    ],
)
def test_no_panel_of_the_papers_figure_has_all_of_six_or_more_lines(
    tmp_path: Path, listeners: tuple[str, ...], panels: set[str], lines: set[str]
) -> None:
    runs = [
        (info(count, metres, repeat=r), simulated(Bernoulli(dict.fromkeys(listeners, 0.1)), count, r, listeners))
        for metres in (1.0, 2.0)
        for count in (200, 400, 800)
        for r in range(2)
    ]
    with Store(recorded(tmp_path / "s.db", *runs)) as store:
        figure = loss_by_distance(analyse(store))
    assert figure is not None
    assert {axes.get_title("left") for axes in figure.axes} == panels
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == lines
    figure.canvas.draw()
    assert not any(legend.get_window_extent().overlaps(axes.get_window_extent()) for axes in figure.axes)
    for axes in figure.axes:
        drawn = [(bars.lines[0].get_color(), bars.lines[0].get_marker()) for bars in axes.containers]
        assert len(drawn) == len({colour for colour, _ in drawn}) == len({marker for _, marker in drawn}) == len(lines)


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


def test_the_report_says_of_a_sweep_what_its_worst_run_says(tmp_path: Path) -> None:
    half, near = [seq % 2 == 0 for seq in range(1000)], [seq != 501 for seq in range(1000)]
    bob = [seq % 4 > 0 for seq in range(1000)]
    runs = [(info(1000), receptions({"bob": bob, "eve": eve})) for eve in (half, near, half)]
    assert main(["sweep", "report", recorded(tmp_path / "s.db", *runs), "--out", str(tmp_path / "r.html")]) == 0
    text = Page((tmp_path / "r.html").read_text()).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "1 of 2 pairs of Bob and Eve hold" in text
    assert "In 1 a run was made whose key is worth less than 128 bits. The weakest key is of run 2" in text
    assert "there Eve missed 0.133 % of what Bob heard" in text
    assert re.search(r"worth 0.07 bits; for 128 bits [\d.]+ M packets are to be sent", text)
    broken = [(info(1000), receptions({"bob": half, "eve": eve})) for eve in (half, [not it for it in half])]
    assert main(["sweep", "report", recorded(tmp_path / "b.db", *broken), "--out", str(tmp_path / "b.html")]) == 0
    text = Page((tmp_path / "b.html").read_text()).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "0 of 2 pairs of Bob and Eve hold" in text
    assert "run 1 (Bob bob, Eve eve, 3 m" in text
    assert "heard everything that Bob heard, and no number of packets helps" in text
    assert "Over all runs pooled she missed 50.0 %" in text


def test_a_name_that_looks_like_html_is_shown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "j.csv").write_text("seq,receiver,heard\n0,<script>alert(1)</script>,1\n0,eve,0\n")
    assert main(["sweep", "report", str(tmp_path / "j.csv"), "--out", str(tmp_path / "r.html")]) == 0
    assert "<script>" not in (tmp_path / "r.html").read_text()


def test_progress_is_a_share_whatever_is_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bt_selfsecure.cli.sweep_text.PROGRESS_S", -1.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress_line("read") as progress:
        progress(505, 20_000)
        progress(20_000, 20_000)
        progress(0, 0)
    assert capsys.readouterr().err == "\rread: 2 %\033[K\rread: 100 %\033[K\rread: 0 %\033[K\r\033[K"
