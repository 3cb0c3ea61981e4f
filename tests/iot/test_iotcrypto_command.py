"""The commands for certificates: what a company does, what a partner does, and each input that can't be used."""

from __future__ import annotations

import json
import random
import stat
from pathlib import Path

import pytest

from bt_selfsecure.cli.main import main
from bt_selfsecure.errors import UnreadableError
from bt_selfsecure.iot.folder import DAY_S, IdentityFolder, add_signature, read_signed
from bt_selfsecure.oob.qr import CodeKind, code_of, read_code
from bt_selfsecure.protocols.iotcrypto.canonical import MalformedError
from bt_selfsecure.protocols.iotcrypto.certificate import Role, SignedCertificate, id_on_label, label_of
from bt_selfsecure.protocols.iotcrypto.trust import TrustVerdict


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A company `acme` with a gateway `cellar` and a device `boiler`, in the working directory."""
    monkeypatch.chdir(tmp_path)
    company("acme")
    assert run("prepare", "cellar", "--role", "gateway", "--name", "cellar", state="acme") == 0
    assert run("prepare", "boiler", "--role", "device", "--name", "boiler", state="acme") == 0
    return tmp_path


def run(*words: str, state: str) -> int:
    return main(["iotcrypto", *words, "--state", state])


def company(name: str) -> None:
    assert run("key", "--network", "office", state=name) == 0
    assert run("certificate", "--role", "party", "--name", name, state=name) == 0


def verdict(who: str, by: str) -> TrustVerdict:
    signed = read_signed(Path(who))
    return IdentityFolder(Path(by)).trust().judge(signed, signed.certificate.created + 1).verdict


def test_a_member_that_was_prepared_trusts_the_others_and_is_trusted(there: Path) -> None:
    assert verdict("boiler", by="cellar") is verdict("cellar", by="boiler") is TrustVerdict.TRUSTED
    assert run("show", state="boiler") == 0
    assert {stat.S_IMODE(path.stat().st_mode) for path in there.glob("*/*")} == {0o600}


def test_who_is_revoked_is_not_trusted_once_the_list_is_there(there: Path) -> None:
    assert run("revoke", "boiler/certificate", state="acme") == 0
    assert run("show", "boiler", state="acme") == 1
    assert run("show", "boiler", state="other") == 0
    assert verdict("boiler", by="cellar") is TrustVerdict.TRUSTED
    assert run("trust", "--take", "acme/revocations.list", state="cellar") == 0
    assert verdict("boiler", by="cellar") is TrustVerdict.REVOKED
    assert run("trust", "--take", "acme/revocations.list", state="boiler") == 0
    assert run("show", state="boiler") == 1
    assert run("revoke", "boiler", "--undo", state="acme") == 0
    assert run("trust", "--take", "acme/revocations.list", state="cellar") == 0
    assert verdict("boiler", by="cellar") is TrustVerdict.TRUSTED


def test_two_companies_share_a_device_by_two_signatures(there: Path) -> None:
    company("other")
    assert run("prepare", "hall", "--role", "gateway", "--name", "hall", state="other") == 0
    assert verdict("boiler", by="hall") is verdict("hall", by="boiler") is TrustVerdict.UNTRUSTED
    assert run("sign", "boiler", state="other") == 0  # into the device's own file
    assert run("sign", "hall", "--list", state="acme") == 0  # or into the owner's list
    assert run("trust", "--take", "acme/signatures.list", state="boiler") == 0
    assert verdict("boiler", by="hall") is verdict("hall", by="boiler") is TrustVerdict.TRUSTED
    assert verdict("boiler", by="cellar") is TrustVerdict.TRUSTED


def test_a_partner_that_is_trusted_brings_all_whom_it_signs(there: Path) -> None:
    company("other")
    assert run("prepare", "lamp", "--role", "device", "--name", "lamp", state="other") == 0
    assert run("trust", "other", state="acme") == 0
    assert run("trust", "--take", "acme/parties.list", state="cellar") == 0
    assert verdict("lamp", by="cellar") is TrustVerdict.TRUSTED
    partner = read_signed(Path("other")).certificate.id.hex()
    assert run("trust", "--remove", partner, state="acme") == 0
    assert run("trust", "--take", "acme/parties.list", state="cellar") == 0
    assert verdict("lamp", by="cellar") is TrustVerdict.UNTRUSTED


def test_an_owner_is_compared_with_its_code(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("key", state="own") == run("certificate", "--role", "device", "--name", "own", state="own") == 0
    for who, status in (("acme", 0), ("cellar", 2)):
        capsys.readouterr()
        assert run("show", "--qr", state=who) == 0
        code = capsys.readouterr().out.splitlines()[-1]
        assert run("trust", "--owner", "acme", "--code", code, state="own") == status
    assert "don't trust it" in capsys.readouterr().err


LABEL = code_of(CodeKind.IOTCRYPTO_ID, label_of(bytes(range(16))))
LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
MISTYPED = {
    *(
        LABEL[:at] + letter + LABEL[at + 1 :]
        for at in range(6, len(LABEL))
        for letter in LETTERS
        if letter != LABEL[at]
    ),
    *(LABEL[:at] + LABEL[at + 1] + LABEL[at] + LABEL[at + 2 :] for at in range(6, len(LABEL) - 1)),
    *(LABEL[:length] for length in range(6, len(LABEL))),
    LABEL + "0",
    LABEL + "000",
} - {LABEL}


def test_a_code_that_is_mistyped_anywhere_is_of_no_id() -> None:
    assert len(MISTYPED) > 1200
    for typed in MISTYPED:
        with pytest.raises((UnreadableError, MalformedError)):
            id_on_label(read_code(typed, CodeKind.IOTCRYPTO_ID))


def test_a_code_that_is_mistyped_revokes_nobody(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for typed in random.Random(1).sample(sorted(MISTYPED), 20):
        assert run("revoke", typed, state="acme") == 2
    assert not (there / "acme/revocations.list").exists()
    assert "is wrong (its check does not fit): type it again" in capsys.readouterr().err
    assert run("show", "--qr", state="boiler") == 0
    assert run("revoke", capsys.readouterr().out.splitlines()[-1], state="acme") == 0
    assert verdict("boiler", by="acme") is TrustVerdict.REVOKED


def test_show_says_what_is_wrong_and_what_soon_will_be(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, owner = IdentityFolder(Path("boiler")), IdentityFolder(Path("acme"))
    for from_now, status, words in ((29 * DAY_S, 0, "expires in 28 days"), (-1, 1, "has expired")):
        old = folder.signed().certificate
        renewed = folder.secrets().certificate(Role.DEVICE, "boiler", old.created - 100, old.created + from_now)
        folder.put_signed(add_signature(SignedCertificate(renewed), owner.secrets().sign(renewed)))
        capsys.readouterr()
        assert run("show", state="boiler") == status
        assert words in capsys.readouterr().out
    assert run("certificate", "--role", "device", "--name", "boiler", state="boiler") == 0
    assert run("show", state="boiler") == 1
    assert "no trusted party has signed" in capsys.readouterr().out
    assert run("show", "--json", state="boiler") == 1
    assert json.loads(capsys.readouterr().out)["certificate"]["name"] == "boiler"


def test_show_prints_a_list_and_what_is_in_it(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boiler = read_signed(Path("boiler")).certificate.id.hex()
    assert run("revoke", boiler, state="acme") == 0
    capsys.readouterr()
    assert run("show", "acme/revocations.list", state="acme") == 0
    assert boiler in capsys.readouterr().out


BAD = [
    (["key"], "acme", "is there already"),
    (["key", "--network", "two words"], "fresh", "can't be a network's name"),
    (["certificate", "--role", "device", "--name", "x" * 33], "acme", "can't be certified"),
    (["certificate", "--role", "device", "--name", "x"], "fresh", "there is no key"),
    (["prepare", "lamp", "--role", "device", "--name", "lamp"], "boiler", "signs for nobody"),
    (["sign", "cellar"], "boiler", "signs for nobody"),
    (["sign", "nowhere"], "acme", "can't read"),
    (["sign", "boiler/key"], "acme", "is no certificate"),
    (["trust", "boiler"], "acme", "is no party"),
    (["trust"], "acme", "give one of FILE"),
    (["trust", "--remove", "00" * 16], "acme", "is not on the list"),
    (["trust", "--owner", "boiler"], "cellar", "is no party"),
    (["trust", "--take", "boiler/certificate"], "cellar", "is not taken"),
    (["revoke", "BTSS1:AAAA"], "acme", "is damaged"),
    (["revoke", "boiler", "--undo"], "acme", "is not revoked"),
    (["revoke", "boiler"], "cellar", "signs for nobody"),
    (["revoke", "acme"], "acme", "this owner itself"),
    (["revoke", "abc"], "acme", "no id (32"),
    (["sign", "--list", "boiler"], "cellar", "signs for nobody"),
    (["trust", "acme"], "cellar", "signs for nobody"),
    (["trust", "other", "--code", "00" * 16], "acme", "don't trust it"),
    (["trust", "--remove", "00" * 16, "--code", "00" * 16], "acme", "--code is compared"),
    (["prepare", "acme", "--role", "device", "--name", "lamp"], "acme", "is of the party 'acme'"),
    (["prepare", "boiler", "--role", "device", "--name", "lamp"], "acme", "is of the device 'boiler'"),
    (["certificate", "--role", "device", "--name", "lamp"], "acme", "is of the party 'acme'"),
    (["show"], "fresh", "there is no certificate"),
    (["show", "acme/certificate", "--qr", "--days", "3"], "acme", "unrecognized arguments"),
]


@pytest.mark.parametrize(("words", "state", "why"), BAD, ids=[" ".join(words)[:40] for words, _, _ in BAD])
def test_input_that_cant_be_used_is_told_in_one_line(
    there: Path, capsys: pytest.CaptureFixture[str], words: list[str], state: str, why: str
) -> None:
    company("other")
    before = {path: path.read_bytes() for path in there.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run(*words, state=state) == 2
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1
    assert {path: path.read_bytes() for path in there.rglob("*") if path.is_file()} == before


def test_a_certificate_without_a_key_is_not_said_to_have_a_wrong_name(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("certificate", "--role", "device", "--name", "x", state="fresh") == 2
    assert "printable" not in capsys.readouterr().err


def test_a_damaged_file_is_named(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("revoke", "boiler", state="acme") == 0
    for name in ("certificate", "key", "revocations.list", "network"):
        path = Path("acme", name)
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] if name != "network" else b"office")
        capsys.readouterr()
        status = run("prepare", "lamp", "--role", "device", "--name", "lamp", state="acme")
        said = capsys.readouterr().err
        assert (status, name in said) == (2, True), said
        path.write_bytes(whole)


def test_a_secret_that_others_may_read_is_refused(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("boiler/key").chmod(0o644)
    assert run("show", state="boiler") == 2
    assert "chmod 600" in capsys.readouterr().err
