"""The operations of endpoints."""

from service.api.endpoint_request_schemas import EndpointPatch, EndpointRequest, MissedRequest, RotateRequest
from service.api.endpoint_schemas import Endpoint, EndpointPage, EndpointTest, EndpointWithSecret, MissedReport
from service.api.openapi.operation import DeclaredResponse, Headers, Operation
from service.api.openapi.parameters import ENDPOINT_ID, NAME, PAGE, in_query

LOCATION: Headers = {"Location": {"required": True, "schema": {"type": "string"}}}
BODY_ERRORS = (400, 408, 413, 415, 422)

ENDPOINT_OPERATIONS = (
    Operation(
        path="/v1/endpoints",
        method="get",
        id="listEndpoints",
        tag="endpoints",
        summary="Endpoints, newest first, with their health.",
        description="A client sees its own, an admin all. Secrets and the values of headers are never shown.",
        parameters=[in_query("client", "Only those of this client; only an admin may name another.", NAME), *PAGE],
        responses={200: DeclaredResponse("One page.", EndpointPage)},
        errors=[422],
    ),
    Operation(
        path="/v1/endpoints",
        method="post",
        id="createEndpoint",
        tag="endpoints",
        summary="Create an endpoint: a standing address that gets the events of all tasks of the caller.",
        description=(
            "The response has the secret that signs the events; it is never shown again. A client has at most 50."
        ),
        request=EndpointRequest,
        responses={201: DeclaredResponse("The endpoint and its secret.", EndpointWithSecret, headers=LOCATION)},
        errors=[*BODY_ERRORS, 409],
    ),
    Operation(
        path="/v1/endpoints/{id}",
        method="get",
        id="showEndpoint",
        tag="endpoints",
        summary="One endpoint, with its health.",
        description="`health` counts attempts, without test events.",
        parameters=[ENDPOINT_ID],
        responses={200: DeclaredResponse("The endpoint.", Endpoint)},
        errors=[404, 422],
    ),
    Operation(
        path="/v1/endpoints/{id}",
        method="patch",
        id="changeEndpoint",
        tag="endpoints",
        summary="Change, pause, resume or enable an endpoint.",
        description=(
            "A new address and new headers apply to deliveries that wait, too. `headers` replaces all of them. While "
            "an endpoint is paused, its deliveries wait and lose no attempt. `disabled: false` enables one that was "
            "disabled; what it has missed is replayed on request."
        ),
        parameters=[ENDPOINT_ID],
        request=EndpointPatch,
        responses={200: DeclaredResponse("The endpoint.", Endpoint)},
        errors=[*BODY_ERRORS, 404, 409],
    ),
    Operation(
        path="/v1/endpoints/{id}",
        method="delete",
        id="deleteEndpoint",
        tag="endpoints",
        summary="Delete an endpoint and its secret.",
        description="Deliveries that wait for it are dropped: dead letters that say so.",
        parameters=[ENDPOINT_ID],
        responses={204: DeclaredResponse("It is deleted.")},
        errors=[404, 422],
    ),
    Operation(
        path="/v1/endpoints/{id}/rotate",
        method="post",
        id="rotateEndpointSecret",
        tag="endpoints",
        summary="Replace the secret; both sign for a day, or as long as the request says.",
        description=(
            "The response has the new secret; it is never shown again. Until `old_secrets_until` each event has a "
            "signature of either. `overlap_seconds: 0` ends every older secret at once."
        ),
        parameters=[ENDPOINT_ID],
        request=RotateRequest,
        request_required=False,
        responses={200: DeclaredResponse("The endpoint and its new secret.", EndpointWithSecret)},
        errors=[*BODY_ERRORS, 404, 409],
    ),
    Operation(
        path="/v1/endpoints/{id}/test",
        method="post",
        id="testEndpoint",
        tag="endpoints",
        summary="Send a test event now, and respond with what became of it.",
        description=(
            "Its type is `endpoint.test` and its task has the id `test`. It is signed and guarded like every event, "
            "goes to paused and disabled endpoints too, and counts for nothing. One at a time for each client."
        ),
        parameters=[ENDPOINT_ID],
        responses={200: DeclaredResponse("What became of it.", EndpointTest)},
        errors=[404, 409, 422],
    ),
    Operation(
        path="/v1/endpoints/{id}/replay",
        method="post",
        id="replayMissedEvents",
        tag="endpoints",
        summary="Deliver what an endpoint has missed since a time, or count it.",
        description=(
            "Dead letters, and events for which it got no delivery: it was disabled, did not exist or did not ask for "
            "them. The filter of now applies. Events of one task stay in order; 50 a second are due. A call ends after "
            "15 seconds: repeat it with `cursor` set to `next_cursor` until that is null."
        ),
        parameters=[ENDPOINT_ID],
        request=MissedRequest,
        responses={200: DeclaredResponse("The counts.", MissedReport)},
        errors=[*BODY_ERRORS, 404, 409],
    ),
)
