"""The operations of the provider's API, as this service serves it."""

from service.api.openapi.operation import DeclaredResponse, Operation
from service.api.openapi.parameters import IDEMPOTENCY_KEY, NAME, TASK_ID, TEXT, in_path, in_query
from service.api.query_params import MAX_INTEGER
from service.api.vtrix_models import LIST_PATH, MAX_PAGE_SIZE, PAGE_SIZE
from service.api.vtrix_schemas import (
    GatewayError,
    GenerationRequest,
    GenerationTask,
    SkillError,
    SkillModels,
    SkillModelSpec,
)
from service.api.vtrix_tasks import CREATE_PATH
from service.domain.models.catalog import known_models

VTRIX_OPERATIONS = (
    Operation(
        path=CREATE_PATH,
        method="post",
        id="createGeneration",
        tag="Drop-in",
        summary="Accept a task in the form of the provider's API.",
        description=(
            "An existing client of the provider changes its base address and its key. The answer comes as soon as the "
            "task is stored; `callback_url` gets the provider's task body when the task ends, signed and retried."
        ),
        parameters=[IDEMPOTENCY_KEY],
        request=GenerationRequest,
        responses={200: DeclaredResponse("The task.", GenerationTask)},
        errors=[400, 408, 413, 415, 429],
        error_body=GatewayError,
    ),
    Operation(
        path=f"{CREATE_PATH}/task/{{id}}",
        method="get",
        id="showGeneration",
        tag="Drop-in",
        summary="One task in the form of the provider's API.",
        description="The answer comes from the store of this service; the provider is not asked.",
        parameters=[TASK_ID],
        responses={200: DeclaredResponse("The task.", GenerationTask)},
        errors=[404],
        error_body=GatewayError,
    ),
    Operation(
        path=LIST_PATH,
        method="get",
        id="listSkillModels",
        tag="Drop-in",
        summary="The models, in the form of the provider's API.",
        description="Unknown query parameters are ignored, as at the provider.",
        parameters=[
            in_query("type", "Only models of this type, `video` or `image`; no model has another one.", NAME),
            in_query("keywords", "Words that all occur in the model's id, name or description.", NAME),
            in_query("page", "Number of the page.", {"type": "integer", "minimum": 1, "maximum": MAX_INTEGER}),
            in_query(
                "page_size",
                f"Models on a page, by default {PAGE_SIZE}.",
                {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE},
            ),
        ],
        responses={200: DeclaredResponse("One page.", SkillModels)},
        errors=[400],
        error_body=SkillError,
    ),
    Operation(
        path=f"{LIST_PATH}/{{id}}/spec",
        method="get",
        id="showSkillModel",
        tag="Drop-in",
        summary="The parameters of one model, in the form of the provider's API.",
        description="`api.endpoint` is the address of this service.",
        parameters=[in_path("id", "Name of the model.", TEXT, example=known_models()[0])],
        responses={200: DeclaredResponse("The specification.", SkillModelSpec)},
        errors=[404],
        error_body=SkillError,
    ),
)
