"""Settings that a handler declares: names, values, faults, and what is listed of them."""

from datetime import timedelta
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from service import Handlers, HandlerSettings, Tools
from service.deliveries.declared_settings import (
    SettingRow,
    config_faults,
    read_config,
    required_names,
    setting_names,
    setting_rows,
)
from service.domain.errors import BadHandler, BadSetting

HIDDEN = "hidden-value-of-a-setting"


class Nested(BaseModel):
    """An object in a setting."""

    a: int


class Sample(HandlerSettings):
    """One setting of each kind."""

    sample_token: SecretStr = Field(description="token of the account")
    sample_chats: tuple[int, ...] = Field(default=(), description="chats")
    sample_names: frozenset[str] | None = None
    sample_days: frozenset[str] = frozenset({"tue", "mon", "wed", "fri"})
    sample_pause: timedelta = timedelta(minutes=1)
    sample_mode: Literal["fast", "slow"] = "fast"
    sample_limit: int = Field(default=5, ge=1)
    sample_on: bool = False
    sample_map: dict[str, int] = Field(default_factory=dict)
    sample_nested: Nested | None = None
    sample_keys: tuple[SecretStr, ...] = (SecretStr("default-key"),)
    public_url: str | None = None


def test_names_are_the_fields_in_capitals() -> None:
    """Those without a default are required."""
    assert setting_names(Sample)[:2] == ("SAMPLE_TOKEN", "SAMPLE_CHATS")
    assert required_names(Sample) == ("SAMPLE_TOKEN",)
    assert (setting_names(None), required_names(None), config_faults(None, {}), setting_rows(None, {})) == (
        (),
        (),
        [],
        [],
    )


def test_texts_become_typed_values() -> None:
    """Lists are written with commas, durations with their unit, objects as JSON."""
    given = {
        "SAMPLE_TOKEN": HIDDEN,
        "SAMPLE_CHATS": "1, -2,3,",
        "SAMPLE_NAMES": "a,b",
        "SAMPLE_PAUSE": "30s",
        "SAMPLE_MODE": "slow",
        "SAMPLE_LIMIT": "7",
        "SAMPLE_ON": "on",
        "SAMPLE_MAP": '{"a": 1}',
        "SAMPLE_NESTED": '{"a": 2}',
        "PUBLIC_URL": "https://example.org",
        "OTHER": "ignored",
    }
    config = read_config(Sample, given)
    assert config.sample_token.get_secret_value() == HIDDEN
    assert HIDDEN not in repr(config)
    assert (config.sample_chats, config.sample_names) == ((1, -2, 3), frozenset("ab"))
    assert (config.sample_pause, config.sample_mode, config.sample_limit) == (timedelta(seconds=30), "slow", 7)
    assert (config.sample_on, config.sample_map, config.sample_nested) == (True, {"a": 1}, Nested(a=2))
    assert config.public_url == "https://example.org"


def test_every_fault_is_one_line_without_a_value() -> None:
    """Each line names the setting and what is allowed; a missing one is reported with its handler."""
    given = {
        "SAMPLE_CHATS": f"1,{HIDDEN}",
        "SAMPLE_PAUSE": HIDDEN,
        "SAMPLE_MODE": HIDDEN,
        "SAMPLE_LIMIT": "0",
        "SAMPLE_ON": HIDDEN,
        "SAMPLE_MAP": HIDDEN,
    }
    faults = config_faults(Sample, given)
    assert [fault.partition(" ")[0] for fault in faults] == [
        *("BOOMERANG_SAMPLE_PAUSE", "BOOMERANG_SAMPLE_MAP", "BOOMERANG_SAMPLE_CHATS"),
        *("BOOMERANG_SAMPLE_MODE", "BOOMERANG_SAMPLE_LIMIT", "BOOMERANG_SAMPLE_ON"),
    ]
    assert all(fault.partition(" ")[2].startswith("must be") for fault in faults), faults
    assert HIDDEN not in str(faults)
    assert "BOOMERANG_SAMPLE_CHATS must be a whole number (value 2)" in faults
    assert "BOOMERANG_SAMPLE_ON must be true or false" in faults
    with pytest.raises(BadSetting) as caught:
        read_config(Sample, given | {"SAMPLE_TOKEN": HIDDEN})
    assert HIDDEN not in str(caught.value)


class Checked(HandlerSettings):
    """Settings with validators of their own."""

    checked_name: str = "a"
    checked_other: str | None = None

    @field_validator("checked_name")
    @classmethod
    def _no_blanks(cls, value: str) -> str:
        if " " in value:
            raise ValueError(f"must have no blanks, not {value}")
        return value

    @model_validator(mode="after")
    def _together(self) -> "Checked":
        if self.checked_other and self.checked_name == "a":
            raise ValueError("BOOMERANG_CHECKED_OTHER needs BOOMERANG_CHECKED_NAME")
        return self


def test_own_validators_speak_in_their_own_words() -> None:
    """A value that they repeat is masked."""
    assert config_faults(Checked, {"CHECKED_NAME": "two words"}) == [
        "BOOMERANG_CHECKED_NAME must have no blanks, not …"
    ]
    assert config_faults(Checked, {"CHECKED_OTHER": "x"}) == [
        "Checked: BOOMERANG_CHECKED_OTHER needs BOOMERANG_CHECKED_NAME"
    ]


def test_list_shows_defaults_and_no_values() -> None:
    """Defaults of secrets are hidden too."""
    rows = {row.name.removeprefix("BOOMERANG_SAMPLE_"): row for row in setting_rows(Sample, {"SAMPLE_TOKEN": HIDDEN})}
    assert rows["TOKEN"] == SettingRow(
        name="BOOMERANG_SAMPLE_TOKEN",
        description="token of the account",
        required=True,
        default=None,
        secret=True,
        set=True,
    )
    assert {name: row.default for name, row in rows.items() if row.default} == {
        "DAYS": "fri,mon,tue,wed",
        "PAUSE": "60s",
        "MODE": "fast",
        "LIMIT": "5",
        "ON": "False",
        "KEYS": "(secret)",
    }
    assert [name for name, row in rows.items() if row.secret] == ["TOKEN", "KEYS"]
    assert "hidden" not in str(rows)


class WithAlias(HandlerSettings):
    """A field whose variable would have another name."""

    name: str = Field("a", alias="other")


class Capitals(HandlerSettings):
    """A field that is in capitals already."""

    NAME: str = "a"


@pytest.mark.parametrize("settings", [WithAlias, Capitals, Nested, "text", Sample(sample_token=SecretStr("a"))])
def test_model_that_cannot_be_read_is_refused_at_import(settings: Any) -> None:
    """The message contains the fix."""
    with pytest.raises(BadHandler, match="handler 'sample': "):

        @Handlers().on(name="sample", settings=settings)
        async def sample(event: object, tools: Tools) -> None:
            """Do nothing."""
