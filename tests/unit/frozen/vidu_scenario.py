"""A scenario with the provider Vidu: cancels, lists and signatures."""

from tests.unit.frozen.provider import Json, Reply
from tests.unit.frozen.running import KEY, Running, until
from tests.unit.frozen.vtrix_scenario import call_back

SETTINGS = {
    "PROVIDER": "vidu",
    "UPSTREAM_KEY": "any",
    "UPSTREAM_RATE": "1000/s",
    "PUBLIC_URL": "http://localhost",
    "SECRET_KEYS": KEY,
}
CALLED = "fine~1~9999999999.F4BYzbN8vkHo7aM2i1I_-2mCQhHaSCzXCsI8i1bAIhw"
ERROR: Json = {"reason": "Bad", "message": "no"}


def replies() -> dict[str, list[Reply]]:
    """Return the replies of Vidu, by provider id and operation."""
    running = {"state": "processing"}
    canceled: Json = {"id": "up-canceled", "state": "failed", "err_code": "UserCancelled"}
    return {
        "up-canceled": [(200, canceled)],
        "up-fine/cancel": [(200, {})],
        "up-over/cancel": [(400, ERROR)],
        "up-ill/cancel": [(500, ERROR)],
        "up-busy/cancel": [(429, ERROR)],
        "up-gone/cancel": [(404, ERROR)],
        "tasks": [(200, {"tasks": []})],
        **{f"up-{name}": [(200, {"id": f"up-{name}", **running})] for name in ("fine", "over", "ill", "busy", "gone")},
    }


def run_scenario(service: Running) -> None:
    """Run the scenario and wait until it has finished."""
    for name in ("canceled", "fine", "over", "ill", "busy", "gone"):
        service.add_task(name, provider="vidu", upstream_id=f"up-{name}")
    service.add_task("doubt", provider="vidu", status="in_doubt", guessed=1)
    until(lambda: len(service.words("SELECT task_id FROM polls")) > 6, seconds=20)
    for name in ("fine", "over", "gone", "ill", "busy"):
        service.send(name, "POST", f"/v1/tasks/{name}/cancel")
    service.record("unsigned", call_back(service, CALLED, b'{"id": "up-fine", "state": "success"}'))
    service.send("from elsewhere", "GET", "/v1/tasks", headers={"X-Forwarded-For": "192.0.2.1"})
