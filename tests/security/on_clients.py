"""Access to rows of other clients by id, list, cursor and idempotency key."""

from pathlib import Path

from starlette.responses import JSONResponse

from tests.security.catalogue import attempt, require
from tests.security.environment import ALICE, BOB, ServiceUnderTest, bearer, completed, service_under_test
from tests.security.raw import exchange, request, statuses


async def _reached(g: ServiceUnderTest, task: str, delivery: str) -> dict[str, int]:
    """Return the statuses of bob's requests for everything of alice."""
    found = {}
    for method, path in (
        ("GET", f"/v1/tasks/{task}"),
        ("GET", f"/v1/tasks/{task}?wait=1"),
        ("GET", f"/v1/tasks/{task}/events"),
        ("POST", f"/v1/tasks/{task}/cancel"),
        ("POST", f"/v1/tasks/{task}/resubmit"),
        ("GET", f"/v1/deliveries/{delivery}"),
        ("POST", f"/v1/deliveries/{delivery}/replay"),
        ("POST", "/v1/reconcile"),
    ):
        response = await g.http.request(method, path, headers=bearer(BOB))
        found[f"{method} {path.replace(task, 'ID').replace(delivery, 'ID')}"] = response.status_code
        require("cat" not in response.text, f"{path} exposes alice's prompt")
    return found


@attempt("cross-client", "read, cancel, resubmit and replay by id")
async def by_id(home: Path) -> str:
    """Request every path with the id of another client's task and delivery."""
    async with service_under_test(home) as g:
        task = await g.submit()
        await g.call_back(g.token(), b"x")
        delivery = (await g.http.get("/v1/deliveries")).json()["data"][0]["id"]
        found = await _reached(g, task["id"], delivery)
        require(set(found.values()) == {404, 403} and found["POST /v1/reconcile"] == 403, str(found))
        require((await g.task(task["id"]))["status"] == "in_progress", "the task changed")
        return "404 on every one, 403 on the admin's"


@attempt("cross-client", "lists, filters and cursors")
async def by_list(home: Path) -> str:
    """List with another client's cursor and filters: no row of that client is returned."""
    async with service_under_test(home) as g:
        for _ in range(3):
            await g.submit()
        own = (await g.submit(BOB))["id"]
        cursors = [(await g.http.get(f"/v1/{kind}?limit=1")).json()["next_cursor"] for kind in ("tasks", "deliveries")]
        seen: set[str] = set()
        for query in ("", f"?cursor={cursors[0]}", "?status=in_progress", "?limit=200"):
            rows = (await g.http.get(f"/v1/tasks{query}", headers=bearer(BOB))).json()["data"]
            seen |= {row["id"] for row in rows}
        for query in ("", f"?cursor={cursors[1]}", "?handler=log", "?limit=200"):
            rows = (await g.http.get(f"/v1/deliveries{query}", headers=bearer(BOB))).json()["data"]
            seen |= {row["task_id"] for row in rows}
        require(seen <= {own}, f"bob saw {len(seen - {own})} of alice's")
        return "only his own rows"


@attempt("cross-client", "another client's idempotency key")
async def same_key(home: Path) -> str:
    """Use alice's idempotency key as bob: he gets his own task."""
    async with service_under_test(home) as g:
        found = [
            (
                await g.http.post("/v1/tasks", json=g.task_body(), headers={**bearer(key), "Idempotency-Key": "k1"})
            ).json()
            for key in (ALICE, BOB)
        ]
        require(found[0]["id"] != found[1]["id"], "bob got alice's task")
        return "two tasks"


@attempt("cross-client", "the idempotency key of a resubmission")
async def resubmission_key(home: Path) -> str:
    """Use the key of a resubmission before it exists: the resubmission is still created."""
    async with service_under_test(home) as g:
        task = await g.submit()
        await g.http.post(f"/v1/tasks/{task['id']}/cancel")
        g.upstream.poll_reply = lambda _: JSONResponse(completed("up1") | {"status": "failed"})
        await g.call_back(g.token(), completed("up1"))
        await g.wait_until(task["id"], lambda now: now["status"] == "failed")
        for key in (f"boomerang/resubmit/{task['id']}", f"resubmit/{task['id']}"):
            taken = await g.http.post("/v1/tasks", json=g.task_body(), headers={"Idempotency-Key": key})
            require(taken.status_code == 202, f"answered {taken.status_code}")
        raw = request(
            "POST", "/v1/tasks", f"Authorization: Bearer {ALICE}", f"Idempotency-Key: \x1fresubmit/{task['id']}"
        )
        require(statuses(await exchange(g.port, raw, seconds=1))[0] in {400, 415}, "the control character passes")
        again = await g.http.post(f"/v1/tasks/{task['id']}/resubmit")
        require(again.status_code == 202 and again.json()["resubmission_of"] == task["id"], f"{again.status_code}")
        return "the resubmission is still created"
