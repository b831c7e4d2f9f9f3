"""Reads Vidu's JSON: create replies, queries and callbacks, which share one shape, and error responses."""

from service.domain.task import Fact, Json
from service.providers.answer import DEFAULT_READING, Names, Reading
from service.providers.fields import error_object, http_url
from service.providers.reasons import neutral_or_code, reason
from service.providers.results import Fields, ResultReader
from service.providers.status_words import VIDU_WORDS
from service.providers.task_bodies import TaskShape


def _item(fields: Fields) -> Json:
    optional = {name: http_url(fields.get(name.replace("_", ""))) for name in ("cover_url", "watermarked_url")}
    return {"type": "video"} | {name: value for name, value in optional.items() if value is not None}


VIDU_TASK = TaskShape(
    names=Names(
        ids=("taskid", "id", "taskuuid", "uuid", "jobid", "ids", "taskids"),
        statuses=("state", "status", "taskstatus", "jobstatus"),
    ),
    words=VIDU_WORDS,
    results=ResultReader(documented="creations", read_item=_item),
    in_dollars=False,
)


def read_vidu(body: object, reading: Reading = DEFAULT_READING) -> Fact:
    """Return the fact in a parsed body with a `state`; raises ProviderUnavailable for anything else.

    Create replies name the task `task_id`, queries and callbacks `id`.
    """
    return VIDU_TASK.read(body, reading)


def vidu_error(body: object, reading: Reading = DEFAULT_READING) -> tuple[str, str]:
    """Return code and message of an error response, from raw bytes, text or parsed JSON; "" for a missing one.

    The code is the word in `reason`, like `CreditInsufficient`, or without one the number in `code`.
    """
    error = error_object(body, reading.key)
    if isinstance(error, str):
        return "", error
    answer = VIDU_TASK.answer(error, reading)
    code, message = reason(answer)
    word = neutral_or_code(answer, answer.get("reason"))
    return word or code, "" if message == word else message
