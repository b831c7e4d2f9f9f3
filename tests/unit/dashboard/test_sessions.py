"""Sessions of browsers at the middleware: what they may do, and when they end."""

from collections.abc import Sequence

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from service.api.problems import Problem
from service.domain.errors import KeyMissing, StoreUnavailable
from service.domain.session_tokens import key_fingerprint
from tests.unit.api.fakes import KEYS, FakeApplication, a_task, app_of, client_of


class FakePages:
    """Pages without a page; the cookie names the key of a session."""

    error: Exception | None = None

    def routes(self) -> Sequence[Route]:
        """Return no route."""
        return ()

    async def session(self, request: Request) -> tuple[str, str] | None:
        """Return the session of the cookie."""
        if self.error:
            raise self.error
        key = request.cookies.get("key")
        return (key_fingerprint(key), "one") if key else None

    def problem_page(self, problem: Problem, scope: Scope) -> Response:
        """Return the problem as the API has it."""
        assert scope["type"] == "http"
        return problem.response()


@pytest.mark.parametrize(
    ("method", "key", "status"),
    [
        ("GET", "key-of-ann", 200),
        ("HEAD", "key-of-root", 200),
        ("GET", "key-of-bob", 404),
        ("GET", "a-key-that-was-removed", 401),
        ("DELETE", "key-of-ann", 401),
        ("POST", "key-of-ann", 401),
    ],
)
async def test_sessions_read_what_their_key_reads(method: str, key: str, status: int) -> None:
    """A session has the role that its key has now, and none once the key is gone; it changes nothing."""
    fake = FakeApplication(tasks_by_id={"task-1": a_task(client="ann")})
    app = app_of(fake, FakePages(), api_keys=KEYS)
    async with client_of(app) as client:
        response = await client.request(method, "/v1/tasks/task-1", headers={"Cookie": f"key={key}"})
    assert response.status_code == (status)


async def test_wrong_key_is_not_replaced_by_a_session() -> None:
    """A request with a key is that key's, whatever cookie it has."""
    async with client_of(app_of(FakeApplication(), FakePages(), api_keys=KEYS), "wrong") as client:
        response = await client.get("/v1/tasks", headers={"Cookie": "key=key-of-root"})
    assert response.status_code == 401


@pytest.mark.parametrize("error", [StoreUnavailable("locked"), KeyMissing("another process has it")])
async def test_unknown_sessions_are_503(error: Exception) -> None:
    """Whether a session ended is not known now: try again, and sign nobody out."""
    pages = FakePages()
    pages.error = error
    async with client_of(app_of(FakeApplication(), pages, api_keys=KEYS)) as client:
        response = await client.get("/v1/tasks", headers={"Cookie": "key=key-of-ann"})
    assert (response.status_code, "retry-after" in response.headers) == (503, True)
