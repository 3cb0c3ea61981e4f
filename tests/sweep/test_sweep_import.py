from __future__ import annotations

import csv
import json
from contextlib import suppress
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_data import BEGAN, info, receptions

from bt_selfsecure.air import capture
from bt_selfsecure.core.frames import Frame, Kind, Profile, encode
from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.exporting import COLUMNS, export
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
        ("seq,receiver,heard,distance_m\n0,bob,1,far\n", "line 2"),
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


def test_the_three_exports_say_the_same_and_the_csv_comes_back_as_the_same_runs(store: Store, tmp_path: Path) -> None:
    fill(store)
    for suffix in ("csv", "jsonl", "parquet"):
        beside = export(store, tmp_path / f"out.{suffix}", silent)
        manifest = json.loads(beside.read_text())
        assert [run["withdrawn"] for run in manifest["runs"]] == [None, None, None, "rain"]
        assert manifest["runs"][2]["notes"] == {"walls": 2}
    with (tmp_path / "out.csv").open(newline="") as file:
        as_csv = list(csv.DictReader(file))
    as_json = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    as_parquet = pq.read_table(tmp_path / "out.parquet")
    assert as_parquet.to_pylist() == as_json
    assert json.loads(as_parquet.schema.metadata[b"bt_selfsecure"])["columns"] == COLUMNS
    told = [
        {k: "" if v is None else str(int(v)) if isinstance(v, bool) else str(v) for k, v in row.items()}
        for row in as_json
    ]
    assert as_csv == told
    assert len(as_csv) == 120
    with Store(tmp_path / "again.db", create=True) as again:
        again.begin({})
        assert import_csv(again, tmp_path / "out.csv", Circumstances(), silent) == 3
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

    for suffix in ("csv", "jsonl", "parquet"):
        with pytest.raises(KeyboardInterrupt):
            export(store, tmp_path / f"out.{suffix}", stop)
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.db"]
    with pytest.raises(UsageError, match=r"\.parquet"):
        export(store, tmp_path / "out.xlsx", silent)
    with pytest.raises(UsageError, match="choose another place"):
        export(store, tmp_path / "nowhere" / "out.csv", silent)


# --- Captures ---------------------------------------------------------------------------------------------------------


def burst_packet(seq: int, tag: bytes) -> bytes:
    """A compact burst packet in an advertisement, on the air."""
    frame = Frame(Profile.HARDENED, Kind.RAND_COMPACT, 0, seq, tag, bytes([seq]) * 16)
    data = capture.manufacturer_data(encode(frame))
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
    assert import_sources(store, sources, 5, Circumstances(distance_m=2.0), silent) == 2
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
        import_sources(store, sources, 3, Circumstances(), silent)


def test_captures_without_our_bursts_and_sources_of_no_kind_are_refused(store: Store, tmp_path: Path) -> None:
    with capture.PcapngWriter(tmp_path / "empty.pcapng"):
        pass
    for sources, words in (
        ([f"bob={tmp_path}/empty.pcapng"], "no burst packet|no capture has"),
        ([f"bob={tmp_path}/none.pcapng"], "can't read"),
        (["bob.pcapng"], "can't tell what"),
        (["=x", "bob="], "LISTENER=CAPTURE"),
        ([f"bob={tmp_path}/empty.pcapng", f"bob={tmp_path}/empty.pcapng"], "LISTENER=CAPTURE"),
        ([f"{tmp_path}/none.csv"], "can't read"),
        ([f"{tmp_path}/none.json"], "can't read"),
    ):
        with pytest.raises(UsageError, match=words):
            import_sources(store, sources, None, Circumstances(), silent)
    assert store.runs() == []
