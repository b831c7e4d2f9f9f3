"""Reads Vtrix's JSON: task bodies of create replies, polls and callbacks, and error responses."""

from service.domain.task import Fact, Json
from service.providers.answer import DEFAULT_READING, Names, Reading
from service.providers.fields import clean, error_object, number
from service.providers.reasons import reason
from service.providers.results import Fields, ResultReader
from service.providers.status_words import VTRIX_WORDS
from service.providers.task_bodies import TaskShape


def _item(fields: Fields) -> Json:
    item: Json = {"type": clean(fields.get("type"), 40) or "video"}
    if (seconds := number(fields.get("duration"))) is not None:
        item["duration"] = seconds
    if job := clean(fields.get("jobid"), 128):
        item["job_id"] = job
    return item


VTRIX_TASK = TaskShape(
    names=Names(
        ids=("id", "taskid", "taskuuid", "uuid", "generationid", "jobid", "ids", "taskids"),
        statuses=("status", "taskstatus", "state", "jobstatus"),
    ),
    words=VTRIX_WORDS,
    results=ResultReader(documented="output", read_item=_item),
    in_dollars=True,
)


def read_vtrix(body: object, reading: Reading = DEFAULT_READING) -> Fact:
    """Return the fact in a parsed task body; raises ProviderUnavailable for anything else.

    Accepts the response section of the API page and the variants that occur: an error as an object or a bare string,
    codes and durations as numbers or text, a failure without an id, the task nested in an envelope.
    """
    return VTRIX_TASK.read(body, reading)


def vtrix_error(body: object, reading: Reading = DEFAULT_READING) -> tuple[str, str]:
    """Return code and message of an error response, from raw bytes, text or parsed JSON; "" for a missing one."""
    error = error_object(body, reading.key)
    if isinstance(error, str):
        return "", error
    return reason(VTRIX_TASK.answer(error, reading))
