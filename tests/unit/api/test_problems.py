"""Every error is a problem response with the right status and without internal details."""

from datetime import timedelta

import httpx
import pytest
from starlette.requests import ClientDisconnect
from structlog.testing import capture_logs

from service.api.problems import problem_of
from service.domain import errors
from service.domain.errors import Fault
from tests.unit.api.fakes import GOOD, FakeApplication, a_delivery, a_task

KINDS = [
    (errors.InvalidParams([Fault(loc=("params",), msg="no")]), 422, "invalid-params"),
    (errors.BadToken("x"), 403, "bad-token"),
    (errors.BadSignature("x"), 403, "bad-signature"),
    (errors.UnreadableBody("x"), 400, "unreadable-body"),
    (errors.BodyTooLarge("x"), 413, "body-too-large"),
    (errors.KeyMissing("x"), 503, "key-missing"),
    (errors.NotFound("x"), 404, "not-found"),
    (errors.Conflict("x"), 409, "conflict"),
    (errors.KeyReused("x"), 409, "conflict"),
    (errors.QueueFull("x"), 429, "queue-full"),
    (errors.Throttled("x", retry_after=timedelta(seconds=1.5)), 503, "upstream-throttled"),
    (errors.Paused("x", retry_after=timedelta(hours=1)), 503, "upstream-throttled"),
    (errors.NotSent("x"), 502, "upstream-error"),
    (errors.Refused("c", "x"), 502, "upstream-error"),
    (errors.ReplyLost("x"), 502, "upstream-error"),
    (errors.UnknownTask("x"), 502, "upstream-error"),
    (errors.ProviderUnavailable("x"), 502, "upstream-error"),
    (errors.StoreUnavailable("x"), 503, "store-unavailable"),
    (errors.SchemaBehind("x"), 503, "schema-behind"),
    (errors.ArchiveRefused("x"), 503, "archive-unavailable"),
    (errors.ArchiveUnavailable("x"), 503, "archive-unavailable"),
    (errors.BadSetting("x"), 500, "internal-error"),
    (errors.Retry("x"), 500, "internal-error"),
    (ClientDisconnect("x"), 400, "body-incomplete"),
    (RuntimeError("x"), 500, "internal-error"),
]


@pytest.mark.parametrize(("error", "status", "kind"), KINDS, ids=lambda value: type(value).__name__)
def test_each_error_has_its_status(error: Exception, status: int, kind: str) -> None:
    """The status and type of a problem follow from who must act; a sentence says what is wrong."""
    problem = problem_of(error)
    assert (problem.status, problem.kind, bool(problem.detail)) == (status, kind, True)


def test_every_error_is_in_the_table() -> None:
    """Each error of the tree has a row in this table."""
    tree = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)}
    grouping = {errors.BoomerangError, errors.SenderError, errors.UpstreamError, errors.HandlerError}
    left_out = {errors.OperatorError, errors.Reject, errors.BadHandler}  # never reach the API
    assert tree - grouping - left_out <= {type(error) for error, _, _ in KINDS}


@pytest.mark.parametrize(
    "error",
    [
        errors.Throttled("x"),
        errors.StoreUnavailable("x"),
        errors.SchemaBehind("x"),
        errors.QueueFull("x"),
        errors.KeyMissing("x"),
    ],
)
def test_temporary_error_has_retry_after(error: Exception) -> None:
    """A 503 or 429 carries a Retry-After of whole seconds."""
    assert int(problem_of(error).headers["Retry-After"]) >= 1


def test_retry_after_is_rounded_up() -> None:
    """The pause of the provider is never shortened."""
    assert problem_of(errors.Throttled("x", retry_after=timedelta(seconds=1.5))).headers["Retry-After"] == "2"


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/nope", 404, None),
        ("GET", "/v1/tasks/", 404, None),
        ("GET", "/v1/tasks/unknown", 404, None),
        ("GET", "/v1/tasks/a%00b", 404, None),
        ("GET", "/v1/tasks/a%20b", 404, None),
        ("POST", "/v1/tasks/unknown/cancel", 404, None),
        ("POST", "/v1/tasks/unknown/resubmit", 404, None),
        ("GET", "/v1/tasks/unknown/events", 404, None),
        ("POST", "/v1/deliveries/unknown/replay", 404, None),
        ("GET", "/", 404, None),
        ("GET", "/favicon.ico", 404, None),
        ("OPTIONS", "/nope", 404, None),
        ("DELETE", "/v1/tasks", 405, "GET, HEAD, OPTIONS, POST"),
        ("GET", "/v1/tasks/task-1/cancel", 405, "OPTIONS, POST"),
        ("POST", "/healthz", 405, "GET, HEAD, OPTIONS"),
        ("PUT", "/callbacks/abc", 405, "GET, HEAD, OPTIONS, POST"),
        ("GET", "/v1/models?x=1", 422, None),
        ("POST", "/v1/reconcile?x=1", 422, None),
    ],
)
async def test_unknown_path_or_method_is_a_problem(
    client: httpx.AsyncClient, method: str, path: str, status: int, allow: str | None
) -> None:
    """Unknown paths and ids are 404, wrong methods 405 with every allowed method."""
    response = await client.request(method, path)
    assert (response.status_code, response.headers.get("allow")) == (status, allow)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, b"{}", 415),
        ({"Content-Type": "text/plain"}, b"{}", 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"a=b", 415),
        ({"Content-Type": "application/jsonx"}, b"{}", 415),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"{}", 415),
        ({"Content-Type": "application/json"}, b"", 400),
        ({"Content-Type": "application/json"}, b"{", 400),
        ({"Content-Type": "application/json"}, b"\xff", 400),
        ({"Content-Type": "application/json"}, b'{"model":1,"model":2}', 400),
        ({"Content-Type": "application/json"}, b'{"params":NaN}', 400),
        ({"Content-Type": "application/json"}, b'{"params":"\\ud800"}', 400),
        ({"Content-Type": "application/json"}, b"[" * 200_000, 400),
        ({"Content-Type": "application/json"}, b"[" * 100 + b"]" * 100, 400),
        ({"Content-Type": "application/json; charset=utf-8"}, b"{}", 422),
        ({"Content-Type": 'application/json;charset="UTF-8"; v=1'}, b"{}", 422),
        ({"Content-Type": "application/json; charset=us-ascii"}, b"{}", 422),
        ({"Content-Type": "application/json; charset=utf-16"}, b"{}", 415),
        ({"Content-Type": 'application/json; v=1; Charset = "iso-8859-1"'}, b"{}", 415),
        ({"Content-Type": "application/json; charset="}, b"{}", 415),
        ({"Content-Type": "application/json, application/json"}, b"{}", 415),
        ({"Content-Type": "application/merge-patch+json"}, b"{}", 422),
    ],
)
async def test_body_that_is_no_plain_json_is_refused(
    client: httpx.AsyncClient, fake: FakeApplication, headers: dict[str, str], body: bytes, status: int
) -> None:
    """Other media types are 415, invalid or ambiguous JSON is 400, a wrong structure 422."""
    response = await client.post("/v1/tasks", content=body, headers=headers)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert not fake.accepted


@pytest.mark.parametrize("second", ["text/plain", "application/json"])
async def test_repeated_content_type_is_refused(client: httpx.AsyncClient, fake: FakeApplication, second: str) -> None:
    """A proxy may have checked the other header."""
    types = [("Content-Type", "application/json"), ("Content-Type", second)]
    response = await client.post("/v1/tasks", content=b"{}", headers=types)
    assert (response.status_code, response.json()["type"]) == (415, "urn:boomerang:problem:not-json")
    codings = [("Content-Type", "application/json"), ("Content-Encoding", "identity"), ("Content-Encoding", "gzip")]
    assert (await client.post("/v1/tasks", content=b"{}", headers=codings)).status_code == 415
    assert not fake.accepted


@pytest.mark.parametrize("path", ["/healthz", "/v1/tasks", "/callbacks/token"])
async def test_repeated_host_is_refused(client: httpx.AsyncClient, fake: FakeApplication, path: str) -> None:
    """A proxy may have checked the other header; callbacks are refused too."""
    hosts = [("Host", "localhost"), ("Host", "example.org")]
    response = await client.request("POST" if "token" in path else "GET", path, content=b"{}", headers=hosts)
    assert (response.status_code, response.json()["type"]) == (400, "urn:boomerang:problem:repeated-host")
    assert not fake.received


async def test_unexpected_error_is_reported_by_its_id(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """Response and log share an id; neither has the message of the error, which may quote a body."""
    fake.error = RuntimeError("parameters: the secret prompt")
    with capture_logs() as lines:
        response = await client.post("/v1/tasks", json=GOOD)
    assert response.status_code == 500
    (line,) = [line for line in lines if line["event"] == "request failed"]
    assert response.json()["error_id"] == line["error_id"]
    assert "fakes.py" in line["where"]
    assert "secret" not in response.text + str(lines)


async def test_unavailable_database_is_503(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """The client may try again; the response has no message of the database."""
    fake.error = errors.StoreUnavailable("disk full: /srv/db")
    response = await client.post("/v1/tasks", json=GOOD)
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert "/srv" not in response.text


@pytest.mark.parametrize("path", ["/healthz", "/nope", "/v1/tasks", "/v1/tasks/unknown"])
async def test_every_response_has_security_headers(client: httpx.AsyncClient, path: str) -> None:
    """Browsers may not sniff, store or frame a response, or share it with other origins."""
    response = await client.get(path)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("sent", "returned"), [("abc-1.2_3", True), ("a b", False), ("x" * 129, False), ('a"b', False)]
)
async def test_plain_request_id_is_returned(client: httpx.AsyncClient, sent: str, returned: bool) -> None:
    """The request id of the caller is used when it is plain; otherwise a new one is generated."""
    response = await client.get("/healthz", headers={"X-Request-ID": sent})
    assert (response.headers["x-request-id"] == sent) is returned
    assert len(response.headers["x-request-id"]) > 0


async def test_request_log_has_the_route_and_not_the_path(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """The log line has the template of the route, so that it contains no token."""
    fake.add(a_task())
    with capture_logs() as lines:
        await client.get("/v1/tasks/task-1", headers={"X-Request-ID": "r1"})
        await client.post("/callbacks/the-token", content=b"{}")
        await client.put("/callbacks/the-token")
        await client.get("/callbacks/the-token/")
    routes = ["/v1/tasks/{id}", "/callbacks/{token}", "unmatched", "/callbacks/{token}"]
    assert [line["route"] for line in lines] == routes
    assert [line["status"] for line in lines] == [200, 204, 405, 204]
    assert (lines[0]["method"], lines[0]["client"], lines[0]["request_id"]) == ("GET", "local", "r1")
    assert "the-token" not in str(lines)


async def test_request_log_has_the_task(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """The log line has the id of a known task, and never an unknown id of a request."""
    fake.add(a_task())
    fake.deliveries_by_id["delivery-1"] = a_delivery()
    with capture_logs() as lines:
        await client.get("/v1/tasks/task-1")
        await client.get("/v1/tasks/made-up")
        await client.post("/v1/tasks", json=GOOD)
        await client.post("/v1/tasks", json={})
        await client.post("/callbacks/the-token", content=b"{}")
        await client.get("/v1/deliveries/delivery-1")
    assert [line.get("task") for line in lines] == ["task-1", None, "task-1", None, "t1", "task-1"]


async def test_already_logged_callback_is_not_logged_again(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """A callback that the receiver has logged gets no second line."""
    fake.already_logged = True
    with capture_logs() as lines:
        await client.post("/callbacks/the-token", content=b"{}")
    assert lines == []


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/tasks/task-1/resubmit"])
async def test_full_queue_is_429(client: httpx.AsyncClient, fake: FakeApplication, path: str) -> None:
    """A client whose queue is full gets a 429 with the limit, the fix and a pause."""
    fake.add(a_task())
    fake.error = errors.QueueFull("wait until some of them have ended")
    response = await client.post(path, json=GOOD if path == "/v1/tasks" else {"params": {}})
    assert (response.status_code, response.json()["type"]) == (429, "urn:boomerang:problem:queue-full")
    assert response.json()["detail"] == "wait until some of them have ended"
    assert int(response.headers["Retry-After"]) >= 1
