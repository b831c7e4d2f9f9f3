"""The journey with the client of openapi-python-client: `FOLDER BASE KEY`, with the generated package in FOLDER."""

import json
import sys
import time


def main(folder: str, base: str, key: str) -> None:
    """Submit a task twice with one key, wait for its end, read its history and the list, and print what was found."""
    sys.path.insert(0, folder)
    from boomerang_generated import AuthenticatedClient, models  # noqa: PLC0415 - the test generates it
    from boomerang_generated.api.tasks import create_task, list_tasks, show_task, task_history  # noqa: PLC0415

    with AuthenticatedClient(base_url=base, token=key, raise_on_unexpected_status=True) as client:
        request = models.TaskRequest(
            model=models.TaskRequestModel.VIDUQ2_PRO_REFERENCE,
            params=models.Viduq2ProReference(prompt=" a cat", images=["https://example.org/cat.png"]),
            metadata=models.TaskRequestMetadata.from_dict({"chat": 42}),
            notify=[models.HandlerEntry(handler="log")],
        )
        created = create_task.sync(client=client, body=request, idempotency_key="order-42")
        again = create_task.sync(client=client, body=request, idempotency_key="order-42")
        done = show_task.sync(created.id, client=client, wait=20)
        entries = task_history.sync(created.id, client=client).data
        while not any(isinstance(each, models.AttemptEntry) for each in entries):
            time.sleep(0.1)
            entries = task_history.sync(created.id, client=client).data
        listed = list_tasks.sync(client=client, limit=1, status=models.ListTasksStatus.COMPLETED).data
    events = {each.type_: each.data for each in entries if isinstance(each, models.EventEntry)}
    report = {
        "same": again.id == created.id,
        "status": done.status,
        "metadata": done.metadata.to_dict(),
        "output": [each.type_ for each in done.output],
        "event": events["task.completed"].status,
        "kinds": sorted({each.kind for each in entries}),
        "listed": [each.id for each in listed] == [created.id],
    }
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
