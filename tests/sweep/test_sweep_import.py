from __future__ import annotations

import csv
import gzip
import json
import os
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_data import BEGAN, OFFICE, info, receptions
from timed_data import Air, Heard, heard

from bt_selfsecure.air import capture
from bt_selfsecure.bearers.advertising_data import manufacturer_data
from bt_selfsecure.cli.main import main
from bt_selfsecure.errors import UsageError
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, Profile, encode
from bt_selfsecure.sweep import captured
from bt_selfsecure.sweep.exporting import COLUMNS, export
from bt_selfsecure.sweep.gathering import Gathered
from bt_selfsecure.sweep.importing import Circumstances, import_csv, import_sources
from bt_selfsecure.sweep.store import Reception, Store

PLAIN = "seq,receiver,heard,rssi\n0,bob,1,-60\n0,eve,0,\n1,bob,0,\n1,eve,1,-71.5\n"


def silent(done: int, of: int) -> None:
    pass


@pytest.fixture
def store(tmp_path: Path):
    with Store(tmp_path / "sweep.db", create=True) as store:
        store.begin({})
        yield store


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# --- CSV --------------------------------------------------------------------------------------------------------------


def test_joint_reception_as_csv_is_a_run(store: Store, tmp_path: Path) -> None:
    file = written(tmp_path / "joint.csv", PLAIN)
    assert import_csv(store, file, Circumstances(distance_m=3.0, distances_m={"eve": 1.0}, bearer="l2cap"), silent) == 1
    (run,) = store.runs()
    assert (run.info.packets, run.info.distance_m, run.info.distances_m, run.info.bearer) == (2, 3, {"eve": 1}, "l2cap")
    assert set(store.receptions(run.id)) == {
        Reception(0, "bob", True, -60.0, 1),
        Reception(0, "eve", False, None, 0),
        Reception(1, "bob", False, None, 0),
        Reception(1, "eve", True, -71.5, 1),
    }


@pytest.mark.parametrize(
    "text",
    [
        "receiver,heard,seq\neve,false,1\nbob,TRUE,1\nbob,no,2\neve, yes,2\n",  # any order, counted from 1
        "\ufeffseq,receiver,heard,where\r\n0,bob,1,here\r\n1,bob,0,there\r\n0,eve,0,\r\n1,eve,1,\r\n",
    ],
)
def test_other_orders_words_and_columns_are_read_too(store: Store, tmp_path: Path, text: str) -> None:
    (tmp_path / "joint.csv").write_text(text, encoding="utf-8", newline="")
    import_csv(store, tmp_path / "joint.csv", Circumstances(), silent)
    assert {(row.seq, row.receiver) for row in store.receptions(1) if row.heard} == {(0, "bob"), (1, "eve")}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column 'seq'"),
        ("seq,receiver\n0,bob\n", "no column 'heard'"),
        ("seq,receiver,heard\n", "has no row"),
        ("seq,receiver,heard\n0,bob,1\n1,bob\n", ":3: the row has not as many fields"),
        ("seq,receiver,heard\n0,bob,1,2\n", ":2: the row has not as many fields"),
        ("seq,receiver,heard\n0,bob,maybe\n", ":2: not a reception"),
        ("seq,receiver,heard\n-1,bob,1\n", ":2: not a reception"),
        ("seq,receiver,heard\n999999999999,bob,1\n", ":2: not a reception"),
        ("seq,receiver,heard\n0,,1\n", ":2: not a reception"),
        ("seq,receiver,heard,rssi\n0,bob,1,loud\n", ":2: not a reception"),
        ("seq,receiver,heard\n0,bob,1\n0,bob,1\n", ":3: packet 0 at 'bob' comes a second time"),
        ("seq,receiver,heard\n0,bob,1\n2,bob,1\n", "half a run"),
        ("seq,receiver,heard\n0,bob,1\n1,bob,1\n1,eve,1\n", "half a run"),
        ("run,seq,receiver,heard\n1,0,bob,1\n2,0,bob,1\n1,1,bob,1\n", "not together"),
        ("seq,receiver,heard,distance_m\n0,bob,1,far\n", ":2: its distance_m is 'far': give"),
    ],
)
def test_a_file_with_a_fault_is_refused_in_one_line_that_names_it(
    store: Store, tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        import_csv(store, written(tmp_path / "bad.csv", text), Circumstances(), silent)
    assert "bad.csv" in str(raised.value)
    assert "\n" not in str(raised.value)


@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(st.sampled_from(["0", "1", "bob", ",", "\n", '"', "heard"])).map(
            lambda words: ("seq,receiver,heard\n" + "".join(words)).encode()
        ),
    )
)
@settings(max_examples=25)
def test_whatever_bytes_a_file_has_they_are_runs_or_one_fault(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "f.csv").write_bytes(data)
    with Store(folder / "sweep.db", create=True) as store:
        store.begin({})
        with suppress(UsageError):
            import_csv(store, folder / "f.csv", Circumstances(), silent)
        for run in store.runs():
            assert len(list(store.receptions(run.id))) == run.info.packets * len(run.listeners)


@pytest.mark.parametrize(
    "data",
    [
        "seq;receiver;heard\n0;bob;1\n0;eve;0\n",
        "\ufeffseq;receiver;heard;rssi\r\n1;bob;1;-60,5\r\n1;eve;0;\r\n",
        "\ufeffseq,receiver,heard,rssi\n1,bob,WAHR,-60\n1,eve,FALSCH,\n",
        "sep=,\nseq,receiver,heard\n1,bob,1\n1,eve,0\n",
        "sep=;\r\nseq;receiver;heard\r\n1;bob;1\r\n1;eve;0\r\n",
        "seq\treceiver\theard\trssi\n1\tbob\t1\t-60\n1\teve\t0\t\n",
        "SEQ,Receiver,Heard\n0,bob,1\n0,eve,0\n",
        "seq,receiver,heard,rssi\n1.0,bob,1.0,-60.5\n1.0,eve,0.0,\n",
        ",seq,receiver,heard\n0,0,bob,1\n1,0,eve,0\n",  # pandas' index
        "seq,receiver,heard\n0,bob,T\n0,eve,F\n",
        "seq,receiver,heard\n0,bob,TRUE\n0,eve,FALSE\n\n",
        "seq,receiver,heard\n0,bob,vrai\n0,eve,Faux\n",
        "seq,receiver,heard,rssi,,\n1,bob,1,-60,,\n1,eve,0,,,\n,,,,,\n",
        " seq , receiver ,heard \n 0 , bob , 1 \n 0 ,eve , 0 \n",
        "seq,receiver,heard\r0,bob,1\r0,eve,0\r",
        'seq,"receiver","heard"\n0,"bob",1\n0,"eve",0\n',
        "seq,receiver,heard\n0,bob,1\n0,eve,0\n".encode("utf-16"),
    ],
)
def test_any_dialect_whose_meaning_is_certain_is_taken(store: Store, tmp_path: Path, data: str | bytes) -> None:
    (tmp_path / "j.csv").write_bytes(data if isinstance(data, bytes) else data.encode())
    import_csv(store, tmp_path / "j.csv", Circumstances(), silent)
    assert {(row.seq, row.receiver, row.heard) for row in store.receptions(1)} == {(0, "bob", True), (0, "eve", False)}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"seq,receiver,heard,heard\n0,bob,1,0\n", ":1: two columns are called 'heard'"),
        (b"seq,receiver,Heard,heard \n0,bob,1,0\n", ":1: two columns are called 'heard'"),
        ("seq,receiver,heard\n0,K\xfcche,1\n".encode("latin-1"), "line 2, byte 0xfc.*CSV UTF-8"),
        ("seq,receiver,heard\n0,bob,1\n".encode("utf-16-le"), "UTF-16 without its mark"),
        (b"\xff\xfes", "nor in UTF-16"),
        (b"PK\x03\x04whatever", "workbook"),
        (b"seq,receiver,heard\n0,bob,\n", ":2: not a reception: heard is ''"),
        (b"seq,receiver,heard\n0,bob,2\n", ":2: not a reception: heard is '2'"),
        (b"seq,receiver,heard,rssi\n0,bob,1,NaN\n", ":2: not a reception: rssi is 'NaN'"),
        (b"seq,receiver,heard,rssi\n0,bob,1,-\n", ":2: not a reception: rssi is '-'"),
        (b"seq,receiver,heard,rssi\n0,bob,1,inf\n", ":2: not a reception: rssi is 'inf'"),
        (b"seq;receiver;heard\n1,000;bob;1\n", ":2: not a reception: seq is '1,000'"),  # one, or a thousand
        (b"seq\treceiver\theard\trssi\n0\tbob\t1\t1,000\n", ":2: not a reception: rssi is '1,000'"),
        (b"seq,receiver,heard\n1.5,bob,1\n", ":2: not a reception: seq is '1.5'"),
        (b"seq,receiver,heard\n9999999,bob,1\n9999999,eve,1\n", "begins with packet 9999999.*--first"),
        (b"seq,receiver,heard\n0,bob,1\n0,bob ,1\n", ":3: packet 0 at 'bob' comes a second time"),
        (b'seq,receiver,heard\n0,"bob,1\n' + b"0,eve,1\n" * 20000, "quote left open|not as many fields"),
        (b"run,seq,receiver,heard,bearer\n1,0,bob,1,l2cap\n1,0,eve,1,rfcomm\n", ":3: column 'bearer' is 'rfcomm' here"),
        (b"seq,receiver,heard,distance_m\n0,bob,1,3\n1,bob,1,4\n", ":3: 'bob' is 4 m away, and 3 m before"),
        (b"seq,receiver,heard,packets\n0,bob,1,3\n1,bob,1,3\n", "'packets' says 3, and it has 2"),
    ],
)
def test_a_cause_is_named_where_the_meaning_is_not_certain(
    store: Store, tmp_path: Path, data: bytes, words: str
) -> None:
    (tmp_path / "j.csv").write_bytes(data)
    with pytest.raises(UsageError, match=words) as raised:
        import_csv(store, tmp_path / "j.csv", Circumstances(), silent)
    assert "\n" not in str(raised.value)
    assert store.runs() == []


HEARD = "seq,receiver,heard\n3,bob,1\n5,bob,1\n5,eve,1\n"
ALL = "seq,receiver,heard\n3,bob,1\n3,eve,0\n4,bob,0\n4,eve,0\n"


@pytest.mark.parametrize(
    ("text", "told", "bob", "eve"),
    [
        (HEARD, {"packets": 8}, {3, 5}, {5}),  # 0 to 7
        (HEARD, {"packets": 5}, {2, 4}, {4}),  # 1 to 5
        (HEARD, {"packets": 3}, {0, 2}, {2}),  # 3 to 5
        (HEARD, {"first": 2}, {1, 3}, {3}),  # 2 to 5
        (HEARD, {"first": 3, "last": 9}, {0, 2}, {2}),
        (HEARD, {"packets": 4, "last": 6}, {0, 2}, {2}),
        (ALL, {"first": 3}, {0}, set()),
        (ALL, {"packets": 2}, {0}, set()),
        ("seq,receiver\n3,bob\n5,eve\n5,bob\n5,bob\n", {"packets": 8}, {3, 5}, {5}),
    ],
)
def test_logs_that_begin_anywhere_or_list_only_what_was_heard_are_taken_if_it_is_told_what_was_sent(
    store: Store, tmp_path: Path, text: str, told: dict, bob: set[int], eve: set[int]
) -> None:
    import_csv(store, written(tmp_path / "j.csv", text), Circumstances(**told), silent)
    heard = {
        name: {row.seq for row in store.receptions(1) if row.heard and row.receiver == name} for name in ("bob", "eve")
    }
    assert heard == {"bob": bob, "eve": eve}
    (run,) = store.runs()
    wanted = told.get("packets") or (told["last"] - told["first"] + 1 if "last" in told else None)
    assert wanted in (None, run.info.packets)


@pytest.mark.parametrize("spelled", ["bob ", " bob", '" bob"', "bob\t"])
def test_names_that_differ_only_by_spaces_are_named_as_the_cause(store: Store, tmp_path: Path, spelled: str) -> None:
    rows = "".join(f"{seq},{name},1\n" for seq in range(3) for name in ("bob", spelled))
    with pytest.raises(
        UsageError, match=r":3: packet 0 at 'bob' .*: 'bob' and '.*' differ only by spaces .*; rename one"
    ):
        import_csv(store, written(tmp_path / "j.csv", "seq,receiver,heard\n" + rows), Circumstances(), silent)
    padded = "seq,receiver,heard\n0,bob ,1\n0,bob ,1\n"
    with pytest.raises(UsageError, match=r":3: packet 0 at 'bob' comes a second time$"):
        import_csv(store, written(tmp_path / "j.csv", padded), Circumstances(), silent)


@pytest.mark.parametrize(
    ("text", "told", "words"),
    [
        (HEARD, {}, "--first 3"),
        (HEARD, {"packets": 2}, "packets 3 to 5 were heard, but 0 to 1 sent"),
        (HEARD, {"first": 4}, "packets 3 to 5 were heard, but 4 to 5 sent"),
        (HEARD, {"first": 3, "last": 9, "packets": 3}, "leave one out"),
        (ALL, {"packets": 5}, "no row for packet 0 at 'bob'.*A log that lists misses lists all"),
        (ALL.replace("4,eve,0\n", ""), {"first": 3}, "no row for packet 4 at 'eve'"),  # cut off: no miss
        (ALL, {}, "--first 3 if .*, for it lists misses, too \\(half"),
        (ALL.replace("0\n", "1\n"), {}, "--first 3 if .*, or --first 0 if the log lists only"),
        ("seq,receiver\n0,bob\n", {}, "no column 'heard'.*--packets"),
        ("seq,receiver,heard\n0,bob,1\n1,bob,1\n1,eve,1\n", {}, "no row for packet 0 at 'eve'.*--packets N"),
    ],
)
def test_what_is_not_listed_is_no_miss_unless_it_is_told_what_was_sent(
    store: Store, tmp_path: Path, text: str, told: dict, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        import_csv(store, written(tmp_path / "j.csv", text), Circumstances(**told), silent)
    assert store.runs() == []


def test_a_table_a_listener_is_put_together_by_number(store: Store, tmp_path: Path) -> None:
    written(tmp_path / "bob.csv", "seq,rssi\n0,-60\n2,-61\n2,-59\n")
    written(tmp_path / "eve.csv", "seq;heard\n2;1\n")
    written(tmp_path / "eve2.csv", "seq,rssi\n")
    sources = [f"{name}={tmp_path / name}.csv" for name in ("bob", "eve", "eve2")]
    assert import_sources(store, sources, Circumstances(packets=4), silent) == 1
    assert {(row.seq, row.receiver): (row.rssi, row.copies) for row in store.receptions(1) if row.heard} == {
        (0, "bob"): (-60, 1),
        (2, "bob"): (-59, 2),
        (2, "eve"): (None, 1),
    }
    assert store.runs()[0].listeners == ("bob", "eve", "eve2")


def test_names_beyond_ascii_are_kept(store: Store, tmp_path: Path) -> None:
    import_csv(store, written(tmp_path / "j.csv", "seq,receiver,heard\n1,Küche,1\n1,☕,0\n"), Circumstances(), silent)
    assert store.runs()[0].listeners == ("Küche", "☕")


# --- All or nothing, and once -----------------------------------------------------------------------------------------


def runs_of(flags: dict[str, str]) -> str:
    """Of each label the packets: b Bob alone, e Eve alone, 2 both, . neither."""
    rows = [
        f"{label},{seq},{name},{int(fate in (letter, '2'))}\n"
        for label, fates in flags.items()
        for seq, fate in enumerate(fates)
        for name, letter in (("bob", "b"), ("eve", "e"))
    ]
    return "run,seq,receiver,heard\n" + "".join(rows)


def command(path: Path, *arguments: str) -> int:
    return main(["sweep", "import", "--out", str(path), *arguments])


def test_an_import_with_a_fault_leaves_nothing_of_any_of_its_sources(tmp_path: Path) -> None:
    good, mended, record = tmp_path / "good.csv", tmp_path / "mended.csv", tmp_path / "r.db"
    bad = written(tmp_path / "bad.csv", runs_of({"a": "b2e.", "b": "222b"})[:-2] + "x\n")
    written(good, runs_of({"a": "2222"}))
    for sources in ([bad], [good, bad], [good, tmp_path / "none.csv"], [good, tmp_path / "none.json"]):
        assert command(record, *map(str, sources)) == 2
        assert not record.exists()
    assert command(record, str(good)) == 0
    before = record.read_bytes()
    assert command(record, str(bad)) == 2
    assert record.read_bytes() == before
    assert command(record, str(written(mended, runs_of({"a": "b2e.", "b": "222b"})))) == 0
    with Store(record) as store:
        assert [run.info.packets for run in store.runs()] == [4, 4, 4]
        assert len(store.manifests()) == 2


def test_an_interrupted_import_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "a.csv", runs_of({"a": "b2e.", "b": "222b"}))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "twin", interrupted)
    monkeypatch.setattr("bt_selfsecure.sweep.importing._refuse_twins", interrupted)
    assert command(tmp_path / "r.db", str(tmp_path / "a.csv")) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_the_same_runs_are_taken_once_whatever_the_file_is_called_and_its_rows_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, text = tmp_path / "r.db", runs_of({"a": "b2e." * 5, "b": "222b"})
    first = str(written(tmp_path / "a.csv", text))
    header, *rows = text.splitlines(keepends=True)
    again = str(written(tmp_path / "b.csv", header + "".join(sorted(rows, key=lambda row: (row[0], row[::-1])))))
    part = str(written(tmp_path / "c.csv", runs_of({"other": "222b"})))
    new = str(written(tmp_path / "d.csv", runs_of({"c": "222e", "d": "222e"})))  # one file may have a run twice
    assert command(record, first, first) == 2
    assert not record.exists()
    assert command(record, first) == 0
    for sources in ([first], [again], [part], [new, part], ["--distance", "5", first]):
        assert command(record, *sources) == 2
        assert "packet for packet" in capsys.readouterr().err
    assert command(record, new) == 0
    assert main(["sweep", "export", str(record), "--out", str(tmp_path / "e.csv")]) == 0
    assert command(record, str(tmp_path / "e.csv")) == 2
    assert command(record, "--again", part) == 0
    with Store(record) as store:
        assert len(store.runs()) == 5


def test_a_withdrawn_run_is_listed_counts_no_more_and_may_be_imported_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, file = tmp_path / "r.db", str(written(tmp_path / "a.csv", runs_of({"a": "b2e.", "b": "222b"})))
    assert command(record, "--condition", "room=office", file) == 0
    withdraw = ["sweep", "withdraw", str(record)]
    assert main([*withdraw, "1", "2", "--reason", "wrong distance"]) == 0
    capsys.readouterr()
    for wrong in (["1", "--reason", "again"], ["9", "--reason", "x"], ["2", "--reason", " "]):
        assert main([*withdraw, *wrong]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert command(record, "--distance", "5", file) == 0
    capsys.readouterr()
    assert main(["sweep", "list", str(record)]) == 0
    told = capsys.readouterr().out
    assert told.count("withdrawn: wrong distance") == 2
    assert "bob, eve; a.csv; room office" in told
    assert max(map(len, told.splitlines())) <= 80
    with Store(record) as store:
        assert [run.info.distance_m for run in store.runs()] == [5, 5]


# --- Conditions -------------------------------------------------------------------------------------------------------

ROOMS = (
    "run,Room,seq,receiver,heard,noise\na,office,0,bob,1,10\na,office,0,eve,0,10\nb,hall,0,bob,1,\nb,hall,0,eve,1,\n"
)


def test_columns_become_conditions_of_a_run_and_come_back_from_the_exports(tmp_path: Path) -> None:
    file, record = written(tmp_path / "rooms.csv", ROOMS), tmp_path / "r.db"
    assert command(record, "--condition", "room, noise", "--condition", "door=open", str(file)) == 0
    wanted = [{"room": "office", "noise": "10", "door": "open"}, {"room": "hall", "door": "open"}]
    assert command(tmp_path / "plain.db", str(file)) == 0
    for path, conditions in ((record, wanted), (tmp_path / "plain.db", [None, None])):
        with Store(path) as store:
            assert [run.info.notes.get("conditions") for run in store.runs()] == conditions
    for suffix in ("csv", "jsonl", "parquet"):
        assert main(["sweep", "export", str(record), "--out", str(tmp_path / f"e.{suffix}")]) == 0
    rows = pq.read_table(tmp_path / "e.parquet").to_pylist()
    assert rows == [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    assert [(row["room"], row["noise"], row["door"]) for row in rows[::2]] == [
        ("office", "10", "open"),
        ("hall", None, "open"),
    ]
    assert command(tmp_path / "again.db", str(tmp_path / "e.csv")) == 0
    with Store(tmp_path / "again.db") as store:
        assert [run.info.notes["conditions"] for run in store.runs()] == wanted


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("weather", "no column 'weather'"),
        ("seq", "--condition seq: every record has a column of this name"),
        ("seq=3", "--condition seq: every record has a column of this name"),
        ("room=3,Distance_M=3", "--condition distance_m: every record has"),
        ("room,room", "does not name conditions"),
        ("room=", "does not name conditions"),
        ("", "does not name conditions"),
    ],
)
def test_a_condition_that_is_none_is_named(
    condition: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path / "r.db", "--condition", condition, str(written(tmp_path / "rooms.csv", ROOMS))) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "r.db").exists()


def test_a_condition_that_changes_within_a_run_is_named_with_column_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "rooms.csv", ROOMS.replace("a,office,0,eve", "a,hall,0,eve"))
    assert command(tmp_path / "r.db", "--condition", "room", str(file)) == 2
    assert "rooms.csv:3: column 'room' is 'hall' here and 'office' in line 2" in capsys.readouterr().err


# --- Logs joined by time ----------------------------------------------------------------------------------------------


def timed(truth: Heard, form: Callable[[float], str], sender: str = "") -> list[str]:
    return [f"{form(time)},{name},-60,{sender}\n" for name, times in truth.logs.items() for time in times]


EPOCH = 1_777_636_800.0


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("time", "{:.6f}".format),
        ("Time_ms", lambda time: f"{1000 * time:.3f}"),
        ("time_us", lambda time: f"{1e6 * time:.0f}"),
        ("timestamp", lambda time: f"{EPOCH + time:.6f}"),
        ("time", lambda time: f"{1e3 * (EPOCH + time):.0f}"),
        ("time", lambda time: f"{1e6 * (EPOCH + time):.0f}"),
        ("time", lambda time: datetime.fromtimestamp(EPOCH + time, UTC).isoformat()),
        ("time", lambda time: datetime.fromtimestamp(EPOCH + time, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")),
    ],
)
def test_times_of_any_kind_are_joined(
    name: str, form: Callable[[float], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = heard(Air(packets=300, offset=10.0), 1)
    rows = timed(truth, form)
    Random(1).shuffle(rows)
    written(tmp_path / "t.csv", f"{name},receiver,rssi,note\n" + "".join(rows))
    assert command(tmp_path / "r.db", "--distance", "3", str(tmp_path / "t.csv")) == 0
    told = capsys.readouterr().out
    assert re.search(r"a packet every 10[45].\d ms \(found\)", told)
    assert max(map(len, told.splitlines()[:-1])) <= 80
    with Store(tmp_path / "r.db") as store:
        (run,) = store.runs()
        fates = {name: list(store.packed(run.id)[name].fates()) for name in ("bob", "eve")}
        (joined,) = store.manifests()[run.manifest]["joined"]
    missed = [eve for bob, eve in zip(fates["bob"], fates["eve"], strict=True) if bob]
    assert missed.count(0) / len(missed) == pytest.approx(truth.e_given_b("bob", "eve"), abs=0.02)
    assert run.info.spacing_ms == pytest.approx(105, abs=0.5)
    assert joined["clocks"].keys() == {"bob", "eve"}
    assert joined["by_several"] + joined["by_one"] + joined["by_none"] == run.info.packets
    assert (run.info.started is None) == (form(0.0)[0] == "0" or " " in form(0.0))


def test_a_table_a_receiver_is_joined_by_time_and_senders_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = heard(Air(packets=300), 2), heard(Air(packets=300, interval=0.05), 3)
    for name in one.logs:
        rows = [f"{time:.6f},AA:BB:CC:00:00:01\n" for time in one.logs[name]]
        rows += [f"{time:.6f},aa:bb:cc:00:00:02\n" for time in other.logs[name]]
        written(tmp_path / f"{name}.csv", "time,address\n" + "".join(rows))
    sources = [f"{name}={tmp_path / name}.csv" for name in one.logs]
    assert command(tmp_path / "r.db", *sources) == 0
    senders = re.findall(r"joined by time, sender (\S+): ", capsys.readouterr().out)
    assert senders == ["AA:BB:CC:00:00:01", "aa:bb:cc:00:00:02"]  # as they stand in the log
    assert command(tmp_path / "one.db", *sources, "--sender", "aa:bb:cc:00:00:01") == 0
    with Store(tmp_path / "r.db") as both, Store(tmp_path / "one.db") as single:
        assert [round(run.info.spacing_ms) for run in both.runs()] == [105, 55]
        assert len({run.info.sender for run in both.runs()}) == 2
        assert [round(run.info.spacing_ms) for run in single.runs()] == [105]
        for store in (both, single):  # addresses stay out of a record
            assert "aa:bb:cc" not in json.dumps([store.manifests(), [str(run) for run in store.runs()]]).lower()
    capsys.readouterr()
    assert command(tmp_path / "none.db", *sources, "--sender", "aa:bb:cc:00:00:03") == 2
    assert "AA:BB:CC:00:00:01" in capsys.readouterr().err.upper()


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("time,receiver,rssi\n1.5,bob,-50\n1.6,eve,-60\n", [], "'bob' has 1 row, too few: .* 30 packets"),
        ("time,receiver\n1.5,bob\n1.6,eve\n", ["--interval", "100"], "has 1 row, too few: .* 30 packets"),
        ("time,receiver\n", [], "has no row"),
        ("time,receiver\n1.5,\n", [], ":2: the receiver has no name"),
        ("time,receiver\nsoon,bob\n", [], ":2: time is 'soon'"),
        ("time,receiver\n1.5,bob\n2026-05-01T12:00:00,eve\n", [], ":3: .*of another kind"),
        ("time,receiver\n1777636800,bob\n1777636800123,eve\n", [], ":3: .*of another kind"),
        ("time,receiver\n15,bob\n16,eve\n", [], "time_ms"),
        ("time,receiver,rssi\n1.5,bob,nan\n", [], ":2: rssi is 'nan'"),
        ("time,rssi\n1.5,-50\n", [], "no column 'receiver'"),
        ("time,receiver\n1.5,bob\n", ["--first", "1"], "--first and --last"),
        ("time,receiver\n" + "".join(f"{n / 10},bob\n" for n in range(99)), [], "takes two receivers"),
        ("time,receiver\n1.5,bob\n1.5,eve\n", ["--clock-offset", "eva=1", "--interval", "100"], "eva.*, .* bob, eve"),
        ("time,receiver\n1.5,bob\n1.5,eve\n", ["--packets", "1000000000000", "--interval", "100"], "--packets 1,000"),
        (
            "time,receiver\n" + "".join(f"{n / 9.97 + 0.01},bob\n{n / 9.97},eve\n" for n in range(99)),
            [],
            "--clock-offset",
        ),
    ],
)
def test_logs_that_can_not_be_joined_are_refused_in_one_line_and_leave_no_file(
    text: str, options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path / "r.db", *options, str(written(tmp_path / "t.csv", text))) == 2
    told = capsys.readouterr().err
    assert re.search(words, told)
    assert len(told.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize(
    "options",
    [
        ["--distance", "nan"],
        ["--distance", "-1"],
        ["--distance", "1e-320"],
        ["--distance", "1e300"],
        ["--distance-of", "eve=1e-320"],
        ["--spacing", "1e-320"],
        ["--spacing", "1e300"],
        ["--pause", "1e-320"],
        ["--pause", "0.1"],
        ["--distance-of", "bob=nan"],
        ["--interval", "0"],
        ["--interval", "inf"],
        ["--packets", "0"],
        ["--first", "-1"],
        ["--pause", "nan"],
        ["--clock-offset", "eve=nan"],
        ["--clock-offset", "eve"],
        ["--clock-offset", "mallory=1"],
        ["--size", "0"],
    ],
)
def test_a_number_that_can_not_be_is_refused_in_one_line_and_leaves_no_file(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = timed(heard(Air(packets=300), 1), "{:.6f}".format)
    file = written(tmp_path / "t.csv", "time,receiver,rssi,note\n" + "".join(rows))
    assert command(tmp_path / "r.db", *options, str(file)) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize("option", [["--clock-offset", "eve=1"], ["--one-clock"], ["--pause", "0"]])
@pytest.mark.parametrize("sources", [["j.csv"], ["bob=b.csv", "eve=e.csv"], ["bob=b.pcapng"], ["office.json"]])
def test_what_is_told_of_clocks_is_refused_where_nothing_is_joined_by_time(
    sources: list[str],
    option: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "j.csv", PLAIN)
    for name in "be":
        written(tmp_path / f"{name}.csv", "seq,heard\n0,1\n1,0\n")
    recorded(tmp_path / "b.pcapng", range(2))
    for part in (OFFICE, OFFICE.with_suffix(".bin")):
        if part.exists():
            (tmp_path / f"office{part.suffix}").write_bytes(part.read_bytes())
    assert command(tmp_path / "r.db", *option, *sources) == 2
    assert re.fullmatch(
        rf"bt-selfsecure: .* not joined by time, and {option[0]} .*: leave it out\n", capsys.readouterr().err
    )
    assert not (tmp_path / "r.db").exists()


def test_one_clock_and_a_clock_that_is_ahead_are_not_told_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path / "r.db", "--one-clock", "--clock-offset", "eve=1", str(tmp_path / "t.csv")) == 2
    assert "--one-clock says that no clock is ahead, --clock-offset that one is" in capsys.readouterr().err


def test_logs_without_numbers_are_not_analysed_before_it_was_seen_how_they_were_joined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = timed(heard(Air(packets=300), 1), "{:.6f}".format)
    written(tmp_path / "t.csv", "time,receiver,rssi,note\n" + "".join(rows))
    assert main(["sweep", "analyse", str(tmp_path / "t.csv")]) == 2
    assert "sweep import" in capsys.readouterr().err


# --- Export -----------------------------------------------------------------------------------------------------------


def fill(store: Store) -> None:
    random = Random(1)
    for repeat, metres in enumerate((None, 0.5, 3.0)):
        rows = [
            Reception(
                seq,
                name,
                heard := random.random() < 0.8,
                -60.0 - seq if heard else None,
                3 if heard else 0,
                not heard and random.random() < 0.5,
            )
            for name in ("bob", "eve")
            for seq in range(20)
        ]
        others = {"eve": 1.5} if metres else {"bob": 2.5, "eve": 1.5}
        run = info(
            20, metres, repeat=repeat, started=BEGAN, tx_power_dbm=4.0, distances_m=others, notes={"walls": repeat}
        )
        store.add(run, rows)
    store.withdraw([store.add(info(1), receptions({"bob": [True]}))], "rain")


def test_the_exports_say_the_same_and_come_back_as_the_same_runs(store: Store, tmp_path: Path) -> None:
    fill(store)
    for suffix in ("csv", "jsonl", "parquet"):
        beside = export(store, tmp_path / f"out.{suffix}", silent)
        manifest = json.loads(beside.read_text())
        assert [run["withdrawn"] for run in manifest["runs"]] == [None, None, None, "rain"]
        assert manifest["runs"][2]["notes"] == {"walls": 2}
    with (tmp_path / "out.csv").open(newline="") as file:
        as_csv = list(csv.DictReader(file))
    as_json = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    for suffix in ("csv", "jsonl"):
        export(store, tmp_path / f"again.{suffix}.gz", silent)
        packed = (tmp_path / f"again.{suffix}.gz").read_bytes()
        assert gzip.decompress(packed) == (tmp_path / f"out.{suffix}").read_bytes()
        export(store, tmp_path / f"other.{suffix}.gz", silent)
        assert (tmp_path / f"other.{suffix}.gz").read_bytes() == packed
    as_parquet = pq.read_table(tmp_path / "out.parquet")
    assert as_parquet.to_pylist() == as_json
    assert json.loads(as_parquet.schema.metadata[b"bt_selfsecure"])["columns"] == COLUMNS
    told = [
        {k: "" if v is None else str(int(v)) if isinstance(v, bool) else str(v) for k, v in row.items()}
        for row in as_json
    ]
    assert as_csv == told
    assert len(as_csv) == 120
    for name in ("out.csv", "out.parquet", "again.csv.gz"):
        comes_back(store, tmp_path / name)


def comes_back(store: Store, file: Path) -> None:
    """As the same runs."""
    with Store(":memory:", create=True) as again:
        again.begin({})
        assert import_csv(again, file, Circumstances(), silent) == 3
        for one, other in zip(store.runs(), again.runs(), strict=True):
            for name in (
                "distance_m",
                "distances_m",
                "bearer",
                "size_bytes",
                "packets",
                "repeat",
                "tx_power_dbm",
                "started",
            ):
                assert getattr(one.info, name) == getattr(other.info, name), name
            assert list(store.receptions(one.id)) == list(again.receptions(other.id))


def test_an_export_appears_whole_or_not_at_all(store: Store, tmp_path: Path) -> None:
    fill(store)

    def stop(done: int, of: int) -> None:
        if done:
            raise KeyboardInterrupt

    for suffix in ("csv", "jsonl", "parquet", "csv.gz"):
        with pytest.raises(KeyboardInterrupt):
            export(store, tmp_path / f"out.{suffix}", stop)
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.db"]
    with pytest.raises(UsageError, match=r"\.parquet"):
        export(store, tmp_path / "out.parquet.gz", silent)
    with pytest.raises(UsageError, match="choose another place"):
        export(store, tmp_path / "nowhere" / "out.csv", silent)


@pytest.mark.parametrize(
    ("arguments", "out"),
    [
        (["export", "none.db", "--out"], "nowhere/o.csv"),
        (["export", "none.db", "--out"], "folder.csv"),
        (["report", "none.db", "--out"], "nowhere/o.html"),
        (["report", "none.db", "--out"], "folder.csv"),
        (["plot", "none.db", "--out"], "file/figures"),
        (["plot", "none.db", "--out"], "file"),
        (["study", "grid.toml", "--out"], "nowhere/o.parquet"),
        (["import", "none.csv", "--out"], "nowhere/o.db"),
    ],
)
def test_an_output_that_can_not_be_written_is_told_before_any_work(
    arguments: list[str],
    out: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "grid.toml").write_text("[study]\nbob_loss = [0.1]\neve_loss = [0.1]\npackets = [100]\ntrials = 100\n")
    assert main(["sweep", *arguments, out]) == 2
    told = capsys.readouterr().err
    assert re.search("can't (write|open)", told)  # and nothing of none.db, which was not looked at yet
    assert len(told.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder.csv", "grid.toml"]


def test_a_folder_for_figures_of_nothing_is_not_left(tmp_path: Path) -> None:
    assert main(["sweep", "plot", str(tmp_path / "none.db"), "--out", str(tmp_path / "figures")]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("listeners", [[], ["--listeners", "bob"]])
def test_a_sweep_of_which_there_is_nothing_to_draw_is_told_and_leaves_no_folder(
    listeners: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("bob", "eve") if listeners else ("bob",)
    rows = "".join(f"{seq},{name},{seq % 2}\n" for name in names for seq in range(10))
    file = written(tmp_path / "j.csv", "seq,receiver,heard\n" + rows)
    assert main(["sweep", "plot", str(file), "--out", str(tmp_path / "figures"), *listeners]) == 2
    told = capsys.readouterr()
    assert re.fullmatch(r"bt-selfsecure: there is nothing to draw: .*\n", told.err)
    assert not told.out
    assert list(tmp_path.iterdir()) == [file]


def test_a_record_without_a_run_that_counts_is_not_exported(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.withdraw([store.add(info(1), receptions({"bob": [True]}))], "rain")
    (tmp_path / "empty.db").touch()
    for record in ("sweep.db", "empty.db"):
        assert main(["sweep", "export", str(tmp_path / record), "--out", str(tmp_path / "o.csv")]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "o.csv").exists()


# --- Captures ---------------------------------------------------------------------------------------------------------


def burst_packet(seq: int, tag: bytes) -> bytes:
    """A compact burst packet in an advertisement, on the air."""
    frame = Frame(Profile.HARDENED, Kind.RAND_COMPACT, 0, seq, tag, bytes([seq % 256]) * 16)
    data = manufacturer_data(encode(frame))
    pdu = capture.advertising_pdu(capture.ADV_NONCONN_IND, bytes(6), data, random_address=False)
    return capture.le_packet(37, pdu)


def test_captures_of_the_same_bursts_become_runs(store: Store, tmp_path: Path) -> None:
    heard = {"bob": {b"aa": [0, 1, 3, 3], b"bb": [2]}, "eve": {b"aa": [1, 4]}}
    for name, bursts in heard.items():
        with capture.PcapngWriter(tmp_path / f"{name}.pcapng") as writer:
            for at, (tag, seqs) in enumerate(bursts.items()):
                for seq in seqs:
                    packet = burst_packet(seq, tag)
                    writer.write(1000.0 + 60 * at + seq / 100, capture.LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR, packet)
    sources = [f"{name}={tmp_path / name}.pcapng" for name in heard]
    assert import_sources(store, sources, Circumstances(packets=5, distance_m=2.0), silent) == 2
    first, second = store.runs()
    assert (first.info.packets, first.info.started and first.info.started.timestamp()) == (
        5,
        pytest.approx(1000, abs=1),
    )
    got = {name: {} for name in heard}
    for row in store.receptions(first.id):
        got[row.receiver][row.seq] = row.copies
    assert got == {"bob": {0: 1, 1: 1, 2: 0, 3: 2, 4: 0}, "eve": {0: 0, 1: 1, 2: 0, 3: 0, 4: 1}}
    assert [row.heard for row in store.receptions(second.id) if row.receiver == "eve"] == [False] * 5
    with pytest.raises(UsageError, match="--packets 3 is too few"):
        import_sources(store, sources, Circumstances(packets=3), silent)


def test_a_capture_of_a_time_that_no_calendar_has_is_a_run_without_a_date(store: Store, tmp_path: Path) -> None:
    with capture.PcapngWriter(tmp_path / "bob.pcapng") as writer:
        for seq in range(3):
            writer.write(1e9 + seq, capture.LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR, burst_packet(seq, b"aa"))
    whole = (tmp_path / "bob.pcapng").read_bytes()
    nanoseconds = b"\x09\x00\x01\x00\x09"  # if_tsresol
    assert nanoseconds in whole
    (tmp_path / "bob.pcapng").write_bytes(whole.replace(nanoseconds, b"\x09\x00\x01\x00\x00"))  # are seconds now
    assert import_sources(store, [f"bob={tmp_path}/bob.pcapng"], Circumstances(), silent) == 1
    assert store.runs()[0].info.started is None


def test_other_bursts_that_lost_the_same_packets_are_other_runs(store: Store, tmp_path: Path) -> None:
    for number, tag in enumerate((b"aa", b"bb", b"aa")):
        with capture.PcapngWriter(tmp_path / f"{number}.pcapng") as writer:
            writer.write(1000.0, capture.LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR, burst_packet(0, tag))
    first, other, again = ([f"bob={tmp_path}/{number}.pcapng"] for number in range(3))
    assert import_sources(store, first, Circumstances(), silent) == 1
    assert import_sources(store, other, Circumstances(), silent) == 1
    with pytest.raises(UsageError, match="its run 1 is run 1"):
        import_sources(store, again, Circumstances(), silent)


def test_a_forged_packet_makes_no_longer_run_than_a_burst_can_be_and_takes_no_row_for_each_that_it_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[int] = []
    put = Gathered.put
    monkeypatch.setattr(Gathered, "put", lambda self, seq, *row: rows.append(seq) or put(self, seq, *row))
    with capture.PcapngWriter(tmp_path / "bob.pcapng") as writer:
        for number, (seq, tag) in enumerate([(0, b"aa"), (1, b"aa"), (limits.MAX_BURST - 1, b"bb"), (0xFFFF, b"aa")]):
            packet = burst_packet(seq, tag)
            writer.write(1000.0 + number / 10, capture.LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR, packet)
    assert command(tmp_path / "r.db", f"bob={tmp_path}/bob.pcapng") == 0
    assert "3 of our bursts, 1 of a number that no burst\n  reaches, left out" in capsys.readouterr().out
    assert rows == [0, 1, limits.MAX_BURST - 1]
    with Store(tmp_path / "r.db") as store:
        assert [run.info.packets for run in store.runs()] == [2, limits.MAX_BURST]
        assert list(store.packed(2)["bob"].fates()).count(1) == 1


def test_a_capture_of_more_bursts_than_a_sweep_has_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captured, "MOST_BURSTS", 3)
    with capture.PcapngWriter(tmp_path / "bob.pcapng") as writer:
        for tag in (b"aa", b"bb", b"cc", b"aa", b"dd"):
            writer.write(1000.0, capture.LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR, burst_packet(0, tag))
    with pytest.raises(UsageError, match=r"bob\.pcapng has packets of more than 3 bursts, .*: cut it"):
        import_sources(store, [f"bob={tmp_path}/bob.pcapng"], Circumstances(), silent)
    assert not store.runs()


def test_conditions_of_captures_have_values_not_columns(store: Store, tmp_path: Path) -> None:
    with capture.PcapngWriter(tmp_path / "bob.pcapng") as writer:
        writer.write(1000.0, capture.LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR, burst_packet(0, b"aa"))
    source = [f"bob={tmp_path}/bob.pcapng"]
    with pytest.raises(UsageError, match="room=VALUE"):
        import_sources(store, source, Circumstances(conditions={"room": None}), silent)
    import_sources(store, source, Circumstances(conditions={"room": "hall"}), silent)
    assert store.runs()[0].info.notes["conditions"] == {"room": "hall"}


def test_captures_without_our_bursts_and_sources_of_no_kind_are_refused(store: Store, tmp_path: Path) -> None:
    with capture.PcapngWriter(tmp_path / "empty.pcapng"):
        pass
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe.csv")
    for sources, words in (
        ([f"{tmp_path}/pipe.csv"], "is a pipe, .*: save it to a file first"),
        ([f"bob={tmp_path}/pipe.csv"], "is a pipe"),
        ([f"bob={tmp_path}/empty.pcapng"], "no burst packet|no capture has"),
        ([f"bob={tmp_path}/none.pcapng"], "can't read"),
        (["bob.pcapng"], "as in bob=bob.pcapng"),
        (["x.pcap"], "as in bob=x.pcap"),
        (["x.pklg.gz"], "as in bob=x.pklg.gz"),
        ([f"{tmp_path}/empty"], "as in bob=.*/empty"),
        (["sweep.jsonl"], "JSON Lines, .* give the sweep itself, or the same as CSV or Parquet"),
        (["bob=sweep.JSONL.gz"], "JSON Lines"),
        (["bob"], "can't tell what"),
        (["=x", "bob="], "LISTENER=CAPTURE"),
        ([f"bob={tmp_path}/empty.pcapng", f"bob={tmp_path}/empty.pcapng"], "LISTENER=CAPTURE"),
        ([f"{tmp_path}/none.csv"], "can't read"),
        ([f"{tmp_path}/none.json"], "can't read"),
    ):
        with pytest.raises(UsageError, match=words):
            import_sources(store, sources, Circumstances(), silent)
    assert store.runs() == []


def recorded(path: Path, seqs: Iterable[int], *, offset: float = 0.0, tag: bytes = b"aa") -> bytes:
    """A capture of these packets of a burst, ten a second; its bytes."""
    with capture.PcapngWriter(path) as writer:
        for seq in seqs:
            packet = burst_packet(seq, tag)
            writer.write(1000.0 + offset + seq / 10, capture.LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR, packet)
    return path.read_bytes()


EMPTY_BLOCK = struct.pack("<II", 0xBAD, 1 << 24) + bytes((1 << 24) - 12) + struct.pack("<I", 1 << 24)
"""Of pcapng, which every reader passes over."""


def cut_by_snap_length(whole: bytes) -> bytes:
    """A pcap file of the same link type, of whose one packet the end lacks."""
    packet = burst_packet(0, b"aa")
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 24, capture.LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR)
    return head + struct.pack("<IIII", 1000, 0, 24, len(packet)) + packet[:24]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda whole: whole[: len(whole) // 2], "in the middle of a packet.*editcap"),
        (lambda whole: whole[:-100] + b"\xff" * 100, "is damaged.*editcap"),
        (lambda whole: gzip.compress(whole)[:-200], "in the middle of a packet.*editcap"),
        (lambda whole: gzip.compress(whole + 6 * EMPTY_BLOCK), "unpacks to more than"),
        (cut_by_snap_length, r"cut by the snap length.*\(1\).*all of each packet"),
        (lambda whole: whole[:84], "no burst packet of ours"),  # the heads, and no packet
    ],
)
def test_a_capture_that_tells_nothing_of_what_was_missed_is_refused_and_nothing_is_stored(
    damage: Callable[[bytes], bytes], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = recorded(tmp_path / "bob.pcapng", range(200))
    (tmp_path / "eve.cap").write_bytes(damage(whole))
    assert command(tmp_path / "r.db", f"bob={tmp_path}/bob.pcapng", f"eve={tmp_path}/eve.cap") == 2
    told = capsys.readouterr().err
    assert re.search(f"eve.cap.*{words}.*leave eve out", told)
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "r.db").exists()


def test_packets_with_a_wrong_crc_were_missed_and_their_number_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(tmp_path / "bob.pcapng", range(100))
    with capture.PcapngWriter(tmp_path / "eve.pcapng") as writer:
        for seq in range(100):
            packet = burst_packet(seq, b"aa")
            packet = packet[:-1] + bytes([packet[-1] ^ (seq % 4 == 0)])
            flags = packet[8:10]
            packet = packet[:8] + bytes([flags[0], flags[1] & 0xF3]) + packet[10:]  # as if nobody had checked
            writer.write(1000.0 + seq / 10, capture.LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR, packet)
    assert command(tmp_path / "r.db", f"bob={tmp_path}/bob.pcapng", f"eve={tmp_path}/eve.pcapng") == 0
    told = capsys.readouterr().out
    assert "eve.pcapng, eve: 100 packets, 75 of our bursts, 25 with a wrong CRC (25 like\n  ours)" in told
    assert "bob.pcapng, bob: 100 packets, 100 of our bursts\n" in told
    assert "!" not in told
    with Store(tmp_path / "r.db") as store:
        assert list(store.packed(1)["eve"].fates()).count(1) == 75
        assert store.manifests()[store.runs()[0].manifest]["captured"]["captures"]["eve"]["wrong_crc"] == 25


@pytest.mark.parametrize("offset", [0.0, 3600.0, -0.5])
@pytest.mark.parametrize(
    ("seqs", "outside"),
    [
        (range(120, 400), 120),  # began later
        (range(300), 100),  # ended earlier
        ([seq for seq in range(100, 350) if seq % 2], 151),
        (range(400), 0),
        ([seq for seq in range(400) if seq % 2], 0),
        ([seq for seq in range(396) if seq % 3], 0),  # a few at an end are chance
    ],
)
def test_a_capture_that_may_not_have_run_all_the_time_is_pointed_out(
    seqs: Sequence[int], outside: int, offset: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(tmp_path / "bob.pcapng", range(400))
    recorded(tmp_path / "eve.pcapng", seqs, offset=offset)
    assert command(tmp_path / "r.db", f"bob={tmp_path}/bob.pcapng", f"eve={tmp_path}/eve.pcapng") == 0
    told = " ".join(capsys.readouterr().out.split())
    warned = f"! others heard {outside} packets of run 1 before the capture of eve has any packet" in told
    assert warned == bool(outside)
    with Store(tmp_path / "r.db") as store:
        manifest = store.manifests()[store.runs()[0].manifest]
    assert [each["packets"] for each in manifest["captured"]["not_covered"]] == [outside] * bool(outside)


@pytest.mark.parametrize(("paused", "warned"), [(60, True), (49, False)])
def test_a_long_silence_in_the_middle_of_a_capture_is_pointed_out(
    paused: int, warned: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(tmp_path / "bob.pcapng", range(300))
    recorded(tmp_path / "eve.pcapng", [seq for seq in range(300) if not 100 <= seq < 100 + paused])
    assert command(tmp_path / "r.db", f"bob={tmp_path}/bob.pcapng", f"eve={tmp_path}/eve.pcapng") == 0
    assert (f"! eve missed {paused} packets in a row. If it was off then" in capsys.readouterr().out) == warned
    with Store(tmp_path / "r.db") as store:
        manifest = store.manifests()[store.runs()[0].manifest]
    assert manifest["captured"]["silences"] == {"bob": 0, "eve": paused}


@pytest.mark.parametrize("offset", [0.0, 3600.0])
def test_a_run_of_another_time_than_a_capture_is_pointed_out(
    offset: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(tmp_path / "bob.pcapng", range(100), offset=50)
    recorded(tmp_path / "eve.pcapng", range(100), tag=b"bb", offset=offset)
    sources = [f"bob={tmp_path}/bob.pcapng", f"eve={tmp_path}/eve.pcapng"]
    assert command(tmp_path / "r.db", *sources) == 0
    assert "others heard 100 packets of run" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("option", ["--packets", "--last", "--first"])
def test_more_packets_than_a_run_can_have_are_refused_at_once_and_leave_no_file(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "t.csv", "seq,receiver\n0,bob\n1,eve\n")
    assert command(tmp_path / "r.db", option, "100000000", str(file)) == 2
    assert re.fullmatch(
        rf"bt-selfsecure: {option} 100,000,000 is beyond .*: say what was sent\n", capsys.readouterr().err
    )
    assert not (tmp_path / "r.db").exists()
