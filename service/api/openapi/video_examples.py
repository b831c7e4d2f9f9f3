"""Example bodies of the OpenAI-shaped video API, by their model."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from service.api.video_schemas import McpMessage, OpenAiError, Video, VideoDeleted, VideoForm, VideoList, VideoRequest
from service.domain.models.catalog import known_models

_PROMPT = "The cat from the photo surfs at dawn"
_VIDEO = {
    "id": "0198c2a1d4e57b3c9f0e6a8b12c4d7f3",
    "object": "video",
    "model": known_models()[0],
    "status": "in_progress",
    "progress": 40,
    "created_at": 1_778_069_382,
    "completed_at": None,
    "expires_at": None,
    "error": None,
    "prompt": _PROMPT,
    "remixed_from_video_id": None,
    "seconds": "5",
    "size": "1280x720",
}

VIDEO_EXAMPLES: Mapping[type[BaseModel], Any] = {
    VideoRequest: {
        "model": known_models()[0],
        "prompt": _PROMPT,
        "seconds": "5",
        "size": "1280x720",
        "input_reference": {"image_url": "https://example.org/cat.png"},
    },
    VideoForm: {"model": known_models()[0], "prompt": _PROMPT, "seconds": "5", "input_reference": ""},
    Video: _VIDEO,
    VideoDeleted: {"id": _VIDEO["id"], "object": "video.deleted", "deleted": True},
    McpMessage: {"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
    VideoList: {
        "object": "list",
        "data": [_VIDEO],
        "first_id": _VIDEO["id"],
        "last_id": _VIDEO["id"],
        "has_more": False,
    },
    OpenAiError: {
        "error": {
            "message": "seconds must be from 0 to 10, is 11",
            "type": "invalid_request_error",
            "param": "seconds",
            "code": "invalid_value",
        }
    },
}
