"""The templates: Jinja2 with escaping everywhere, loaded when the first page is made."""

from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from service.dashboard import assets, formats
from service.domain.task_view import parse_time

if TYPE_CHECKING:
    from jinja2 import Environment

TIME = Markup('<time datetime="{}" title="{}">{}</time>')


@cache
def environment() -> "Environment":
    """Return the environment of all templates; an unknown variable is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - a start does not need it

    found = Environment(
        loader=PackageLoader("service.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    names = ("cut", "duration", "seconds", "dollars", "size", "shape", "word", "prompt", "pretty", "sentence")
    found.filters |= {name: getattr(formats, name) for name in names}
    found.globals |= {"asset": assets.address, "time": time_tag}
    return found


def load_templates() -> None:
    """Load and compile every template, so that no later change of the files is seen."""
    for name in environment().list_templates():
        environment().get_template(name)


def time_tag(at: datetime | str | None, now: datetime) -> Markup:
    """Return a time element: relative in the page, absolute in UTC as its title; a dash without a time."""
    moment = parse_time(at) if isinstance(at, str) else at
    if moment is None:
        return escape(formats.NONE)
    iso = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return TIME.format(iso, formats.absolute(moment), formats.ago(moment, now))


def render(name: str, **values: Any) -> str:
    """Return the text of a template."""
    return environment().get_template(name).render(**values)
