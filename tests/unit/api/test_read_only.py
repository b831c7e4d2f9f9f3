"""Keys that may only read: they see what an admin sees, and change nothing. What is changed is in the audit log."""

from contextlib import suppress

import httpx
import pytest

from service.api.audit import ACTIONS, BEGUN
from service.api.openapi.operations import OPERATIONS
from service.domain.api_key import ApiKey
from service.domain.errors import StoreUnavailable
from tests.unit.api.fakes import GOOD, KEYS, FakeApplication, FakeAuditLog, a_delivery, a_task, app_of, client_of

READER = ApiKey(name="eve", key="key-of-eve", read_only=True)
CHANGES = [
    ("POST", "/v1/tasks"),
    ("POST", "/v1/tasks/task-1/cancel"),
    ("POST", "/v1/tasks/task-1/resubmit"),
    ("POST", "/v1/tasks/task-1/links"),
    ("POST", "/v1/deliveries/delivery-1/replay"),
    ("POST", "/v1/deliveries/replay"),
    ("POST", "/v1/endpoints"),
    ("POST", "/v1/reconcile"),
]


def fake_with_rows() -> FakeApplication:
    """Return a fake application with one task and one delivery of ann."""
    fake = FakeApplication(tasks_by_id={"task-1": a_task(client="ann")})
    fake.deliveries_by_id["delivery-1"] = a_delivery(client="ann", last_error="503: an internal host")
    return fake


async def requested(fake: FakeApplication, key: str, method: str, path: str, **services: object) -> httpx.Response:
    """Return the response to one request with a key."""
    async with client_of(app_of(fake, api_keys=(*KEYS, READER), **services), key) as client:
        return await client.request(method, path, json=GOOD if path == "/v1/tasks" and method == "POST" else None)


@pytest.mark.parametrize(("method", "path"), CHANGES)
async def test_reader_changes_nothing(method: str, path: str) -> None:
    """Each change is 403 with a problem that names the fix, and has no effect."""
    fake, audit_log = fake_with_rows(), FakeAuditLog()
    response = await requested(fake, "key-of-eve", method, path, audit_log=audit_log)
    assert response.status_code == 403
    assert response.json()["type"] == "urn:boomerang:problem:read-only"
    assert ":read" in response.json()["detail"]
    assert fake == fake_with_rows()
    assert audit_log.rows == []


@pytest.mark.parametrize("path", ["/v1/tasks/task-1", "/v1/tasks", "/v1/deliveries/delivery-1", "/metrics"])
async def test_reader_sees_what_an_admin_sees(path: str) -> None:
    """The answers to a reader are those to an admin."""
    seen = await requested(fake_with_rows(), "key-of-eve", "GET", path)
    by_admin = await requested(fake_with_rows(), "key-of-root", "GET", path)
    assert (seen.status_code, seen.content) == (200, by_admin.content)


async def test_reader_may_sign_a_browser_in() -> None:
    """A link for a browser changes nothing."""
    response = await requested(fake_with_rows(), "key-of-eve", "POST", "/v1/login-links")
    assert response.status_code == 201
    assert response.json()["url"].startswith("http://localhost/sign-in/")


async def test_no_links_without_a_dashboard() -> None:
    """With DASHBOARD=off there is nothing to sign in to, and the answer says why."""
    response = await requested(fake_with_rows(), "key-of-root", "POST", "/v1/login-links", logins=None)
    assert response.status_code == 404
    assert "BOOMERANG_DASHBOARD" in response.json()["detail"]


@pytest.mark.parametrize(
    ("path", "action", "target"),
    [
        ("/v1/tasks/task-1/cancel", "task.cancel", "task-1"),
        ("/v1/tasks/task-1/resubmit", "task.resubmit", "task-1"),
        ("/v1/deliveries/delivery-1/replay", "delivery.replay", "delivery-1"),
    ],
)
async def test_changes_by_key_are_recorded(path: str, action: str, target: str) -> None:
    """Who changed what is stored with the action."""
    audit_log = FakeAuditLog()
    response = await requested(fake_with_rows(), "key-of-ann", "POST", path, audit_log=audit_log)
    assert response.status_code in {200, 202}
    found = [(row.actor, row.road, row.action, row.target) for row in audit_log.rows]
    assert found == [("ann", "api", action, target)]


async def test_refused_changes_are_not_recorded() -> None:
    """What did not happen is not in the log: another client's task is 404."""
    audit_log = FakeAuditLog()
    response = await requested(fake_with_rows(), "key-of-bob", "POST", "/v1/tasks/task-1/cancel", audit_log=audit_log)
    assert response.status_code == 404
    assert audit_log.rows == []


async def test_nothing_is_changed_without_an_entry() -> None:
    """An entry that cannot be stored is 503, and the task is not canceled."""
    fake, audit_log = fake_with_rows(), FakeAuditLog(error=StoreUnavailable("locked"))
    response = await requested(fake, "key-of-ann", "POST", "/v1/tasks/task-1/cancel", audit_log=audit_log)
    assert response.status_code == 503
    assert fake == fake_with_rows()


@pytest.mark.parametrize("error", [KeyboardInterrupt, StoreUnavailable, RuntimeError])
async def test_change_that_ends_with_the_process_has_an_entry(error: type[BaseException]) -> None:
    """It is stored before the change, and says that nobody knows how that ended."""
    fake, audit_log = fake_with_rows(), FakeAuditLog()

    async def cancel(_: str) -> None:
        assert [row.detail for row in audit_log.rows] == [BEGUN]
        raise error("the process is killed")

    fake.cancel = cancel  # type: ignore[assignment, method-assign]
    with suppress(error):
        await requested(fake, "key-of-ann", "POST", "/v1/tasks/task-1/cancel", audit_log=audit_log)
    found = [(row.actor, row.action, row.target, row.detail) for row in audit_log.rows]
    assert found == [("ann", "task.cancel", "task-1", BEGUN)]


@pytest.mark.parametrize("dry_run", [False, True])
async def test_bulk_replay_has_an_entry_unless_it_only_counts(dry_run: bool) -> None:
    """What changes nothing is not in the log."""
    fake, audit_log = fake_with_rows(), FakeAuditLog()
    async with client_of(app_of(fake, api_keys=KEYS, audit_log=audit_log), "key-of-root") as client:
        response = await client.post("/v1/deliveries/replay", json={"handler": "log", "dry_run": dry_run})
    assert response.status_code == 200
    assert [row.action for row in audit_log.rows] == ([] if dry_run else ["delivery.replay_many"])
    assert [row.detail for row in audit_log.rows] == ([] if dry_run else ["statuses dead, handler log, replayed 1"])


NOT_RECORDED = {
    ("POST", "/v1/tasks"),  # the task itself says who created it
    ("POST", "/v1/videos"),
    ("POST", "/model/v1/generation"),
    ("POST", "/v1/reconcile"),
}


def test_each_change_over_the_api_is_recorded() -> None:
    """A new operation that changes something is in the audit log, or has a reason not to be."""
    changes = {(each.method.upper(), each.path) for each in OPERATIONS if each.method in {"post", "patch", "delete"}}
    of_keys = {each for each in changes if not each[1].startswith(("/callbacks", "/handlers", "/mcp"))}
    assert of_keys - NOT_RECORDED == ACTIONS.keys() & of_keys
