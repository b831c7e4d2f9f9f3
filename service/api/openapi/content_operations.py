"""The operations of stored content, with their parameters, bodies and responses."""

from collections.abc import Sequence

from service.api.content_schemas import ContentBytes, Link, LinkRequest
from service.api.contents import MAX_OUTPUT, VARIANTS
from service.api.openapi import examples
from service.api.openapi.operation import DeclaredResponse, Headers, Operation
from service.api.openapi.parameters import TASK_ID, TEXT, Parameter, in_path, in_query

_TEXT = {"type": "string"}
SIZE_HEADERS: Headers = {
    "ETag": {"description": "The version of the file.", "required": True, "schema": _TEXT},
    "Accept-Ranges": {"required": True, "schema": {"const": "bytes"}},
    "Content-Disposition": {"description": "The name of the file.", "required": True, "schema": _TEXT},
}
RANGE_HEADERS: Headers = SIZE_HEADERS | {
    "Content-Range": {"description": "`bytes first-last/size`.", "required": True, "schema": _TEXT}
}
CONTENT_LOCATION: Headers = {"Location": {"description": "An address at the store.", "required": True, "schema": _TEXT}}

RANGE_PARAMETERS = [
    Parameter(
        name="Range",
        location="header",
        description="One range, `bytes=first-last`; several ones are answered with the whole file.",
        schema=TEXT,
    ),
    Parameter(name="If-None-Match", location="header", description="An `ETag` that the client has.", schema=TEXT),
    Parameter(name="If-Range", location="header", description="The `ETag` that `Range` is about.", schema=TEXT),
]

_CONDITIONS = [
    in_query(
        "output",
        "Position of the result in `output`, from 0.",
        {"type": "integer", "minimum": 0, "maximum": MAX_OUTPUT},
    ),
    in_query(
        "variant",
        "`video`: the stored file, also of an image; `thumbnail`: a JPEG of at most 320 pixels a side.",
        {"type": "string", "enum": list(VARIANTS)},
    ),
    *RANGE_PARAMETERS,
]


def _content(path: str, id_: str, description: str, parameter: Parameter, errors: Sequence[int]) -> Operation:
    return Operation(
        path=path,
        method="get",
        id=id_,
        tag="tasks",
        summary="The stored file of a result, or its thumbnail.",
        description=description,
        parameters=[parameter, *_CONDITIONS],
        responses={
            200: DeclaredResponse("The whole file.", ContentBytes, media_type="video/mp4", headers=SIZE_HEADERS),
            206: DeclaredResponse("The range.", ContentBytes, media_type="video/mp4", headers=RANGE_HEADERS),
            302: DeclaredResponse("The file is at the store, at an address that it signs.", headers=CONTENT_LOCATION),
            304: DeclaredResponse("The client has this version."),
        },
        errors=errors,
        authenticated=id_ == "taskContent",
    )


CONTENT_OPERATIONS = (
    _content(
        "/v1/tasks/{id}/content",
        "taskContent",
        "409 until the task is completed. A 404 of the type `not-archived` has the provider's address in `url`.",
        TASK_ID,
        [404, 409, 416, 422],
    ),
    Operation(
        path="/v1/tasks/{id}/links",
        method="post",
        id="createLink",
        tag="tasks",
        summary="A link to the content of a task that needs no key.",
        description="It is signed and expires. Whoever has it can read the content; it ends early with the content.",
        parameters=[TASK_ID],
        request=LinkRequest,
        responses={201: DeclaredResponse("The link.", Link)},
        errors=[400, 404, 408, 409, 413, 415, 422],
    ),
    _content(
        "/links/{token}",
        "linkedContent",
        "403 for a link that is forged or expired. A browser can play it and seek in it.",
        in_path("token", "The token of the link.", TEXT, example=examples.CALLBACK_TOKEN),
        [403, 404, 409, 416, 422],
    ),
)
