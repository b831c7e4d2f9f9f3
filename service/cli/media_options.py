"""Convert option values to task parameters: files to data URIs, NAME=VALUE pairs to JSON values."""

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
"""Maximum size of a file: the provider's limit for a whole request."""


def media_values(kind: str, values: Sequence[str]) -> list[str]:
    """Return addresses unchanged and files as data URIs; `kind` is `image` or `video`.

    Raises click.BadParameter for a file that cannot be read, is too large or has another type.
    """
    return [text if text.startswith(("http://", "https://", "data:")) else _data_uri(kind, text) for text in values]


def _data_uri(kind: str, path: str) -> str:
    data = _read(kind, path)
    file_type = sniff(data[:4096])
    media_types = IMAGES if kind == "image" else VIDEOS
    if file_type not in media_types:
        raise _bad_parameter(kind, f"{path} is no {kind} that the model takes: {', '.join(media_types)}")
    return f"data:{media_types[file_type]};base64,{base64.b64encode(data).decode('ascii')}"


def _read(kind: str, path: str) -> bytes:
    """Return the content of a file or pipe. Raises click.BadParameter if it is larger than MAX_BYTES."""
    if not path:
        raise _bad_parameter(kind, "is empty; give a file or an address")
    try:
        mode = Path(path).stat().st_mode
        # a device may have no end; a directory passes, because opening it gives a clear error
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISDIR(mode)):
            raise _bad_parameter(kind, f"{path} is neither a file nor a pipe; give a file or an address")
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _bad_parameter(kind, f"{path}: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise _bad_parameter(kind, f"{path} is larger than 20 MB; give an address that the provider can fetch")
    return data


def _bad_parameter(kind: str, message: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint=f"--{kind}")


def parse_pairs(option: str, values: Sequence[str]) -> dict[str, Any]:
    """Return NAME=VALUE pairs as a mapping; a value that is not JSON stays text. Raises click.BadParameter."""
    found: dict[str, Any] = {}
    for text in values:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise click.BadParameter(f"{text!r} must be NAME=VALUE", param_hint=option)
        if name in found:
            raise click.BadParameter(f"{name} is given twice", param_hint=option)
        try:
            found[name] = json.loads(value, parse_constant=str)
        except ValueError:
            found[name] = value
    return found
