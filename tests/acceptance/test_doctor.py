"""`boomerang doctor` finds each fault of an installation, which every test here causes for real."""

import json
import re
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import anyio
import httpx
import pytest

from service.domain.ports.process_registry import KeyDecision, ProcessKeys
from service.runtime.checks.doctor import examine
from service.runtime.checks.finding import Finding
from service.storage import Store, migrate, open_store
from tests.acceptance.environment import NEXT_SECRET, SECRET, UPSTREAM_KEY, client, sqlite
from tests.acceptance.environment import settings as environment
from tests.acceptance.processes import HOST, TIMEOUT, Child, Workspace, command, wait_for_response
from tests.chaos.disks import read_only
from tests.chaos.fleet import CLOCKED
from tests.chaos.requirements import Unavailable
from tests.support.chat_server import chat_server
from tests.support.object_stores import Bucket, moto_server
from tests.support.pgbouncer import PROGRAM, REASON, pgbouncer
from tests.support.ports import free_port
from tests.support.private_ca import PrivateCa, Site, site
from tests.support.telegram_api import TOKEN, TelegramApi


@dataclass(frozen=True, kw_only=True)
class Running:
    """A sandbox that accepts one key, and a service in front of it."""

    sandbox: Child
    service: Child
    env: dict[str, str]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run both for all tests of the module."""
    with Workspace(home=tmp_path_factory.mktemp("running"), quiet=True, forks=True) as workspace:
        upstream, port = free_port(), free_port()
        url = f"http://{HOST}:{upstream}"
        sandbox = workspace.start("sandbox", "sandbox", "--port", str(upstream), "--key", UPSTREAM_KEY, url=url)
        env = environment(url, f"http://{HOST}:{port}", sqlite(workspace))
        service = workspace.start("serve", "serve", "--port", str(port), env=env, url=f"http://{HOST}:{port}")
        anyio.run(wait_for_response, sandbox, "/sandbox/ledger")
        anyio.run(wait_for_response, service)
        yield Running(sandbox=sandbox, service=service, env=env)


def changed(running: Running, **more: str) -> dict[str, str]:
    """Return the settings of the running service with others; an empty value removes one."""
    values = {**running.env, **{f"BOOMERANG_{name}": value for name, value in more.items()}}
    return {name: value for name, value in values.items() if value}


async def found(env: dict[str, str], check: str, *, port: int | None = None) -> list[Finding]:
    """Return the findings of one check, in this process; the service would listen on `port`, by default the public."""
    if port is None:
        port = httpx.URL(env.get("BOOMERANG_PUBLIC_URL", "")).port or free_port()
    none = Path("no-such-file")
    all_of_it = examine(env, none, host=HOST, port=port, names=[check])
    return [finding async for name, finding in all_of_it if name == check]


async def only(env: dict[str, str], check: str) -> Finding:
    """Return the only finding of a check."""
    (finding,) = await found(env, check)
    return finding


async def test_a_service_in_order(running: Running, workspace: Workspace) -> None:
    """All is in order: a line for each check, exit code 0, and JSON on standard output; nothing is billed."""
    folder = workspace.home / "videos"
    folder.mkdir()
    env = changed(running, ARCHIVE_URL=f"file://{folder}")
    code, out, err = await command(workspace, "doctor", "--port", str(httpx.URL(running.service.url).port), env=env)
    assert (code, out) == (0, "")
    lines = err.splitlines()
    assert all(line.startswith("ok ") for line in lines[:-1]), err
    assert lines[-1] == "Everything is in order."
    assert "a signed probe made the round trip" in err
    assert SECRET not in err
    assert UPSTREAM_KEY not in err
    assert list(folder.iterdir()) == []
    async with client(running.sandbox.url) as http:
        assert (await http.get("/sandbox/ledger")).json()["bills"] == []


async def test_an_empty_directory(workspace: Workspace) -> None:
    """A fault makes the exit code 1, JSON has every finding, and nothing is made: no database, no key."""
    before = sorted(workspace.home.iterdir())
    code, out, _ = await command(workspace, "doctor", "--json", env={"BOOMERANG_LEESE": "5s"})
    report = json.loads(out)
    assert (code, report["faults"], report["warnings"]) == (1, 2, 2)
    faults = [each["text"] for each in report["findings"] if each["outcome"] == "fault"]
    assert any("BOOMERANG_LEESE" in text for text in faults)
    assert any("BOOMERANG_UPSTREAM_KEY" in text for text in faults)
    assert sorted(workspace.home.iterdir()) == before


async def test_no_public_address(running: Running) -> None:
    """Without a public address every task is polled, which works: a warning."""
    finding = await only(changed(running, PUBLIC_URL=""), "public address")
    assert finding.outcome == "warning"
    assert "BOOMERANG_PUBLIC_URL" in finding.fix


async def test_the_round_trip_while_no_service_runs(running: Running) -> None:
    """Where our port is free, a listener of the doctor answers the probe for a moment."""
    port = free_port()
    finding = await only(changed(running, PUBLIC_URL=f"http://{HOST}:{port}"), "public address")
    assert finding.outcome == "ok"
    assert f"port {port} of this machine, where no service runs yet" in finding.text


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "302 Found\r\nLocation: https://login.example.org/x?y"])
async def test_a_page_of_somebody_else(running: Running, status: str) -> None:
    """An address that answers without our signature does not reach us, whatever its status."""
    async with site(Site(status=status, body=b"" if "204" in status else b"{}")) as other:
        finding = await only(changed(running, PUBLIC_URL=f"http://{HOST}:{other.port}"), "public address")
    assert finding.outcome == "fault"
    assert finding.fix
    assert other.requests
    assert other.requests[0].startswith("POST /callbacks/probe~")
    assert ("https://login.example.org/ " in f"{finding.text} ") == status.startswith("302")


async def test_a_repeated_answer_does_not_pass(running: Running) -> None:
    """The answer to an earlier probe, repeated by somebody else, is none to a new one."""
    async with site(Site()) as other:
        env = changed(running, PUBLIC_URL=f"http://{HOST}:{other.port}")
        await only(env, "public address")
        earlier = other.requests[0].partition(" ")[2]
        async with client(running.service.url) as http:
            answer = await http.post(earlier, json={})
        assert answer.status_code == 200
        other.body = answer.content
        assert (await only(env, "public address")).outcome == "fault"


async def test_an_address_where_nobody_listens(running: Running) -> None:
    """A public address that cannot be connected to is a fault; our own port is another one."""
    (finding,) = await found(
        changed(running, PUBLIC_URL=f"http://{HOST}:{free_port()}"), "public address", port=free_port()
    )
    assert finding.outcome == "fault"
    assert "cannot be reached: Connection refused" in finding.text


async def test_a_service_with_other_keys(running: Running) -> None:
    """A Boomerang with other signing keys would refuse our callbacks."""
    finding = await only(changed(running, SECRET_KEYS=NEXT_SECRET), "public address")
    assert finding.outcome == "fault"
    assert "other signing keys" in finding.text


async def test_an_internal_address(running: Running) -> None:
    """A provider on the Internet cannot call back a loopback or private address."""
    for url in ("http://127.0.0.1:8080", "http://192.168.1.5:8080", "http://localhost:8080"):
        env = changed(running, PUBLIC_URL=url, UPSTREAM_URL="http://192.0.2.1", UPSTREAM_KEY="", API_KEYS="a=12345678")
        env["BOOMERANG_UPSTREAM_URL"] = "https://api.example.org"
        finding = await only(env, "public address")
        assert (finding.outcome, "internal address" in finding.text) == ("fault", True)


async def test_wrong_provider_key(running: Running) -> None:
    """A key that the provider refuses is a fault; the text does not repeat it."""
    finding = (await found(changed(running, UPSTREAM_KEY="a-wrong-key-of-the-provider"), "provider"))[0]
    assert finding.outcome == "fault"
    assert "refuses the key" in finding.text
    assert "a-wrong-key" not in finding.text + finding.fix


async def test_a_page_that_knows_no_keys_is_no_provider(running: Running) -> None:
    """An address that answers a wrong key like ours says nothing about the key: it may lead elsewhere."""
    async with site(Site(status="404 Not Found")) as other:
        env = changed(running, UPSTREAM_URL=f"http://{HOST}:{other.port}")
        stand_in = (await found(env, "provider"))[0]
        assert (stand_in.outcome, "accepts any key" in stand_in.text) == ("ok", True)
        env["BOOMERANG_UPSTREAM_URL"] = f"http://provider.test:{other.port}"
        env["BOOMERANG_HTTP_PROXY"] = f"http://{HOST}:{other.port}"  # which answers for every name
        elsewhere = (await found(env, "provider"))[0]
    assert (elsewhere.outcome, "BOOMERANG_UPSTREAM_URL" in elsewhere.fix) == ("warning", True)


@pytest.mark.parametrize(("seconds", "outcome"), [(3600, "fault"), (-3600, "fault"), (20, "warning")])
async def test_clock_of_the_provider(running: Running, seconds: int, outcome: str) -> None:
    """A clock that differs from the provider's is found by the header Date."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    async with site(Site(status=f"404 Not Found\r\nDate: {date}")) as provider:
        _, clock = await found(changed(running, UPSTREAM_URL=f"http://{HOST}:{provider.port}"), "provider")
    assert clock.outcome == outcome
    assert "differs from this one by" in clock.text
    assert "NTP" in clock.fix


async def test_certificate_of_the_provider(running: Running, tmp_path: Path) -> None:
    """A certificate of an unknown authority is a fault until CA_FILE names the authority."""
    ca = PrivateCa(tmp_path)
    async with site(Site(status="404 Not Found"), ca.server_context(HOST)) as provider:
        env = changed(running, UPSTREAM_URL=f"https://{HOST}:{provider.port}")
        finding = await only(env, "provider")
        assert (finding.outcome, "is not trusted" in finding.text) == ("fault", True)
        assert "BOOMERANG_CA_FILE" in finding.fix
        trusted = await only({**env, "BOOMERANG_CA_FILE": str(ca.file)}, "provider")
    assert trusted.outcome == "ok"


async def test_certificate_of_the_public_address(running: Running, tmp_path: Path) -> None:
    """The provider trusts public authorities only, so that CA_FILE does not help."""
    ca = PrivateCa(tmp_path)
    async with site(Site(), ca.server_context(HOST)) as public:
        env = changed(running, PUBLIC_URL=f"https://{HOST}:{public.port}")
        finding = await only(env, "public address")
    assert (finding.outcome, "is not trusted" in finding.text) == ("fault", True)


async def test_read_only_file(running: Running, workspace: Workspace) -> None:
    """An SQLite file that cannot be written is a fault, with the reason of the system."""
    env = changed(running, DATABASE_URL=sqlite(workspace))
    await migrate(env["BOOMERANG_DATABASE_URL"])
    assert (await only(env, "database")).outcome == "ok"
    try:
        with read_only([workspace.home / "boomerang.db"]):
            finding = await only(env, "database")
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert finding.outcome == "fault"
    assert "readonly database" in finding.text


async def test_old_schema_of_a_file(running: Running, workspace: Workspace) -> None:
    """An SQLite file without the newest schema is migrated by the service: a warning."""
    (workspace.home / "boomerang.db").touch()
    finding = await only(changed(running, DATABASE_URL=sqlite(workspace)), "database")
    assert (finding.outcome, "boomerang migrate" in finding.fix) == ("warning", True)
    assert (workspace.home / "boomerang.db").stat().st_size == 0


async def test_key_file_that_others_can_read(running: Running, workspace: Workspace) -> None:
    """A signing key that everybody can read is a fault, and its permissions stay."""
    file = workspace.home / "boomerang.db.key"
    file.write_text(f"SECRET_KEYS={SECRET}\n")
    file.chmod(0o644)
    finding = await only(changed(running, DATABASE_URL=sqlite(workspace), SECRET_KEYS=""), "signing keys")
    assert (finding.outcome, "chmod 600" in finding.text + finding.fix) == ("fault", True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


async def test_postgres(running: Running, workspace: Workspace, empty_postgres: str) -> None:
    """Without a schema, with it, read-only, without keys, and with a clock that is wrong."""
    env = changed(running, DATABASE_URL=empty_postgres)
    bare = await only({**env, "BOOMERANG_SECRET_KEYS": ""}, "signing keys")
    assert (bare.outcome, "boomerang secret" in bare.fix) == ("fault", True)
    schema, clock = await found(env, "database")
    assert (schema.outcome, schema.fix) == ("fault", "run `boomerang migrate`")
    assert clock.outcome == "ok"
    await migrate(env["BOOMERANG_DATABASE_URL"])
    assert [each.outcome for each in await found(env, "database")] == ["ok", "ok"]
    assert (await only(env, "notifications")).outcome == "ok"
    read_only_env = {**env, "BOOMERANG_DATABASE_URL": f"{empty_postgres}?options=-cdefault_transaction_read_only%3Don"}
    finding = await only(read_only_env, "database")
    assert (finding.outcome, "read-only transaction" in finding.text) == ("fault", True)
    file = workspace.home / "clock"
    file.write_text("600")
    shifted = workspace.run("doctor", [*CLOCKED, "doctor", "--json"], env={**env, "BOOMERANG_TEST_CLOCK": str(file)})
    assert await shifted.ended() == 1
    # a slow answer makes the difference look smaller, never larger
    assert re.search("the clock of the database differs from this one by 5[0-9]{2} s|by 600 s", shifted.output())


@pytest.mark.skipif(PROGRAM is None, reason=REASON)
async def test_transaction_pooler(running: Running, empty_postgres: str) -> None:
    """Through a transaction pooler notifications arrive only with a direct address to listen at."""
    with pgbouncer(empty_postgres) as pooled:
        env = changed(running, DATABASE_URL=pooled)
        finding = await only(env, "notifications")
        assert finding.outcome == "warning"
        assert "BOOMERANG_DATABASE_LISTEN_URL" in finding.fix
        direct = {**env, "BOOMERANG_DATABASE_LISTEN_URL": empty_postgres}
        assert (await only(direct, "notifications")).outcome == "ok"


async def test_two_processes_on_one_file(running: Running, workspace: Workspace) -> None:
    """A second process that submits and polls on the same SQLite file is found while both run."""
    alone = await only(running.env, "processes")
    assert (alone.outcome, alone.text) == ("ok", "1 runs: all")
    second = workspace.start("worker", "worker", env=running.env)
    try:
        with anyio.fail_after(TIMEOUT):
            while (finding := await only(running.env, "processes")).outcome == "ok":
                assert second.alive, second.output()
        assert (finding.outcome, "2 processes submit and poll" in finding.text) == ("warning", True)
        assert "PostgreSQL" in finding.fix
    finally:
        second.terminate()
        await second.ended()
    assert (await only(running.env, "processes")).outcome == "ok"


async def test_processes_of_two_machines_on_one_file(running: Running, workspace: Workspace) -> None:
    """Processes of two machines (here: with two host names) on one SQLite file are a fault."""
    env = changed(running, DATABASE_URL=sqlite(workspace))
    async with open_database(env) as store:
        now = datetime.now(UTC)
        for host in ("one", "two"):
            own = ProcessKeys(id=host, fingerprints=("a",), started_at=now, seen_at=now, role="web", host=host)
            await store.processes.renew(own, lambda _: KeyDecision(signing="a"))
    finding = await only(env, "processes")
    assert (finding.outcome, "(one, two)" in finding.text) == ("fault", True)


async def test_sleeping_platform_without_cron(running: Running, workspace: Workspace) -> None:
    """With SERVERLESS=on a cron job must make single passes; a platform that sleeps needs SERVERLESS=on."""
    env = changed(running, DATABASE_URL=sqlite(workspace), SERVERLESS="on")
    await migrate(env["BOOMERANG_DATABASE_URL"])
    finding = await only(env, "wake-up")
    assert (finding.outcome, "/v1/reconcile" in finding.fix) == ("fault", True)
    assert (await command(workspace, "reconcile", "--once", env=env))[0] == 0
    assert (await only(env, "wake-up")).outcome == "ok"
    async with open_database(env) as store:
        await store.last_runs.note("reconcile", datetime.now(UTC) - timedelta(hours=5))
    assert "5 h ago" in (await only(env, "wake-up")).text
    finding = await only({**changed(running), "K_SERVICE": "boomerang"}, "wake-up")
    assert (finding.outcome, "Cloud Run" in finding.text) == ("warning", True)


async def test_unwritable_archive(running: Running, workspace: Workspace) -> None:
    """A directory that cannot be made or written is a fault; one that can is not made by the check."""
    (workspace.home / "file").touch()
    finding = await only(changed(running, ARCHIVE_URL=f"file://{workspace.home}/file/videos"), "archive")
    assert (finding.outcome, bool(finding.fix)) == ("fault", True)
    finding = await only(changed(running, ARCHIVE_URL=f"file://{workspace.home}/new/videos"), "archive")
    assert finding.outcome == "ok"
    assert not (workspace.home / "new").exists()


@asynccontextmanager
async def open_database(env: dict[str, str]) -> AsyncIterator[Store]:
    """Yield the store of a migrated database."""
    await migrate(env["BOOMERANG_DATABASE_URL"])
    async with open_store(env["BOOMERANG_DATABASE_URL"]) as store:
        yield store


async def make_bucket(server: str) -> None:
    """Make an empty bucket."""
    async with client(server) as http:
        (await http.put("/videos-of-tests")).raise_for_status()


async def test_refused_bucket(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that is missing, or refuses the credentials, is a fault; the check of a good one stores nothing."""
    pytest.importorskip("obstore", reason="the extra `objectstore` is not installed")
    env = changed(
        running,
        ARCHIVE_REGION="us-east-1",
        ARCHIVE_ALLOW_HTTP="true",
        ARCHIVE_ACCESS_KEY="an-access-key",
        ARCHIVE_SECRET_KEY="its-secret",
    )
    monkeypatch.setenv("INITIAL_NO_AUTH_ACTION_COUNT", "1")  # then credentials are checked
    with moto_server() as server:
        env["BOOMERANG_ARCHIVE_ENDPOINT"] = server
        await make_bucket(server)
        finding = await only({**env, "BOOMERANG_ARCHIVE_URL": "s3://videos-of-tests"}, "archive")
        assert finding.outcome == "fault"
        assert "does not accept the credentials" in finding.text
        assert "BOOMERANG_ARCHIVE_ACCESS_KEY" in finding.fix
    monkeypatch.delenv("INITIAL_NO_AUTH_ACTION_COUNT")
    with moto_server() as server:
        env["BOOMERANG_ARCHIVE_ENDPOINT"] = server
        missing = await only({**env, "BOOMERANG_ARCHIVE_URL": "s3://videos-of-tests"}, "archive")
        assert (missing.outcome, "no bucket" in missing.text) == ("fault", True)
        await make_bucket(server)
        assert (await only({**env, "BOOMERANG_ARCHIVE_URL": "s3://videos-of-tests"}, "archive")).outcome == "ok"
        assert Bucket(server=server, name="videos-of-tests").keys() == []


async def test_chat_webhook_that_points_elsewhere(running: Running) -> None:
    """A bot whose platform sends to another address is a fault; the text has no token."""
    pytest.importorskip("telegram", reason="the extra `telegram` is not installed")
    api = TelegramApi()
    with chat_server(api) as platform:
        env = changed(
            running,
            PUBLIC_URL="https://bot.example.org",
            API_KEYS="me=a-key-of-tests:admin",
            TELEGRAM_TOKEN=TOKEN,
            TELEGRAM_USERS="42",
            TELEGRAM_URL=platform,
        )
        api.webhook = {"url": "https://old.example.org/handlers/telegram/webhook"}
        elsewhere = await only(env, "chats")
        assert (elsewhere.outcome, elsewhere.fix) == ("fault", "run `boomerang setup telegram`")
        assert "https://old.example.org" in elsewhere.text
        api.webhook = {"url": "https://bot.example.org/handlers/telegram/webhook"}
        assert (await only(env, "chats")).outcome == "ok"
        refused = await only({**env, "BOOMERANG_TELEGRAM_TOKEN": "999:wrong-token-of-a-bot-for-tests"}, "chats")
    assert refused.outcome == "fault"
    assert TOKEN not in elsewhere.text
    assert "wrong-token" not in refused.text
    assert (await only(running.env, "chats")).text == "no bot is configured"


async def test_handler_without_its_settings(running: Running) -> None:
    """A handler that is named without its settings is a fault; one that has only some, or is not named, a warning."""
    named = await found(changed(running, HANDLERS="log,telegram"), "settings")
    assert [(each.outcome, "BOOMERANG_TELEGRAM_TOKEN" in each.text) for each in named] == [("fault", True)]
    _, half = await found(changed(running, TELEGRAM_USERS="42"), "handlers")
    assert (half.outcome, half.fix) == ("warning", "set BOOMERANG_TELEGRAM_TOKEN")
    _, unused = await found(changed(running, TELEGRAM_USERS="42", HANDLERS="log"), "handlers")
    assert (unused.outcome, unused.fix) == ("warning", "add telegram to BOOMERANG_HANDLERS, or leave the setting out")
