"""Check of the handlers: broken ones, and those that lack some of their settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from service.deliveries.handler_loader import DIRECTORY_SETTING, survey
from service.deliveries.unused_settings import unused_settings, unused_text
from service.domain.retry_schedule import schedule_name
from service.runtime.checks.finding import Finding, Installation, fault, ok, warning
from service.runtime.config.dotenv import PREFIX


async def check_handlers(at: Installation) -> Sequence[Finding]:
    """Check the handlers that were found: which are loaded, and which would be if they had all their settings."""
    by_settings = at.settings.handlers is None  # otherwise HANDLERS decides, and its faults are those of the settings
    found = survey(own=at.settings.present.get(DIRECTORY_SETTING)).handlers.values()
    unused = unused_settings(found, at.settings.handlers, at.settings.present)
    findings = [_finding(row) for row in at.handlers if row["broken"] or (by_settings and _is_half_set(row))]
    loaded = sorted(str(row["name"]) for row in at.handlers if row["loaded"])
    findings += [
        warning(unused_text(name, given), f"add {name} to {PREFIX}HANDLERS, or leave the setting out")
        for name, given in unused.items()
    ]
    return [ok(f"{len(loaded)} loaded: {', '.join(loaded)}"), *findings]


def _is_half_set(row: Mapping[str, Any]) -> bool:
    """Return whether a handler is not loaded although one of its own settings is set."""
    own = f"{PREFIX}{schedule_name(str(row['name']))}_"
    return not row["loaded"] and any(each["set"] and str(each["name"]).startswith(own) for each in row["settings"])


def _finding(row: Mapping[str, Any]) -> Finding:
    if row["broken"]:
        return fault(f"{row['name']} is broken: {row['why']}", "correct the module, or remove it")
    missing = [str(each["name"]) for each in row["settings"] if each["required"] and not each["set"]]
    return warning(f"{row['name']} is not loaded: {row['why']}", f"set {' and '.join(missing) or 'its settings'}")
