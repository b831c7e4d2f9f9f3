"""Example bodies of the provider's API, by their model."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from service.api.vtrix_schemas import (
    GatewayError,
    GenerationRequest,
    GenerationTask,
    SkillError,
    SkillModels,
    SkillModelSpec,
)
from service.domain.models.catalog import known_models

_MODEL = known_models()[0]
_SUCCESS = {"code": 200, "message": "success"}

VTRIX_EXAMPLES: Mapping[type[BaseModel], Any] = {
    GenerationRequest: {
        "model": _MODEL,
        "input": [
            {"params": {"prompt": "The cat from the photo surfs at dawn", "images": ["https://example.org/cat.png"]}}
        ],
    },
    GenerationTask: {
        "id": "0198c2a1d4e57b3c9f0e6a8b12c4d7f3",
        "created_at": 1_778_069_382,
        "status": "completed",
        "model": _MODEL,
        "output": [
            {
                "content": [
                    {
                        "type": "video",
                        "url": "https://cdn.example.org/v.mp4",
                        "duration": 5,
                        "jobId": "893405612348375040",
                    }
                ]
            }
        ],
        "usage": {"cost": "0.35", "discount": 0.9},
        "metadata": {"in_queue_at": 1_778_069_382, "upload_at": 1_778_069_522, "completed_at": 1_778_069_522},
    },
    GatewayError: {
        "error": {"code": "FieldInvalid", "message": "params.duration must be from 0 to 10, is 11"},
        "request_id": "2f1d0c9b8a7e6f5d-17",
        "errors": [{"loc": ["input", 0, "params", "duration"], "msg": "must be from 0 to 10, is 11"}],
    },
    SkillModels: {
        "status": _SUCCESS,
        "data": {
            "models": [
                {
                    "id": _MODEL,
                    "name": "Viduq2 Pro Reference",
                    "type": "video",
                    "description": "Makes a video whose subjects look like those of the reference images and videos.",
                    "input_modalities": ["image", "text", "video"],
                    "output_modalities": ["video"],
                }
            ],
            "total": 1,
            "page": 1,
            "page_size": 20,
            "total_pages": 1,
        },
    },
    SkillModelSpec: {
        "status": _SUCCESS,
        "data": {
            "model_id": _MODEL,
            "name": "Viduq2 Pro Reference",
            "vendor": "vidu",
            "type": "video",
            "api": {
                "endpoint": "https://boomerang.example.org/model/v1/generation",
                "method": "POST",
                "headers": {"Authorization": "Bearer YOUR_API_KEY", "Content-Type": "application/json"},
            },
            "parameters": [
                {
                    "name": "duration",
                    "path": "input[0].params.duration",
                    "type": "integer",
                    "required": False,
                    "description": "Length of the video in seconds; 0 lets the model choose.",
                    "constraints": {"min": 0, "max": 10, "default": "5"},
                    "children": [],
                }
            ],
        },
    },
    SkillError: {"status": {"code": 404, "message": "model not found"}, "data": None},
}
