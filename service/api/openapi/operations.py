"""The table of operations: each route and method with its parameters, bodies and responses."""

from service.api.document_schemas import DocsPage, OpenApiDocument
from service.api.metrics import MEDIA_TYPE as METRICS_TYPE
from service.api.openapi import examples
from service.api.openapi.content_operations import CONTENT_OPERATIONS
from service.api.openapi.endpoint_operations import ENDPOINT_OPERATIONS
from service.api.openapi.event_operations import EVENT_OPERATIONS
from service.api.openapi.handler_operations import HANDLER_OPERATIONS
from service.api.openapi.operation import DeclaredResponse, Method, Operation
from service.api.openapi.parameters import (
    CURSOR_TEXT,
    DAY,
    DELIVERY_ID,
    DELIVERY_STATUS,
    FAULT,
    NAME,
    PAGE,
    TEXT,
    in_path,
    in_query,
)
from service.api.openapi.task_operations import TASK_OPERATIONS
from service.api.openapi.video_operations import VIDEO_OPERATIONS
from service.api.openapi.vtrix_operations import VTRIX_OPERATIONS
from service.api.replay_schemas import ReplayReport, ReplayRequest
from service.api.request_schemas import ProviderCallback
from service.api.schemas import (
    Counts,
    Delivery,
    DeliveryPage,
    LoginLink,
    MetricsText,
    Model,
    ModelList,
    ProcessState,
)
from service.api.usage_schemas import UsageReport
from service.domain.models.catalog import known_models


def _probe(method: Method) -> Operation:
    return Operation(
        path="/callbacks/{token}",
        method=method,
        id=f"{method}Callback",
        tag="upstream",
        summary="Probe the address of a callback; it has no effect.",
        description="For providers that check the address before they use it. The token is verified as for a callback.",
        parameters=[in_path("token", "The token of the callback URL.", TEXT, example=examples.CALLBACK_TOKEN)],
        responses={204: DeclaredResponse("The address is good.")},
        errors=[403],
        authenticated=False,
    )


OPERATIONS = (
    *TASK_OPERATIONS,
    *CONTENT_OPERATIONS,
    *EVENT_OPERATIONS,
    *ENDPOINT_OPERATIONS,
    *VTRIX_OPERATIONS,
    *HANDLER_OPERATIONS,
    *VIDEO_OPERATIONS,
    Operation(
        path="/v1/deliveries",
        method="get",
        id="listDeliveries",
        tag="deliveries",
        summary="Deliveries, newest first; with `status=dead` the dead letters.",
        description="A delivery is one event for one handler. A client sees those of its own tasks, an admin all.",
        parameters=[
            in_query("status", "Only rows with this status.", DELIVERY_STATUS),
            in_query("handler", "Only deliveries of this handler.", NAME),
            in_query("fault", "Only dead letters for which this party is responsible.", FAULT),
            *PAGE,
        ],
        responses={200: DeclaredResponse("One page.", DeliveryPage)},
        errors=[422],
    ),
    Operation(
        path="/v1/deliveries/{id}",
        method="get",
        id="showDelivery",
        tag="deliveries",
        summary="One delivery.",
        description="Its status, its number of attempts and its last error.",
        parameters=[DELIVERY_ID],
        responses={200: DeclaredResponse("The delivery.", Delivery)},
        errors=[404, 422],
    ),
    Operation(
        path="/v1/deliveries/replay",
        method="post",
        id="replayDeliveries",
        tag="deliveries",
        summary="Replay all dead or pending deliveries that a filter selects, oldest event first, or count them.",
        description=(
            "50 a second are due, so that new events are not held up. A call ends after 15 seconds: repeat it with "
            "`cursor` set to `next_cursor` until that is null."
        ),
        request=ReplayRequest,
        responses={200: DeclaredResponse("The counts.", ReplayReport)},
        errors=[400, 408, 413, 415, 422],
    ),
    Operation(
        path="/v1/deliveries/{id}/replay",
        method="post",
        id="replayDelivery",
        tag="deliveries",
        summary="Replay a dead or delivered delivery with a new message id; try a pending one now.",
        description=(
            "It is attempted again from the first attempt of its schedule. A client replays only what its own "
            "`notify` entry asked for, an admin all."
        ),
        parameters=[DELIVERY_ID],
        responses={202: DeclaredResponse("The delivery after the replay.", Delivery)},
        errors=[403, 404, 409, 422],
    ),
    Operation(
        path="/v1/usage",
        method="get",
        id="usage",
        tag="usage",
        summary="What tasks cost, by day, model and client.",
        description=(
            "A client sees its own tasks, an admin all. A task counts on the UTC day of its newest submission. "
            "`without_result` is what was paid for and has no result. At most 366 days; by default the last 30."
        ),
        parameters=[
            in_query("from", "The first day.", DAY),
            in_query("to", "The last day; by default today.", DAY),
            in_query("cursor", "The `next_cursor` of the previous part, with the same days.", CURSOR_TEXT),
        ],
        responses={200: DeclaredResponse("The report, or its first part.", UsageReport)},
        errors=[422],
    ),
    Operation(
        path="/v1/models",
        method="get",
        id="listModels",
        tag="models",
        summary="Every model, with its parameters as JSON Schema.",
        description="The schema of a model is the one that `POST /v1/tasks` validates `params` with.",
        responses={200: DeclaredResponse("All models.", ModelList)},
        errors=[422],
    ),
    Operation(
        path="/v1/models/{id}",
        method="get",
        id="showModel",
        tag="models",
        summary="One model.",
        description="Its `params` as JSON Schema 2020-12, with defaults, limits and descriptions.",
        parameters=[in_path("id", "Name of the model.", TEXT, example=known_models()[0])],
        responses={200: DeclaredResponse("The model.", Model)},
        errors=[404, 422],
    ),
    Operation(
        path="/v1/login-links",
        method="post",
        id="createLoginLink",
        tag="operation",
        summary="A link that signs a browser in to the dashboard, once and within ten minutes.",
        description="The browser gets the role of the API key of this request. Whoever has the link can use it.",
        responses={201: DeclaredResponse("The link.", LoginLink)},
        errors=[404, 422],
    ),
    Operation(
        path="/v1/reconcile",
        method="post",
        id="reconcile",
        tag="operation",
        summary="Run a single pass of submit, poll and dispatch, for a cron job; only for an admin.",
        description=(
            "On a platform that stops an idle process, a cron job calls it to submit, poll and deliver "
            "everything that is due. Repeated calls join a pass that is running."
        ),
        responses={200: DeclaredResponse("The number of each.", Counts)},
        errors=[422],
    ),
    Operation(
        path="/healthz",
        method="get",
        id="alive",
        tag="operation",
        summary="Liveness.",
        description="200 while the process serves requests, whatever the state of the database. It needs no key.",
        responses={200: DeclaredResponse("The process is alive.", ProcessState)},
        authenticated=False,
    ),
    Operation(
        path="/readyz",
        method="get",
        id="ready",
        tag="operation",
        summary="Readiness: the database answers and its schema fits.",
        description=(
            "503 with the reason while the database does not answer or its schema does not fit. It needs no key."
        ),
        responses={200: DeclaredResponse("Ready.", ProcessState)},
        authenticated=False,
    ),
    Operation(
        path="/metrics",
        method="get",
        id="metrics",
        tag="operation",
        summary="The metrics of the service.",
        description=(
            "Counters of this process and gauges of the database in the text format of Prometheus. It needs "
            "the key of an admin or the METRICS_KEY."
        ),
        responses={200: DeclaredResponse("Prometheus text.", MetricsText, media_type=METRICS_TYPE.partition(";")[0])},
    ),
    Operation(
        path="/openapi.json",
        method="get",
        id="describe",
        tag="operation",
        summary="This document.",
        description="The same for every caller; `params` of a task follow the configuration of this service.",
        responses={200: DeclaredResponse("OpenAPI 3.1.", OpenApiDocument)},
        errors=[422],
    ),
    Operation(
        path="/docs",
        method="get",
        id="readDocument",
        tag="operation",
        summary="This document as a page.",
        description="It has no scripts and loads nothing, so that it is readable offline.",
        responses={200: DeclaredResponse("The page.", DocsPage, media_type="text/html")},
        errors=[422],
    ),
    Operation(
        path="/callbacks/{token}",
        method="post",
        id="callBack",
        tag="upstream",
        summary="Receive a callback of the provider, in its own format.",
        description=(
            "The token in the path is signed, names a task and expires; the body is read in any form that the "
            "provider sends. Outcomes are confirmed with a request to the provider."
        ),
        parameters=[in_path("token", "The token of the callback URL.", TEXT, example=examples.CALLBACK_TOKEN)],
        request=ProviderCallback,
        responses={204: DeclaredResponse("The callback is durable; a repeated one gets the same response.")},
        errors=[400, 403, 408, 413],
        authenticated=False,
    ),
    _probe("get"),
    _probe("options"),
)
