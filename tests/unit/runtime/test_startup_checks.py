"""Where results and events go is looked at before anything is paid for."""

import errno
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from service.domain.errors import BadSetting
from service.runtime import process as main
from service.runtime import startup_checks as destinations
from service.runtime.config.settings import ensure_secret_keys, load_settings
from service.runtime.startup_checks import check_archive, check_delivery_targets, check_webhook

INSIDE = "http://10.0.0.7:9000/hook?team=secret"


def test_a_missing_directory_is_made_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    """The first result finds its place; the try leaves no trace."""
    check_archive(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize(("place", "why"), [("file", "File exists"), ("file/below", "Not a directory")])
def test_a_place_that_can_be_no_directory_is_told(tmp_path: Path, place: str, why: str) -> None:
    """The message names the setting, the reason and the mend."""
    (tmp_path / "file").touch()
    with pytest.raises(BadSetting, match=rf"\ABOOMERANG_ARCHIVE_URL must name .*: {why}; make it and give it"):
        check_archive(tmp_path / place)


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let no file be made, for the reason of `number`."""

    def fail(**_: Any) -> None:
        raise OSError(number, "the system's reason")

    monkeypatch.setattr(destinations, "TemporaryFile", fail)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_directory_of_somebody_else_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """It is there, and nothing can be put into it."""
    refuse(monkeypatch, number)
    with pytest.raises(BadSetting, match="the system's reason"):
        check_archive(tmp_path)


def test_a_full_disk_is_told_and_keeps_nothing_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callbacks are taken meanwhile, and deliveries are tried again: a restart must not end the service."""
    refuse(monkeypatch, errno.ENOSPC)
    with capture_logs() as lines:
        monkeypatch.setattr(destinations, "log", structlog.get_logger())
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
def test_an_internal_webhook_address_is_told(url: str) -> None:
    """Every event would become a dead letter; the message names both settings, and nothing of the address."""
    with pytest.raises(BadSetting, match=r"\ABOOMERANG_WEBHOOK_URL .* BOOMERANG_EGRESS_ALLOW") as told:
        check_webhook(url, ())
    assert "10.0.0.7" not in str(told.value)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "allow"),
    [
        ("https://203.0.114.7/", ()),
        ("https://media.internal/", ()),
        (INSIDE, ("10.0.0.0/8",)),
        (INSIDE, ("10.0.0.7:9000",)),
        ("http://localhost:9000", ("localhost",)),
        ("http://localhost:9000", ("127.0.0.0/8",)),
    ],
)
def test_a_public_an_allowed_and_a_named_address_pass(url: str, allow: tuple[str, ...]) -> None:
    """What a name resolves to is for the moment of the dial."""
    check_webhook(url, allow)


async def test_only_what_a_loaded_handler_needs_is_looked_at(tmp_path: Path) -> None:
    """A setting that no handler of this process uses stops nothing."""
    (tmp_path / "file").touch()
    archive = (tmp_path / "file").as_uri()
    settings = load_settings({"BOOMERANG_WEBHOOK_URL": INSIDE, "BOOMERANG_ARCHIVE_URL": archive})
    await check_delivery_targets(settings, ["log"])
    with pytest.raises(BadSetting, match="WEBHOOK_URL"):
        await check_delivery_targets(settings, ["webhook"])
    with pytest.raises(BadSetting, match="ARCHIVE_URL"):
        await check_delivery_targets(settings, ["archive"])


@pytest.mark.parametrize(("role", "refused"), [("all", True), ("worker", True), ("web", False)])
async def test_whoever_dispatches_looks_before_it_starts(tmp_path: Path, role: main.Role, refused: bool) -> None:
    """A process that takes in callbacks alone needs no place for results."""
    environ = {"DATABASE_URL": f"sqlite:///{tmp_path}/b.db", "UPSTREAM_KEY": "key", "WEBHOOK_URL": INSIDE}
    settings = load_settings({f"BOOMERANG_{name}": value for name, value in environ.items()})
    if refused:
        with pytest.raises(BadSetting, match="WEBHOOK_URL"):
            async with main.running(settings, host="127.0.0.1", port=None, role=role):
                pass
        with pytest.raises(BadSetting, match="WEBHOOK_URL"):
            await main.reconcile_once(ensure_secret_keys(settings))
        return
    async with main.running(settings, host="127.0.0.1", port=None, role=role) as address:
        assert address == ""
