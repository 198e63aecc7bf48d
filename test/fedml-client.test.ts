import { afterAll, describe, expect, test } from "bun:test";
import { available, clients, fedmlEnvironment, removeHomes, runScript } from "./helpers/fedml-client.ts";
import { startServer } from "./helpers/python.ts";

/** Between clients and records lie a network thread and a broker. */
const LIMIT = 120_000;
const CLIENTS = 40;

const server = available ? await startServer() : undefined;
afterAll(async () => {
  removeHomes();
  await server?.remove();
});
const envOf = (run: string) => fedmlEnvironment(server!, run);

/** Asks until it says what is wanted: what a client sends with its last breath is stored after its end. */
async function eventually<T>(read: () => Promise<T>, isDone: (value: T) => boolean): Promise<T> {
  const end = Date.now() + 15_000;
  for (;;) {
    const value = await read().catch((error: unknown) => error as T);
    if ((!(value instanceof Error) && isDone(value)) || Date.now() > end) return value;
    await Bun.sleep(50);
  }
}

describe.skipIf(!available).each(clients)("FedML's client $version", (client) => {
  const run = (name: string) => `${client.version.replaceAll(".", "")}-${name}`;

  test(
    "its documentation's example gives seven records, with repeated steps and an axis of its own",
    async () => {
      const id = run("example");
      await runScript(client, "example.py", { env: envOf(id) });
      const points = await eventually(
        () => server!.points(id, "acc"),
        (list) => list.length === 7,
      );
      const byTime = await server!.points(id, "acc", "time");
      expect(byTime.map(([, value]) => value)).toEqual([0.1, 0.11, 0.2, 0.3, 0.31, 0.32, 0.34]);
      expect(points.map(([step]) => step).sort()).toEqual([0, 1, 1, 2, 2, 3, 4]);
      expect(await server!.points(id, "acc", "x_index")).toEqual([[2, 0.32]]);
      expect(await server!.points(id, "loss")).toEqual([[4, 0.33]]);
      expect((await server!.keys(id)).sort()).toEqual(["acc", "loss", "x_index"]);
    },
    LIMIT,
  );

  test(
    `${CLIENTS} clients that publish once and disconnect at once leave ${CLIENTS} records`,
    async () => {
      const id = run("many");
      await runScript(client, "many.py", { args: [String(CLIENTS)], env: envOf(id) });
      const points = await eventually(
        () => server!.points(id, "acc"),
        (list) => list.length === CLIENTS,
      );
      const all = Array.from({ length: CLIENTS }, (_, number) => [number, number / 100]);
      expect(points.sort(([a], [b]) => a - b)).toEqual(all as [number, number][]);
    },
    LIMIT,
  );
});
