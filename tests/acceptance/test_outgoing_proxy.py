"""Real processes in a network that can be left only through a proxy, with certificates of a private authority."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import anyio
import httpx
import pytest

from service.domain.webhook_secrets import derive_webhook_secret
from tests.acceptance.environment import SECRET, Service, Upstream, serve, service, settings, sqlite, upstream
from tests.acceptance.processes import HOST, Child, Workspace, command, until
from tests.acceptance.receiver import Receiver, receiving
from tests.support.forward_proxy import ForwardProxy, forward_proxy, tls_terminator
from tests.support.ports import free_port
from tests.support.private_ca import PrivateCa
from tests.support.sample_media import image

API, FILES, HOOKS = "api.provider.test", "files.provider.test", "hooks.operator.test"
"""Names that only the proxy resolves."""

SLOW = pytest.mark.slow
PASSWORD = "proxy-p@ssword"
ENCODED = "proxy-p%40ssword"
AUTHORIZATION = "Basic Ym9vbTpwcm94eS1wQHNzd29yZA=="


@dataclass(kw_only=True)
class ClosedNetwork:
    """The sandbox and a webhook receiver behind TLS, and the proxy to them."""

    sandbox: Upstream
    receiver: Receiver
    proxy: ForwardProxy
    ca: PrivateCa

    @property
    def variables(self) -> dict[str, str]:
        """Return the variables that lead to the proxy with its password, and to the authority."""
        return {"HTTPS_PROXY": self.proxy.url.replace("://", f"://boom:{ENCODED}@"), "SSL_CERT_FILE": str(self.ca.file)}

    async def bills(self) -> int:
        """Return how many tasks the provider has billed."""
        return len((await self.sandbox.ledger())["bills"])


@asynccontextmanager
async def closed_network(workspace: Workspace, *switches: str) -> AsyncIterator[ClosedNetwork]:
    """Run all of it inside the block."""
    ca = PrivateCa(workspace.home)
    async with AsyncExitStack() as stack:
        files = ["--public-url", f"https://{FILES}", "--run-time", "1s", "--tiny-videos", *switches]
        sandbox = await stack.enter_async_context(upstream(workspace, *files))
        receiver = await stack.enter_async_context(receiving(derive_webhook_secret(SECRET)))
        ports = {name: httpx.URL(sandbox.url).port for name in (API, FILES)} | {HOOKS: httpx.URL(receiver.url).port}
        routes = {}
        for name, port in ports.items():
            tls = tls_terminator(port or 0, ca.server_context(name))
            routes[f"{name}:443"] = await stack.enter_async_context(tls)
        routes[f"{API}:80"] = httpx.URL(sandbox.url).port or 0
        proxy = ForwardProxy(routes=routes, authorization=AUTHORIZATION, default=1)
        await stack.enter_async_context(forward_proxy(proxy))
        yield ClosedNetwork(sandbox=sandbox, receiver=receiver, proxy=proxy, ca=ca)


async def started(workspace: Workspace, variables: dict[str, str], scheme: str = "https") -> Child:
    """Start a service whose provider, results and webhook are behind the proxy, with `variables`."""
    more = {
        "ARCHIVE_URL": (workspace.home / "videos").as_uri(),
        "WEBHOOK_URL": f"https://{HOOKS}/hooks",
        "EGRESS_ALLOW": "",
        "LOG_FORMAT": "json",
    }
    given = settings(f"{scheme}://{API}", f"http://{HOST}:{free_port()}", sqlite(workspace), **more)
    return await serve(workspace, {**given, **variables})


async def test_everything_leaves_through_the_proxy(workspace: Workspace) -> None:
    """Provider, archive and webhook are reached through the proxy only; the client command is not disturbed by it."""
    async with closed_network(workspace) as network:
        child = await started(workspace, network.variables)
        picture = workspace.home / "cat.png"
        picture.write_bytes(image("PNG", (320, 240)))
        words = ["submit", "--prompt", "a cat", "--image", str(picture), "--wait", "--json"]
        env = {"BOOMERANG_URL": child.url, "HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9"}
        code, out, err = await command(workspace, *words, env=env)
        assert code == 0, err
        task = json.loads(out)
        hook = await network.receiver.received("artifact.stored")
        assert await network.bills() == 1
        assert (await _ready(child)) == {"status": "ready"}
    assert task["status"] == "completed"
    stored = hook.body["data"]["task"]["output"][0]["archived_url"]
    assert await anyio.Path(unquote(urlsplit(stored).path)).read_bytes()
    assert set(network.proxy.requests) == {f"CONNECT {name}:443" for name in (API, FILES, HOOKS)}
    assert network.receiver.refused == []
    log = child.output()
    assert "outgoing requests use a proxy" in log
    assert not [secret for secret in (PASSWORD, ENCODED, AUTHORIZATION.split()[1]) if secret in log]


async def _ready(child: Child) -> dict[str, object]:
    async with httpx.AsyncClient(trust_env=False) as http:
        found: dict[str, object] = (await http.get(f"{child.url}/readyz")).json()
        return found


async def test_unknown_authority_is_called_a_certificate_error(workspace: Workspace) -> None:
    """Without the authority nothing is billed: log, readiness and note say certificate; with it the task goes on."""
    async with closed_network(workspace) as network:
        variables = {"HTTPS_PROXY": network.variables["HTTPS_PROXY"]}
        child = await started(workspace, variables)
        async with service(child) as at:
            task = await at.submit()

            async def warned() -> bool:
                return "warnings" in await _ready(child)

            await until(warned, what="a warning in /readyz")
            assert await _ready(child) == {
                "status": "ready",
                "warnings": ["provider: certificate verify failed: unable to get local issuer certificate"],
            }

            async def noted() -> bool:
                return "certificate verify failed" in ((await at.task(task["id"])).get("note") or "")

            await until(noted, what="the note of the task")
            assert (await at.task(task["id"]))["status"] == "queued"
        assert "certificate verify failed" in child.output()
        assert await network.bills() == 0
        child.terminate()
        await child.ended()
        again = await serve(workspace, {**_environment(child, workspace), **network.variables}, name="again")
        async with service(again) as at:
            assert (await at.wait_until_settled(task["id"]))["status"] == "completed"
        assert await network.bills() == 1


def _environment(child: Child, workspace: Workspace) -> dict[str, str]:
    return settings(f"https://{API}", child.url, sqlite(workspace), EGRESS_ALLOW="", HANDLERS="log")


@pytest.mark.parametrize("fault", [pytest.param("502", marks=SLOW), pytest.param("407", marks=SLOW), "dies"])
async def test_submission_that_did_not_leave_the_proxy_is_queued_again(workspace: Workspace, fault: str) -> None:
    """A proxy that refuses the tunnel, or dies before it stands: queued, not in doubt, and in the end one bill."""
    async with closed_network(workspace) as network:
        if fault == "502":
            network.proxy.answer = b"HTTP/1.1 502 Bad Gateway\r\n\r\n"
        network.proxy.authorization = "Basic other" if fault == "407" else AUTHORIZATION
        network.proxy.dies = fault == "dies"
        child = await started(workspace, network.variables)
        async with service(child) as at:
            task = await at.submit()
            note = await _note(at, task["id"])
            assert (await at.task(task["id"]))["status"] == "queued"
            assert ("the proxy answered" in note) == (fault != "dies")
            network.proxy.dies, network.proxy.authorization = False, AUTHORIZATION
            network.proxy.answer = b"HTTP/1.1 200 OK\r\n\r\n"
            settled = await at.wait_until_settled(task["id"])
        assert settled["status"] == "completed"
        assert await network.bills() == 1


async def _note(at: Service, task_id: str) -> str:
    found = ""

    async def noted() -> bool:
        nonlocal found
        found = (await at.task(task_id)).get("note") or ""
        return "could not be reached" in found

    await until(noted, what="the note of the task")
    return found


async def test_forwarded_submission_that_is_lost_is_in_doubt(workspace: Workspace) -> None:
    """A proxy that dies after it read a plain http request may have passed it on: in doubt, not sent again."""
    async with closed_network(workspace) as network:
        variables = {**network.variables, "HTTP_PROXY": network.variables["HTTPS_PROXY"]}
        child = await started(workspace, variables, scheme="http")
        network.proxy.dies = True
        async with service(child) as at:
            task = await at.submit()

            async def in_doubt() -> bool:
                return bool((await at.task(task["id"]))["status"] == "in_doubt")

            await until(in_doubt, what="the task in doubt")
            network.proxy.dies = False
            other = await at.submit(metadata={"number": 2})
            assert (await at.wait_until_settled(other["id"]))["status"] == "completed"
            assert (await at.task(task["id"]))["status"] == "in_doubt"
        sent = [line for line in network.proxy.requests if line.startswith(f"POST http://{API}/")]
        assert len(sent) == 2
        assert await network.bills() == 1
