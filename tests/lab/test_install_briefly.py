"""The installer in two minutes: one release, one Pi. `test_install.py` has the whole story, on both."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from installed_pi import DebianPis

pytestmark = pytest.mark.lab


def test_an_ordinary_user_installs_a_node_and_its_unit_is_active() -> None:
    with tempfile.TemporaryDirectory(prefix="btss-") as place:
        pis = DebianPis(Path(place) / "lab", ["trixie"])
        try:
            said = pis.as_user(
                "trixie", "sudo pi_setup/install --wheelhouse /lab/wheels --peer B8:27:EB:12:34:56"
            ).check()
            assert "installed" in said
            assert pis.show("trixie", "ActiveState") == "active"
            status = pis.as_user("trixie", "bt-selfsecure status --json").check()
            assert '"pi-123456"' in status
        finally:
            pis.lab.end()
