"""The settings as far as they are valid, and a finding for each fault, so that the other checks can go on."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.deliveries.handler_loader import needed_settings
from service.domain.errors import BadHandler, BadSetting
from service.runtime.checks.finding import Finding, fault
from service.runtime.config.dotenv import PREFIX
from service.runtime.config.key_file import read_existing
from service.runtime.config.required_settings import handlers_directory, start_checks
from service.runtime.config.setting_parsers import database_file
from service.runtime.config.settings import Settings, load_settings
from service.runtime.config.variables import Check, read_variables

MAX_READS = 10
"""Maximum number of times that the settings are read again without those that are invalid."""


@dataclass(frozen=True, kw_only=True)
class ReadSettings:
    """The settings with the defaults in place of the invalid ones, which `invalid` names by field."""

    settings: Settings
    variables: Mapping[str, str]
    invalid: frozenset[str]
    findings: Sequence[Finding]


def read_valid_settings(environ: Mapping[str, str], dotenv: Path, *, host: str) -> ReadSettings:
    """Return the settings that a service which listens on `host` would start with, and their faults.

    Raises BadSetting for a file that cannot be read.
    """
    variables = read_variables(environ, dotenv)
    needed = needed_settings(own=handlers_directory(variables), strict=False)
    faults, _ = _faults(variables, needed, start_checks(host=host))
    left, invalid = dict(variables), set[str]()
    for _ in range(MAX_READS):
        wrong, settings = _faults(left, needed, ())
        if settings:
            break
        names = {line.partition(" ")[0] for line in wrong}
        invalid |= names
        left = {name: text for name, text in left.items() if name not in names}
    else:
        raise BadSetting("\n".join(faults))
    fields = frozenset(name.removeprefix(PREFIX).lower() for name in invalid)
    findings = [fault(text, fix) for text, _, fix in (line.partition("; ") for line in faults)]
    return ReadSettings(settings=settings, variables=variables, invalid=fields, findings=findings)


def _faults(
    variables: Mapping[str, str], needed: Collection[str], checks: Sequence[Check]
) -> tuple[list[str], Settings | None]:
    """Return a line for each fault, and the settings if there is none."""
    try:
        return [], load_settings(variables, needed=needed, checks=checks)
    except (BadSetting, BadHandler) as error:
        return str(error).splitlines(), None


def stored_keys(settings: Settings) -> Sequence[str]:
    """Return the signing keys that a service with these settings has, none where its start makes one.

    Raises BadSetting for a key file that cannot be used.
    """
    file = database_file(settings.database_url)
    if settings.secret_keys or file is None:
        return settings.secret_keys
    found = read_existing(Path(f"{file}.key"))
    return found.secret_keys if found else ()
