"""Where forms come from, and sessions whose key is gone."""

from datetime import timedelta

import pytest
from starlette.requests import Request

from service.dashboard.request_checks import is_own_form
from service.domain.errors import BadToken
from service.domain.session_tokens import SessionTokens, SignIn, key_fingerprint
from tests.unit.api.fakes import NOW


def a_request(**headers: str) -> Request:
    """Return a request to `inner:8080` with headers, whose names have `_` for `-`."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": [(b"host", b"inner:8080"), *raw]})


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({}, True),  # a program, which needs the token all the same
        ({"origin": "http://inner:8080"}, True),
        ({"origin": "https://video.example"}, True),  # a proxy replaced Host
        ({"origin": "https://video.example", "sec_fetch_site": "same-origin"}, True),
        ({"origin": "https://other.example", "sec_fetch_site": "same-origin"}, True),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "same-site"}, False),
        ({"origin": "http://inner:8080", "sec_fetch_site": "cross-site"}, False),
    ],
)
def test_own_forms(headers: dict[str, str], own: bool) -> None:
    """The browser says which site sent a form; a proxy in between does not make it a foreign one."""
    assert is_own_form(a_request(**headers), "https://video.example") is own


def test_tokens_of_one_kind_are_not_of_another() -> None:
    """A link is no session, a session no link, and a form token neither."""
    tokens = SessionTokens(["a signing key of the tests"])
    sign_in = SignIn(key_id=key_fingerprint("key-of-ann"), id="one", expires=NOW + timedelta(minutes=1))
    for kind, other in (("session", "login"), ("login", "session")):
        token = tokens.token(kind, sign_in)  # type: ignore[arg-type]
        assert tokens.read(kind, token, NOW) == sign_in  # type: ignore[arg-type]
        with pytest.raises(BadToken):
            tokens.read(other, token, NOW)  # type: ignore[arg-type]
        assert not tokens.is_form_token("session one", token)


def test_tokens_end() -> None:
    """A token is worthless from its expiry on, and with another signing key."""
    tokens = SessionTokens(["a signing key of the tests"])
    sign_in = SignIn(key_id=key_fingerprint("key-of-ann"), id="one", expires=NOW + timedelta(minutes=1))
    token = tokens.token("session", sign_in)
    with pytest.raises(BadToken):
        tokens.read("session", token, sign_in.expires)
    with pytest.raises(BadToken):
        SessionTokens(["another signing key"]).read("session", token, NOW)
    assert SessionTokens(["a newer key", "a signing key of the tests"]).read("session", token, NOW) == sign_in


def test_form_tokens_belong_to_their_session() -> None:
    """The token of one session is none of another, also after a rotation of the signing keys."""
    tokens = SessionTokens(["a signing key of the tests"])
    token = tokens.form_token("session one")
    assert SessionTokens(["a newer key", "a signing key of the tests"]).is_form_token("session one", token)
    assert not tokens.is_form_token("session two", token)
    assert not tokens.is_form_token("session one", "")
    assert not tokens.is_form_token("session one", "\ud800")
