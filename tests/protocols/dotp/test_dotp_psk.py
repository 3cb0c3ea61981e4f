"""D-OTP under DTLS: a key a session, each once, across restarts of both ends."""

from __future__ import annotations

import os

import pytest
from amounts import at_length
from dotp_pair import record

from bt_selfsecure.dtls.endpoint import Dtls
from bt_selfsecure.dtls.listener import DtlsListener
from bt_selfsecure.dtls.values import Credentials, DataReceived
from bt_selfsecure.errors import LocalError
from bt_selfsecure.protocols.dotp.keys import ExhaustedError, PaperKeys, Policy, Role
from bt_selfsecure.protocols.dotp.psk import RESERVED_SESSIONS, ClientKeys, ServerKeys
from bt_selfsecure.protocols.dotp.record import DotpRecord

PAIR = b"bracelet"
NR = Policy.PER_IO_NRPRNG
KINDS = pytest.mark.parametrize("policy", [None, *Policy])


def reserved(record: DotpRecord) -> tuple[ClientKeys, DotpRecord]:
    keys = ClientKeys(record, PAIR)
    return keys, keys.reserve()


@KINDS
def test_client_and_server_have_the_same_key_under_the_same_name(policy: Policy | None) -> None:
    client, _ = reserved(record(Role.CLIENT, policy))
    server = ServerKeys(record(Role.SERVER, policy), PAIR)
    names = []
    for _ in range(RESERVED_SESSIONS):
        identity, key = client.take()
        names.append(identity)
        assert server.look_up(identity) == key
        assert server.established(identity) is not None
        assert server.look_up(identity) is None
        assert server.established(identity) is None
    assert names[:2] == [b"bracelet/0", b"bracelet/1"]
    with pytest.raises(LocalError, match="no session is reserved"):
        client.take()


def test_a_session_takes_the_key_of_its_third_io() -> None:
    client, _ = reserved(record(Role.CLIENT, NR))
    keys = PaperKeys(1234, NR)
    assert [client.take()[1] for _ in range(2)] == [str(int.from_bytes(keys.key(n))).encode() for n in (2, 7)]


@pytest.mark.parametrize(
    "identity",
    [
        b"",
        b"bracelet",
        b"bracelet/",
        b"bracelet/-1",
        b"bracelet/00",
        b"other/0",
        b"bracelet/201",
        b"bracelet/" + b"9" * 99,
    ],
)
def test_a_name_that_is_none_of_the_pair_has_no_key(identity: bytes) -> None:
    assert ServerKeys(record(Role.SERVER, NR), PAIR).look_up(identity) is None


@KINDS
def test_a_name_far_ahead_that_a_stranger_says_takes_no_key_from_the_pair(policy: Policy | None) -> None:
    client, _ = reserved(record(Role.CLIENT, policy))
    server = ServerKeys(record(Role.SERVER, policy), PAIR)
    sessions = [client.take() for _ in range(RESERVED_SESSIONS)]
    assert server.established(sessions[-1][0]) is not None
    for ahead in range(RESERVED_SESSIONS, 400):
        server.look_up(PAIR + b"/%d" % ahead)
    assert all(server.look_up(identity) == key for identity, key in sessions[:-1])


def test_a_client_that_crashed_goes_on_after_what_it_had_reserved() -> None:
    client, written = reserved(record(Role.CLIENT))
    taken = {client.take() for _ in range(3)}
    again, _ = reserved(DotpRecord.from_json(written.to_json()))
    more = {again.take() for _ in range(3)}
    assert (b"bracelet/%d" % RESERVED_SESSIONS) in {identity for identity, _ in more}
    assert len({key for _, key in taken | more}) == 6


def test_no_session_is_left_when_the_numbers_are_used_up() -> None:
    client, written = reserved(record(Role.CLIENT, NR, 40))
    assert client.left == 51
    with pytest.raises(ExhaustedError):
        ClientKeys(written, PAIR).reserve()


@pytest.mark.parametrize("policy", [None, at_length(NR)])
def test_a_thousand_sessions_across_restarts_of_the_server(policy: Policy | None) -> None:
    """Each over DTLS, with its own key; one whose handshake came before is refused, restarted or not."""
    client = ClientKeys(record(Role.CLIENT, policy), PAIR)
    disk = record(Role.SERVER, policy).to_json()
    used: tuple[bytes, bytes] | None = None
    for number in range(1000):
        if number % 100 == 0:
            server = ServerKeys(DotpRecord.from_json(disk), PAIR)
            listener = DtlsListener(server.look_up, os.urandom, 0.0)
            if used:
                assert run(listener, used) is None
        if not client.left:
            client.reserve()
        used = client.take()
        identity = run(listener, used)
        assert identity == used[0]
        written = server.established(identity)
        assert written is not None
        disk = written.to_json()
    assert used is not None
    assert used[0] == b"bracelet/999"


def run(listener: DtlsListener, credentials: tuple[bytes, bytes]) -> bytes | None:
    """Return the identity under which a GET came through; None if none did."""
    client, server = Dtls.client(lambda _hint: Credentials(*credentials), 0.0), None
    for _ in range(4):
        for data in client.frames_to_send(0.0):
            if server is not None:
                server.receive_frame(data, 0.0)
                continue
            answer = listener.receive_frame(data, b"there", 0.0)
            if isinstance(answer, Dtls):
                server = answer
            else:
                for reply in answer:
                    client.receive_frame(reply, 0.0)
        for data in server.frames_to_send(0.0) if server else ():
            client.receive_frame(data, 0.0)
    if server is None or not client.established:
        return None
    client.send(b"GET", 0.0)
    for data in client.frames_to_send(0.0):
        server.receive_frame(data, 0.0)
    events = list(iter(server.next_event, None))
    assert events[-1] == DataReceived(b"GET")
    return credentials[0]
