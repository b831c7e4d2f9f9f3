"""The operation of the event stream."""

from service.api.event_schemas import StreamedEvent
from service.api.event_streams import LAST_EVENT_ID, MAX_TASKS
from service.api.openapi.operation import DeclaredResponse, Headers, Operation
from service.api.openapi.parameters import ID, SECONDS, Parameter, in_query
from service.api.query_params import MAX_NUMBER
from service.domain.task import EventType

_NUMBER = {"type": "integer", "format": "int64", "minimum": 0, "maximum": MAX_NUMBER}
_TYPES = {"type": "array", "items": {"type": "string", "enum": [each.value for each in EventType]}}
_BEGIN: Headers = {
    LAST_EVENT_ID: {"description": "The position at which the stream begins.", "required": True, "schema": _NUMBER}
}

EVENT_OPERATIONS = (
    Operation(
        path="/v1/events",
        method="get",
        id="streamEvents",
        tag="events",
        summary="Events as they happen, as server-sent events.",
        description=(
            "A client gets the events of its own tasks, an admin all. `data` of each is the body of a webhook, `id` "
            "its position: send the last one as `Last-Event-ID` to resume, without loss and without a repeat. A "
            "comment comes every 15 seconds. The stream ends when the process stops, and when its reader takes "
            "nothing for 30 seconds: connect again. 503 for too many streams of one client."
        ),
        parameters=[
            in_query(
                "task",
                "Only events of this task; repeat it, or separate with commas, for several.",
                {"type": "array", "items": ID, "maxItems": MAX_TASKS},
            ),
            in_query("type", "Only events of this type; repeat it, or separate with commas, for several.", _TYPES),
            in_query(
                "after",
                "Begin after the event with this `id`; 0 for all that are stored. Without it, with what comes now.",
                _NUMBER,
            ),
            in_query("wait", "End the stream after so many seconds; with 0, after what is stored.", SECONDS),
            Parameter(
                name=LAST_EVENT_ID,
                location="header",
                description="The `id` of the last event that the client got. It takes precedence over `after`.",
                schema=_NUMBER,
            ),
        ],
        responses={200: DeclaredResponse("The stream.", StreamedEvent, media_type="text/event-stream", headers=_BEGIN)},
        errors=[404, 422],
    ),
)
