"""The operations of handlers."""

from service.api.circuit_schemas import Circuit, CircuitPage
from service.api.handler_schemas import Handler, HandlerList, HandlerTest, HandlerTestRequest
from service.api.openapi.operation import DeclaredResponse, Operation
from service.api.openapi.parameters import NAME, PAGE, in_path

HANDLER_NAME = in_path("name", "Name of the handler, its own or a former one.", NAME, example="webhook")

CIRCUIT_KEY = in_path("key", "Key of the circuit, from the list.", NAME, example="5f0c7d9a1b3e8f2046ad5c7b9e1d3f80")

HANDLER_OPERATIONS = (
    Operation(
        path="/v1/handlers",
        method="get",
        id="listHandlers",
        tag="handlers",
        summary="Every handler that is loaded, is paused or has pending deliveries; only for an admin.",
        description="A handler that only another process has loaded appears while deliveries wait for it.",
        responses={200: DeclaredResponse("All handlers, by name.", HandlerList)},
        errors=[422],
    ),
    Operation(
        path="/v1/circuits",
        method="get",
        id="listCircuits",
        tag="handlers",
        summary="Destinations that fail or have asked to wait; only for an admin.",
        description=(
            "After consecutive failures the circuit of a destination opens: its deliveries wait and lose no attempt, "
            "while one attempt at a time probes it. The first answer closes it, and what waits is delivered at once."
        ),
        parameters=[*PAGE],
        responses={200: DeclaredResponse("One page, by key.", CircuitPage)},
        errors=[422],
    ),
    Operation(
        path="/v1/circuits/{key}/close",
        method="post",
        id="closeCircuit",
        tag="handlers",
        summary="Close the circuit of a destination by hand; only for an admin.",
        description=(
            "What waits for the destination is delivered at once, by every process within seconds. If it still fails, "
            "its circuit opens again. One that is closed stays so."
        ),
        parameters=[CIRCUIT_KEY],
        responses={200: DeclaredResponse("The circuit.", Circuit)},
        errors=[404, 422],
    ),
    Operation(
        path="/v1/handlers/{name}/pause",
        method="post",
        id="pauseHandler",
        tag="handlers",
        summary="Pause a handler in every process; only for an admin.",
        description=(
            "Its deliveries wait and lose no attempt; attempts that run may end. Every process obeys within two "
            "seconds. A handler that is paused stays as it is."
        ),
        parameters=[HANDLER_NAME],
        responses={200: DeclaredResponse("The handler.", Handler)},
        errors=[404, 422],
    ),
    Operation(
        path="/v1/handlers/{name}/resume",
        method="post",
        id="resumeHandler",
        tag="handlers",
        summary="Resume a handler; only for an admin.",
        description="What waits is delivered at once, oldest first.",
        parameters=[HANDLER_NAME],
        responses={200: DeclaredResponse("The handler.", Handler)},
        errors=[404, 422],
    ),
    Operation(
        path="/v1/handlers/{name}/test",
        method="post",
        id="testHandler",
        tag="handlers",
        summary="Send a sample event through a handler now; only for an admin.",
        description="It is clearly marked and stored nowhere. A handler that is paused is tested, too.",
        parameters=[HANDLER_NAME],
        request=HandlerTestRequest,
        request_required=False,
        responses={200: DeclaredResponse("How the attempt ended.", HandlerTest)},
        errors=[400, 404, 408, 409, 413, 415, 422],
    ),
)
