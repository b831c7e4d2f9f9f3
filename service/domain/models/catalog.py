"""The catalog of models: a new model is a class in the file of its family, and an entry here."""

from service.domain.models.base import ModelParams
from service.domain.models.vidu_q2 import ViduQ2ProReference
from service.domain.models.vidu_q2_others import (
    ViduQ2ProFastReference2Video,
    ViduQ2ProFastText2Video,
    ViduQ2Reference2Image,
    ViduQ2Reference2Video,
)

MODELS: dict[str, type[ModelParams]] = {
    model.model_name: model
    for model in (
        ViduQ2ProReference,
        ViduQ2Reference2Video,
        ViduQ2ProFastReference2Video,
        ViduQ2ProFastText2Video,
        ViduQ2Reference2Image,
    )
}


def known_models() -> tuple[str, ...]:
    """Return the names of all models, in the order of the catalog."""
    return tuple(MODELS)
