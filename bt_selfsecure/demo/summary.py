"""What a run amounts to: one object of plain figures for programs, and a block of lines for people. Without secrets."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Final

from bt_selfsecure import __version__
from bt_selfsecure.demo.outcome import CONFIDENCE, Outcome
from bt_selfsecure.demo.setting import SURVEY_PACKETS, Production, StoryRequest
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.stats.losses import clopper_pearson
from bt_selfsecure.wording import counted

WIDTH: Final = 80
LIMITS: Final = (
    "The bits hold against a passive Eve at the places where her loss was measured, and for losses of single packets "
    "independent of each other. Nobody is authenticated unless both people compare the digits above."
)
LIMITS_OF_A_BROKEN_KEY: Final = (
    "Comparing the digits finds somebody in the middle, who has another key with each end. It does not find this Eve: "
    "she has the K_0 that both ends have, and their digits are equal."
)


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """This is one run that is over."""

    production: Production
    outcome: Outcome
    command: str
    """The command line that shows it again."""
    naive_parted_at: int | None = None
    """Message after which the naive reading of the lost ACK parted the keys over these losses."""
    naive_shown: bool = False


def air(request: StoryRequest) -> str:
    """Return where the losses come from, in a few words."""
    if request.model is not None:
        return f"model {request.model}"
    source = "office recording" if request.recording is None else f"recording {request.recording.name}"
    eves = " + ".join(request.eves)
    return f"{source}, position {request.position}; Bob is {request.bob}, Eve {eves}"


def as_object(run: FinishedRun) -> dict[str, object]:
    """Return the content of summary.json. Losses are shares of 1, `eve_missed_given_bob` is a count of packets."""
    outcome, production, joint = run.outcome, run.production, run.outcome.joint
    request, survey = production.request, production.survey
    return {
        "version": __version__,
        "command": run.command,
        "profile": outcome.profile,
        "bearer": request.bearer,
        "seed": request.seed,
        "air": air(request),
        "eves": len(production.eves),
        "attack": request.attack,
        "success": outcome.success,
        "verdict": outcome.verdict,
        "established": outcome.established,
        "equal_keys": outcome.equal_keys,
        "eve_has_key": outcome.eve_has_key,
        "authenticated": outcome.authenticated,
        "failure": outcome.failure,
        "attacks_reported": outcome.attacks_reported,
        "fingerprint": outcome.fingerprint,
        "sas": outcome.sas,
        "sent": joint.sent,
        "received": joint.received,
        "eve_missed_given_bob": joint.bob_only,
        "eve_received_not_bob": joint.eve_only,
        "neither_received": joint.neither,
        "secret_bits": outcome.secret_bits,
        "planned_bits": outcome.planned_bits,
        "target_bits": outcome.target_bits,
        "d": joint.d,
        "e": joint.e,
        "e_given_b": joint.e_given_bob,
        "e_given_b_low": outcome.e_given_bob_low,
        "confidence": CONFIDENCE,
        "loss_correlation": joint.phi,
        "eve_loss_bound": outcome.eve_loss_bound,
        "survey": {
            "packets": SURVEY_PACKETS,
            "received": survey.joint.received,
            "eve_missed_given_bob": survey.joint.bob_only,
            "e_given_b_low": survey.bound,
        },
        "file_bytes": outcome.file_bytes,
        "file_sha256_sent": outcome.file_sha256_sent,
        "file_sha256_received": outcome.file_sha256_received,
        "rounds": outcome.rounds,
        "retransmissions": outcome.retransmissions,
        "stolen_at": outcome.stolen_at,
        "rounds_read": len(outcome.read),
        "rounds_until_thief_is_out": outcome.rounds_until_thief_is_out,
        "naive_reading_parted_at": run.naive_parted_at,
        "virtual_seconds": round(outcome.seconds, 6),
    }


def closing(run: FinishedRun, width: int = WIDTH) -> list[str]:
    """Return the block at the end, of which no line is wider than `width` columns."""
    rows = [*_key_rows(run.outcome), *_session_rows(run), *_flaw_rows(run)]
    rows += [("verdict", run.outcome.verdict), ("limits", limits(run.outcome))]
    return [line for label, text in rows for line in _row(label, text, width)]


def limits(outcome: Outcome) -> str:
    """Return what the figures of this run do not say."""
    return LIMITS_OF_A_BROKEN_KEY if outcome.eve_has_key else LIMITS


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _row(label: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=f"  {label:<14}", subsequent_indent=" " * 16)


def _key_rows(outcome: Outcome) -> list[tuple[str, str]]:
    joint = outcome.joint
    if not joint.received:
        return [("key", f"not established: {outcome.failure}")]
    low, high = clopper_pearson(joint.bob_only, joint.received)
    if outcome.established:
        equal = "equal at both ends" if outcome.equal_keys else "DIFFERENT at the two ends"
        rows = [("key", f"established, {equal}; fingerprint {outcome.fingerprint}"), ("compare aloud", outcome.sas)]
        in_key = "packets are in the key"
    else:
        rows, in_key = [("key", f"not established: {outcome.failure}")], "packets reached Bob"
    if outcome.eve_has_key:
        struck = ": those that she had missed were struck out" if outcome.attacks_reported else ""
        bits = f"none: Eve holds K_0 ({outcome.planned_bits:.0f} by the bound given to Alice, against an Eve who only "
        return [
            *rows,
            ("|S|", f"{joint.received} of {joint.sent} {in_key}"),
            ("Eve missed", f"{joint.bob_only} of those{struck}"),
            ("secret bits", f"{bits}listens); target {outcome.target_bits:g} missed"),
        ]
    missed = f"{joint.bob_only} of those, e|B = {percent(joint.e_given_bob)} (95 % interval {percent(low)} to "
    planned = f"{outcome.planned_bits:.0f} by the bound given to Alice (e|B >= {percent(outcome.eve_loss_bound)})"
    proved = "reached" if outcome.secret_bits >= outcome.target_bits else "not proved"
    target = f"target {outcome.target_bits:g} {proved if outcome.established else 'missed: there is no key'}"
    return [
        *rows,
        ("|S|", f"{joint.received} of {joint.sent} {in_key}"),
        ("Eve missed", f"{missed}{percent(high)})"),
        ("secret bits", f"{outcome.secret_bits:.0f} measured in this burst, {planned}; {target}"),
    ]


def _session_rows(run: FinishedRun) -> list[tuple[str, str]]:
    outcome = run.outcome
    if not outcome.file_sha256_sent:
        return []
    equal = "SHA-256 equal at both ends" if outcome.delivered else "NOT delivered; SHA-256 of the original"
    return [
        ("file", f"{run.production.plot.file_name}, {outcome.file_bytes} bytes, {equal}: {outcome.file_sha256_sent}"),
        ("session", f"{counted(outcome.rounds, 'round')}, {counted(outcome.retransmissions, 'retransmission')}"),
        ("Eve, with K_0" if outcome.eve_has_key else "stolen key", thief(outcome)),
    ]


def thief(outcome: Outcome) -> str:
    """Return what became of the stolen key, or of the K_0 that she computed."""
    read, rounds = counted(len(outcome.read), "message"), outcome.rounds_until_thief_is_out
    key = "nothing was stolen" if outcome.eve_has_key else f"K_{outcome.stolen_at} was handed to Eve"
    if rounds is None:
        return f"{key}; she read {read} and was still in when the file was over"
    return f"{key}; she read {read}, and was out after {counted(rounds, 'round')}"


def _flaw_rows(run: FinishedRun) -> list[tuple[str, str]]:
    outcome = run.outcome
    if run.production.request.attack is None:
        return []
    came = steering(outcome, run.production.request.profile)
    rows = [("steering", f"{came} Contradicting packets reported: {outcome.attacks_reported}.")]
    return [*rows, ("lost ACK", naive(run))] if run.naive_shown else rows


def steering(outcome: Outcome, profile: Profile) -> str:
    """Return what came of forged packets. Without a contradiction none met a packet of Alice's, whatever she forged."""
    if not outcome.attacks_reported:
        hers = "K_0 is hers without it" if outcome.eve_has_key else "she does not hold K_0"
        return f"No forged packet contradicted one of Alice's, so that nothing was struck out; {hers}."
    if outcome.eve_has_key:
        came = "Bob struck them out, and K_0 is hers"
    elif outcome.established:
        came = "she does not hold K_0"
    else:
        came = "the establishment came to nothing"
    on = {
        Profile.PAPER: " Both ends go on, as the paper has it.",
        Profile.HARDENED: " What is not in Alice's list Bob drops, and both go on.",
    }
    return f"Eve forged the packets that she had missed; {came}.{on[profile] if outcome.established else ''}"


def naive(run: FinishedRun) -> str:
    """Return the paper's other flaw, beside what this program did over the same losses."""
    if run.naive_parted_at is None:
        parted = "the naive reading of [14] and [15] met no lost ACK that parts the keys"
    else:
        parted = f"read naively, [14] and [15] parted the two keys for ever at message {run.naive_parted_at}"
    if not run.outcome.rounds:
        return f"{parted}."
    return f"{parted}; ours, over the same losses: still together after {counted(run.outcome.rounds, 'round')}."
