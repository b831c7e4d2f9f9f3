"""Validate the parameters of a task against its model's class, with every fault at once.

The functions do no I/O; an `Inspector` opens the media. `validate_params` holds one decoded copy of the inline media;
run it in a thread.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from service.domain.blob import Blob
from service.domain.errors import Fault, InvalidParams
from service.domain.media.limits import MB, Inspector
from service.domain.models.base import ModelParams, ValidationContext
from service.domain.models.catalog import MODELS
from service.domain.models.unchecked import UncheckedParams, may_be_model, unchecked_warning
from service.domain.models.value_checks import (
    JsonValue,
    choice_fault,
    nearest_name,
    printable_name,
    shorten,
    wrong_type,
)

STORED_SEPARATELY = ("payload", "meta_data", "callback_url")
NOT_SENT = ("payload", "callback_url")
MAX_UNKNOWN_LISTED = 100
"""More unknown names than this are counted, not listed."""


@dataclass(frozen=True, kw_only=True)
class ValidatedParams:
    """Parameters within every limit.

    `params` holds the caller's parameters without the separately stored ones, with a descriptor (`media_type`, `bytes`,
    `sha256`) in place of each inline medium, and without defaults. `blobs` are the inline media.
    """

    model: str
    params: dict[str, JsonValue]
    blobs: tuple[Blob, ...] = field(default=(), repr=False)
    payload: str | None = field(default=None, repr=False)
    meta_data: str | None = field(default=None, repr=False)
    callback_url: str | None = field(default=None, repr=False)
    warnings: tuple[str, ...] = ()


def validate_params(
    model: object,
    params: object,
    *,
    inspect: Inspector | None = None,
    allow_off_peak: bool = False,
    allow_unchecked: bool = False,
) -> ValidatedParams:
    """Return `params` validated for `model`, or raise `InvalidParams` with every fault.

    Both come as parsed from JSON. Without `inspect` only the structure of inline media is checked.
    `allow_off_peak` accepts flags that the API page marks as temporarily unavailable, `allow_unchecked` models that
    are not known.
    """
    if allow_unchecked and may_be_model(model) and model not in MODELS:
        return _unchecked(str(model), params, allow_off_peak=allow_off_peak)
    known = _model_class(model)
    if not isinstance(params, dict):
        raise InvalidParams([Fault(loc=("params",), msg=f"must be an object, is {shorten(params)}: write {{...}}")])
    # Unknown names are removed first: pydantic reports one with a lone surrogate without naming it.
    fields = known.model_fields
    given = {name: value for name, value in params.items() if name in fields}
    context = ValidationContext(given=given, inspect=inspect, allow_unavailable=allow_off_peak)
    faults = _unknown_faults(known, [name for name in params if name not in given])
    validated = _validate(known, context, faults)
    faults += _size_faults(known, params)
    if validated is None or faults:
        raise InvalidParams(faults)
    return _result(validated, context)


def _unchecked(model: str, params: object, *, allow_off_peak: bool) -> ValidatedParams:
    if not isinstance(params, dict):
        raise InvalidParams([Fault(loc=("params",), msg=f"must be an object, is {shorten(params)}: write {{...}}")])
    found = UncheckedParams(params, allow_off_peak=allow_off_peak)
    if found.faults:
        raise InvalidParams(found.faults)
    separate = {name: _text(found.values.pop(name, None)) for name in STORED_SEPARATELY}
    return ValidatedParams(
        model=model,
        params=found.values,
        blobs=tuple(found.blobs),
        payload=separate["payload"],
        meta_data=separate["meta_data"],
        callback_url=separate["callback_url"],
        warnings=(unchecked_warning(model),),
    )


def duration_bucket(model: str, params: Mapping[str, JsonValue]) -> str:
    """Return the key of the run-time estimates: `viduq2_pro_reference/5/720p/videos`.

    Numbers and strings, or their defaults, appear as values; a flag or list that is set appears by its name.
    """
    known = MODELS.get(model)
    if known is None:
        return model
    parts = [_bucket_part(name, _effective(known, params, name)) for name in known.run_time_by]
    return "/".join([model, *filter(None, parts)])


def _effective(model: type[ModelParams], params: Mapping[str, JsonValue], name: str) -> object:
    """Return the value that the provider uses: the given value, or the documented default."""
    if name in params:
        return params[name]
    return _default(model, name)


@cache
def _default(model: type[ModelParams], name: str) -> object:
    """Return a documented default: a constant, for which pydantic takes longer than all else of a bucket."""
    default: object = model.model_fields[name].get_default(call_default_factory=True, validated_data={})
    return default


def _bucket_part(name: str, value: object) -> str:
    if isinstance(value, bool | list) or value is None:
        return name if value else ""
    return str(value)


def _model_class(name: object) -> type[ModelParams]:
    if isinstance(name, str) and name in MODELS:
        return MODELS[name]
    if not isinstance(name, str):
        raise InvalidParams([Fault(loc=("model",), msg=f"must be a string, is {shorten(name)}: name a model")])
    guess = nearest_name(name, MODELS)
    fix = f"did you mean {guess}?" if guess else f"one of {', '.join(MODELS)}"
    raise InvalidParams([Fault(loc=("model",), msg=f"{shorten(name)} is unknown: {fix}")])


def _unknown_faults(model: type[ModelParams], unknown: list[str]) -> list[Fault]:
    faults = [_unknown_fault(model, name) for name in unknown[:MAX_UNKNOWN_LISTED]]
    if len(unknown) > MAX_UNKNOWN_LISTED:
        more = f"{len(unknown) - MAX_UNKNOWN_LISTED:,} more unknown parameters: remove them"
        faults.append(Fault(loc=("params",), msg=more))
    return faults


def _unknown_fault(model: type[ModelParams], name: str) -> Fault:
    guess = nearest_name(name, model.model_fields)
    fix = f"did you mean {guess}?" if guess else "remove it"
    return Fault(loc=("params", printable_name(name)), msg=f"unknown parameter of {model.model_name}: {fix}")


def _validate(model: type[ModelParams], context: ValidationContext, faults: list[Fault]) -> ModelParams | None:
    """Return the validated parameters; None if they have faults, which are added to `faults`.

    Missing parameters come first, then the faults of the given ones in the caller's order.
    """
    try:
        return model.model_validate(context.given, context=context)
    except ValidationError as error:
        position = {name: index for index, name in enumerate(context.given)}
        details = error.errors(include_url=False)
        details.sort(key=lambda each: position.get(str(each["loc"][0]), -1))
        faults += [_fault(model, each) for each in details]
        return None


def _fault(model: type[ModelParams], error: ErrorDetails) -> Fault:
    """Return one error of pydantic as a Fault with this service's message."""
    parameter, value = model.model_fields[str(error["loc"][0])], error["input"]
    match error["type"]:
        case "missing":
            message = f"is required: {parameter.description}"
        case "int_type":
            message = wrong_type("an integer", value)
        case "bool_type":
            message = wrong_type("true or false", value)
        case "literal_error" | "string_unicode":
            message = choice_fault(value, get_args(parameter.annotation))
        case "value_error" | "assertion_error":  # an inspector failed; it is not the caller's fault
            raise error["ctx"]["error"]
        case _:
            message = error["msg"]
    return Fault(loc=("params", *error["loc"]), msg=message)


def _size_faults(model: type[ModelParams], params: dict[str, JsonValue]) -> list[Fault]:
    """Return a fault if the JSON to send is too large; payload and callback_url are replaced by short tokens."""
    sent = [(name, value) for name, value in params.items() if name not in NOT_SENT]
    size = len(model.model_name) + sum(len(name) + 4 + _json_bytes(value) for name, value in sent)
    if size <= model.max_request_bytes:
        return []
    limit = f"{model.max_request_bytes // MB} MB ({model.max_request_bytes:,} bytes)"
    fix = "send smaller media, or their addresses instead of base64"
    return [Fault(loc=("params",), msg=f"the whole request must be at most {limit}, is {size:,} bytes: {fix}")]


def _json_bytes(value: JsonValue) -> int:
    """Return the length of `value` as compact JSON in UTF-8, without copying base64. Invalid values count 5 bytes."""
    if isinstance(value, list):
        return 1 + max(1, sum(1 + _json_bytes(each) for each in value if not isinstance(each, list)))
    if isinstance(value, dict):
        # what a subject holds; anything deeper is refused elsewhere, and not followed into any depth
        inner = [(name, each) for name, each in value.items() if not isinstance(each, dict)]
        return 1 + max(1, sum(4 + len(name) + _json_bytes(each) for name, each in inner))
    if not isinstance(value, str):
        return 5
    if value.isascii() and value[:5].lower() == "data:":
        return len(value) + 2
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def _result(validated: ModelParams, context: ValidationContext) -> ValidatedParams:
    position = {name: index for index, name in enumerate(context.given)}
    values: dict[str, JsonValue] = {name: getattr(validated, name) for name in context.given}
    separate = {name: _text(values.pop(name, None)) for name in STORED_SEPARATELY}
    return ValidatedParams(
        model=validated.model_name,
        params=values,
        blobs=tuple(sorted(context.blobs, key=lambda blob: position[blob.place.partition(".")[0]])),
        payload=separate["payload"],
        meta_data=separate["meta_data"],
        callback_url=separate["callback_url"],
        warnings=validated.warnings(),
    )


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) else None
