"""What the helper of IPSP is asked for one of the kernel's interfaces."""

from __future__ import annotations

import errno
import platform
from pathlib import Path

import pytest

from bt_selfsecure.bearers.ipsp_helper import Helper


@pytest.mark.parametrize("name", ["eth0", "bt", "bt0/..", "../bt0", "bt1234", "bt0x"])
def test_routes_are_kept_on_no_interface_but_6lowpans(tmp_path: Path, name: str) -> None:
    assert Helper(tmp_path).obey(f"keep-routes {name}") == f"error {errno.EINVAL}"


@pytest.mark.parametrize("release", ["5.10.0-8-arm64", "6.1.0-50-rpi-v8", "6.7.12"])
def test_a_kernel_that_loses_nothing_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    assert Helper(tmp_path).obey("keep-routes bt999") == "ok"


@pytest.mark.parametrize("release", ["6.8.0", "6.12.117+rpt-rpi-v8", "7.0.0-rc1"])
def test_an_interface_that_has_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    assert Helper(tmp_path).obey("keep-routes bt999") == f"error {errno.ENODEV}"
