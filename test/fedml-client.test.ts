import { afterAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { eventually, fedmlEnvironment, fedmlEnvironmentOfCli } from "./helpers/fedml-environment.ts";
import { available, clients, removeHomes, runScript, zipOf } from "./helpers/fedml-client.ts";
import { startCompiled } from "./helpers/python.ts";

/** Between clients and records lie a network thread and a broker. */
const LIMIT = 120_000;
const CLIENTS = 40;
/** Bytes of a model: it goes in a dozen parts. */
const LARGE = 100_000_000;

const server = available ? await startCompiled() : undefined;
afterAll(async () => {
  removeHomes();
  await server?.remove();
});
const envOf = (run: string) => fedmlEnvironment(server!, run);

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

  test(
    "artifacts of all types arrive as they were sent, and a second run's do not replace the first's",
    async () => {
      const sizes = { first: 1000, second: LARGE };
      const sent = await Promise.all(
        Object.entries(sizes).map(async ([name, size]) => ({
          id: run(name),
          ...(await runScript(client, "artifacts.py", { args: [name, String(size)], env: envOf(run(name)) })),
        })),
      );
      for (const { id, home } of sent) {
        const { outputs, announced }: { outputs: Version[]; announced: unknown[] } = await eventually(
          () => server!.get(`/api/v1/runs/${id}/artifacts`),
          ({ outputs }) => outputs.length === SENT.length,
        );
        expect(announced).toEqual([]);
        expect(outputs.map((version) => [version.kind, version.name, sentAs(version)]).sort()).toEqual(SENT);
        for (const { name, type, metadata } of outputs)
          if (name !== "twice") expect(type).toBe(metadata.kind ?? "model");
        for (const version of outputs)
          expect(await digestOfVersion(version)).toBe(
            digestOfFile(zipOf(home, version.name, sentAs(version))),
          );
      }
    },
    LIMIT,
  );
});

describe.skipIf(!available)("Both versions of FedML's client", () => {
  test(
    "track side by side by the variables that `binnacle fedml env` prints",
    async () => {
      const runs = await Promise.all(
        clients.map(async (client, index) => {
          const id = `10000000000000${index}`;
          await server!.request("/api/v1/runs", { id, name: `with ${client.version}` });
          await runScript(client, "example.py", { env: await fedmlEnvironmentOfCli(server!, id) });
          return id;
        }),
      );
      for (const id of runs) {
        const points = await eventually(
          () => server!.points(id, "acc", "time"),
          (list) => list.length === 7,
        );
        expect(points.map(([, value]) => value)).toEqual([0.1, 0.11, 0.2, 0.3, 0.31, 0.32, 0.34]);
      }
    },
    LIMIT,
  );
});

const SENT = [
  ...["dataset", "general", "log", "source code"].map((type) => ["artifact", `my ${type}`, type]),
  ["artifact", "twice", "dataset"],
  ["artifact", "twice", "log"],
  ["model", "net", "model"],
];

interface Version {
  id: number;
  version: string;
  kind: string;
  name: string;
  type: string;
  metadata: { kind?: string };
}

const sentAs = ({ metadata }: Version) => metadata.kind ?? "model";

const digestOfFile = (path: string) => createHash("sha256").update(readFileSync(path)).digest("hex");

/** Of the bytes that a person downloads. */
async function digestOfVersion({ id, version }: Version): Promise<string> {
  const { files } = await server!.get(`/api/v1/artifacts/${id}/versions/${version}/files`);
  expect(files).toHaveLength(1);
  const path = encodeURIComponent(files[0].path);
  const response = await server!.request(`/api/v1/artifacts/${id}/versions/${version}/file?path=${path}`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  expect(response.status).toBe(200);
  return createHash("sha256").update(bytes).digest("hex");
}
