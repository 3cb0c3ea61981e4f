"""The configuration: what is wrong is named with file, line and key, and what is printed reads back as the same."""

from __future__ import annotations

import argparse
import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from amounts import part_of
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_selfsecure.bearers.places import UdpPlaces
from bt_selfsecure.bearers.specs import BearerSpec
from bt_selfsecure.cli import config as command
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.config import (
    Config,
    EstablishTable,
    IpspTable,
    L2capTable,
    NodeTable,
    PeerTable,
    RfcommTable,
    SessionTable,
    UdpTable,
    authentication_key,
    bearer_spec,
    udp_places,
)
from bt_selfsecure.node.config_file import ConfigFile, check, load, parse, read, render
from bt_selfsecure.node.haoxiao.endpoint_config import establish_config, session_config
from bt_selfsecure.node.tables import Origin, key_of, places
from bt_selfsecure.node.where import find_path
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.session_config import Durability

FILE = Path("node.toml")
ALICE = bytes.fromhex("B827EB000001")
BOB = '[[peer]]\nname = "bob"\naddress = "B8:27:EB:00:00:02"\n'
CAROL = '[[peer]]\nname = "carol"\naddress = "B8:27:EB:00:00:03"\n'
UDP = """\
[node]
address = "B8:27:EB:00:00:01"
[session]
bearer = "udp"
[establish]
bearer = "udp"
"""
AT_BOB = 'udp = "127.0.0.1:5701"\n'


def parsed(text: str) -> Config:
    file = parse(text, FILE)
    check(file)
    return file.config


def fault(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        parsed(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_empty_file_gives_every_default() -> None:
    config = parsed("")
    assert config == Config()
    assert (config.node.adapter, config.node.accept, config.node.max_links) == ("hci0", "configured", 16)
    assert (config.establish.bearer, config.session.bearer) == ("le_advert", "rfcomm")
    assert config.peer == ()


def test_values_are_read_and_addresses_get_their_usual_spelling() -> None:
    config = parsed('[session]\nomega = 3\ntimeout_ms = 250\n[[peer]]\nname = "bob"\naddress = "b8:27:eb:00:00:02"\n')
    assert (config.session.omega, config.session.timeout_ms) == (3, 250.0)
    (bob,) = config.peer
    assert (bob.address, bob.identity, bob.dial) == ("B8:27:EB:00:00:02", bytes.fromhex("B827EB000002"), "auto")
    assert config.find_peer("bob") is config.find_peer("b8:27:eb:00:00:02") is bob
    assert config.find_peer("carol") is None


FAULTS = [
    ("[sesion]", "node.toml:1: [sesion] is an unknown table: do you mean session?"),
    ("\n[session]\n\nomeg = 3", "node.toml:4: [session] omeg is an unknown key: do you mean omega?"),
    ("[session]\nomega = 99", "node.toml:2: [session] omega is 99 and must be 1 to 15"),
    ("[session]\nomega = 3.0", "node.toml:2: [session] omega is 3.0 and must be a whole number"),
    ("[session]\nomega = true", "node.toml:2: [session] omega is true and must be a whole number"),
    ("session.omega = []", "node.toml:1: [session] omega is a list and must be a whole number"),
    ("session = 3", "node.toml:1: [session] must be a table: write [session] on a line of its own"),
    (
        "[node]\nadapter = 'usb'",
        'node.toml:2: [node] adapter is "usb" and must be an adapter, as in "hci0" or "B8:27:EB:12:34:56"',
    ),
    ('[node]\nsocket = "run/x"', "must be an absolute path of at most 107 bytes"),
    ('[node]\nsocket = "/\\u0000"', "must be an absolute path of at most 107 bytes"),
    ('[node]\nsocket = "/' + 107 * "x" + '"', "must be an absolute path of at most 107 bytes"),
    ("[node]\nmax_links = 0x" + 5000 * "f", "node.toml:2: [node] max_links is a number beyond 64 bits and must be 1"),
    ("[establish]\neve_loss_bound = 0", "node.toml:2: [establish] eve_loss_bound is 0 and must be above 0"),
    ("[establish]\neve_loss_bound = nan", "is nan and must be above 0 and at most 1"),
    ("[establish]\ninterval_ms = inf", "is inf and must be 0 to 10,000 ms"),
    ("[establish]\ninterval_ms = 0x1" + 400 * "0", "is a number beyond 64 bits and must be 0 to 10,000 ms"),
    ("[l2cap]\npsm = 4098", "is 4098 and must be an odd number"),
    ("[discovery]\nscan = 1", "node.toml:2: [discovery] scan is 1 and must be true or false"),
    ('[establish]\nbearer = "wifi"', 'is "wifi" and must be le_advert, rfcomm, l2cap, ipsp'),
    ('[session]\nbearer = "rfcomm#31"', 'is "rfcomm#31", whose number must be 0 to 30'),
    ('[session]\nbearer = "l2cap#4098"', "whose number must be an odd number"),
    ('[session]\nbearer = "le_advert"', "is le_advert, whose 24 bytes hold no message: take rfcomm"),
    ("[session]\ntimeout_ms = 20000", "node.toml:1: [session] does not fit together: timeout must be above 0 and at"),
    ("[establish]\nburst = 500\nmax_burst = 400", "[establish] does not fit together: burst sizes must be"),
    ("[establish]\neve_loss_bound = 1e-4", "takes 887,185 packets where an eavesdropper misses 0.0001 of them"),
    ('[establish]\nprofile = "paper"', 'profile is "paper", which has no X25519: add exchange_shares = false'),
    (
        f'{BOB}authentication_key_file = "/k"\n[establish]\nprofile = "paper"\nexchange_shares = false',
        "node.toml:4: [[peer]] number 1: authentication_key_file can't be used with the profile",
    ),
    ("[peer]\nname = 'bob'", "node.toml:1: [peer] must be written [[peer]], with two brackets, once for each peer"),
    ('[[peer]]\nname = "bob"', 'node.toml:1: [[peer]] number 1 needs address: add a line address = "..."'),
    (f"{BOB}\n{CAROL}dail = 1", "node.toml:8: [[peer]] number 2: dail is an unknown key: do you mean dial?"),
    (f"{BOB}\n{CAROL}dial = 'no'", 'node.toml:8: [[peer]] number 2: dial is "no" and must be one of "auto", "always"'),
    ('[session]\nbearer = "udp#5700"', 'is "udp#5700" and must be le_advert, rfcomm, l2cap, ipsp'),
    (
        '[session]\nbearer = "faults:loss=2;udp"',
        'or udp, perhaps with losses that are drawn, as in "faults:loss=0.1;udp"',
    ),
    (
        '[establish]\nbearer = "faults:loss=0.1;rfcomm"',
        'or udp, perhaps with losses that are drawn, as in "faults:loss',
    ),
    ('[udp]\nlisten = "here:5700"', 'must be an IP address with a UDP port, as in "127.0.0.1:5700"'),
    (f'{BOB}udp = "127.0.0.1"', 'node.toml:4: [[peer]] number 1: udp is "127.0.0.1" and must be an IP address with a'),
    (UDP.replace("address = ", "#"), "node.toml:4: [session] bearer is udp: a node without a radio needs [node] addr"),
    (
        UDP.replace("udp", "rfcomm", 1),
        "node.toml:2: [node] address is for a node without a radio, and this one has its",
    ),
    (UDP.replace('"udp"', '"faults:loss=0.1;udp"', 1), 'node.toml:6: [establish] bearer must be "faults:loss=0.1;udp"'),
    (UDP + BOB, 'node.toml:7: [[peer]] number 1 needs udp = "127.0.0.1:5701" or wherever it listens, since udp is a'),
    (UDP + BOB + 'udp = "127.0.0.1:5700"', "node.toml:10: [[peer]] number 1: udp is this node's own: each node has"),
    (UDP + BOB.replace("02", "01") + AT_BOB, "node.toml:9: [[peer]] number 1: address is this node's own"),
    ('[node]\nadapter = "b8:27:eb:00:00:02"\n' + BOB, "node.toml:5: [[peer]] number 1: address is this node's own"),
    (
        UDP + BOB + 'udp = "[::1]:5701"',
        "node.toml:10: [[peer]] number 1: udp can't be reached from [udp] listen = \"127",
    ),
    (
        UDP + BOB + AT_BOB + CAROL + AT_BOB,
        "node.toml:14: [[peer]] number 2: udp is that of another peer already (line 10",
    ),
    (BOB + BOB, "node.toml:5: [[peer]] number 2: name is that of another peer already (line 2)"),
    (BOB + CAROL.replace("03", "02"), "node.toml:6: [[peer]] number 2: address is that of another peer already"),
    (BOB.replace("B8:27:EB:00:00:02", "FF:FF:FF:FF:FF:FF"), "must be a device address"),
    (BOB.replace('"bob"', '"b/b"'), 'name is "b/b" and must be 1 to 64 letters'),
    (BOB.replace("B8", "B8" + 100 * "0"), "00000... and must be a device address"),
    ("[session\n", "node.toml:1: not TOML: "),
    ('\n\n[node]\nname = "x', "node.toml:4: not TOML: "),
    ("[node]\nmax_links = " + 5000 * "9", "not TOML: "),
    ("x = " + 3000 * "[", "nests more deeply"),
]


@pytest.mark.parametrize(("text", "words"), FAULTS, ids=range(len(FAULTS)))
def test_a_fault_is_named_with_its_line_key_and_remedy(text: str, words: str) -> None:
    assert words in fault(text)


@pytest.mark.parametrize("bearer", ["udp", "faults:loss=0.1,duplicate=0.01;udp"])
def test_two_nodes_on_udp_need_no_adapter_and_each_others_places(bearer: str) -> None:
    config = parsed(UDP.replace('"udp"', f'"{bearer}"') + BOB + AT_BOB)
    assert not config.needs_adapter
    places = UdpPlaces("B8:27:EB:00:00:01", "127.0.0.1:5700", {"B8:27:EB:00:00:02": "127.0.0.1:5701"})
    assert udp_places(config, config.node.address) == places


@pytest.mark.parametrize(
    ("session", "establish"), [("udp", "le_advert"), ("faults:loss=0.1;udp", "rfcomm"), ("l2cap", "udp")]
)
def test_udp_and_a_radio_go_together_under_the_adapters_address(session: str, establish: str) -> None:
    text = f'[session]\nbearer = "{session}"\n[establish]\nbearer = "{establish}"\n{BOB}{AT_BOB}'
    assert parsed(text).needs_adapter
    assert "needs udp =" in fault(text.replace(AT_BOB, ""))


def test_an_unknown_key_without_a_near_one_is_told_the_known_ones() -> None:
    assert "the known ones are channel, pair" in fault("[rfcomm]\nzzz = 1")


def test_lines_are_right_whatever_way_the_file_is_written() -> None:
    text = '''# a comment with [session] in it
node = { adapter = "hci1", max_links = 3 }
session.omega = 3
[establish]
bearer = """
l2cap"""  # [not.a.table]
"burst" = 300

[[ peer ]]
name = "bob"
[[peer]]
address = "x"
'''
    assert places(text) == {
        ("node",): 2,
        ("node", "adapter"): 2,
        ("node", "max_links"): 2,
        ("session",): 3,
        ("session", "omega"): 3,
        ("establish",): 4,
        ("establish", "bearer"): 5,
        ("establish", "burst"): 7,
        ("peer", 0): 9,
        ("peer", 0, "name"): 10,
        ("peer", 1): 11,
        ("peer", 1, "address"): 12,
    }


def test_peers_may_be_an_array_of_inline_tables() -> None:
    assert fault('peer = [\n  {name = "bob", address = "B8:27:EB:00:00:02"},\n  {name = "carol"},\n]').startswith(
        "node.toml:1: [[peer]] number 2 needs address"
    )


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_configuration_or_a_usage_error_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzz.toml"
    file.write_bytes(data)
    try:
        load(file)
    except UsageError as error:
        words = str(error)
    else:
        words = "fine"
    assert words.isprintable()


NAMES = [table.name for table in dataclasses.fields(Config)]
KEYS = sorted(
    {key.name for table in (EstablishTable, NodeTable, SessionTable, PeerTable) for key in dataclasses.fields(table)}
)
VALUES = ["1", "-1", "0", "1.5", "nan", "-inf", "true", '""', '"rfcomm"', '"é\\u202e"', "[]", "[[1]]", "{}",
          "{a.b = 1}", "1979-05-27", "0x" + "f" * 40, "1e400", '"""\n"""', "'hci1'"]  # fmt: skip
LINES = st.one_of(
    st.sampled_from(NAMES).map(lambda name: f"[{name}]"),
    st.sampled_from(NAMES).map(lambda name: f"[[{name}]]"),
    st.builds(lambda a, b: f"[{a}.{b}]", st.sampled_from(NAMES), st.sampled_from(KEYS)),
    st.builds(lambda key, value: f"{key} = {value}", st.sampled_from(KEYS + NAMES), st.sampled_from(VALUES)),
    st.builds(
        lambda a, b, value: f"{a}.{b} = {value}", st.sampled_from(NAMES), st.sampled_from(KEYS), st.sampled_from(VALUES)
    ),
)


@settings(max_examples=part_of(300))
@given(st.lists(LINES, max_size=8).map("\n".join))
def test_any_toml_is_a_configuration_or_a_usage_error_that_names_a_line(text: str) -> None:
    try:
        check(parse(text, FILE))
    except UsageError as error:
        words = str(error)
    else:
        words = "node.toml:1: fine"
    found = re.match(r"node\.toml:(\d+): ", words)
    assert found
    assert 1 <= int(found[1]) <= text.count("\n") + 1
    assert words.isprintable()


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
CANDIDATES: dict[str, list[Any]] = {
    "bool": [False, True],
    "int": [0, 1, 2, 15, 30, 255, 4097, 4353, 65_279, 10**15],
    "float": [0.0, 0.001, 0.1 + 0.2, 1.0, 128.5, 1e3, 86_400.0],
    "str": [
        "",
        "hci7",
        "x.y_z-",
        "anyone",
        "paper",
        "every-W",
        "rfcomm#3",
        "ipsp",
        "debug",
        "faults:loss=.1;udp",
        "[::1]:9",
    ],
    "Path": [Path("/"), Path('/a "quoted" \\ \t\x7f path'), Path("/é\u202e")],
}
"""By the type of a key; each takes those that its rule accepts."""


def tables(table: type) -> st.SearchStrategy[Any]:
    """Tables with any mixture of values."""
    keys = {
        field.name: st.sampled_from(
            [value for value in CANDIDATES[str(field.type)] if field.metadata["rule"].accepts(value)]
        )
        for field in dataclasses.fields(table)
    }
    return st.builds(table, **(keys | {"socket_group": TEXT} if table is NodeTable else keys))


CONFIGS = st.builds(
    Config,
    node=tables(NodeTable),
    establish=tables(EstablishTable),
    session=tables(SessionTable),
    rfcomm=tables(RfcommTable),
    l2cap=tables(L2capTable),
    ipsp=tables(IpspTable),
    udp=tables(UdpTable),
    peer=st.just((PeerTable("bob", "B8:27:EB:00:00:02"), PeerTable("carol", "B8:27:EB:00:00:03", "never", "/k")))
    | st.just(()),
)


@settings(max_examples=part_of(50))
@given(CONFIGS, st.booleans())
def test_what_is_printed_reads_back_as_the_same_configuration(config: Config, origin: bool) -> None:
    everything = dict.fromkeys(
        [
            (table.name, key.name)
            for table in dataclasses.fields(Config)
            if table.name != "peer"
            for key in dataclasses.fields(getattr(config, table.name))
        ]
        + [("peer", number, key.name) for number in range(2) for key in dataclasses.fields(PeerTable)],
        1,
    )
    printed = render(ConfigFile(config, Origin(FILE, everything)), origin=origin)
    again = parse(printed, FILE)
    assert again.config == config
    assert render(again, origin=False) == render(ConfigFile(config, Origin(FILE, everything)), origin=False)


def test_the_printed_defaults_are_comments_that_hold_when_uncommented() -> None:
    printed = render(ConfigFile(Config(), Origin(FILE, {})))
    assert parse(printed, FILE).config == Config()
    uncommented = re.sub(r"^#(?! )", "", printed, flags=re.MULTILINE)
    assert parsed(uncommented) == dataclasses.replace(Config(), peer=(PeerTable("bob", "B8:27:EB:12:34:56"),))


def test_every_key_is_printed_with_a_sentence_and_its_origin() -> None:
    lines = render(parse(f"[session]\nomega = 3\n\n{BOB}", FILE), origin=True).splitlines()
    for table in dataclasses.fields(Config):
        head = lines.index("[[peer]]" if table.name == "peer" else f"[{table.name}]")
        end = next((n for n in range(head + 1, len(lines)) if lines[n].startswith("[")), len(lines))
        for key in dataclasses.fields(PeerTable if table.name == "peer" else getattr(Config(), table.name)):
            (number,) = [n for n in range(head, end) if re.match(rf"#?{key_of(key)} = ", lines[n])]
            assert lines[number - 1].startswith("# ")
            assert re.search(r"  # (default|node\.toml:\d+)$", lines[number])
    assert "omega = 3  # node.toml:2" in lines
    assert 'name = "bob"  # node.toml:5' in lines
    assert max(len(line) for line in lines if line.startswith("# ")) <= 80


# --- what the core and the bearers get --------------------------------------------------------------------------------


def test_the_core_gets_seconds_and_the_profile() -> None:
    config = parsed('[establish]\nprofile = "paper"\nexchange_shares = false\nbearer = "l2cap"\nburst = 100\n')
    core = establish_config(config, ALICE)
    assert (core.profile, core.interval, core.burst, core.compact) == (Profile.PAPER, 0.01, 100, False)
    assert (core.identity, core.authentication_key) == (ALICE, b"")
    session = session_config(parsed('[session]\ndurability = "every-W"\ntimeout_ms = 250\n'))
    assert (session.durability, session.timeout, session.checkpoint_rounds) == (Durability.EVERY_W, 0.25, 64)


def test_burst_packets_are_compact_and_slow_only_where_they_are_advertised() -> None:
    bearers = {bearer: establish_config(parsed(f'[establish]\nbearer = "{bearer}"'), ALICE) for bearer in
               ("le_advert", "l2cap", "rfcomm#3", "ipsp")}  # fmt: skip
    assert {bearer: core.interval for bearer, core in bearers.items()} == {
        "le_advert": 0.03, "l2cap": 0.01, "rfcomm#3": 0.005, "ipsp": 0.005,
    }  # fmt: skip
    assert [bearer for bearer, core in bearers.items() if core.compact] == ["le_advert"]
    assert establish_config(parsed("[establish]\ninterval_ms = 50"), ALICE).interval == 0.05


def test_only_configured_peers_are_admitted_unless_anyone_is() -> None:
    stranger = bytes.fromhex("B827EB000009")
    core = establish_config(parsed(BOB), ALICE)
    assert core.admit(bytes.fromhex("B827EB000002"))
    assert not core.admit(stranger)
    assert establish_config(parsed('[node]\naccept = "anyone"'), ALICE).admit(stranger)


@pytest.mark.parametrize(
    "written", ["B8:27:EB:12:34:56", "b8:27:eb:12:34:56", "B8-27-EB-12-34-56", "b8-27-eb-12-34-56"]
)
def test_the_adapter_may_be_named_by_its_address(written: str) -> None:
    assert parsed(f'[node]\nadapter = "{written}"').node.adapter == "B8:27:EB:12:34:56"


@pytest.mark.parametrize(
    "written", ["b8:27:eb:12:34", "00:00:00:00:00:00", "B8-27-EB-12-34", "usb-1", "hci", "HCI0", ""]
)
def test_what_is_no_adapter_is_refused_by_its_line(written: str) -> None:
    with pytest.raises(UsageError, match=r":2: \[node\] adapter is .* and must be an adapter, as in"):
        parsed(f'[node]\nadapter = "{written}"')


def test_a_bearers_own_number_comes_before_that_of_its_table() -> None:
    config = parsed('[node]\nadapter = "hci1"\n[rfcomm]\nchannel = 4\n')
    assert bearer_spec(config, "rfcomm") == BearerSpec("rfcomm", number=4, adapter="hci1")
    assert bearer_spec(config, "rfcomm#3") == BearerSpec("rfcomm", number=3, adapter="hci1")
    assert bearer_spec(config, "le_advert") == BearerSpec("le_advert", adapter="hci1")
    assert bearer_spec(config, "l2cap").number == 4097
    assert bearer_spec(config, "rfcomm", "hci2") == BearerSpec("rfcomm", number=4, adapter="hci2")


# --- the authentication key -------------------------------------------------------------------------------------------


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "bob.key"
    file.write_bytes(bytes(range(32)))
    file.chmod(0o600)
    return file


def peer_with(file: Path) -> PeerTable:
    return PeerTable("bob", "B8:27:EB:00:00:02", authentication_key_file=str(file))


def test_an_authentication_key_is_the_files_bytes(key_file: Path) -> None:
    assert authentication_key(peer_with(key_file)) == bytes(range(32))
    assert authentication_key(PeerTable("bob", "B8:27:EB:00:00:02")) == b""


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o620, 0o601])
def test_a_key_that_others_can_reach_is_refused(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    with pytest.raises(UsageError, match=rf"is open to other users \(mode {mode:04o}\): chmod 600 "):
        authentication_key(peer_with(key_file))


@pytest.mark.parametrize("size", [0, 15, 4097])
def test_a_key_of_another_size_is_refused(key_file: Path, size: int) -> None:
    key_file.write_bytes(bytes(size))
    with pytest.raises(UsageError, match="and must have 16 to 4096: head -c 32 /dev/urandom"):
        authentication_key(peer_with(key_file))


def test_a_missing_key_is_named_with_its_peer(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"can't read the authentication key of bob, .*/none: No such file"):
        authentication_key(peer_with(tmp_path / "none"))


# --- files and commands -----------------------------------------------------------------------------------------------


def test_the_file_is_the_given_one_or_the_environments_or_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BT_SELFSECURE_CONFIG", raising=False)
    assert find_path(None) == Path("/etc/bt-selfsecure/node.toml")
    monkeypatch.setenv("BT_SELFSECURE_CONFIG", "/tmp/other.toml")
    assert find_path(None) == Path("/tmp/other.toml")
    assert find_path(FILE) == FILE


def test_files_that_can_not_be_read_are_refused_in_one_line(tmp_path: Path) -> None:
    for content, words in ((b"\n\n\xff", r":3: is not UTF-8"), (b"#" * 70_000, "has more than 64 KiB")):
        (file := tmp_path / "node.toml").write_bytes(content)
        with pytest.raises(UsageError, match=words):
            read(file)
    with pytest.raises(UsageError, match="Is a directory"):
        read(tmp_path)
    with pytest.raises(UsageError, match=r"there is no .*/none: `bt-selfsecure config show` prints one to begin with"):
        read(tmp_path / "none")


BOM = "\ufeff"
IN_QUOTES = '[node]\nadapter = "hci1"\n'


@pytest.mark.parametrize(
    "content",
    [
        (BOM + IN_QUOTES).encode(),
        IN_QUOTES.replace("\n", "\r\n").encode(),
        (BOM + IN_QUOTES.replace("\n", "\r\n")).encode(),
        IN_QUOTES.replace(" = ", "\t=\t").replace("adapter", "\tadapter").encode(),
        IN_QUOTES.rstrip().encode(),
    ],
    ids=["BOM", "CR LF", "BOM and CR LF", "tabs", "no end of line"],
)
def test_what_editors_add_to_a_file_changes_nothing(content: bytes, tmp_path: Path) -> None:
    (file := tmp_path / "node.toml").write_bytes(content)
    assert read(file).config.node.adapter == "hci1"
    assert read(file).origin.line(("node", "adapter")) == 2


@pytest.mark.parametrize("order", ["", "-le", "-be"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
@pytest.mark.parametrize("text", [IN_QUOTES, BOM + IN_QUOTES], ids=["bare", "BOM"])
def test_an_encoding_of_more_bytes_is_called_by_its_name_with_the_remedy(
    encoding: str, order: str, text: str, tmp_path: Path
) -> None:
    (file := tmp_path / "node.toml").write_bytes(text.encode(encoding + order))
    often = ", as editors on Windows write it" if encoding == "utf-16" else ""
    with pytest.raises(UsageError, match=rf"node\.toml is in {encoding.upper()}{often}: save it as UTF-8"):
        read(file)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("adapter = \u201chci0\u201d", '2: not TOML: Invalid value; \u201c (U+201C) must be "'),
        ("adapter = \u2018hci0\u2019", "\u2018 (U+2018) must be '"),
        ("adapter\u00a0= 'hci0'", "; (U+00A0) must be a plain space"),
        ("max_links = \u22123", "\u2212 (U+2212) must be -"),
        ("adapter = hci0", "2: not TOML: Invalid value"),
    ],
)
def test_a_typeset_character_that_toml_does_not_take_is_named(line: str, words: str) -> None:
    assert fault(f"[node]\n{line}\n").endswith(words)


def test_a_typeset_character_inside_quotes_is_no_fault_of_the_file() -> None:
    assert "U+2019" not in fault("[node]\nname = 'caf\u2019e'")


@pytest.mark.parametrize("spelling", ["b8:27:eb:00:00:02", "B8-27-EB-00-00-02", "b8-27-eb-00-00-02"])
def test_an_address_is_taken_in_the_spellings_of_all_systems(spelling: str) -> None:
    config = parse(BOB.replace("B8:27:EB:00:00:02", spelling), FILE).config
    assert config.peer[0].address == "B8:27:EB:00:00:02"
    assert config.find_peer(spelling) is config.peer[0]


def run(*words: str) -> int:
    parser = argparse.ArgumentParser(prog="bt-selfsecure")
    command.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["config", *words])
    status: int = args.run(args)
    return status


def test_check_says_what_is_right(tmp_path: Path, key_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file := tmp_path / "node.toml").write_text(f'{BOB}authentication_key_file = "{key_file}"\n{CAROL}')
    assert run("check", str(file)) == 0
    out = capsys.readouterr().out
    assert "keys over le_advert, sessions over rfcomm" in out
    assert "2 peers, 1 with an authentication key" in out


@pytest.mark.parametrize("verb", ["check", "show"])
def test_the_file_is_named_as_at_other_commands_or_alone(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file := tmp_path / "node.toml").write_text(BOB)
    assert run(verb, "--config", str(file)) == run(verb, str(file)) == 0
    out = capsys.readouterr().out
    assert out[: len(out) // 2] == out[len(out) // 2 :]
    for words in (["--config", str(tmp_path / "none")], [str(tmp_path / "none")]):
        with pytest.raises(UsageError, match="there is no"):
            run(verb, *words)
    with pytest.raises(UsageError, match="named twice"):
        run(verb, str(file), "--config", str(file))


def test_check_names_the_fault_and_prints_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file := tmp_path / "node.toml").write_text("[session]\nomega = 99\n")
    with pytest.raises(UsageError, match=rf"^{file}:2: \[session\] omega is 99 and must be 1 to 15$"):
        run("check", str(file))
    file.write_text(f'{BOB}authentication_key_file = "{tmp_path}/none"\n')
    with pytest.raises(UsageError, match="can't read the authentication key of bob"):
        run("check", str(file))
    assert capsys.readouterr().out == ""


def test_show_prints_what_show_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bt_selfsecure.node.where.DEFAULT_PATH", tmp_path / "none.toml")
    monkeypatch.delenv("BT_SELFSECURE_CONFIG", raising=False)
    assert run("show") == 0
    printed = capsys.readouterr().out
    (file := tmp_path / "node.toml").write_text(printed + BOB)
    assert run("show", "--origin", str(file)) == 0
    assert f'name = "bob"  # {file}:{printed.count(chr(10)) + 2}' in capsys.readouterr().out


def test_reading_the_configuration_imports_neither_the_cipher_nor_asyncio() -> None:
    code = (
        "import sys, bt_selfsecure.node.config_file as c; c.parse('', None); "
        "print({'asyncio', 'cryptography'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
