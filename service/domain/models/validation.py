"""Check the parameters of a task against everything that its model's API page says, all faults at once.

Computes only; opening files is the business of an `Inspector`. `check` holds one decoded copy of the inline media
and is meant to run in a thread.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from service.domain.blob import Blob
from service.domain.errors import Fault, InvalidParams
from service.domain.media.limits import MB, Inspector
from service.domain.models.catalog import MODELS
from service.domain.models.media_checks import Findings, MediaCheck, restored
from service.domain.models.parameter_types import JsonValue, MediaList, Model, Parameter
from service.domain.models.value_checks import nearest, printable, shown, value_faults

__all__ = ["Blob", "Checked", "check", "duration_bucket", "restore"]

KEPT_APART = ("payload", "meta_data", "callback_url")
NOT_SENT = ("payload", "callback_url")
UNKNOWN_NAMED = 100  # more unknown names than this are counted, not listed


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Parameters that hold every limit.

    `params` is what the caller gave, without what is kept apart, and with a descriptor (`media_type`, `bytes`,
    `sha256`) in place of each inline medium; defaults are not written into it. `inputs` are the media themselves.
    """

    model: str
    params: dict[str, JsonValue]
    inputs: tuple[Blob, ...] = field(default=(), repr=False)
    payload: str | None = field(default=None, repr=False)
    meta_data: str | None = field(default=None, repr=False)
    callback_url: str | None = field(default=None, repr=False)
    warnings: tuple[str, ...] = ()


def check(
    model: object,
    params: object,
    *,
    inspect: Inspector | None = None,
    allow_off_peak: bool = False,
) -> Checked:
    """Return `params` checked for `model`, or raise `InvalidParams` with every fault.

    Both come as parsed from JSON. Without `inspect` only the structure of inline media is checked.
    `allow_off_peak` lets through what the page marks as temporarily unavailable.
    """
    known = _model(model)
    if not isinstance(params, dict):
        raise InvalidParams([Fault(loc=("params",), msg=f"must be an object, is {shown(params)}: write {{...}}")])
    found = Findings(faults=[*_unknown(known, params), *_missing(known, params)])
    values: dict[str, JsonValue] = {}
    for name, parameter in _given(known, params):
        values[name] = _value(parameter, params, found, inspect, allow_unavailable=allow_off_peak)
    found.faults.extend(_too_large(known, params))
    if found.faults:
        raise InvalidParams(found.faults)
    return _checked(known, values, tuple(found.inputs))


def restore(params: Mapping[str, JsonValue], inputs: Mapping[str, Blob]) -> dict[str, JsonValue]:
    """Return `params` with the data URIs back in place, for submission; `inputs` are keyed by place.

    Raise KeyError with the place of an input that is not there (any more).
    """
    return {name: restored(value, inputs, name) for name, value in params.items()}


def duration_bucket(model: str, params: Mapping[str, JsonValue]) -> str:
    """Return the key under which run times are learned: `viduq2_pro_reference/5/720p/videos`.

    Numbers and words stand as they are, defaults applied; a flag or list that is set stands by its name.
    """
    known = MODELS.get(model)
    if known is None:
        return model
    effective = ((name, known.effective(params, name)) for name in known.run_time_by)
    return "/".join([model, *(part for name, value in effective if (part := _bucket_part(name, value)))])


def _bucket_part(name: str, value: JsonValue) -> str:
    if isinstance(value, bool | list) or value is None:
        return name if value else ""
    return str(value)


def _model(name: object) -> Model:
    if isinstance(name, str) and name in MODELS:
        return MODELS[name]
    if not isinstance(name, str):
        raise InvalidParams([Fault(loc=("model",), msg=f"must be a string, is {shown(name)}: name a model")])
    guess = nearest(name, MODELS)
    mend = f"did you mean {guess}?" if guess else f"known models: {', '.join(MODELS)}"
    raise InvalidParams([Fault(loc=("model",), msg=f"unknown model {shown(name)}: {mend}")])


def _given(model: Model, params: dict[str, JsonValue]) -> list[tuple[str, Parameter]]:
    """Return the known parameters that are given, in the caller's order."""
    known = {parameter.name: parameter for parameter in model.parameters}
    return [(name, known[name]) for name in params if name in known]


def _unknown(model: Model, params: dict[str, JsonValue]) -> list[Fault]:
    known = {parameter.name for parameter in model.parameters}
    strange = [name for name in params if name not in known]
    faults = [_unknown_fault(model, name) for name in strange[:UNKNOWN_NAMED]]
    if len(strange) > UNKNOWN_NAMED:
        more = f"{len(strange) - UNKNOWN_NAMED:,} more unknown parameters: remove them"
        faults.append(Fault(loc=("params",), msg=more))
    return faults


def _unknown_fault(model: Model, name: str) -> Fault:
    guess = nearest(name, [parameter.name for parameter in model.parameters])
    mend = f"did you mean {guess}?" if guess else "remove it"
    return Fault(loc=("params", printable(name)), msg=f"unknown parameter of {model.name}: {mend}")


def _missing(model: Model, params: dict[str, JsonValue]) -> list[Fault]:
    return [
        Fault(loc=("params", parameter.name), msg=f"is required: {parameter.about}")
        for parameter in model.parameters
        if parameter.required and parameter.name not in params
    ]


def _value(
    parameter: Parameter,
    params: dict[str, JsonValue],
    found: Findings,
    inspect: Inspector | None,
    *,
    allow_unavailable: bool,
) -> JsonValue:
    """Return the value to keep for one given parameter; what is wrong with it goes into `found`."""
    kind, name = parameter.kind, parameter.name
    if isinstance(kind, MediaList):
        return MediaCheck(kind=kind, name=name, given=params, found=found, inspect=inspect).run()
    found.add(("params", name), value_faults(kind, params[name], allow_unavailable=allow_unavailable))
    return params[name]


def _too_large(model: Model, params: dict[str, JsonValue]) -> list[Fault]:
    """Measure the JSON that would go up: the caller's payload and callback_url do not, our short tokens do."""
    sent = [(name, value) for name, value in params.items() if name not in NOT_SENT]
    size = len(model.name) + sum(len(name) + 4 + _json_bytes(value) for name, value in sent)
    if size <= model.max_request_bytes:
        return []
    most = f"{model.max_request_bytes // MB} MB ({model.max_request_bytes:,} bytes)"
    mend = "send smaller media, or their addresses instead of base64"
    return [Fault(loc=("params",), msg=f"the whole request must be at most {most}, is {size:,} bytes: {mend}")]


def _json_bytes(value: JsonValue) -> int:
    """Return the length of `value` as compact JSON in UTF-8; base64 is not copied for it. Wrong types count little."""
    if isinstance(value, list):
        return 1 + max(1, sum(1 + _json_bytes(each) for each in value if not isinstance(each, list)))
    if not isinstance(value, str):
        return 5
    if value.isascii() and value[:5].lower() == "data:":
        return len(value) + 2
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def _checked(model: Model, values: dict[str, JsonValue], inputs: tuple[Blob, ...]) -> Checked:
    apart = {name: _text(values.get(name)) for name in KEPT_APART}
    return Checked(
        model=model.name,
        params={name: value for name, value in values.items() if name not in KEPT_APART},
        inputs=inputs,
        payload=apart["payload"],
        meta_data=apart["meta_data"],
        callback_url=apart["callback_url"],
        warnings=_warnings(model, values),
    )


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) else None


def _warnings(model: Model, values: dict[str, JsonValue]) -> tuple[str, ...]:
    return tuple(
        rule.text
        for rule in model.no_effect
        if rule.name in values and all(model.effective(values, name) in among for name, among in rule.when.items())
    )
