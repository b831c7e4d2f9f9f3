"""Validate the JSON body of a request with a pydantic model, and report every fault at once."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from service.api.query_params import MAX_FAULTS, unknown_key_fault
from service.domain.errors import Fault, InvalidParams

M = TypeVar("M", bound=BaseModel)

TYPES = {
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "datetime_type": "must be a time with its offset, like 2026-05-06T12:09:42Z (RFC 3339)",
}
TIME_ERRORS = frozenset({"value_error", "timezone_aware"})


def validated(model: type[M], data: object) -> M:
    """Return `data` as an instance of `model`; raises InvalidParams. No message repeats a value."""
    if not isinstance(data, dict):
        raise InvalidParams([Fault(loc=(), msg="the body must be a JSON object")])
    try:
        return model.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        raise InvalidParams([_fault(model, each) for each in details[:MAX_FAULTS]]) from None


def given(instance: BaseModel) -> dict[str, Any]:
    """Return the fields that the body had, by name."""
    return {name: getattr(instance, name) for name in instance.model_fields_set}


def _fault(model: type[BaseModel], error: ErrorDetails) -> Fault:
    loc = tuple(each for each in error["loc"] if each not in {"list[str]", "str"})
    if error["type"] == "extra_forbidden":
        return unknown_key_fault(loc[:-1], str(loc[-1]), tuple(model.model_fields), "key")
    if error["type"] == "missing":
        return Fault(loc=loc, msg="is missing")
    if error["type"] in TIME_ERRORS:
        return Fault(loc=loc, msg=TYPES["datetime_type"])
    return Fault(loc=loc, msg=TYPES.get(error["type"]) or error["msg"].replace("Input should be", "must be", 1))
