"""Problem responses: clients distinguish errors by `type`."""

import pytest

from tests.unit.frozen.provider import Json
from tests.unit.frozen.snapshots import assert_words

PREFIX = "urn:boomerang:problem:"
AT_VTRIX = {
    "no such task": (404, "not-found", "Not Found"),
    "over already": (409, "conflict", "Conflict"),
    "no parameters": (422, "invalid-params", None),
    "no JSON": (400, "unreadable-body", "Bad Request"),
    "garbled": (400, "unreadable-body", "Bad Request"),
    "forged": (403, "bad-token", "Forbidden"),
    "oversized": (413, "body-too-large", None),
    "unknown key": (401, "unknown-key", "Unauthorized"),
    "no admin": (403, "admin-only", "Forbidden"),
    "no JSON type": (415, "not-json", "Unsupported Media Type"),
    "no UTF-8": (415, "not-utf-8", "Unsupported Media Type"),
    "encoded": (415, "encoded-body", "Unsupported Media Type"),
    "bad key": (400, "bad-idempotency-key", "Bad Request"),
    "key used before": (422, "idempotency-key-reused", None),
    "two hosts": (400, "repeated-host", "Bad Request"),
    "no such address": (404, None, "Not Found"),
    "no such method": (405, None, "Method Not Allowed"),
}
AT_VIDU = {
    "over": (409, "conflict", "Conflict"),
    "gone": (502, "upstream-error", "Bad Gateway"),
    "ill": (502, "upstream-error", "Bad Gateway"),
    "busy": (503, "upstream-throttled", "Service Unavailable"),
    "unsigned": (403, "bad-signature", "Forbidden"),
    "from elsewhere": (403, "local-only", "Forbidden"),
}
"""Status, type and title of each request; None for a title that depends on the Python version."""


@pytest.mark.parametrize("name", AT_VTRIX)
def test_problems_at_vtrix(name: str, vtrix: Json) -> None:
    """A rejected request has its status, type and title."""
    check(vtrix["answers"][name], *AT_VTRIX[name])


@pytest.mark.parametrize("name", AT_VIDU)
def test_problems_at_vidu(name: str, vidu: Json) -> None:
    """A request that the provider rejects has its status, type and title."""
    check(vidu["answers"][name], *AT_VIDU[name])


def check(answer: Json, status: int, kind: str | None, title: str | None) -> None:
    """Compare one response."""
    body = answer["body"]
    assert_words("status of a problem", {answer["status"], body["status"]}, {status})
    assert_words("type of a problem", [body["type"]], [f"{PREFIX}{kind}" if kind else "about:blank"])
    assert_words("title of a problem", [body["title"]], [title or body["title"]])


def test_fields_of_a_problem(vtrix: Json) -> None:
    """RFC 9457's fields, and ours."""
    body = vtrix["answers"]["no parameters"]["body"]
    assert_words("fields of a problem", body, {"type", "title", "status", "detail", "errors"})
    assert_words("fields of a fault", body["errors"][0], {"loc", "msg"})
