"""Callbacks with a good token that say what is not theirs to say: replays, changed bodies, other tasks' ids."""

from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse, Response

from tests.security.catalogue import attempt, hold
from tests.security.environment import BOB, Ground, completed, failed, ground, in_progress

EVIL = "https://evil.example.org/x.mp4"


async def _called_back(g: Ground, task_id: str) -> list[dict[str, Any]]:
    return [row for row in await g.history(task_id) if row["kind"] == "callback"]


@attempt("replay", "the same callback a hundred times")
async def same_again(home: Path) -> str:
    """Repeat a callback: answered 204 each time, recorded once."""
    async with ground(home, CONFIRM="never") as g:
        task = await g.submit()
        found = {(await g.call_back(g.token(), completed("up1"))).status_code for _ in range(100)}
        rows = await g.history(task["id"])
        ends = [row for row in rows if row.get("type") == "task.completed"]
        hold(found == {204}, f"answered {found}")
        hold(len(ends) == 1 and len(await _called_back(g, task["id"])) == 1, f"{len(ends)} ends")
        return "204 each time; one callback recorded, one end"


@attempt("replay", "with another body after the end, CONFIRM=never")
async def changed_after_end(home: Path) -> str:
    """Say something else after the end was told."""
    async with ground(home, CONFIRM="never") as g:
        task = await g.submit()
        await g.call_back(g.token(), completed("up1"))
        await g.call_back(g.token(), failed("up1", "no"))
        await g.call_back(g.token(), completed("up1", EVIL))
        now = await g.task(task["id"])
        hold(now["status"] == "completed" and EVIL not in str(now), f"it is {now['status']} with {now['output']}")
        return "the first word stands"


@attempt("replay", "with another body, CONFIRM=always")
async def changed_and_confirmed(home: Path) -> str:
    """Tell an end that the upstream does not confirm."""
    async with ground(home) as g:
        task = await g.submit()
        hold((await g.call_back(g.token(), completed("up1", EVIL))).status_code == 204, "refused")
        await g.until(task["id"], lambda _: len(g.upstream.polls) > 0)
        now = await g.task(task["id"])
        hold(now["status"] == "in_progress" and EVIL not in str(now), f"it is {now['status']} with {now['output']}")
        return "the upstream was asked and knew better"


@attempt("replay", "a thousand bodies to make us flood the upstream")
async def flood_of_hints(home: Path) -> str:
    """Send many different callbacks at once: questions to the upstream are coalesced by task."""
    async with ground(home) as g:
        task = await g.submit()
        for number in range(300):
            await g.call_back(g.token(), completed("up1") | {"n": number})
        hold(len(g.upstream.polls) <= 60, f"{len(g.upstream.polls)} questions for one task")
        return f"300 callbacks, {len(g.upstream.polls)} questions about {task['id'][:8]}…"


@attempt("replay", "six hundred bodies to fill the disk")
async def flood_of_bodies(home: Path) -> str:
    """Send different bodies without end, some of two megabytes: only so many are kept, and the end still counts."""
    async with ground(home) as g:
        task = await g.submit()
        for number in range(12):
            await g.call_back(g.token(), completed("up1") | {"n": number, "padding": "x" * 2_000_000})
        for number in range(600):
            await g.call_back(g.token(), in_progress("up1") | {"n": number})
        file = (home / "boomerang.db").stat().st_size + (home / "boomerang.db-wal").stat().st_size
        kept = len(await _called_back(g, task["id"]))
        hold(kept <= 256 and file < 100 * 1024 * 1024, f"{kept} are kept, {file // 1024**2} MB on the disk")
        g.upstream.polled = lambda _id: JSONResponse(completed(_id))
        hold((await g.call_back(g.token(), completed("up1"))).status_code == 204, "the end was refused")
        await g.until(task["id"], lambda now: now["status"] == "completed")
        return f"{kept} of 612 are kept; the end was confirmed all the same"


@attempt("cross-task", "another task's payload token in the body")
async def anothers_payload(home: Path) -> str:
    """Send the second task's body to the first one's address."""
    async with ground(home, CONFIRM="never") as g:
        first, second = await g.submit(), await g.submit(BOB)
        body = completed("up2") | {"payload": g.upstream.asked[1]["payload"]}
        status = (await g.call_back(g.token(1), body)).status_code
        hold(status == 403 and await g.task(first["id"]) == first, f"answered {status}")
        hold(await g.task(second["id"]) == second, "the other one changed")
        return "403, neither changed"


@attempt("cross-task", "another task's upstream id, CONFIRM=always")
async def anothers_id_confirmed(home: Path) -> str:
    """Name the second task's id at the first one's address: the first one's own id is asked about."""
    async with ground(home) as g:
        first, second = await g.submit(), await g.submit(BOB)
        g.upstream.polled = lambda _id: JSONResponse(completed("up2") if _id == "up2" else in_progress(_id))
        await g.call_back(g.token(1), completed("up2"))
        await g.until(first["id"], lambda _: len(g.upstream.polls) > 0)
        now = await g.task(first["id"])
        hold(now["status"] == "in_progress" and now["upstream_id"] == "up1", f"{now['status']}, {now['upstream_id']}")
        hold(await g.task(second["id"]) == second, "the other one changed")
        return f"asked about {sorted(set(g.upstream.polls))} only"


@attempt("cross-task", "another task's upstream id, CONFIRM=never")
async def anothers_id_believed(home: Path) -> str:
    """Name the second task's id at the first one's address where bodies are believed."""
    async with ground(home, CONFIRM="never") as g:
        first, _ = await g.submit(), await g.submit(BOB)
        status = (await g.call_back(g.token(1), completed("up2", EVIL))).status_code
        now = await g.task(first["id"])
        hold(EVIL not in str(now), f"answered {status}; the first task has the second one's result")
        return f"{status}, taken for a hint: the first task's own id is asked about"


def _lost_first(number: int, _: dict[str, Any]) -> Response:
    return Response(status_code=504) if number == 1 else JSONResponse(in_progress(f"up{number}"))


async def _in_doubt(g: Ground) -> dict[str, Any]:
    g.upstream.created = _lost_first
    task = await g.submit()
    hold(task["status"] == "in_doubt", f"the first task is {task['status']}")
    return task


@attempt("cross-task", "another task's upstream id while in doubt")
async def anothers_id_in_doubt(home: Path) -> str:
    """Name the second task's id for a first one that has none of its own: it must not adopt it."""
    async with ground(home) as g:
        first, second = await _in_doubt(g), await g.submit(BOB)
        g.upstream.polled = lambda _id: JSONResponse(completed(_id))
        await g.call_back(g.token(1), completed("up2"))
        await g.call_back(g.token(2), completed("up2"))
        await g.until(second["id"], lambda now: now["status"] == "completed")
        now = await g.task(first["id"])
        hold(now["upstream_id"] is None and not now["output"], f"it took {now['upstream_id']} with {now['output']}")
        return f"the first stays {now['status']}, the second is completed"


@attempt("cross-task", "another task's upstream id while in doubt, CONFIRM=never")
async def anothers_id_in_doubt_believed(home: Path) -> str:
    """Do the same where bodies are believed."""
    async with ground(home, CONFIRM="never") as g:
        first, _ = await _in_doubt(g), await g.submit(BOB)
        await g.call_back(g.token(1), completed("up2"))
        now = await g.task(first["id"])
        hold(now["upstream_id"] is None and not now["output"], f"{now['status']} with {now['output']}")
        return f"the first stays {now['status']}"


@attempt("cross-task", "the upstream gives two tasks one id")
async def one_id_for_two(home: Path) -> str:
    """Answer two submissions with the same id: the second client must not get the first one's result."""
    async with ground(home) as g:
        g.upstream.created = lambda _number, _params: JSONResponse(in_progress("same"))
        g.upstream.polled = lambda _id: JSONResponse(completed(_id))
        first, second = await g.submit(), await g.submit(BOB)
        for number in (1, 2):
            await g.call_back(g.token(number), completed("same"))
        await g.until(first["id"], lambda now: now["status"] == "completed")
        now = await g.task(second["id"])
        hold(not now["output"] and now["upstream_id"] is None, f"bob's task has {now['output']}")
        return f"the second is {now['status']}: {now['note']}"


@attempt("cross-task", "an id that is a path")
async def id_as_path(home: Path) -> str:
    """Name the task by something that would lead a GET elsewhere."""
    async with ground(home) as g:
        first = await _in_doubt(g)
        found = set()
        for evil in ("../../v1/models", "a/b", "a?b=c", "a%2Fb", "..", "x" * 200, "a\r\nb", {"a": 1}, 7):
            found.add((await g.call_back(g.token(1), completed("x") | {"id": evil})).status_code)
        hold(found == {400} and not g.upstream.polls, f"answered {found}, asked {g.upstream.polls}")
        return f"400 each, nothing asked; the task stays {(await g.task(first['id']))['status']}"
