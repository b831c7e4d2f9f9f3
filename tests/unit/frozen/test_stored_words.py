"""Words in database rows: one release writes them, and the next reads them."""

import json
import re
from hashlib import sha256

from tests.unit.frozen.provider import Json
from tests.unit.frozen.rows import column, polls_of, row_of
from tests.unit.frozen.snapshots import assert_words
from tests.unit.frozen.vtrix_scenario import RESUBMITTED_WARNING, SECOND_WAIT_NOTE

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def test_statuses_and_sources(vtrix: Json, vidu: Json) -> None:
    """Task statuses and the sources that settle a task."""
    statuses = column(vtrix, "tasks", "status") | column(vidu, "tasks", "status")
    passing = {"queued", "submitting"}  # a task that is submitted again and again has one of them at the end
    ends = {"completed", "failed", "canceled", "expired"}
    assert statuses & passing, "a task waits for its next submission"
    assert_words("task statuses", statuses | passing, {"in_progress", "in_doubt"} | ends | passing)
    assert_words("settled_by", column(vtrix, "tasks", "settled_by"), {"submit", "callback", "poll"})
    by = {task: row_of(vtrix, task)["settled_by"] for task in ("no", "called", "completed")}
    assert_words("settled_by", by.items(), {"no": "submit", "called": "callback", "completed": "poll"}.items())


def test_poll_outcomes(vtrix: Json, vidu: Json) -> None:
    """Each poll outcome is stored under its word."""
    expected = {
        "unavailable": "unwell",
        "refused": "refused",
        "unknown": "unknown",
        "throttled": "throttled",
        "foreign": "foreign",
        "conflicting": "foreign",
        "broken": "broken off",
        "doubt-billed": "not found",
        "completed": "completed",
        "failed": "failed",
        "running": "in_progress",
    }
    found = {task: next(iter(polls_of(vtrix, task)), None) for task in expected}
    assert_words("poll outcomes", found.items(), expected.items())
    assert_words("poll outcomes", column(vtrix, "polls", "outcome"), expected.values())
    assert_words("poll outcomes", polls_of(vidu, "canceled"), ["canceled"])


def test_inbox_verdicts(vtrix: Json) -> None:
    """Each callback has its verdict; rows inserted as `unread` are processed."""
    verdicts = {row["digest"]: row["verdict"] for row in vtrix["rows"]["inbox"]}
    kept = {(digest, verdict) for digest, verdict in verdicts.items() if digest.endswith("~kept")}
    assert_words("inbox verdicts", kept, {("nobody~1~kept", "quarantined"), ("running~1~kept", "broken")})
    assert_words("inbox verdicts", verdicts.values(), {"accepted", "unreadable", "quarantined", "broken"})
    garbled = f"garbled~1~{sha256(b'<html>').hexdigest()}"
    assert verdicts.get(garbled) == "unreadable", f"the digest {garbled} names an unreadable callback"
    headers = {name for row in vtrix["rows"]["inbox"] for name in json.loads(row["headers"])}
    assert_words("headers kept", headers, {"content-type", "user-agent"})


def test_event_types(vtrix: Json, vidu: Json) -> None:
    """Event types; `artifact.stored` is checked with the events of handlers."""
    types = column(vtrix, "events", "type") | column(vidu, "events", "type")
    named = ("submitted", "progressed", "in_doubt", "completed", "failed", "canceled", "expired")
    assert_words("event types", types, {f"task.{name}" for name in named})


def test_deliveries_and_attempts(vtrix: Json) -> None:
    """Delivery statuses, faults of dead letters, and outcomes of attempts."""
    found = {
        (row["handler"], row["status"], row["fault"])
        for row in vtrix["rows"]["deliveries"]
        if row["attempts"] and row["attempts"] == row["attempted"]
    }
    expected = {
        ("log", "delivered", None),
        ("rejecting", "dead", "destination"),
        ("failing", "dead", "ours"),
        ("later", "pending", None),
    }
    assert_words("handler, status and fault of deliveries", found, expected)
    assert_words("attempt outcomes", column(vtrix, "attempts", "outcome"), {"delivered", "dead", "retry"})
    errors = column(vtrix, "attempts", "error")
    assert_words("errors of attempts", errors, {"Reject: no", "KeyError: 'ours'", "Retry: not now"})


def test_lanes_and_message_ids(vtrix: Json) -> None:
    """A lane has the same name in every release; otherwise events are reordered during an upgrade."""
    written = sha256(b'["log",{}]').hexdigest()[:24]
    lanes = {row["lane"] for row in vtrix["rows"]["deliveries"] if row["task_id"] == "called"}
    assert f"called/{written}" in lanes, f"the lane of the handler log is none of {lanes}"
    messages = column(vtrix, "deliveries", "message_id")
    assert [one for one in messages if not UUID7.fullmatch(str(one).removeprefix("msg_"))] == []
    assert [one for one in messages if not str(one).startswith("msg_")] == []


def test_ids(vtrix: Json) -> None:
    """Ids of tasks, events and deliveries are UUIDs of version 7."""
    ids = [*vtrix["ids"].values(), *column(vtrix, "events", "id"), *column(vtrix, "deliveries", "id")]
    assert [one for one in ids if not UUID7.fullmatch(str(one))] == []


def test_a_resubmission(vtrix: Json) -> None:
    """A resubmission has its idempotency key and the link to the old task."""
    lost, again = vtrix["ids"]["lost"], row_of(vtrix, "again")
    key = f"\x1fresubmit/{lost}"
    assert again["idempotency_key"] == key, f"the key {key!r} has become {again['idempotency_key']!r}"
    assert (again["idempotency_digest"], again["resubmission_of"]) == (lost, lost)


def test_duplicate_charge_warning(vtrix: Json) -> None:
    """It is stored unchanged, and a stored one prevents a third charge."""
    for task in ("lost", "doubt-noted"):
        assert_words(f"warnings of {task}", json.loads(row_of(vtrix, task)["warnings"]), [RESUBMITTED_WARNING])
    billed = row_of(vtrix, "doubt-billed")
    assert (billed["status"], billed["submission"]) == ("failed", 1), f"not recognized: {RESUBMITTED_WARNING!r}"
    assert json.loads(billed["error"])["code"] == "submission_unknown"


def test_second_wait_note(vtrix: Json) -> None:
    """It is stored unchanged, and a stored one ends the second wait."""
    assert_words("note of a doubt", [row_of(vtrix, "doubt-unnoted")["note"]], [SECOND_WAIT_NOTE])
    assert row_of(vtrix, "doubt-noted")["submission"] == 2, f"not recognized: {SECOND_WAIT_NOTE!r}"


def test_documents_in_columns(vtrix: Json) -> None:
    """The fields of JSON columns."""
    media = row_of(vtrix, "media")
    assert_words("fields of inline media", json.loads(media["params"])["images"][0], {"media_type", "bytes", "sha256"})
    assert_words("places of inputs", column(vtrix, "inputs", "place"), {"payload", "meta_data"})
    assert_words("places of shared inputs", column(vtrix, "input_references", "place"), {"images.0"})
    assert_words("names of rollouts", column(vtrix, "rollouts", "name"), {"shared_inputs"})
    assert json.loads(media["notify"]) == [{"handler": "log"}]
    assert media["bucket"] == "viduq2_pro_reference/5/720p"
    assert json.loads(row_of(vtrix, "failed")["error"]) == {"code": "Bad", "message": "no"}
    assert json.loads(row_of(vtrix, "completed")["usage"]) == {"cost": "0.35", "discount": 1.0}
    flags = {"guessed", "unconfirmed", "faulty_cost"}
    fact = {"status", "upstream_id", "progress", "output", "error", "usage", "credits"} | flags
    assert_words("fields of a hinted fact", json.loads(row_of(vtrix, "hinted")["hinted_fact"]), fact)


def test_fields_of_events(vtrix: Json) -> None:
    """A stored event holds the task as the API shows it."""
    texts = "id client model status upstream_id params metadata progress output error warnings usage settled_by"
    times = "created_at submitted_at settled_at deadline_at"
    fields = {name for row in vtrix["rows"]["events"] for name in json.loads(row["data"])}
    assert_words("fields of stored events", fields, f"{texts} unconfirmed note resubmission_of {times}".split())
    kinds = {entry["kind"] for entry in vtrix["answers"]["history"]["body"]["data"]}
    assert_words("kinds of a history", kinds, {"created", "event", "callback", "poll", "delivery", "attempt"})
