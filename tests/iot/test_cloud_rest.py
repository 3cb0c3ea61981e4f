"""REST as strangers, viewers and owners have it: tokens, roles, rates, HTTPS, and schemathesis against all of it."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from cloud_network import Rest, cloud_at
from iot_network import Sensor, company, device_at, enrolled, gateway_at, gateway_config, until

from bt_selfsecure.errors import UsageError
from bt_selfsecure.iot.cloud import api
from bt_selfsecure.iot.cloud.api_operations import OPERATIONS
from bt_selfsecure.iot.cloud.config import read_config
from bt_selfsecure.iot.cloud.tokens import TokenRole
from bt_selfsecure.protocols.iotcrypto.certificate import Role


def filled(path: str) -> str:
    """A path of the description, with something in its holes."""
    return path.replace("{device}", "00" * 16).replace("{number}", "7").replace("{name}", "nobody")


def test_each_operation_is_for_its_role_and_those_above(tmp_path: Path) -> None:
    async def main() -> None:
        async with cloud_at(tmp_path) as running:
            holders = {role: running.rest(role.name.lower()) for role in TokenRole if role is not TokenRole.PARTNER}
            stranger, liar = Rest(running.url, ""), Rest(running.url, "btss_" + "x" * 43)
            for each in OPERATIONS.values():
                path, method = filled(each.operation.path), each.operation.method
                for rest in (stranger, liar):
                    status, told = await rest.ask(path, method)
                    assert (status == 401) == (each.role is not None), path
                    assert status != 401 or told["error"]
                for role, rest in holders.items():
                    status, _ = await rest.ask(path, method)
                    assert (status == 403) == (each.role is not None and role < each.role), (path, role)

    asyncio.run(main())


def test_a_token_counts_until_it_is_revoked_and_its_text_is_kept_nowhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with cloud_at(tmp_path) as running:
            owner = running.rest()
            _, told = await owner.ask("/v1/tokens?name=anna&role=viewer&days=1", "POST")
            anna = Rest(running.url, told["secret"])
            assert (await anna.get("/v1/network"))["role"] == "viewer"
            assert (await owner.ask("/v1/tokens?name=anna", "POST"))[0] == 409
            assert [each["name"] for each in (await owner.get("/v1/tokens"))["tokens"]] == ["anna", "owner"]
            for file in (tmp_path / "cloud").glob("cloud.db*"):
                assert told["secret"].encode() not in file.read_bytes()
            assert (await owner.ask("/v1/tokens/anna", "DELETE"))[0] == 204
            assert (await owner.ask("/v1/tokens/anna", "DELETE"))[0] == 404
            assert (await anna.ask("/v1/network"))[0] == 401

    asyncio.run(main())


def test_who_asks_too_often_is_told_to_wait_and_others_are_served(tmp_path: Path) -> None:
    async def main() -> None:
        async with cloud_at(tmp_path, requests_per_minute=5) as running:
            hasty, other = running.rest("viewer"), running.rest()
            seen = [(await hasty.ask("/v1/network"))[0] for _ in range(8)]
            assert seen[:5] == [200] * 5
            assert 429 in seen
            assert (await other.ask("/v1/network"))[0] == 200
            stranger = Rest(running.url, "nothing")
            assert {(await stranger.ask("/v1/network"))[0] for _ in range(70)} == {401, 429}
            assert (await other.ask("/v1/network"))[0] == 200

    asyncio.run(main())


@pytest.mark.parametrize(
    "path",
    [
        "/v1/devices?limit=0",
        "/v1/devices?limit=x",
        "/v1/devices?nonsense=1",
        "/v1/alerts?unseen=perhaps",
        "/v1/connections?at_ms=-1",
        "/v1/devices?limit=1&limit=2",
    ],
)
def test_a_query_that_is_wrong_is_refused_in_one_line(tmp_path: Path, path: str) -> None:
    async def main() -> None:
        async with cloud_at(tmp_path) as running:
            status, told = await running.rest().ask(path)
            assert status == 400
            assert "\n" not in told["error"]

    asyncio.run(main())


def test_https_is_by_an_authority_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with cloud_at(tmp_path, https="own") as running:
            url = running.url.replace("http:", "https:")
            trusting = ssl.create_default_context(cafile=str(tmp_path / "cloud/https/ca.crt"))
            async with aiohttp.ClientSession() as session:
                async with session.get(f"{url}/", ssl=trusting) as answer:
                    assert answer.status == 200
                with pytest.raises(aiohttp.ClientConnectorCertificateError):
                    await session.get(f"{url}/v1/health")

    asyncio.run(main())


def test_without_https_it_listens_on_this_computer_alone(tmp_path: Path) -> None:
    file = tmp_path / "cloud.toml"
    file.write_text('[api]\nlisten = ["0.0.0.0"]\nhttps = "off"\n')
    with pytest.raises(UsageError, match=r"cloud\.toml:3: .*proxy"):
        read_config(file)


def test_the_page_runs_nothing_but_its_own_script(tmp_path: Path) -> None:
    async def main() -> None:
        async with cloud_at(tmp_path) as running, aiohttp.ClientSession() as session:
            async with session.get(running.url) as answer:
                policy, text = answer.headers["Content-Security-Policy"], await answer.text()
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "http" not in text.replace("http://www.w3.org/2000/svg", "")

    asyncio.run(main())


@pytest.mark.long
def test_schemathesis_finds_nothing(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "STRANGERS_PER_MINUTE", 1_000_000)
    pytest.importorskip("schemathesis", reason="schemathesis is not installed: pip install -e .[dev]")

    async def main() -> None:
        owner = company(tmp_path)
        folder = enrolled(tmp_path, Role.GATEWAY, "cellar", owner)
        boiler = enrolled(tmp_path, Role.DEVICE, "boiler", owner)
        async with cloud_at(tmp_path, owner, database_url, requests_per_minute=1_000_000) as running:  # noqa: SIM117
            async with (
                gateway_at(folder, gateway_config(running.place)) as gateway,  # type: ignore[arg-type]
                device_at(boiler, Sensor(), gateway),
            ):
                await until(lambda: running.cloud.store and running.cloud.store.counts["readings"])
                command = [sys.executable, "-m", "schemathesis.cli", "run", f"{running.url}/v1/openapi.json"]
                token = running.rest().token
                command += ["--header", f"Authorization: Bearer {token}", "--max-examples", "30", "--seed", "1"]
                command += ["--exclude-checks", "missing_required_header", "--no-color", "--generation-deterministic"]
                process = await asyncio.create_subprocess_exec(
                    *command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
                )
                told, _ = await process.communicate()
                assert process.returncode == 0, told.decode()[-6000:]

    asyncio.run(main())
