"""The targets of results and events are checked before anything is paid for."""

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from service.deliveries.egress_clients import EgressSettings
from service.domain.errors import BadSetting
from service.runtime import process, startup_checks, web
from service.runtime.config.required_settings import ensure_secret_keys
from service.runtime.config.settings import load_settings
from service.runtime.startup_checks import check_archive, check_delivery_targets, check_webhook

INSIDE = "http://10.0.0.7:9000/hook?team=secret"
DENIED = ["10.0.0.0/8", "127.0.0.0/8", "::1", "169.254.0.0/16"]


def test_missing_directory_is_created_empty(tmp_path: Path) -> None:
    """The directory exists for the first result, closed to other users; the check leaves no file."""
    before = os.umask(0)
    try:
        check_archive(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert list((tmp_path / "a" / "b").iterdir()) == []
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o750


@pytest.mark.parametrize(("path", "reason"), [("file", "[^ ]*/file is a file"), ("file/below", "Not a directory")])
def test_path_that_cannot_be_a_directory_is_refused(tmp_path: Path, path: str, reason: str) -> None:
    """The message names the setting, the reason and the fix."""
    (tmp_path / "file").touch()
    with pytest.raises(BadSetting, match=rf"\ABOOMERANG_ARCHIVE_URL must name .*: {reason}; make it and give it"):
        check_archive(tmp_path / path)


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Make the creation of files fail with the error `number`."""

    def fail(**_: Any) -> None:
        raise OSError(number, "the system's reason")

    monkeypatch.setattr(startup_checks, "TemporaryFile", fail)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_directory_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The directory exists, but no file can be created in it."""
    refuse(monkeypatch, number)
    with pytest.raises(BadSetting, match="the system's reason"):
        check_archive(tmp_path)


def test_full_disk_is_logged_and_does_not_prevent_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callbacks are accepted meanwhile and deliveries are retried, so that a restart is no outage."""
    refuse(monkeypatch, errno.ENOSPC)
    with capture_logs() as lines:
        monkeypatch.setattr(startup_checks, "log", structlog.get_logger())
        check_archive(tmp_path)
    assert [line["setting"] for line in lines] == ["BOOMERANG_ARCHIVE_URL"]


@pytest.mark.parametrize(
    "url",
    [
        INSIDE,
        "http://localhost:9000",
        "https://[::1]/",
        "http://169.254.169.254/",
        "https://[::ffff:10.0.0.7]/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.1/",
    ],
)
def test_webhook_address_in_a_denied_network_is_refused(url: str) -> None:
    """Every event would become a dead letter; the message names both settings, but not the address."""
    denied = EgressSettings(deny=DENIED, allow=DENIED)
    with pytest.raises(BadSetting, match=r"\ABOOMERANG_WEBHOOK_URL .* BOOMERANG_EGRESS_DENY") as refusal:
        check_webhook(url, denied)
    assert "10.0.0.7" not in str(refusal.value)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("url", ["https://203.0.114.7/", "https://media.internal/", INSIDE, "http://localhost:9000"])
def test_other_webhook_addresses_need_no_entry(url: str) -> None:
    """WEBHOOK_URL may be internal without an entry in EGRESS_ALLOW; a name is resolved for each connection."""
    check_webhook(url, EgressSettings(deny=["203.0.113.0/24"]))


async def test_only_targets_of_loaded_handlers_are_checked(tmp_path: Path) -> None:
    """A setting that no handler of this process uses does not prevent the start."""
    (tmp_path / "file").touch()
    archive = (tmp_path / "file").as_uri()
    settings = load_settings(
        {"BOOMERANG_WEBHOOK_URL": INSIDE, "BOOMERANG_ARCHIVE_URL": archive, "BOOMERANG_EGRESS_DENY": DENIED[0]}
    )
    await check_delivery_targets(settings, ["log"])
    with pytest.raises(BadSetting, match="WEBHOOK_URL"):
        await check_delivery_targets(settings, ["webhook"])
    with pytest.raises(BadSetting, match="ARCHIVE_URL"):
        await check_delivery_targets(settings, ["archive"])


@pytest.mark.parametrize(("role", "refused"), [("all", True), ("worker", True), ("web", False)])
async def test_processes_that_dispatch_check_their_targets(tmp_path: Path, role: web.Role, refused: bool) -> None:
    """A web process needs no target for results."""
    environ = {
        "DATABASE_URL": f"sqlite:///{tmp_path}/b.db",
        "UPSTREAM_KEY": "key",
        "WEBHOOK_URL": INSIDE,
        "EGRESS_DENY": DENIED[0],
    }
    settings = load_settings({f"BOOMERANG_{name}": value for name, value in environ.items()})
    if refused:
        with pytest.raises(BadSetting, match="WEBHOOK_URL"):
            async with process.running(settings, host="127.0.0.1", port=None, role=role):
                pass
        with pytest.raises(BadSetting, match="WEBHOOK_URL"):
            await process.reconcile_once(ensure_secret_keys(settings))
        return
    async with process.running(settings, host="127.0.0.1", port=None, role=role) as address:
        assert address == ""


@pytest.mark.parametrize(
    ("url", "key", "warned"),
    [
        ("http://api.example.org", "key", True),
        ("http://10.0.0.1:8080/ent/v2", "key", True),
        ("http://127.0.0.1:8099", "key", False),
        ("http://localhost:8099", "key", False),
        ("http://[::1]:8099", "key", False),
        ("https://api.example.org", "key", False),
        ("http://api.example.org", "", False),
    ],
)
def test_provider_key_without_encryption_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, url: str, key: str, warned: bool
) -> None:
    """A key that travels in clear text is warned of, by the name of the setting and with the fix."""
    settings = load_settings({"BOOMERANG_UPSTREAM_URL": url, "BOOMERANG_UPSTREAM_KEY": key})
    with capture_logs() as lines:
        monkeypatch.setattr(startup_checks, "log", structlog.get_logger())
        startup_checks.log_warnings(settings)
    found = [(line.get("setting"), line.get("hint")) for line in lines if "encryption" in line["event"]]
    assert found == ([("BOOMERANG_UPSTREAM_URL", "use https://")] if warned else [])


@pytest.mark.parametrize(("count", "logged"), [("", 0), ("1", 0), ("4", 1)])
def test_process_count_of_a_platform_is_explained(monkeypatch: pytest.MonkeyPatch, count: str, logged: int) -> None:
    """WEB_CONCURRENCY above 1, which platforms set by themselves, starts one process; one line of the log says so."""
    settings = load_settings({"WEB_CONCURRENCY": count} if count else {})
    with capture_logs() as lines:
        monkeypatch.setattr(startup_checks, "log", structlog.get_logger())
        startup_checks.log_warnings(settings)
    assert [line["log_level"] for line in lines if "WEB_CONCURRENCY" in line["event"]] == ["info"] * logged
