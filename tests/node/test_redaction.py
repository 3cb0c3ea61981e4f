"""No device can be known from a redacted text."""

from __future__ import annotations

import json
import pwd
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_selfsecure.node.redaction import Redactor
from bt_selfsecure.node.report import redactor

addresses = st.binary(min_size=6, max_size=6)
SPELLINGS = (
    lambda octets: ":".join(octets),
    lambda octets: "-".join(octets).lower(),
    lambda octets: "/org/bluez/hci0/dev_" + "_".join(octets),
    lambda octets: "(" + ":".join(octets).lower() + ")",
)


@pytest.mark.parametrize(
    "text",
    [
        '[node]\nname = "mias-node"\n[[peer]]\nname = "annas-pump"\naddress = "b8-27-eb-12-34-56"\n',
        'node.name = "mias-node"\npeer = [{ name = "annas-pump", address = "B8:27:EB:12:34:56" }]\n',
        """\ufeff[node]\n"name" = 'mias-node'\n[[ peer ]]\n\tname='annas-pump'\n\taddress='B8:27:EB:12:34:56'\n""",
        '[node]\nname = "mias-node"\nnonsense\n[[peer]]\nname = "annas-pump"\naddress = "B8:27:EB:12:34:56"\n',
    ],
    ids=["tables", "braces", "quoted keys", "a wrong file"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_what_a_configuration_names_is_known_however_it_is_written(text: str, encoding: str, tmp_path: Path) -> None:
    """Also where no node can run with it: the log has the names from before."""
    (config := tmp_path / "node.toml").write_text(text, encoding=encoding)
    told = redactor(config)("mias-node sees annas-pump at B8:27:EB:12:34:56")
    assert told == "<this node> sees <peer 1> at <address of peer 1>"


def test_whoever_has_confirmed_a_peer_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    someone = pwd.struct_passwd(("mia", "x", 1001, 1001, "", "/srv/people/mia", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [someone])
    told = redactor(tmp_path / "none.toml")('"by": "mia" confirmed (string) by mia /srv/people/mia')
    assert told == '"by": "<user>" confirmed (string) by <user> <home>'


@pytest.mark.parametrize("file", ["annas-pump", "annas-pump.key"])
def test_a_peer_stays_that_peer_where_its_key_file_has_its_name(file: str, tmp_path: Path) -> None:
    key = f'authentication_key_file = "/keys/{file}"\n'
    (config := tmp_path / "node.toml").write_text(f'[[peer]]\n{key}name = "annas-pump"\n')
    assert redactor(config)("annas-pump: linked").startswith("<peer 1>: linked")
    (config := tmp_path / "node.toml").write_text(f'[[peer]]\nname = "annas-pump"\n{key}')
    assert redactor(config)("annas-pump: linked").startswith("<peer 1>: linked")


def test_names_beyond_ascii_are_found_as_json_has_them() -> None:
    redact = Redactor({"k\u00fcche": "<peer 1>"}, {})
    assert redact(json.dumps({"name": "k\u00fcche"}) + "k\u00dcche") == '{"name": "<peer 1>"}<peer 1>'


@given(st.lists(addresses, min_size=1, max_size=5), st.data())
def test_no_address_is_left_in_any_spelling_and_the_same_device_stays_the_same(
    devices: list[bytes], data: st.DataObject
) -> None:
    words = []
    for device in devices:
        spelling = data.draw(st.sampled_from(SPELLINGS))
        words.append(spelling([f"{octet:02X}" for octet in device]))
    told = Redactor({}, {})(" seen\nfrom ".join(words))
    for device in devices:
        for separator in ":_-":
            assert separator.join(f"{octet:02x}" for octet in device) not in told.lower()
    assert told.count("<device") == len(devices)
    assert f"<device {len(set(devices))}>" in told
    assert f"<device {len(set(devices)) + 1}>" not in told


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pi-123456: linked", "<peer 1>: linked"),
        ("pi-123456.local or xpi-123456", "<peer 1>.local or xpi-123456"),
        ("b8:27:eb:12:34:56 is bob", "<address of peer 1> is <peer 2>"),
        ("b827eb123456 is known, deadbeef0000 not", "<address of peer 1> is known, deadbeef0000 not"),
        ("fe80::ba27:ebff:fe12:3456%bt0", "<link-local address>%bt0"),
        ("/home/jane.doe/btss/x.py", "/home/<user>/btss/x.py"),
        ("at 12:34:56:78 and 2026-11-21T13:03:43+0000", "at 12:34:56:78 and 2026-11-21T13:03:43+0000"),
        ("bobsled stays, bob goes", "bobsled stays, <peer 2> goes"),
        ("Bob's peer_bob of bob-2.key", "<peer 2>'s peer_<peer 2> of <peer 2>-2.key"),
        ("/keys/keys_pi-123456 /keys/mypi-123456key", "/keys/keys_<peer 1> /keys/my<peer 1>key"),
        ("bt-selfsecure-sweep@pi\\x2d123456.service", "bt-selfsecure-sweep@<peer 1>.service"),
        ("B827.EB12.3456 and b8 27 eb 12 34 56", "<address of peer 1> and <address of peer 1>"),
        ("(0xb8, 0x27, 0xeb, 0x12, 0x34, 0x56)", "(<address of peer 1>)"),
        ("b'\\xb8\\x27\\xeb\\x12\\x34\\x56'", "b'<address of peer 1>'"),
        ("56:34:12:EB:27:B8 as HCI has it", "<address of peer 1> as HCI has it"),
        ("2001:db8::ba27:ebff:fe12:3456", "<address of a link>"),
        ("id 0123456789abcdef0123456789abcdef", "id <digits>"),
        ("0x0123456789ABCDEF0123, X'0123456789ABCDEF'", "<digits>, X'<digits>'"),
        ("at 1764390000123456, 1764390000 and 0123456789ab", "at 1764390000123456, 1764390000 and 0123456789ab"),
    ],
)  # fmt: skip
def test_names_and_other_spellings_have_stand_ins(text: str, expected: str) -> None:
    redact = Redactor({"pi-123456": "<peer 1>", "bob": "<peer 2>"}, {"B8:27:EB:12:34:56": "<address of peer 1>"})
    assert redact(text) == expected
    assert redact(expected) == expected


def test_where_nodes_are_on_a_network_is_not_told_either(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(
        '[udp]\nlisten = "192.168.1.5:5700"\n[[peer]]\nname = "bob"\nudp = "[2001:DB8:0::7]:5701"\n'
        '[[peer]]\nname = "carol"\nudp = "127.0.0.1:5702"\n[[peer]]\nname = "dave"\nudp = "nonsense"\n'
    )
    redact = redactor(config)
    assert redact("udp 192.168.1.5:5700 works") == "udp <IP address of this node>:5700 works"
    assert redact("at [2001:db8::7]:5701: nobody") == "at [<IP address of peer 1>]:5701: nobody"
    assert redact('udp = "[2001:DB8:0::7]:5701"') == 'udp = "[<IP address of peer 1>]:5701"'
    assert redact("at 127.0.0.1:5702") == "at 127.0.0.1:5702"
    assert redact("at 192.168.1.50:5702") == "at 192.168.1.50:5702"
