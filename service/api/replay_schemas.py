"""The bodies of a bulk replay as pydantic models, like those of `service.api.schemas`."""

from typing import Annotated

from pydantic import AwareDatetime, Field

from service.api.query_params import MAX_TEXT
from service.api.schema_types import ApiModel, Id, Moment, WholeNumber, optional
from service.domain.ports.replays import ReplayStatus

Word = Annotated[str, Field(pattern="^[ -~]+$", min_length=1, max_length=MAX_TEXT)]
Cursor = Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$")]


class ReplayRequest(ApiModel):
    """The deliveries to replay: those to which every given field applies. At least one field must narrow them down.

    A client that is no admin replays only what its own `notify` entries asked for.
    """

    handler: Word = optional("The handler of the deliveries.")
    client: Word = optional("The client of the tasks; only an admin may name another one.")
    status: Annotated[
        list[ReplayStatus], Field(min_length=1, max_length=2, json_schema_extra={"uniqueItems": True})
    ] = optional('By default `["dead"]`.')
    receiver: Word = optional("The host of the address in a `notify` entry.")
    since: AwareDatetime = optional("Events at this time or later.")
    until: AwareDatetime = optional("Events before this time.")
    dry_run: bool = optional("Only count.")
    cursor: Cursor = optional("The `next_cursor` of a call that reached its time limit, with the same filter.")


class ReplayReport(ApiModel):
    """What one call has replayed, or would replay."""

    dry_run: bool
    matched: WholeNumber = Field(description="Deliveries that the filter selects.")
    replayed: WholeNumber
    running: WholeNumber = Field(description="Left alone, since an attempt is running.")
    changed: WholeNumber = Field(description="Left alone, since they have ended meanwhile.")
    secret_deleted: WholeNumber = Field(description="Left alone, since they can no longer be signed.")
    erased: WholeNumber = Field(description="Left alone, since their tasks were erased.")
    by_status: dict[str, WholeNumber]
    by_handler: dict[str, WholeNumber]
    sample: list[Id] = Field(description="The first of them.")
    last_due_at: Moment | None = Field(description="When the last one is due: 50 a second.")
    next_cursor: str | None = Field(description="Where to continue after the time limit; null at the end.")
