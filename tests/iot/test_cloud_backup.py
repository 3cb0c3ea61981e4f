"""A backup of a cloud at work, put back as docs/cloud.md says: it is as it was at that moment."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from test_cloud_command import cloud
from test_cloud_store import GATEWAY, NOW_MS, arrival, counts_of, reading

from bt_selfsecure.iot.cloud.sql import CloudDatabase
from bt_selfsecure.iot.cloud.store import DAY_MS, CloudStore

ON_DISK = "cloud.db", "cloud.db-wal", "cloud.db-shm"


def put_back(backup: Path, database_url: str, folder: Path) -> None:
    if database_url:
        program = shutil.which("pg_restore")
        assert program
        subprocess.run([program, "--clean", "--dbname", database_url, str(backup)], check=True)
        return
    for name in ON_DISK:
        (folder / name).unlink(missing_ok=True)
    shutil.copy(backup, folder / ON_DISK[0])


def test_a_backup_is_one_moment_of_a_cloud_at_work_and_put_back_it_goes_on_from_there(
    open_again: Callable[[], CloudDatabase], database_url: str, tmp_path: Path
) -> None:
    file, backup = tmp_path / "cloud.toml", tmp_path / "backup"
    file.write_text(f'[cloud]\nstate = "{tmp_path}"\ndatabase = "{database_url}"\n')
    base = open_again()
    store = CloudStore(base)
    for day in range(2):
        store.take([arrival(day + 1, reading(day))], NOW_MS + day * DAY_MS)
    assert cloud("backup", str(backup), "--config", str(file)).returncode == 0
    assert backup.stat().st_mode & 0o777 == 0o600
    for day in range(2, 4):  # one of them a partition that the backup does not know
        store.take([arrival(day + 1, reading(day))], NOW_MS + day * DAY_MS)
    assert "is there already" in cloud("backup", str(backup), "--config", str(file)).stderr

    if not database_url:  # a cloud that was cut leaves these; beside another cloud.db they would spoil it
        kept = {name: (tmp_path / name).read_bytes() for name in ON_DISK}
    base.close()
    if not database_url:
        for name, data in kept.items():
            (tmp_path / name).write_bytes(data)
    put_back(backup, database_url, tmp_path)

    base = open_again()
    store = CloudStore(base)
    assert counts_of(base) == [0, 1]
    assert store.take([arrival(5, reading(4))], NOW_MS) == [False], "records of a gateway are missing: refused"
    assert store.take([arrival(3, reading(2))], NOW_MS + 2 * DAY_MS) == [True]
    assert counts_of(base) == [0, 1, 2]
    assert base.execute("SELECT id FROM member WHERE role = 2") == [(GATEWAY.certificate.id,)]
    assert store.prune(NOW_MS + 30 * DAY_MS, 1, 1, 1) == 3
