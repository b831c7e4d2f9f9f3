"""The operations of the OpenAI-shaped video API."""

from service.api.content_schemas import ContentBytes
from service.api.openapi.content_operations import CONTENT_LOCATION, RANGE_HEADERS, RANGE_PARAMETERS, SIZE_HEADERS
from service.api.openapi.operation import DeclaredResponse, Headers, Operation
from service.api.openapi.parameters import ID, IDEMPOTENCY_KEY, TASK_ID, in_query
from service.api.video_schemas import McpMessage, OpenAiError, Video, VideoDeleted, VideoForm, VideoList, VideoRequest
from service.api.videos import MAX_PAGE_SIZE, PAGE_SIZE, POLL_HEADER, VARIANTS

SERVED = [variant for variant in VARIANTS if variant != "spritesheet"]
"""The variants that may be asked for; the third one of OpenAI's API is refused with a reason."""

_POLL: Headers = {POLL_HEADER: {"description": "Milliseconds until the next poll.", "schema": {"type": "integer"}}}

VIDEO_OPERATIONS = (
    Operation(
        path="/v1/videos",
        method="post",
        id="createVideo",
        tag="Drop-in",
        summary="Accept a task in the form of OpenAI's API.",
        description=(
            "An unmodified SDK of OpenAI needs another base address and a key of this service. `seconds`, `size` and "
            "`input_reference` become parameters of the model; its other parameters may be added by their names. A "
            "create that the SDK repeats by itself gives the first task again."
        ),
        parameters=[IDEMPOTENCY_KEY],
        request=VideoRequest,
        request_form=VideoForm,
        responses={200: DeclaredResponse("The video.", Video, headers=_POLL)},
        errors=[400, 408, 413, 415, 429],
        error_body=OpenAiError,
    ),
    Operation(
        path="/v1/videos",
        method="get",
        id="listVideos",
        tag="Drop-in",
        summary="The tasks of the caller in the form of OpenAI's API.",
        description="Newest first by default. Unknown query parameters are ignored.",
        parameters=[
            in_query("after", "Id of the last video of the previous page.", ID),
            in_query(
                "limit",
                f"Maximum number of videos, by default {PAGE_SIZE}.",
                {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE},
            ),
            in_query("order", "By time.", {"type": "string", "enum": ["asc", "desc"]}),
        ],
        responses={200: DeclaredResponse("One page.", VideoList)},
        errors=[400, 404],
        error_body=OpenAiError,
    ),
    Operation(
        path="/v1/videos/{id}",
        method="get",
        id="showVideo",
        tag="Drop-in",
        summary="One task in the form of OpenAI's API.",
        description="The answer comes from the store of this service; the provider is not asked.",
        parameters=[TASK_ID],
        responses={200: DeclaredResponse("The video.", Video, headers=_POLL)},
        errors=[404],
        error_body=OpenAiError,
    ),
    Operation(
        path="/v1/videos/{id}",
        method="delete",
        id="deleteVideo",
        tag="Drop-in",
        summary="Erase a video that has ended.",
        description="Like `DELETE /v1/tasks/{id}`; the video is not listed any more.",
        parameters=[TASK_ID],
        responses={200: DeclaredResponse("It is erased.", VideoDeleted)},
        errors=[404, 409],
        error_body=OpenAiError,
    ),
    Operation(
        path="/mcp",
        method="post",
        id="callTool",
        tag="Drop-in",
        summary="Tools for agents by the Model Context Protocol.",
        description="`generate_video`, `get_video` and `cancel_video`, stateless; it needs the extra `mcp`.",
        request=McpMessage,
        responses={
            200: DeclaredResponse("The answer to the message.", McpMessage),
            202: DeclaredResponse("A notification, which has no answer."),
            400: DeclaredResponse("The message is invalid.", McpMessage),
            406: DeclaredResponse("The header Accept does not allow JSON.", McpMessage),
        },
        errors=[404, 408, 413, 415],
    ),
    Operation(
        path="/v1/videos/{id}/content",
        method="get",
        id="videoContent",
        tag="Drop-in",
        summary="The stored file of a video, or its thumbnail.",
        description="Without an archive it leads to the provider's address. No sprite sheets are made.",
        parameters=[
            TASK_ID,
            in_query("variant", "What to send, by default the video.", {"type": "string", "enum": SERVED}),
            *RANGE_PARAMETERS,
        ],
        responses={
            200: DeclaredResponse("The whole file.", ContentBytes, media_type="video/mp4", headers=SIZE_HEADERS),
            206: DeclaredResponse("The range.", ContentBytes, media_type="video/mp4", headers=RANGE_HEADERS),
            302: DeclaredResponse("The file is at another address.", headers=CONTENT_LOCATION),
            304: DeclaredResponse("The client has this version."),
        },
        errors=[400, 404, 409, 416],
        error_body=OpenAiError,
    ),
)
