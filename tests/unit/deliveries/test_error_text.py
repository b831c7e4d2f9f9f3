"""Error texts have no secrets and no addresses, whatever raised them."""

import json
from urllib.parse import quote, quote_plus

import httpx
import pytest

from service.deliveries.attempt_outcome import AttemptContext, classify_attempt
from service.deliveries.egress_policy import EgressRefused
from service.deliveries.error_text import MAX_ERROR_READ, MAX_ERROR_TEXT, SecretMask, describe_error, mask_credentials
from service.domain.delivery_errors import UNREACHABLE
from service.domain.errors import Retry
from tests.support.delivery_builders import NOW, SCHEDULE

TOKEN = "T0K3N/with+signs=="
URL = f"https://api.bot.example/bot{TOKEN}/send?chat=chat-4711"


def _status_error(status: int = 404, **headers: str) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", URL)
    response = httpx.Response(status, request=request, headers=headers)
    with pytest.raises(httpx.HTTPStatusError) as raised:
        response.raise_for_status()
    return raised.value


def _wrapped(error: Exception) -> Exception:
    wrapped = Retry(f"could not send: {error}")
    wrapped.__cause__ = error
    return wrapped


def _moved(location: str) -> Exception:
    moved = Retry(f"it moved to {location}")
    moved.__cause__ = _status_error(302, location=location)
    return moved


@pytest.mark.parametrize(
    "error",
    [
        _status_error(),
        _status_error(302, location=f"/login/{TOKEN}?next=chat-4711"),
        _wrapped(_status_error()),
        _wrapped(_status_error(302, location=f"/login/{TOKEN}?next=chat-4711")),
        RuntimeError(f"POST {URL} failed"),
        RuntimeError(URL.replace("/", "\\/")),
        RuntimeError("redirect=https%3A%2F%2Fapi.bot.example%2FbotT0K3N%2Fchat-4711"),
        RuntimeError("http://user:T0K3N/chat-4711@api.bot.example/"),
        RuntimeError("https://chat-4711:T0K3N@api.bot.example/"),
        _moved(f"/login/{TOKEN}?next=chat-4711"),
        RuntimeError("//api.bot.example/botT0K3N?chat=chat-4711"),
        RuntimeError("access_token=T0K3N, chat_key: 'chat-4711'"),
        httpx.ConnectError("no route to /botT0K3N/with+signs==/send?chat=chat-4711", request=httpx.Request("GET", URL)),
    ],
)
def test_address_of_a_failed_request_is_not_described(error: Exception) -> None:
    """Neither path nor query of the address of a request, nor where it is redirected, is in the text."""
    text = describe_error(error)
    assert "T0K3N" not in text
    assert "chat-4711" not in text


def test_status_and_host_stay() -> None:
    """An admin still reads what answered, and how."""
    assert describe_error(_status_error()) == "HTTPStatusError: the address answered 404"
    assert describe_error(RuntimeError(f"POST {URL} failed")) == ("RuntimeError: POST https://api.bot.example/… failed")


@pytest.mark.parametrize(
    "value", [TOKEN, "short1", "42-17", 'quo"ted\\value', "zwölf Zeichen", "first-token,second-token"]
)
def test_values_of_settings_are_masked_in_every_form(value: str) -> None:
    """A value is masked as it is, percent-encoded, in quotes, and in its parts between commas."""
    mask = SecretMask([value])
    for form in (
        value,
        quote(value),
        quote(value, safe=""),
        quote_plus(value),
        repr(value)[1:-1],
        json.dumps(value)[1:-1],
    ):
        assert form not in mask(f"it sent {form} to them")
        assert form.swapcase() not in mask(f"it sent {form.swapcase()} to them")
    for part in value.split(","):
        assert part not in mask(f"it sent {part} to them")


def test_short_values_leave_other_words_alone() -> None:
    """A short value is masked as a word of its own, and flags are no secrets."""
    mask = SecretMask(["404", "true", "no"])
    assert mask("answered 404, not 14041: it is true, no doubt") == "answered …, not 14041: it is true, no doubt"


def test_parts_of_an_address_in_the_settings_are_masked() -> None:
    """The secret path of a webhook address is masked where it appears without its host."""
    mask = SecretMask(
        ["https://user:pass-word@hooks.example/services/T0001/averylong1secretpart?sig=even-longer-signature"]
    )
    text = mask("averylong1secretpart and even-longer-signature and pass-word, hooks.example stays")
    assert text == "… and … and …, hooks.example stays"


def test_secret_at_the_end_of_what_is_read_is_dropped() -> None:
    """The text is cut at a blank, so that no half of a secret remains unmasked."""
    secret = "s" * 40
    text = describe_error(RuntimeError("//" + "x" * (MAX_ERROR_READ - 22) + secret), [secret])
    assert "sss" not in text
    text = describe_error(RuntimeError("https://a/" + "x" * (MAX_ERROR_READ - 30) + " " + secret), [secret])
    assert "sss" not in text


def test_traceback_keeps_its_lines() -> None:
    """Only addresses and credentials are masked in a traceback."""
    text = mask_credentials(f'  File "/srv/handlers/mine.py", line 3\n    post("{URL}")\nhttpx.HTTPStatusError: {URL}')
    assert text == (
        '  File "/srv/handlers/mine.py", line 3\n    post("https://api.bot.example/…")\n'
        "httpx.HTTPStatusError: https://api.bot.example/…"
    )


@pytest.mark.parametrize(
    ("error", "unreachable"),
    [
        (httpx.ConnectError("[Errno 111] Connection refused"), True),
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED]"), True),
        (httpx.ReadTimeout(""), True),
        (httpx.RemoteProtocolError("illegal status line: SSH-2.0-OpenSSH_9.6"), True),
        (EgressRefused("db.internal is at 10.0.0.7, which is not public"), True),
        (TimeoutError("no end within 15 s"), True),
        (OSError(113, "No route to host"), True),
        (_wrapped(httpx.ConnectError("[Errno 111] Connection refused")), True),
        (Retry("the receiver answered 500"), False),
        (KeyError("chat"), False),
    ],
)
@pytest.mark.parametrize("requested", [True, False])
def test_network_errors_of_a_notify_entry_begin_with_one_sentence(
    error: Exception, *, unreachable: bool, requested: bool
) -> None:
    """The stored text of a client's own delivery shows that the address could not be reached; the detail follows."""
    context = AttemptContext(attempt=1, limit=3, schedule=SCHEDULE, now=NOW, jitter=0.0, requested=requested)
    text = classify_attempt(error, context).error or ""
    assert text.startswith(UNREACHABLE) == (unreachable and requested)
    assert type(error).__name__ in text


def test_text_of_an_error_is_bounded() -> None:
    """An error may quote a whole page, and each attempt stores its text."""
    assert len(describe_error(RuntimeError("a page " * 5000))) == MAX_ERROR_TEXT
