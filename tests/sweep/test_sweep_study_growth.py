"""Memory of a study on a cluster by its points, and the ways in which Dask's processes reach each other."""

from __future__ import annotations

import datetime as dt
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from amounts import PEAK_KIB
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from test_sweep_study_cluster import Cluster

from bt_selfsecure.sweep import study

CLIENT = f"""if True:
    import sys
    from bt_selfsecure.cli.main import main
    assert main(["sweep", "study", *sys.argv[1:]]) == 0
    print({PEAK_KIB})
"""
SMALL = "[study]\ntrials = 2000\nbob_loss = [0.1, 0.2]\neve_loss = [0.05, 0.1]\npackets = [100]\n"

pytestmark = pytest.mark.long


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.end()


def peak_kib(process: subprocess.Popen[bytes]) -> int:
    """The most that a process which still runs has had in memory."""
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    return int(peak)


def test_client_and_scheduler_of_sixteen_times_the_points_take_hardly_more_memory(cluster: Cluster) -> None:
    clients, schedulers = [], []
    for points in (400, 1600, 6400):
        scheduler = cluster.scheduler()
        cluster.worker()
        losses = [round(0.1 + 0.8 * number / points, 6) for number in range(points)]
        grid = cluster.folder / f"{points}.toml"
        grid.write_text(f"[study]\ntrials = 10\nbob_loss = {losses}\neve_loss = [0.1]\npackets = [20]\n")
        child = [sys.executable, "-c", CLIENT, str(grid), "--scheduler", cluster.address]
        clients.append(int(subprocess.run(child, capture_output=True, text=True, check=True).stdout.split()[-1]))
        schedulers.append(peak_kib(scheduler))
    print(f"client {clients}, scheduler {schedulers} KiB")
    assert math.log(clients[2] / clients[0], 16) < 0.3
    assert math.log(schedulers[2] / schedulers[0], 16) < 0.3


def certificate(folder: Path) -> dict[str, Path]:
    """A key and a certificate that signs itself: both ends prove themselves by it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = {"cert": folder / "cert.pem", "key": folder / "key.pem"}
    files["cert"].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    files["key"].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return files


@pytest.mark.parametrize("protocol", ["tls", "ws"])
def test_a_study_reaches_a_cluster_by_each_of_dask_s_own_protocols(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    files = certificate(cluster.folder)
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    monkeypatch.setenv(f"{tls}CA_FILE", str(files["cert"]))
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        monkeypatch.setenv(f"{tls}{role}__CERT", str(files["cert"]))
        monkeypatch.setenv(f"{tls}{role}__KEY", str(files["key"]))
    cluster.scheduler(protocol=protocol)
    cluster.worker(protocol=protocol)
    grid = cluster.folder / "grid.toml"
    grid.write_text(SMALL)
    alone, there = cluster.folder / "alone.parquet", cluster.folder / "there.parquet"
    study.run(study.read_grid(grid), alone, None, lambda done, of: None)
    child = [sys.executable, "-c", CLIENT, str(grid), "--out", str(there), "--scheduler", cluster.address]
    assert cluster.address.startswith(f"{protocol}://")
    subprocess.run(child, capture_output=True, check=True)
    assert there.read_bytes() == alone.read_bytes()
