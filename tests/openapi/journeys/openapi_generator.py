"""The journey with the client of openapi-generator: `FOLDER BASE KEY`, with the generated package in FOLDER."""

import json
import sys
import time


def main(folder: str, base: str, key: str) -> None:
    """Submit a task twice with one key, wait for its end, read its history and the list, and print what was found."""
    sys.path.insert(0, folder)
    import boomerang_generated as client  # noqa: PLC0415 - the test generates it

    with client.ApiClient(client.Configuration(host=base, access_token=key)) as api:
        tasks = client.TasksApi(api)
        image = client.Viduq2ProReferenceParamsImagesInner("https://example.org/cat.png")
        request = client.TaskRequest(
            model="viduq2_pro_reference",
            params=client.TaskRequestParams(client.Viduq2ProReferenceParams(prompt=" a cat", images=[image])),
            metadata={"chat": 42},
            notify=[client.NotifyEntry(client.HandlerEntry(handler="log", events=["task.completed"]))],
        )
        created = tasks.create_task(request, idempotency_key="order-42")
        again = tasks.create_task(request, idempotency_key="order-42")
        done = tasks.show_task(created.id, wait=20)
        entries = [each.actual_instance for each in tasks.task_history(created.id).data]
        while not any(isinstance(each, client.AttemptEntry) for each in entries):
            time.sleep(0.1)
            entries = [each.actual_instance for each in tasks.task_history(created.id).data]
        listed = tasks.list_tasks(limit=1, status="completed").data
    events = {each.type: each.data for each in entries if isinstance(each, client.EventEntry)}
    report = {
        "same": again.id == created.id,
        "status": done.status,
        "metadata": done.metadata,
        "output": [each.type for each in done.output],
        "event": events["task.completed"].status,
        "kinds": sorted({each.kind for each in entries}),
        "listed": [each.id for each in listed] == [created.id],
    }
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
