"""Turn what stands on the command line into parameters: files become data URIs, addresses stay, values are JSON."""

import base64
import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from service.domain.media.file_headers import sniff

IMAGES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
VIDEOS = {"mp4": "video/mp4", "mov": "video/quicktime", "avi": "video/x-msvideo"}
MAX_BYTES = 20 * 1024 * 1024
"""The whole request may be no larger than this (upstream's page), so that no larger file is worth reading."""


def media_values(kind: str, values: Sequence[str]) -> list[str]:
    """Return addresses as they are and files as data URIs; `kind` is `image` or `video`. Raises click.BadParameter."""
    return [text if text.startswith(("http://", "https://", "data:")) else _data_uri(kind, text) for text in values]


def _data_uri(kind: str, path: str) -> str:
    data = _read(kind, path)
    form = sniff(data[:4096])
    types = IMAGES if kind == "image" else VIDEOS
    if form not in types:
        raise _bad_parameter(kind, f"{path} is no {kind} that the model takes: {', '.join(types)}")
    return f"data:{types[form]};base64,{base64.b64encode(data).decode('ascii')}"


def _read(kind: str, path: str) -> bytes:
    """Return what is in a file or comes through a pipe, and stop at what no request can carry."""
    if not path:
        raise _bad_parameter(kind, "is empty; give a file or an address")
    try:
        if not _is_readable(Path(path).stat().st_mode):
            raise _bad_parameter(kind, f"{path} is neither a file nor a pipe; give a file or an address")
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _bad_parameter(kind, f"{path}: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise _bad_parameter(kind, f"{path} is larger than 20 MB; give an address where the upstream can fetch it")
    return data


def _is_readable(mode: int) -> bool:
    """Whether it can be read to an end: a device may have none. Opening a directory tells its own reason."""
    return stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISDIR(mode)


def _bad_parameter(kind: str, message: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint=f"--{kind}")


def parse_pairs(option: str, values: Sequence[str]) -> dict[str, Any]:
    """Return `k=v` pairs as a mapping; values are JSON where they are JSON, else text. Raises click.BadParameter."""
    found: dict[str, Any] = {}
    for text in values:
        name, mark, value = text.partition("=")
        if not mark or not name:
            raise click.BadParameter(f"{text!r} must be NAME=VALUE", param_hint=option)
        if name in found:
            raise click.BadParameter(f"{name} is given twice", param_hint=option)
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=str)
    except ValueError:
        return text
