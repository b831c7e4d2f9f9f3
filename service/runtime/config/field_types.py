"""The types of the settings: each parses the text of a setting; its errors say what is allowed."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, PlainValidator

from service.domain.api_key import ApiKey
from service.domain.submission_limits import ClientLimit
from service.runtime.config import setting_parsers as parse


def parsed(parser: parse.Parse[object]) -> PlainValidator:
    """Return the validator that parses a text and keeps a value of any other type.

    It replaces pydantic's own checks, because pydantic refuses file names that are not UTF-8.
    """
    return PlainValidator(lambda value: parser(value) if isinstance(value, str) else value)


Text = Annotated[str, parsed(str)]
ProviderKey = Annotated[str, parsed(parse.provider_key)]
Word = BeforeValidator(str.lower)
Flag = Annotated[bool, parsed(parse.boolean)]
Names = Annotated[tuple[str, ...], parsed(parse.comma_separated)]
Duration = Annotated[timedelta, parsed(parse.positive_duration)]
LeaseTime = Annotated[timedelta, parsed(parse.lease)]
Schedule = Annotated[tuple[timedelta, ...], parsed(parse.durations)]
Rate = Annotated[float, parsed(parse.rate)]
Dollars = Annotated[Decimal, parsed(parse.dollars)]
ShortTime = Annotated[timedelta, parsed(parse.seconds_to_an_hour)]
Price = Annotated[Decimal, parsed(parse.positive_dollars)]
DollarsByClient = Annotated[ClientLimit, parsed(parse.client_limit(lambda text: float(parse.dollars(text))))]
CountByClient = Annotated[ClientLimit, parsed(parse.client_limit(parse.whole_number(1, 1_000_000)))]
Address = Annotated[str, parsed(parse.address)]
Target = Annotated[str, parsed(parse.target)]
ConnectionCount = Annotated[int, parsed(parse.whole_number(3, 1000))]
DatabaseAddress = Annotated[str, parsed(parse.database)]
ArchiveAddress = Annotated[str, parsed(parse.archive)]
Region = Annotated[str, parsed(parse.region)]
EgressRules = Annotated[tuple[str, ...], parsed(parse.egress)]
Networks = Annotated[tuple[str, ...], parsed(parse.egress_networks)]
SecretKeys = Annotated[tuple[str, ...], parsed(parse.secret_keys)]
WebhookSecrets = Annotated[tuple[str, ...], parsed(parse.webhook_secrets)]
Concurrency = Annotated[int, parsed(parse.whole_number(1, 10_000))]
TaskLimit = Annotated[int, parsed(parse.whole_number(1, 1_000_000))]
Port = Annotated[int, parsed(parse.whole_number(0, 65_535))]
ProcessCount = Annotated[int, parsed(parse.whole_number(1, 1024))]
AccessKey = Annotated[str, parsed(parse.access_key)]
FailureCount = Annotated[int, parsed(parse.whole_number(0, 1_000))]
ApiKeys = Annotated[tuple[ApiKey, ...], parsed(parse.api_keys)]
