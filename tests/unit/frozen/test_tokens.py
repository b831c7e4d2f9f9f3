"""Correlation tokens: a callback after an upgrade carries a token of the previous release."""

from datetime import timedelta
from pathlib import Path

from tests.unit.frozen.internals import ensure_secret_keys, load_settings
from tests.unit.frozen.provider import Json
from tests.unit.frozen.rows import row_of
from tests.unit.frozen.running import KEY
from tests.unit.frozen.snapshots import assert_words
from tests.unit.frozen.vtrix_scenario import GOLDEN_DEADLINE

GRACE = int(timedelta(days=7).total_seconds())
CALLBACK = f"golden~1~{GOLDEN_DEADLINE + GRACE}.Q1v5xn1c5CgaUTPUzUD2VwsJCc5ufi_PzWNsAfiGjD0"
PAYLOAD = "golden~1.zZljR9nNuZS0drO661SF8vwJaQyENtDUk_n9_Gic3lk"
WEBHOOK_SECRET = "whsec_zB2v78c7+v5WFyX3eMe+jhQkj6eLEXjG7I9UHhYs57s="


def test_tokens_that_are_sent(vtrix: Json) -> None:
    """A submission carries the expected tokens: format, salts and key derivation."""
    sent = vtrix["submissions"]["golden"]
    assert sent["callback_url"] == f"https://boomerang.example/callbacks/{CALLBACK}"
    assert sent["payload"] == PAYLOAD
    assert sent["meta_data"] == '{"boomerang_task": "golden"}'


def test_tokens_that_come_back(vtrix: Json) -> None:
    """Stored tokens are valid; a forged one is not."""
    statuses = {name: vtrix["answers"][name]["status"] for name in ("called", "garbled", "forged")}
    assert_words("answers to stored tokens", statuses.items(), {"called": 204, "garbled": 400, "forged": 403}.items())
    assert row_of(vtrix, "hinted")["unconfirmed"] == 1, "the payload token in the body was not accepted"


def test_lines_of_the_key_file(tmp_path: Path) -> None:
    """A new file has two lines, and the lines of an existing file are read."""
    settings = load_settings({"BOOMERANG_DATABASE_URL": f"sqlite:///{tmp_path / 'a.db'}"})
    fresh = ensure_secret_keys(settings)
    file = tmp_path / "a.db.key"
    (key,), (secret,) = fresh.secret_keys, fresh.webhook_secrets
    assert file.read_text() == f"SECRET_KEYS={key}\nWEBHOOK_SECRETS={secret}\n"
    file.write_text(f"SECRET_KEYS={KEY}\n")
    old = ensure_secret_keys(settings)
    assert (old.secret_keys, old.webhook_secrets) == ((KEY,), (WEBHOOK_SECRET,))
    file.write_text(f"SECRET_KEYS={KEY}\nWEBHOOK_SECRETS={secret}\n")
    assert ensure_secret_keys(settings).webhook_secrets == (secret,)
