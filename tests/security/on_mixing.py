"""Callbacks with a valid token and other content: replays, changed bodies, ids of other tasks."""

from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse, Response

from tests.security.catalogue import attempt, require
from tests.security.environment import BOB, ServiceUnderTest, completed, failed, in_progress, service_under_test

EVIL = "https://evil.example.org/x.mp4"


async def _called_back(g: ServiceUnderTest, task_id: str) -> list[dict[str, Any]]:
    return [row for row in await g.history(task_id) if row["kind"] == "callback"]


@attempt("replay", "the same callback a hundred times")
async def same_again(home: Path) -> str:
    """Repeat a callback: 204 each time, recorded once."""
    async with service_under_test(home, CONFIRM="never") as g:
        task = await g.submit()
        found = {(await g.call_back(g.token(), completed("up1"))).status_code for _ in range(100)}
        rows = await g.history(task["id"])
        ends = [row for row in rows if row.get("type") == "task.completed"]
        require(found == {204}, f"answered {found}")
        require(len(ends) == 1 and len(await _called_back(g, task["id"])) == 1, f"{len(ends)} ends")
        return "204 each time; one callback recorded, one end"


@attempt("replay", "with another body after the end, CONFIRM=never")
async def changed_after_end(home: Path) -> str:
    """Send a contradicting callback after the task is settled."""
    async with service_under_test(home, CONFIRM="never") as g:
        task = await g.submit()
        await g.call_back(g.token(), completed("up1"))
        await g.call_back(g.token(), failed("up1", "no"))
        await g.call_back(g.token(), completed("up1", EVIL))
        now = await g.task(task["id"])
        require(now["status"] == "completed" and EVIL not in str(now), f"it is {now['status']} with {now['output']}")
        return "the first result stays"


@attempt("replay", "with another body, CONFIRM=always")
async def changed_and_confirmed(home: Path) -> str:
    """Report an end that the provider does not confirm."""
    async with service_under_test(home) as g:
        task = await g.submit()
        require((await g.call_back(g.token(), completed("up1", EVIL))).status_code == 204, "refused")
        await g.wait_until(task["id"], lambda _: len(g.upstream.polls) > 0)
        now = await g.task(task["id"])
        require(now["status"] == "in_progress" and EVIL not in str(now), f"it is {now['status']} with {now['output']}")
        return "the provider was polled and did not confirm it"


@attempt("replay", "a thousand bodies to flood the provider with polls")
async def flood_of_hints(home: Path) -> str:
    """Send many different callbacks at once: polls are coalesced by task."""
    async with service_under_test(home) as g:
        task = await g.submit()
        for number in range(300):
            await g.call_back(g.token(), completed("up1") | {"n": number})
        require(len(g.upstream.polls) <= 60, f"{len(g.upstream.polls)} polls for one task")
        return f"300 callbacks, {len(g.upstream.polls)} polls of {task['id'][:8]}…"


@attempt("replay", "six hundred bodies to fill the disk")
async def flood_of_bodies(home: Path) -> str:
    """Send many different bodies, some of two megabytes: a limited number is stored, and the end is still recorded."""
    async with service_under_test(home) as g:
        task = await g.submit()
        for number in range(12):
            await g.call_back(g.token(), completed("up1") | {"n": number, "padding": "x" * 2_000_000})
        for number in range(600):
            await g.call_back(g.token(), in_progress("up1") | {"n": number})
        file = (home / "boomerang.db").stat().st_size + (home / "boomerang.db-wal").stat().st_size
        stored = len(await _called_back(g, task["id"]))
        require(stored <= 256 and file < 100 * 1024 * 1024, f"{stored} are stored, {file // 1024**2} MB on the disk")
        g.upstream.poll_reply = lambda _id: JSONResponse(completed(_id))
        require((await g.call_back(g.token(), completed("up1"))).status_code == 204, "the end was refused")
        await g.wait_until(task["id"], lambda now: now["status"] == "completed")
        return f"{stored} of 612 are stored; the end was still confirmed"


@attempt("cross-task", "another task's payload token in the body")
async def other_payload(home: Path) -> str:
    """Send the body of the second task to the callback URL of the first."""
    async with service_under_test(home, CONFIRM="never") as g:
        first, second = await g.submit(), await g.submit(BOB)
        body = completed("up2") | {"payload": g.upstream.submissions[1]["payload"]}
        status = (await g.call_back(g.token(1), body)).status_code
        require(status == 403 and await g.task(first["id"]) == first, f"answered {status}")
        require(await g.task(second["id"]) == second, "the other task changed")
        return "403, neither changed"


@attempt("cross-task", "another task's upstream id, CONFIRM=always")
async def other_id_confirmed(home: Path) -> str:
    """Send the id of the second task to the callback URL of the first: the own id of the first is polled."""
    async with service_under_test(home) as g:
        first, second = await g.submit(), await g.submit(BOB)
        g.upstream.poll_reply = lambda _id: JSONResponse(completed("up2") if _id == "up2" else in_progress(_id))
        await g.call_back(g.token(1), completed("up2"))
        await g.wait_until(first["id"], lambda _: len(g.upstream.polls) > 0)
        now = await g.task(first["id"])
        require(
            now["status"] == "in_progress" and now["upstream_id"] == "up1", f"{now['status']}, {now['upstream_id']}"
        )
        require(await g.task(second["id"]) == second, "the other task changed")
        return f"polled {sorted(set(g.upstream.polls))} only"


@attempt("cross-task", "another task's upstream id, CONFIRM=never")
async def other_id_unconfirmed(home: Path) -> str:
    """Send the id of the second task to the callback URL of the first, without confirmation."""
    async with service_under_test(home, CONFIRM="never") as g:
        first, _ = await g.submit(), await g.submit(BOB)
        status = (await g.call_back(g.token(1), completed("up2", EVIL))).status_code
        now = await g.task(first["id"])
        require(EVIL not in str(now), f"answered {status}; the first task has the second one's result")
        return f"{status}, used as a hint: the own id of the first task is polled"


def _lost_first(number: int, _: dict[str, Any]) -> Response:
    return Response(status_code=504) if number == 1 else JSONResponse(in_progress(f"up{number}"))


async def _in_doubt(g: ServiceUnderTest) -> dict[str, Any]:
    g.upstream.create_reply = _lost_first
    task = await g.submit()
    require(task["status"] == "in_doubt", f"the first task is {task['status']}")
    return task


@attempt("cross-task", "another task's upstream id while in doubt")
async def other_id_in_doubt(home: Path) -> str:
    """Send the id of the second task for a first one without an id: it is not adopted."""
    async with service_under_test(home) as g:
        first, second = await _in_doubt(g), await g.submit(BOB)
        g.upstream.poll_reply = lambda _id: JSONResponse(completed(_id))
        await g.call_back(g.token(1), completed("up2"))
        await g.call_back(g.token(2), completed("up2"))
        await g.wait_until(second["id"], lambda now: now["status"] == "completed")
        now = await g.task(first["id"])
        require(now["upstream_id"] is None and not now["output"], f"it took {now['upstream_id']} with {now['output']}")
        return f"the first stays {now['status']}, the second is completed"


@attempt("cross-task", "another task's upstream id while in doubt, CONFIRM=never")
async def other_id_in_doubt_unconfirmed(home: Path) -> str:
    """Do the same without confirmation."""
    async with service_under_test(home, CONFIRM="never") as g:
        first, _ = await _in_doubt(g), await g.submit(BOB)
        await g.call_back(g.token(1), completed("up2"))
        now = await g.task(first["id"])
        require(now["upstream_id"] is None and not now["output"], f"{now['status']} with {now['output']}")
        return f"the first stays {now['status']}"


@attempt("cross-task", "the provider gives two tasks one id")
async def one_id_for_two(home: Path) -> str:
    """Reply to two submissions with the same id: the second client does not get the result of the first."""
    async with service_under_test(home) as g:
        g.upstream.create_reply = lambda _number, _params: JSONResponse(in_progress("same"))
        g.upstream.poll_reply = lambda _id: JSONResponse(completed(_id))
        first, second = await g.submit(), await g.submit(BOB)
        for number in (1, 2):
            await g.call_back(g.token(number), completed("same"))
        await g.wait_until(first["id"], lambda now: now["status"] == "completed")
        now = await g.task(second["id"])
        require(not now["output"] and now["upstream_id"] is None, f"bob's task has {now['output']}")
        return f"the second is {now['status']}: {now['note']}"


@attempt("cross-task", "an id that is a path")
async def id_as_path(home: Path) -> str:
    """Send ids that would change the path of a poll: each stays one segment of it."""
    async with service_under_test(home) as g:
        first = await _in_doubt(g)
        found = set()
        for invalid in ("../../v1/models", "a/b", "a?b=c", "a%2Fb", "..", "x" * 200, "a\r\nb", {"a": 1}, 7):
            found.add((await g.call_back(g.token(1), completed("x") | {"id": invalid})).status_code)
        require(found <= {204, 400}, f"answered {found}")
        require(set(g.upstream.polls) <= {"a?b=c", "a%2Fb", "7"}, f"polled {g.upstream.polls}")
        return f"{sorted(found)}; polled as one segment; the task is {(await g.task(first['id']))['status']}"
