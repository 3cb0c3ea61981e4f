"""Studies on real processes of Dask, of which some die, come late, come back, or have what they should not."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bt_selfsecure.errors import UsageError
from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.sweep import study, study_cluster, study_pieces

GRID = """[study]
trials = 60_000
bob_loss = [0.1, 0.2]
eve_loss = [0.05, 0.1, 0.15, 0.2]
packets = [100, 200, 400]
correlation = [0.0, 0.1]
"""
OTHER_VERSION = "import bt_selfsecure\nbt_selfsecure.__version__ = '0.0.1'\n"
NO_NUMPY = "import sys\nsys.modules['numpy'] = None\n"
NO_PACKAGE = "import sys\nsys.modules['bt_selfsecure'] = None\n"
OTHER_FORM = "from bt_selfsecure.sweep import study_pieces\nstudy_pieces.answer = lambda batch: '{}'\n"
OTHER_PIECES = """from bt_selfsecure.sweep import study_pieces
ours = study_pieces.answer
study_pieces.answer = lambda batch: ours("[]")
"""
SOON_TIRED = """import sys
from bt_selfsecure.cli.main import main
from bt_selfsecure.sweep import study_cluster
study_cluster.CONNECT_S = 0.5
sys.exit(main())
"""
COUNTS_ITS_ANSWERS = """from bt_selfsecure.sweep import study_pieces
ours = study_pieces.answer
def answer(batch):
    with open("answers", "a") as file:
        file.write(".")
    return ours(batch)
study_pieces.answer = answer
"""


class Cluster:
    """A scheduler and workers on loopback, each a process of its own. `told` is what the study said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.address = ""
        self.told: list[str] = []
        self.when_told: Callable[[], object] = lambda: None

    def tell(self, what: str) -> None:
        self.told.append(what)
        if len(self.told) == 1:
            self.when_told()

    def _start(self, pattern: str, site: str, *arguments: str) -> tuple[subprocess.Popen[bytes], str]:
        at = self.folder / f"process{len(self.processes)}"
        at.mkdir()
        (at / "sitecustomize.py").write_text(site)
        log = at / "log"
        with log.open("wb") as output:
            command = [sys.executable, "-m", "dask", *arguments]
            process = subprocess.Popen(
                command, stdout=output, stderr=output, cwd=at, env=os.environ | {"PYTHONPATH": str(at)}
            )
        self.processes.append(process)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if found := re.search(pattern, log.read_text(errors="replace")):
                return process, found[1]
            time.sleep(0.05)
        raise AssertionError(log.read_text())

    def scheduler(self, site: str = "", port: str = "0", protocol: str = "tcp") -> subprocess.Popen[bytes]:
        arguments = ("scheduler", "--host", "127.0.0.1", "--port", port, "--protocol", protocol, "--no-dashboard")
        process, self.address = self._start(rf"Scheduler at:\s+({protocol}://\S+)", site, *arguments)
        return process

    def worker(self, site: str = "", protocol: str = "tcp") -> subprocess.Popen[bytes]:
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(self.folder))
        options += ("--protocol", protocol)
        process, _ = self._start(r"(Registered to)", site, "worker", self.address, *options)
        return process

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made, (port,) = Cluster(tmp_path), free_ports("127.0.0.1", 1)
    made.scheduler(port=str(port))
    yield made
    made.end()


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_pieces, "BATCH_S", 0.001)
    monkeypatch.setattr(study_cluster, "IN_FLIGHT", 8)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def require_the_same_bytes(cluster: Cluster, *events: Callable[[], object]) -> None:
    """Run the study alone and there, where the first of the `events` happens after a third, the next after two."""
    path = cluster.folder / "grid.toml"
    path.write_text(GRID)
    grid = study.read_grid(path)
    alone, there = cluster.folder / "alone.parquet", cluster.folder / "there.parquet"
    study.run(grid, alone, None, lambda done, of: None)
    happened = 0

    def after_a_third(done: int, of: int) -> None:
        nonlocal happened
        if happened < len(events) and done >= (happened + 1) * of // 3:
            happened += 1
            events[happened - 1]()

    study.run(grid, there, cluster.address, after_a_third, cluster.tell)
    assert happened == len(events)
    assert there.read_bytes() == alone.read_bytes()
    assert not list(cluster.folder.glob("*.pieces"))


def test_a_killed_worker_changes_no_byte(cluster: Cluster) -> None:
    dies = cluster.worker()
    cluster.worker()
    require_the_same_bytes(cluster, lambda: kill(dies))


@pytest.mark.long
def test_the_last_worker_gone_is_said_and_a_late_one_goes_on(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    dies = cluster.worker()
    cluster.when_told = cluster.worker
    require_the_same_bytes(cluster, lambda: kill(dies))
    assert [told.split(":")[-1] for told in cluster.told] == [
        " the study waits, and goes on when one is there",
        " the study goes on",
    ]


@pytest.mark.long
@pytest.mark.parametrize(("site", "what"), [(OTHER_VERSION, "bt_selfsecure 0.0.1"), (NO_NUMPY, "no numpy")])
def test_a_worker_with_other_versions_is_left_out_whenever_it_joins(cluster: Cluster, site: str, what: str) -> None:
    cluster.worker()
    require_the_same_bytes(cluster, lambda: cluster.worker(site))
    assert len([told for told in cluster.told if what in told]) == 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("site", "what"),
    [(OTHER_VERSION, r"bt_selfsecure 0\.0\.1"), (NO_NUMPY, "no numpy"), (NO_PACKAGE, "no bt_selfsecure")],
)
def test_a_cluster_of_other_versions_alone_is_refused_in_a_sentence(cluster: Cluster, site: str, what: str) -> None:
    cluster.worker(site)
    with pytest.raises(UsageError, match=f"no worker has .*: tcp://.* has .*{what}"):
        require_the_same_bytes(cluster)


@pytest.mark.long
@pytest.mark.parametrize(
    ("site", "what"),
    [
        (OTHER_FORM, "a worker failed .*not in our form"),
        (OTHER_PIECES, "a worker failed .*of other pieces"),
        (OTHER_VERSION + OTHER_FORM, r"no worker has .*: tcp://.* has bt_selfsecure 0\.0\.1"),
    ],
)
def test_an_answer_that_is_none_ends_the_study_in_a_sentence(cluster: Cluster, site: str, what: str) -> None:
    cluster.worker(site)
    with pytest.raises(UsageError, match=what):
        require_the_same_bytes(cluster)
    assert not cluster.told


@pytest.mark.long
def test_a_late_worker_is_used_also_where_another_was_left_out(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_cluster, "SILENCE_S", 0.05)
    monkeypatch.setattr(study_cluster, "IN_FLIGHT", 3)
    cluster.worker()
    require_the_same_bytes(cluster, lambda: cluster.worker(OTHER_VERSION), lambda: cluster.worker(COUNTS_ITS_ANSWERS))
    assert "left out" in cluster.told[0]
    (answers,) = cluster.folder.glob("*/answers")
    assert answers.stat().st_size > study_cluster.IN_FLIGHT  # those may still be anybody's


@pytest.mark.long
def test_the_last_worker_that_hangs_is_said_and_the_study_goes_on_with_it(cluster: Cluster) -> None:
    hangs = cluster.worker()
    cluster.when_told = lambda: hangs.send_signal(signal.SIGCONT)
    require_the_same_bytes(cluster, lambda: hangs.send_signal(signal.SIGSTOP))
    assert "no worker answers any more" in cluster.told[0]
    assert study_cluster.ANSWER_S + study_cluster.MUTE_S + study_cluster.SILENCE_S < 10


@pytest.mark.long
@pytest.mark.parametrize("returns", [False, True])
def test_a_worker_that_hangs_among_others_is_said_and_they_do_what_it_had(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, returns: bool
) -> None:
    """Dask itself would leave its tasks to it for five minutes."""
    hangs = cluster.worker()
    cluster.worker()
    if returns:
        cluster.when_told = lambda: hangs.send_signal(signal.SIGCONT)
    began = time.monotonic()
    require_the_same_bytes(cluster, lambda: hangs.send_signal(signal.SIGSTOP))
    assert time.monotonic() - began < 120
    (told,) = cluster.told
    assert "no answer any more from tcp://" in told
    assert "the other workers do what it had" in told


@pytest.mark.long
def test_a_worker_that_hangs_does_not_keep_the_study_from_leaving_another_one_out(cluster: Cluster) -> None:
    hangs = cluster.worker()
    cluster.worker()

    def then() -> None:
        hangs.send_signal(signal.SIGSTOP)
        cluster.worker(OTHER_VERSION)

    cluster.when_told = lambda: hangs.send_signal(signal.SIGCONT)
    require_the_same_bytes(cluster, then)
    assert "left out" in cluster.told[0]


@pytest.mark.long
@pytest.mark.parametrize("site", [OTHER_VERSION, NO_NUMPY, NO_PACKAGE])
def test_a_scheduler_needs_nothing_but_dask(cluster: Cluster, site: str) -> None:
    cluster.scheduler(site)
    cluster.worker()
    require_the_same_bytes(cluster)
    assert not cluster.told


@pytest.mark.long
def test_a_scheduler_that_dies_is_said_and_the_study_goes_on_when_it_is_back(cluster: Cluster) -> None:
    cluster.worker()

    def restart() -> None:
        cluster.scheduler(port=cluster.address.rpartition(":")[2])
        cluster.worker()

    cluster.when_told = restart
    require_the_same_bytes(cluster, lambda: kill(cluster.processes[0]))
    assert [told.rpartition(": ")[2] for told in cluster.told] == [
        "the study waits for it, and goes on when it is back",
        "the study goes on",
    ]


@pytest.mark.long
@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:1",
        "foo",
        "tcp://127.0.0.1",
        "http://127.0.0.1:8786",
        "tls://127.0.0.1:1",
        "127.0.0.1:99999",
        "ucx://127.0.0.1:5",
        "inproc://x",
        "ws://127.0.0.1:1",
    ],
)
def test_an_address_where_no_scheduler_can_be_used_is_said_in_one_line(tmp_path: Path, address: str) -> None:
    """In a process of its own, whose end shows what the library left open."""
    (tmp_path / "grid.toml").write_text(GRID)
    command = [sys.executable, "-c", SOON_TIRED, "sweep", "study", str(tmp_path / "grid.toml"), "--scheduler", address]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"at {address} (" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid.toml"]


@pytest.mark.long
def test_a_scheduler_that_hangs_from_the_beginning_is_said_in_one_line(cluster: Cluster) -> None:
    cluster.processes[0].send_signal(signal.SIGSTOP)
    (path := cluster.folder / "grid.toml").write_text(GRID)
    command = [sys.executable, "-c", SOON_TIRED, "sweep", "study", str(path), "--scheduler", cluster.address]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"at {cluster.address} (it takes the connection and does not answer)" in line


def cpu_s(pid: int) -> float:
    """What a process has used until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.long
@pytest.mark.parametrize("lost", ["nothing", "scheduler", "workers"])
def test_ctrl_c_ends_a_study_on_a_cluster_with_no_more_work_and_what_is_done_is_kept(
    cluster: Cluster, lost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it still does is bounded in CPU time, which does not grow with what else the computer does."""
    worker = cluster.worker()
    path = cluster.folder / "grid.toml"
    path.write_text(GRID.replace("60_000", "6_000_000"))
    command = [sys.executable, "-m", "bt_selfsecure.cli.main", "sweep", "study", str(path)]
    pieces = cluster.folder / "grid.parquet.pieces"
    with subprocess.Popen([*command, "--scheduler", cluster.address], stderr=subprocess.PIPE, text=True) as process:
        while not pieces.exists() or pieces.read_text().count("\n") < 5:
            time.sleep(0.01)
        said = []
        if lost != "nothing":
            kill(cluster.processes[0] if lost == "scheduler" else worker)
            assert process.stderr
            said = [process.stderr.readline()]
            time.sleep(1)
        began, used = time.monotonic(), cpu_s(process.pid)
        others = resource.getrusage(resource.RUSAGE_CHILDREN)
        process.send_signal(signal.SIGINT)
        process.wait(60)
        took, children = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        assert process.stderr
        said += process.stderr.read().splitlines()
    assert process.returncode == 130
    work = children.ru_utime - others.ru_utime + children.ru_stime - others.ru_stime - used
    with capsys.disabled():
        print(f"\nCtrl-C took {took:.2f} s, {work:.2f} s of them on a CPU")
    assert work < 0.1, "more than to say goodbye to the cluster"
    assert len(said) == 1 + (lost != "nothing"), said
    assert all(f"sweep study {path} --scheduler {cluster.address}" in line for line in said)
    assert pieces.read_text().count("\n") > 1
