"""Secrets in logs and responses, their comparisons, and the files that store them."""

import ast
import asyncio
import base64
import stat
from pathlib import Path

import anyio
from anyio.to_thread import run_sync
from starlette.responses import JSONResponse

from service.domain.errors import BadSetting
from service.runtime.config.key_file import load_or_create
from tests.acceptance.processes import Workspace, command
from tests.security.catalogue import attempt, require
from tests.security.environment import ALICE, BOB, HOST, KEY, ROOT, UPSTREAM_KEY, bearer, completed, service_under_test
from tests.security.raw import talking

NOTIFY = "whsec_" + base64.b64encode(b"notify-secret-of-alice-32-bytes!").decode()
HOOKS = "whsec_" + base64.b64encode(b"hooks-secret-of-the-operator-32!").decode()
PAYLOAD = "payload-of-alice-that-is-hers"


@attempt("secrets", "a full task life, then a search of all logs and responses")
async def full_task_life(home: Path) -> str:
    """Run a task with recognizable secrets and failing webhooks."""
    hook = "http://user:hook-password@127.0.0.1:1/?t=hook-query"
    async with service_under_test(home, WEBHOOK_SECRETS=HOOKS, WEBHOOK_URL=hook, NOTIFY_ALLOW=f"{HOST}:1") as g:
        notify = [{"handler": "webhook", "url": "http://u:url-password@127.0.0.1:1/?token=url-token", "secret": NOTIFY}]
        task = await g.submit(**g.task_body(payload=PAYLOAD), notify=notify)
        token, payload = g.token(), str(g.upstream.submissions[0]["payload"])
        g.upstream.poll_reply = lambda _: JSONResponse(completed("up1"))
        await g.call_back(token, completed("up1"))
        await g.call_back(token[:-2] + "xx", completed("up1"))
        await g.wait_until(task["id"], lambda now: now["status"] == "completed")
        paths = [f"/v1/tasks/{task['id']}", "/v1/tasks", "/v1/deliveries", "/metrics", "/v1/models"]
        read = [(path, key) for path in [*paths, f"{paths[0]}/events"] for key in (ALICE, ROOT)]
        responses = "".join([(await g.http.get(path, headers=bearer(key))).text for path, key in read])
        secrets = (
            KEY,
            UPSTREAM_KEY,
            ALICE,
            BOB,
            ROOT,
            NOTIFY,
            HOOKS,
            token,
            payload,
            "-password",
            "url-token",
            "hook-query",
        )
        logged = g.logged.getvalue()
        found = [each[:12] for each in secrets if each in logged or each in responses]
        require(not found, f"exposed: {found}")
        require(PAYLOAD not in logged and "a cat" not in logged, "payload or prompt is in the log")
        return f"{len(secrets)} secrets, {len(logged)} characters of log, {len(responses)} of responses: none exposed"


@attempt("timing", "every comparison of a secret takes the same time")
async def constant_time(_: Path) -> str:
    """Search for == with a signature, digest, token or key; require compare_digest where they are checked."""
    root = Path(__file__).parents[2] / "service"
    checked = ("domain/tokens.py", "providers/vidu/signature.py", "api/authentication.py")
    texts = {path: await anyio.Path(path).read_text() for path in (root / path_name for path_name in checked)}
    for path, text in texts.items():
        require("compare_digest" in text, f"{path.name} compares without compare_digest")
        found = [ast.unparse(node) for node in ast.walk(ast.parse(text)) if _compares_a_secret(node)]
        require(not found, f"{path.name}: {found}")
    return f"compare_digest in {', '.join(checked)}, and no =="


def _compares_a_secret(node: ast.AST) -> bool:
    secrets = {"signature", "given", "digest", "token", "key", "mac"}
    if not isinstance(node, ast.Compare) or not any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
        return False
    return any(isinstance(each, ast.Name) and each.id in secrets for each in (node.left, *node.comparators))


@attempt("key file", "twenty processes create it at once, and its mode")
async def key_race(home: Path) -> str:
    """Create the key concurrently: all get the same key, and only the owner can read it."""
    found: set[tuple[str, ...]] = set()
    path = home / "boomerang.db.key"

    async def one() -> None:
        loaded = await run_sync(lambda: load_or_create(path))
        found.add(loaded.secret_keys)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(one)
    mode = stat.S_IMODE(path.stat().st_mode)
    require(len(found) == 1 and mode == 0o600, f"{len(found)} keys, mode {mode:o}")
    return "one key, mode 600"


@attempt("key file", "readable by its group")
async def key_shared(home: Path) -> str:
    """Make the key group-readable, as shared volumes do: the permissions are fixed, and the key stays the same."""
    path = home / "boomerang.db.key"
    first = load_or_create(path)
    path.chmod(0o660)
    require(load_or_create(path) == first, "another key was created")
    mode = stat.S_IMODE(path.stat().st_mode)
    require(mode == 0o600, f"mode {mode:o}")
    return "permissions fixed: mode 600"


@attempt("key file", "readable by everybody")
async def key_open(home: Path) -> str:
    """Make the key readable by others: the start is refused."""
    path = home / "boomerang.db.key"
    load_or_create(path)
    path.chmod(0o644)
    try:
        load_or_create(path)
    except BadSetting as rejected:
        return str(rejected).replace(str(home), "…")[:90]
    require(False, "it is used")
    return ""


@attempt("secrets", "a .env that names another address for the key of the shell")
async def foreign_dotenv(home: Path) -> str:
    """Run a command in a directory whose `.env` names an address: the key of the shell is not sent there."""
    received: list[bytes] = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

    async with talking(record) as port:
        (home / ".env").write_text(f"BOOMERANG_URL=http://{HOST}:{port}\n")
        code, _, shown = await command(Workspace(home=home), "tasks", env={"BOOMERANG_API_KEY": ALICE})
    require(len(received) == 1, f"{len(received)} requests")
    require(ALICE.encode() not in received[0], "the key was sent to a foreign address")
    require(code == 2 and "is not sent to the BOOMERANG_URL of .env" in shown, f"exit {code}: {shown[:200]}")
    return "not sent; the message says why"
