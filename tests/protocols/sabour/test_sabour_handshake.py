"""M1 to M4 between the two ends, and what either makes of what is wrong."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from counted_bytes import counted
from sabour_ends import DEVICE, SERVER, STRANGER, Exchange, client, events, exchange, server

from bt_selfsecure.crypto import CCM_NONCE_BYTES, CCM_TAG_BYTES
from bt_selfsecure.errors import LocalError, UnreadableError, UsageError
from bt_selfsecure.protocols.sabour import limits
from bt_selfsecure.protocols.sabour.client import CLIENT_FRAMES, Client, ClientState
from bt_selfsecure.protocols.sabour.config import ClientConfig
from bt_selfsecure.protocols.sabour.enrolment import Enrolment, Identity
from bt_selfsecure.protocols.sabour.events import (
    Established,
    Failure,
    FrameRejected,
    HandshakeExpired,
    HandshakeFailed,
    UnknownDevice,
)
from bt_selfsecure.protocols.sabour.keys import NotAuthentic, OscoreContext, PayloadKey
from bt_selfsecure.protocols.sabour.messages import (
    Kind,
    Message,
    MessageError,
    Profile,
    decode,
    encode,
    peek_kind,
    size,
)
from bt_selfsecure.protocols.sabour.server import SERVER_FRAMES, Server
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import Rejection

EVERY = pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.value)
HARDENED = Profile.HARDENED


def established(end: Client | Server) -> Established:
    (event,) = [event for event in events(end) if isinstance(event, Established)]
    return event


@EVERY
def test_both_ends_hold_the_same_keys_after_four_messages(profile: Profile) -> None:
    done = exchange(profile)
    mine, theirs = established(done.client), established(done.server)
    assert [decode(profile, data).kind for data in done.said] == [Kind.M1, Kind.M2, Kind.M3, Kind.M4]
    assert mine.device_id == theirs.device_id == DEVICE.device_id
    if isinstance(mine.keys, OscoreContext):
        assert theirs.keys == replace(mine.keys, sender_id=mine.keys.recipient_id, recipient_id=mine.keys.sender_id)
    else:
        assert mine.keys == theirs.keys


def test_a_hardened_handshake_takes_204_bytes() -> None:
    assert [len(data) for data in exchange(HARDENED).said] == [41, 33, 65, 65]


@EVERY
def test_every_handshake_has_keys_of_its_own(profile: Profile) -> None:
    assert (
        len({established(Exchange(client(profile, seed=f"{n}"), server(profile)).run().client).keys for n in range(5)})
        == 5
    )
    assert (
        len({established(Exchange(client(profile), server(profile, seed=f"{n}")).run().client).keys for n in range(5)})
        == 5
    )


def test_an_oscore_context_has_the_sizes_and_the_different_ids_of_rfc_8613() -> None:
    keys = established(exchange(HARDENED).client).keys
    assert isinstance(keys, OscoreContext)
    assert (len(keys.master_secret), len(keys.master_salt)) == (16, 8)
    assert keys.sender_id != keys.recipient_id
    assert max(len(keys.sender_id), len(keys.recipient_id)) <= 7
    assert keys.master_secret.hex() not in repr(keys)
    assert str(keys.master_secret) not in repr(keys)


@pytest.mark.parametrize("profile", [Profile.PAPER_ECDSA, Profile.PAPER_HASH])
def test_the_response_is_opened_by_who_has_ssk_and_by_nobody_else(profile: Profile) -> None:
    done = exchange(profile)
    mine, theirs = established(done.client).keys, established(done.server).keys
    assert isinstance(mine, PayloadKey)
    assert isinstance(theirs, PayloadKey)
    sealed = theirs.seal(b'{"Data": []}', counted("nonce"))
    assert len(sealed) == len(b'{"Data": []}') + CCM_NONCE_BYTES + CCM_TAG_BYTES
    assert mine.open(sealed) == b'{"Data": []}'
    for cut in range(len(sealed)):
        with pytest.raises(NotAuthentic):
            mine.open(sealed[:cut])
        with pytest.raises(NotAuthentic):
            mine.open(sealed[:cut] + bytes([sealed[cut] ^ 1]) + sealed[cut + 1 :])
    with pytest.raises(LocalError):
        mine.seal(bytes(limits.MAX_PAYLOAD_BYTES + 1), counted("nonce"))


# --- who is not enrolled ----------------------------------------------------------------------------------------------


def test_a_hardened_server_is_silent_to_an_unknown_device_and_logs_it() -> None:
    done = Exchange(client(HARDENED), server(HARDENED, STRANGER)).run()
    assert [len(data) for data in done.said] == [41]
    assert events(done.server) == [UnknownDevice(DEVICE.device_id)]


def test_a_client_without_an_answer_gives_up_after_at_most_93_seconds_and_says_what_may_be_wrong() -> None:
    lonely = client(HARDENED)
    lonely.start(0.0)
    sent, now = 0, 0.0
    while (deadline := lonely.get_timer()) is not None:
        sent += len(lonely.frames_to_send(now))
        now = deadline
        lonely.handle_timer(now)
    assert (sent, lonely.state) == (5, ClientState.FAILED)
    assert 62 <= now <= 93
    assert events(lonely) == [HandshakeFailed(Failure.NO_ANSWER)]
    assert "may not know this device id" in Failure.NO_ANSWER.value


@pytest.mark.parametrize("profile", [Profile.PAPER_ECDSA, Profile.PAPER_HASH])
def test_a_paper_server_says_device_not_defined_and_goes_on_serving(profile: Profile) -> None:
    done = Exchange(client(profile, identity=STRANGER), server(profile)).run()
    assert done.said[1][1:] == b"Device not defined!"
    assert events(done.server) == [UnknownDevice(STRANGER.device_id)]
    assert events(done.client) == [HandshakeFailed(Failure.REFUSED)]
    again = Exchange(client(profile), done.server).run()
    assert established(again.client).keys == established(again.server).keys


def test_a_device_that_is_struck_off_after_its_m1_is_not_let_in() -> None:
    device, known = client(HARDENED), {DEVICE.device_id: DEVICE.enrolment.key}
    host = server(HARDENED)
    host = Server(replace(host.config, devices=known), EndpointContext(counted("server")))
    device.start(0.0)
    host.receive_frame(device.frames_to_send(0.0)[0], 0.0)
    known.clear()
    device.receive_frame(host.frames_to_send(0.0)[0], 0.0)
    host.receive_frame(device.frames_to_send(0.0)[0], 0.0)
    assert host.frames_to_send(0.0) == []
    assert [event.reason for event in events(host) if isinstance(event, FrameRejected)] == [Rejection.UNAUTHENTIC]


# --- who is not who he says -------------------------------------------------------------------------------------------


def test_a_stranger_with_the_id_of_a_device_is_not_believed() -> None:
    forger = Identity(DEVICE.device_id, STRANGER.seed)
    done = Exchange(client(HARDENED, identity=forger), server(HARDENED)).run()
    assert len(done.said) == 3
    assert [type(event) for event in events(done.server)] == [FrameRejected]


def test_a_server_whose_key_is_not_the_enrolled_one_is_not_believed() -> None:
    done = Exchange(client(HARDENED), server(HARDENED, identity=Identity(SERVER.device_id, STRANGER.seed))).run()
    assert not [event for event in events(done.client) if isinstance(event, Established)]
    assert not [event for event in events(done.server) if isinstance(event, Established)]


def test_a_server_that_was_enrolled_under_another_id_is_not_believed() -> None:
    done = Exchange(client(HARDENED), server(HARDENED, identity=Identity(STRANGER.device_id, SERVER.seed))).run()
    assert not [event for event in events(done.server) if isinstance(event, Established)]


@pytest.mark.parametrize("bit", [0x01, 0x80])
def test_a_message_with_any_octet_changed_ends_in_no_context_at_the_device(bit: int) -> None:
    """The highest bit of a share too, which X25519 does not look at: all that was said is in the transcript."""
    for which, whole in enumerate(exchange(HARDENED).said):
        for at in range(len(whole)):
            device, host = client(HARDENED), server(HARDENED)
            device.start(0.0)
            for number in range(4):
                sender, receiver = (host, device) if number % 2 else (device, host)
                for data in sender.frames_to_send(0.0):
                    changed = bytes([*data[:at], data[at] ^ bit, *data[at + 1 :]]) if number == which else data
                    receiver.receive_frame(changed, 0.0)
            assert device.state is not ClientState.ESTABLISHED, (which, at)
            believes = any(isinstance(event, Established) for event in events(host))
            assert believes is (which == 3), (which, at)


def test_a_signature_of_one_side_is_none_of_the_other() -> None:
    """M3 sent back as M4: the side is under the signature."""
    device = client(HARDENED)
    host = server(HARDENED)
    device.start(0.0)
    host.receive_frame(device.frames_to_send(0.0)[0], 0.0)
    device.receive_frame(host.frames_to_send(0.0)[0], 0.0)
    (m3,) = device.frames_to_send(0.0)
    device.receive_frame(bytes([0x24]) + m3[1:], 0.0)
    assert [event.reason for event in events(device) if isinstance(event, FrameRejected)] == [Rejection.UNAUTHENTIC]
    assert device.state is ClientState.PROVING


def test_forged_m2_that_are_first_do_not_keep_the_true_server_away() -> None:
    device, host = client(HARDENED), server(HARDENED)
    forgers = [server(HARDENED, identity=STRANGER, seed=f"forger {n}") for n in range(3)]
    device.start(0.0)
    (m1,) = device.frames_to_send(0.0)
    for end in (*forgers, host):
        end.receive_frame(m1, 0.0)
        device.receive_frame(end.frames_to_send(0.0)[0], 0.0)
    for m3 in device.frames_to_send(0.0):
        host.receive_frame(m3, 0.0)
    for m4 in host.frames_to_send(0.0):
        device.receive_frame(m4, 0.0)
    assert device.state is ClientState.ESTABLISHED


def test_a_flood_of_m2_leaves_a_bounded_number_of_m3() -> None:
    device = client(HARDENED)
    device.start(0.0)
    (m1,) = device.frames_to_send(0.0)
    for number in range(50):
        forger = server(HARDENED, identity=STRANGER, seed=f"forger {number}")
        forger.receive_frame(m1, 0.0)
        device.receive_frame(forger.frames_to_send(0.0)[0], 0.0)
    assert len(device.frames_to_send(0.0)) == limits.MOST_ANSWERS
    device.handle_timer(5.0)
    assert len(device.frames_to_send(5.0)) == 1 + limits.MOST_ANSWERS


# --- what comes again -------------------------------------------------------------------------------------------------


def test_a_replayed_m1_and_m3_let_nobody_in_and_are_told() -> None:
    host = server(HARDENED)
    tape = Exchange(client(HARDENED), host).run().said
    events(host)
    host.handle_timer(200.0)
    host.receive_frame(tape[0], 200.0)
    assert [len(data) for data in host.frames_to_send(200.0)] == [33]
    host.receive_frame(tape[2], 200.0)
    host.handle_timer(300.0)
    assert host.frames_to_send(300.0) == []
    assert [type(event) for event in events(host)] == [FrameRejected, HandshakeExpired]
    assert host.half_open == 0
    assert host.get_timer() is None


@EVERY
def test_every_message_twice_changes_nothing(profile: Profile) -> None:
    device, host = client(profile), server(profile)
    device.start(0.0)
    for _ in range(6):
        for sender, receiver in ((device, host), (host, device)):
            for data in sender.frames_to_send(0.0):
                receiver.receive_frame(data, 0.0)
                receiver.receive_frame(data, 0.0)
    assert established(device).device_id == established(host).device_id


# --- floods -----------------------------------------------------------------------------------------------------------


def test_a_flood_of_m1_leaves_a_bounded_number_of_handshakes_and_the_device_gets_through() -> None:
    devices = [Identity.generate(counted(f"device {n}")) for n in range(20)]
    host = server(HARDENED, DEVICE, *devices)
    for round_ in range(10):
        for number, named in enumerate(devices):
            stranger = client(HARDENED, identity=named, seed=f"{round_} {number}")
            stranger.start(0.0)
            host.receive_frame(stranger.frames_to_send(0.0)[0], 0.0)
    assert host.half_open == limits.MOST_HALF_OPEN
    assert len(host.frames_to_send(0.0)) == limits.MOST_FRAMES
    done = Exchange(client(HARDENED), host).run()
    assert done.client.state is ClientState.ESTABLISHED


def test_a_flood_in_one_name_displaces_no_other_device() -> None:
    host = server(HARDENED, DEVICE, STRANGER)
    device = client(HARDENED)
    device.start(0.0)
    host.receive_frame(device.frames_to_send(0.0)[0], 0.0)
    device.receive_frame(host.frames_to_send(0.0)[0], 0.0)
    for number in range(100):
        flood = client(HARDENED, identity=STRANGER, seed=f"{number}")
        flood.start(0.0)
        host.receive_frame(flood.frames_to_send(0.0)[0], 0.0)
    host.frames_to_send(0.0)
    assert Exchange(device, host).go_on(0.0).client.state is ClientState.ESTABLISHED


def test_nothing_that_a_server_sends_to_a_stranger_is_longer_than_what_he_sent() -> None:
    assert size(HARDENED, Kind.M2) <= size(HARDENED, Kind.M1)


# --- the driver's mistakes --------------------------------------------------------------------------------------------


def test_an_enrolment_record_is_id_and_key_and_comes_back_as_it_was() -> None:
    record = DEVICE.enrolment.encode()
    assert len(record) == 40
    assert Enrolment.decode(record) == DEVICE.enrolment
    assert DEVICE.seed.hex() not in record.hex()
    assert str(DEVICE.seed) not in repr(DEVICE)


@pytest.mark.parametrize("length", [0, 39, 41])
def test_an_enrolment_record_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(UnreadableError, match=f"40 bytes .*this has {length}"):
        Enrolment.decode(bytes(length))


def test_a_hardened_client_without_the_servers_record_is_refused() -> None:
    with pytest.raises(UsageError, match="the server's enrolment record"):
        ClientConfig(DEVICE)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"timeout": 0.0}, "timeout"),
        ({"retransmissions": 17}, "0 to 16"),
        ({"identity": Identity(b"", b"")}, "an id of 8 bytes"),
    ],
)
def test_a_value_out_of_range_is_named(more: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ClientConfig(**{"identity": DEVICE, "server": SERVER.enrolment, **more})


def test_a_client_starts_once_and_when_closed_sends_no_more() -> None:
    device = client(HARDENED)
    device.start(0.0)
    with pytest.raises(LocalError, match="START is impossible in GREETING"):
        device.start(0.0)
    device.close(1.0)
    assert device.frames_to_send(1.0) == []
    assert device.get_timer() is None
    assert events(device) == [HandshakeFailed(Failure.CLOSED)]


def test_a_server_when_closed_has_forgotten_every_handshake() -> None:
    done = exchange(HARDENED)
    done.server.close(1.0)
    assert done.server.get_timer() is None
    done.server.receive_frame(done.said[2], 2.0)
    assert done.server.frames_to_send(2.0) == []


@EVERY
def test_a_closed_server_answers_nothing_more(profile: Profile) -> None:
    """Neither an M1 that it knows or not, nor an id that is not enrolled, nor an M3."""
    done = exchange(profile)
    stranger = client(profile, identity=STRANGER)
    stranger.start(0.0)
    done.server.close(1.0)
    events(done.server)
    for data in [*done.said, *stranger.frames_to_send(0.0)]:
        done.server.receive_frame(data, 2.0)
        assert done.server.frames_to_send(2.0) == []
        assert done.server.get_timer() is None
    assert {type(event) for event in events(done.server)} == {FrameRejected}


@EVERY
def test_the_key_log_and_no_trace_has_the_keys(profile: Profile) -> None:
    lines, trace = list[str](), list[str]()
    context = EndpointContext(counted("c"), lambda step: trace.append(step.to_json()), lines.append)
    device = Client(ClientConfig(DEVICE, SERVER.enrolment, profile), context)
    keys = established(Exchange(device, server(profile)).run().client).keys
    secret = keys.master_secret if isinstance(keys, OscoreContext) else keys.key
    assert [secret.hex() in line for line in lines] == [True]
    assert len(trace) == 3
    assert secret.hex() not in "".join(trace)


# --- tables -----------------------------------------------------------------------------------------------------------


def test_every_handler_in_a_table_is_a_method_and_every_method_for_messages_is_in_a_table() -> None:
    named = {row.handler for row in CLIENT_FRAMES.values()}
    assert {name for name in vars(Client) if re.match("_receive_", name)} == named
    assert {name for name in vars(Server) if re.match("_receive_", name)} == set(SERVER_FRAMES.values())
    assert {*CLIENT_FRAMES, *SERVER_FRAMES} == set(Kind)


@EVERY
def test_what_is_encoded_is_decoded_and_no_other_length_is(profile: Profile) -> None:
    for data in exchange(profile).said:
        assert encode(profile, decode(profile, data)) == data
        for other in (data[:-1], data + b"\0", b""):
            with pytest.raises(MessageError):
                decode(profile, other)


def test_a_message_that_the_profile_lacks_or_of_a_wrong_size_is_the_drivers_mistake() -> None:
    with pytest.raises(LocalError, match="has no REFUSAL"):
        encode(HARDENED, Message(Kind.REFUSAL))
    with pytest.raises(LocalError, match="M3: a field"):
        encode(HARDENED, Message(Kind.M3, signature=bytes(63)))


def test_the_program_on_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[3] / "docs/protocols/sabour.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(program, {})
    assert capsys.readouterr().out.startswith("Established(device_id=b")


@pytest.mark.parametrize("profile", [Profile.PAPER_ECDSA, Profile.PAPER_HASH], ids=lambda profile: profile.value)
def test_events_that_strangers_cause_at_will_are_bounded_also_where_paper_believes_them(profile: Profile) -> None:
    host = server(profile)
    for number in range(limits.MOST_EVENTS + 10):
        Exchange(client(profile, seed=f"{number}"), host).run()
    assert len(events(host)) == limits.MOST_EVENTS


@EVERY
def test_the_first_octet_names_the_kind_and_no_other_octet_does(profile: Profile) -> None:
    assert [peek_kind(data) for data in exchange(profile).said] == [Kind.M1, Kind.M2, Kind.M3, Kind.M4]
    assert [peek_kind(bytes([octet])) for octet in (0x00, 0x10, 0x31, 0x25, 0xF1)] == [None] * 5
    assert peek_kind(bytes([0x15])) is Kind.REFUSAL
    assert peek_kind(b"") is None
