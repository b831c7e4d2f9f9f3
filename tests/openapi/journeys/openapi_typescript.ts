// The journey with the types of openapi-typescript: BASE KEY. `kind` narrows an entry of the history to its schema.
import createClient from "openapi-fetch";
import type { components, paths } from "./boomerang";

declare const process: { argv: string[]; stdout: { write(text: string): void } };

type Entry = components["schemas"]["HistoryEntry"];

async function main(base: string, key: string): Promise<void> {
  const client = createClient<paths>({ baseUrl: base, headers: { Authorization: `Bearer ${key}` } });
  const request: components["schemas"]["TaskRequest"] = {
    model: "viduq2_pro_reference",
    params: { prompt: " a cat", images: ["https://example.org/cat.png"] },
    metadata: { chat: 42 },
    notify: [{ handler: "log" }],
  };
  const header = { "Idempotency-Key": "order-42" };
  const created = await client.POST("/v1/tasks", { params: { header }, body: request });
  const again = await client.POST("/v1/tasks", { params: { header }, body: request });
  if (!created.data || !again.data) throw new Error(created.error?.detail ?? again.error?.detail);
  const id = created.data.id;
  const done = await client.GET("/v1/tasks/{id}", { params: { path: { id }, query: { wait: 20 } } });
  if (!done.data) throw new Error(done.error.detail);
  let entries: Entry[] = [];
  while (!entries.some((entry) => entry.kind === "attempt")) {
    const page = await client.GET("/v1/tasks/{id}/events", { params: { path: { id } } });
    if (!page.data) throw new Error(page.error.detail);
    entries = page.data.data;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const listed = await client.GET("/v1/tasks", { params: { query: { limit: 1, status: "completed" } } });
  const event = entries.flatMap((entry) => (entry.kind === "event" && entry.type === "task.completed" ? [entry.data.status] : []));
  process.stdout.write(
    JSON.stringify({
      same: again.data.id === id,
      status: done.data.status,
      metadata: done.data.metadata,
      output: done.data.output.map((each) => each.type),
      event: event[0],
      kinds: [...new Set(entries.map((entry) => entry.kind))].sort(),
      listed: listed.data?.data[0]?.id === id,
    }),
  );
}

void main(process.argv[2]!, process.argv[3]!);
