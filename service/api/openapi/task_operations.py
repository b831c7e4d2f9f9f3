"""The operations of tasks, with their parameters, bodies and responses."""

from service.api.count_schemas import StatusCounts
from service.api.openapi.operation import RETRY_AFTER, DeclaredResponse, Headers, Operation
from service.api.openapi.parameters import (
    IDEMPOTENCY_KEY,
    IF_NONE_MATCH,
    INCLUDE,
    PAGE,
    POSITION,
    PREFER,
    TASK_FILTERS,
    TASK_ID,
    WAIT,
)
from service.api.request_schemas import ResubmitRequest, TaskRequest
from service.api.schemas import HistoryPage, TaskPage, TaskWithPayload

LOCATION: Headers = {"Location": {"description": "URL of the task.", "required": True, "schema": {"type": "string"}}}
VERSION: Headers = {"ETag": {"description": "The version of the task.", "required": True, "schema": {"type": "string"}}}
PREFERENCE_APPLIED: Headers = {"Preference-Applied": {"description": "The applied wait.", "schema": {"type": "string"}}}

TASK_OPERATIONS = (
    Operation(
        path="/v1/tasks",
        method="get",
        id="listTasks",
        tag="tasks",
        summary="Tasks, newest first.",
        description=(
            "A client sees its own tasks, an admin all. A page ends after `limit` tasks, or early at 1 MiB; "
            "repeat the request with `cursor` set to `next_cursor` until that is null. A page also ends early where "
            "few of many tasks pass the filters. Filters combine."
        ),
        parameters=[
            *TASK_FILTERS,
            *PAGE,
            INCLUDE,
        ],
        responses={200: DeclaredResponse("One page.", TaskPage)},
        errors=[422],
    ),
    Operation(
        path="/v1/tasks/counts",
        method="get",
        id="countTasks",
        tag="tasks",
        summary="How many tasks pass a filter, by status.",
        description=(
            "Counts end at 1000, and look at the newest 20,000 tasks, or the newest 2000 with a rare word: with `more` "
            "there are or may be more. The filter is that of the list; `status` has no effect."
        ),
        parameters=[*TASK_FILTERS],
        responses={200: DeclaredResponse("The counts; statuses without tasks are left out.", StatusCounts)},
        errors=[422],
    ),
    Operation(
        path="/v1/tasks",
        method="post",
        id="createTask",
        tag="tasks",
        summary="Validate and store a task, which is submitted next.",
        description=(
            "The answer does not wait for the provider, unless `wait` or `Prefer` asks for it. Every fault of "
            "the request is in `errors`. Send an `Idempotency-Key` so that a repeated request finds the first "
            "task instead of paying for a second one."
        ),
        parameters=[WAIT, IDEMPOTENCY_KEY, PREFER],
        request=TaskRequest,
        responses={
            200: DeclaredResponse(
                "The existing task of this Idempotency-Key.",
                TaskWithPayload,
                headers=LOCATION | PREFERENCE_APPLIED,
            ),
            202: DeclaredResponse(
                "The task, as soon as it is durable and before its submission.",
                TaskWithPayload,
                headers=LOCATION | PREFERENCE_APPLIED,
            ),
        },
        errors=[400, 408, 413, 415, 422, 429],
    ),
    Operation(
        path="/v1/tasks/{id}",
        method="get",
        id="showTask",
        tag="tasks",
        summary="One task; with `wait` as soon as it is settled or expired, or when the time is up.",
        description="Poll it until `status` is `completed`, `failed` or `canceled`, or let `wait` hold the answer.",
        parameters=[TASK_ID, WAIT, PREFER, IF_NONE_MATCH],
        responses={
            200: DeclaredResponse("The task.", TaskWithPayload, headers=VERSION | RETRY_AFTER),
            304: DeclaredResponse("The client has this version of the task.", headers=VERSION | RETRY_AFTER),
        },
        errors=[404, 422],
    ),
    Operation(
        path="/v1/tasks/{id}",
        method="delete",
        id="eraseTask",
        tag="tasks",
        summary="Erase what an ended task contains.",
        description=(
            "Deletes its inputs, prompt, payload, metadata, results, stored files and callbacks; id, times, cost and "
            "status stay. Deliveries that are not made yet become dead letters, and none can be replayed. 409 until "
            "the task has ended, and while a delivery of it is being made. A second call changes nothing."
        ),
        parameters=[TASK_ID],
        responses={200: DeclaredResponse("What is left of the task.", TaskWithPayload)},
        errors=[404, 409, 422],
    ),
    Operation(
        path="/v1/tasks/{id}/cancel",
        method="post",
        id="cancelTask",
        tag="tasks",
        summary="Cancel a task here before its submission, at the provider after it.",
        description=(
            "A task that was not sent yet is always canceled. After that the provider decides: 409 has its reason."
        ),
        parameters=[TASK_ID],
        responses={200: DeclaredResponse("The canceled task.", TaskWithPayload)},
        errors=[404, 409, 422, 502],
    ),
    Operation(
        path="/v1/tasks/{id}/resubmit",
        method="post",
        id="resubmitTask",
        tag="tasks",
        summary="Submit an in-doubt, failed, expired or canceled task again as a new, linked task.",
        description=(
            "The provider may charge both tasks: an operator's decision for a task whose outcome is not known "
            "or not wanted. With `params` in the body these parameters are changed, and any task that has ended may "
            "be used; each such call makes a new task, unless it repeats an `Idempotency-Key`."
        ),
        parameters=[TASK_ID, IDEMPOTENCY_KEY],
        request=ResubmitRequest,
        request_required=False,
        responses={
            200: DeclaredResponse("The existing task of this Idempotency-Key.", TaskWithPayload, headers=LOCATION),
            202: DeclaredResponse(
                "The new task; without changes a second call returns the same one.", TaskWithPayload, headers=LOCATION
            ),
        },
        errors=[400, 404, 408, 409, 413, 415, 422, 429],
    ),
    Operation(
        path="/v1/tasks/{id}/events",
        method="get",
        id="taskHistory",
        tag="tasks",
        summary="The history of a task, oldest entry first.",
        description=(
            "Its events, the callbacks and polls that led to them, and the deliveries with all attempts. "
            "`kind` names the schema of each entry."
        ),
        parameters=[TASK_ID, POSITION, INCLUDE],
        responses={200: DeclaredResponse("One page of the history; usually it is the only one.", HistoryPage)},
        errors=[404, 422],
    ),
)
