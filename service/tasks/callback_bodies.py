"""Renders what the `callback_url` of a task gets in the form of the provider's API, at the moment of an attempt."""

from dataclasses import dataclass

from service.domain.callback_forms import with_body
from service.domain.ports.tasks import BlobStore
from service.domain.ports.unit_of_work import DeliveryClaim
from service.domain.task import Json
from service.domain.task_view import TaskView


@dataclass(frozen=True, kw_only=True, slots=True)
class CallbackBodies:
    """Completes targets that have a form; `blobs` has the caller's own `meta_data`."""

    blobs: BlobStore

    async def rendered(self, claim: DeliveryClaim) -> Json:
        """Return the target of `claim`, which must have a form, with the body to post."""
        task = TaskView.from_json({"client": claim.event.client} | claim.event.data).to_json()
        meta_data = await self.blobs.meta_data(claim.event.task_id)
        return with_body(claim.target, task, payload=claim.payload, meta_data=meta_data)
