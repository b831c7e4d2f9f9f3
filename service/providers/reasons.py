"""Reads why a provider refuses a request, fails a task or leaves out a result, in every shape that occurs."""

import re
from collections.abc import Iterator, Mapping, Sequence

from service.domain.errors import UnreadableBody
from service.domain.lenient_json import parse_lenient
from service.providers.answer import Answer, plain_name
from service.providers.status_words import plain_word

CODES = ("errorcode", "errcode", "failcode", "code", "errortype", "type", "status")
"""Names of an error's code inside of an error object."""

MESSAGES = (
    "message",
    "errormessage",
    "errmsg",
    "errormsg",
    "msg",
    "text",
    "detail",
    "details",
    "description",
    "reason",
    "failreason",
    "title",
    "error",
    "en",
)
"""Names of an error's text inside of an error object; the last one is a language."""

TASK_CODES = ("errcode", "errorcode", "failcode", "code")
TASK_MESSAGES = (
    "error",
    "errors",
    "failreason",
    "failurereason",
    "failedreason",
    "failmsg",
    "failmessage",
    "failure",
    "errormessage",
    "errmsg",
    "errormsg",
    "errordescription",
    "errordetail",
    "errordetails",
    "taskstatusmsg",
    "statusmessage",
    "statusmsg",
    "filterreason",
    "filterreasons",
    "filteredreasons",
    "raimediafilteredreasons",
    "blockreason",
    "message",
    "msg",
    "detail",
    "details",
    "reason",
    "description",
)
"""Names of the reason in a task's body, the most specific first."""

BESIDE_TASK = ("metadata", "info", "extra")
"""Objects that may hold the reason beside the task's own fields."""
BESIDE_MESSAGES = TASK_MESSAGES[: TASK_MESSAGES.index("message")]
"""Names of a reason in such an object. The others may be the caller's own."""

FAILED_FLAGS = ("success", "ok", "issuccess")
"""Fields that are false in an error."""

NEUTRAL_CODES = frozenset({"", "0", "ok", "success", "succeeded", "succeed", "none", "null", "true", "false"})
"""Codes and texts that report no error."""

PLAIN_MESSAGES = ("message", "msg")
SUCCESS_TEXTS = frozenset({"ok", "success", "succeeded", "succeed", "successful", "accepted", "submitted", "created"})
"""Fields and texts by which an answer says that it reports no error."""

MAX_PARTS = 10
MAX_DEPTH = 4
MAX_CODE = 100
MAX_NESTED_TEXT = 20_000
"""Characters up to which a text is read as JSON."""
_CODE_WORD = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[_.:-][A-Za-z0-9]+)*")
_OK, _NO_LONGER_OK = 200, 300


def reason(answer: Answer) -> tuple[str, str]:
    """Return code and message of an answer, "" for each that is missing.

    The message is a text, a list of texts, an object with a message or with texts by language, or such JSON as a text.
    An `error` of one word beside another message is the code, as in OAuth.
    """
    code, messages = _code(answer), list(dict.fromkeys(_messages(answer)))
    message = messages[0] if messages else ""
    named = answer.get("error")
    if len(messages) > 1 and isinstance(named, str) and message == named and _CODE_WORD.fullmatch(named[:MAX_CODE]):
        return code or named, messages[1]
    return code, message


def _code(answer: Answer) -> str:
    for name in ("error", "status"):
        for value in answer.values((name,)):
            fields = _plain(_parsed(value))
            for code in CODES:
                if found := neutral_or_code(answer, fields.get(code)):
                    return found
    return next((found for value in answer.values(TASK_CODES) if (found := neutral_or_code(answer, value))), "")


def _messages(answer: Answer) -> Iterator[str]:
    for name in TASK_MESSAGES:
        for value in answer.values((name,)):
            if text := text_of(answer, value):
                yield text
    for value in answer.values(("status",)):
        if isinstance(value, dict) and (text := text_of(answer, value)):
            yield text
    for value in answer.values(BESIDE_TASK):
        fields = _plain(value)
        yield from filter(None, (text_of(answer, fields.get(name)) for name in BESIDE_MESSAGES))


def neutral_or_code(answer: Answer, value: object) -> str:
    """Return an error code as a text, "" for none and for a code that means success."""
    if isinstance(value, bool):
        return ""
    code = answer.text(value, MAX_CODE)
    if plain_word(code) in NEUTRAL_CODES or (code.isdigit() and _OK <= int(code[:6]) < _NO_LONGER_OK):
        return ""
    return code


def text_of(answer: Answer, value: object, depth: int = 0) -> str:
    """Return the text in a value of any shape, "" without one and for a word like `success`."""
    if depth > MAX_DEPTH:
        return ""
    value = _parsed(value)
    if isinstance(value, list):
        return answer.text("; ".join(_parts(answer, value, depth)))
    if not isinstance(value, dict):
        text = answer.text(value)
        return "" if plain_word(text) in NEUTRAL_CODES else text
    fields = _plain(value)
    for name in MESSAGES:
        if name in fields and (text := text_of(answer, fields[name], depth + 1)):
            return text
    texts = [content for name, content in fields.items() if name not in CODES and isinstance(content, str | dict)]
    return answer.text("; ".join(_parts(answer, texts, depth)))


def _parts(answer: Answer, values: Sequence[object], depth: int) -> list[str]:
    parts = (text_of(answer, value, depth + 1) for value in values[:MAX_PARTS])
    return list(dict.fromkeys(part for part in parts if part))


def refusal(answer: Answer) -> tuple[str, str] | None:
    """Return code and message of an answer that reports an error, None for one that reports none.

    An error is a false `success`, a code that does not mean success, or an `error`, `errors` or `detail` with content.
    Beside a message like `success` a code alone is none: providers have success codes of their own.
    """
    failed = any(value is False or plain_word(str(value)[:8]) == "false" for value in answer.values(FAILED_FLAGS))
    code, message = reason(answer)
    explicit = any(text_of(answer, value) for value in answer.values(("error", "errors", "detail", "errmsg")))
    if not (failed or explicit or (code and not _reports_success(answer))):
        return None
    return code, message


def _reports_success(answer: Answer) -> bool:
    return any(isinstance(value, str) and plain_word(value) in SUCCESS_TEXTS for value in answer.values(PLAIN_MESSAGES))


def _parsed(value: object) -> object:
    """Return the object in a text of JSON, any other value as it is."""
    if not isinstance(value, str) or len(value) > MAX_NESTED_TEXT or value.lstrip()[:1] not in {"{", "["}:
        return value
    try:
        return parse_lenient(value.encode("utf-8", "replace")) or value
    except UnreadableBody:
        return value


def _plain(value: object) -> Mapping[str, object]:
    return {plain_name(name): content for name, content in value.items()} if isinstance(value, dict) else {}
