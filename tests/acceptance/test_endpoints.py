"""A standing webhook address in real processes: from the command that adds it to a receiver that verifies events."""

import json

from service.domain.webhook_secrets import derive_webhook_secret
from tests.acceptance.environment import serve, service, settings, sqlite, submit_many, upstream
from tests.acceptance.processes import HOST, Json, Workspace, command
from tests.acceptance.receiver import receiving
from tests.support.ports import free_port

OWN = derive_webhook_secret("of the receiver")
NEXT = derive_webhook_secret("of the receiver, later")


async def _endpoints(workspace: Workspace, url: str, *arguments: str) -> Json:
    code, out, err = await command(workspace, "endpoints", *arguments, "--json", env={"BOOMERANG_URL": url})
    assert code == 0, err
    found: Json = json.loads(out)
    return found


async def test_events_of_every_task_come_signed(workspace: Workspace) -> None:
    """The reference library verifies them before, during and after a rotation; the history has the answers."""
    public_url = f"http://{HOST}:{free_port()}"
    async with upstream(workspace, "--run-time", "200ms") as sandbox, receiving(OWN) as receiver:
        more = {"NOTIFY_ALLOW": "127.0.0.0/8"}
        child = await serve(workspace, settings(sandbox.url, public_url, sqlite(workspace), **more))
        added = ("add", receiver.url, "--events", "task.completed", "--secret", OWN)
        endpoint = await _endpoints(workspace, public_url, *added)
        tested = await _endpoints(workspace, public_url, "test", endpoint["id"])
        async with service(child) as at:
            [first] = await submit_many(at, 1)
            await receiver.received("task.completed")
            await _endpoints(workspace, public_url, "rotate", endpoint["id"], "--secret", NEXT)
            [second] = await submit_many(at, 1)  # signed by both: the receiver still has the old secret
            await at.wait_until_settled(second["id"])
            await at.wait_until_idle()
            receiver.secret = NEXT
            [third] = await submit_many(at, 1)
            await at.wait_until_settled(third["id"])
            await at.wait_until_idle()
            history = await at.history(third["id"])
        [shown] = (await _endpoints(workspace, public_url))["data"]
    assert (tested["delivered"], tested["status"]) == (True, 204)
    assert receiver.refused == []
    bodies = [hook.body for hook in receiver.hooks]
    assert [body["type"] for body in bodies] == ["endpoint.test", *["task.completed"] * 3]
    assert [body["data"]["task"]["id"] for body in bodies[1:]] == [first["id"], second["id"], third["id"]]
    attempts = [entry for entry in history if entry["kind"] == "attempt" and entry["handler"] == "webhook"]
    assert [(entry["outcome"], entry["answer_status"]) for entry in attempts] == [("delivered", 204)]
    assert shown["health"]["recent"] == {"succeeded": 3, "failed": 0}
    assert "secret" not in shown
