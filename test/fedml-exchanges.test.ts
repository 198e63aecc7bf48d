import { afterAll, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { eventually, fedmlEnvironment } from "./helpers/fedml-environment.ts";
import { replay, type Recorded, type Replay } from "./helpers/fedml-exchange.ts";
import { startCompiled } from "./helpers/python.ts";

/** What the unmodified client sends, recorded: the wire is tested where PyPI can't be reached, too. */
const folder = join(import.meta.dirname, "fedml-exchanges");
const recorded = readdirSync(folder)
  .sort()
  .map((name) => JSON.parse(readFileSync(join(folder, name), "utf8")) as Recorded);

const server = await startCompiled();
afterAll(() => server.remove());

describe.each(recorded)("What $client sent", ({ client, recordings }) => {
  const idOf = (name: string) => `${client.replaceAll(/\D/g, "")}-${name}`;

  async function send(name: string): Promise<Replay> {
    const { exchanges } = recordings.find((one) => one.name === name)!;
    const run = idOf(name);
    const env = fedmlEnvironment(server, run);
    const prefix = `/${env["FEDML_ENV_LOCAL_ON_PREMISE_PLATFORM_HOST"]!.split("/").slice(1).join("/")}`;
    const sent = await replay(exchanges, { url: server.url, words: { run, prefix, token: server.token } });
    expect(sent.answers.length).toBeGreaterThan(0);
    expect(sent.answers.map(({ request, status }) => [request, status])).toEqual(
      sent.answers.map(({ request }) => [request, 200]),
    );
    return sent;
  }

  test("for the documentation's example is seven records", async () => {
    const { answers } = await send("example");
    const { mqtt_config: mqtt, s3_config: s3, ml_ops_config: ops } = answers[0]!.json.data;
    expect([typeof mqtt.BROKER_PORT, typeof s3.BUCKET_NAME, typeof ops.LOG_SERVER_URL]).toEqual([
      "number",
      "string",
      "string",
    ]);
    const points = await server.points(idOf("example"), "acc", "time");
    expect(points.map(([, value]) => value)).toEqual([0.1, 0.11, 0.2, 0.3, 0.31, 0.32, 0.34]);
    expect(await server.points(idOf("example"), "acc", "x_index")).toEqual([[2, 0.32]]);
    expect(await server.points(idOf("example"), "loss")).toEqual([[4, 0.33]]);
  });

  test("for artifacts is their bytes, in one piece or in parts", async () => {
    const { objects } = await send("artifacts");
    expect(objects.size).toBe(7);
    const { outputs } = await eventually(
      () => server.get(`/api/v1/runs/${idOf("artifacts")}/artifacts`),
      (page) => page.outputs.length === 7,
    );
    const digests = await Promise.all(
      outputs.map(async ({ id, version }: { id: number; version: string }) => {
        const { files } = await server.get(`/api/v1/artifacts/${id}/versions/${version}/files`);
        return files[0].sha256;
      }),
    );
    expect(digests.sort()).toEqual([...objects.values()].sort());
  });

  test("for a federated run is its timeline and its end", async () => {
    await send("federated");
    const { spans } = await server.get(`/api/v1/runs/${idOf("federated")}/spans?kind=event`);
    expect(spans.map(({ name, value }: { name: string; value: string }) => [name, value])).toEqual([
      ["train", "0"],
      ["train", "1"],
      ["train", "2"],
      ["comm_c2s", "3"],
    ]);
    const page = await server.get(`/api/v1/runs/${idOf("federated")}/spans?kind=status`);
    const phases = page.spans.filter(({ edge }: { edge: string | null }) => edge === "server 1");
    expect(phases.map(({ name }: { name: string }) => name)).toEqual(["RUNNING", "FINISHED"]);
    expect((await server.run(idOf("federated"))).status).toBe("FINISHED");
  });

  test("for logs is their lines", async () => {
    await send("logs");
    const { lines } = await server.get(`/api/v1/runs/${idOf("logs")}/logs`);
    const texts: string[] = lines.map(({ text }: { text: string }) => text);
    expect(texts.filter((text) => /^(line \d|it failed|printed|the last line)$/.test(text))).toEqual([
      "line 0",
      "line 1",
      "line 2",
      "it failed",
      "printed",
      "the last line",
    ]);
  });

  test("for `fedml run` is answered in the words that it reads", async () => {
    await server.request("/api/v1/runs", { id: idOf("commands") });
    const { answers } = await send("commands");
    const of = (path: string) =>
      answers.filter(({ request }) => request.endsWith(path)).map(({ json }) => json);
    for (const beat of of("heartBeat")) expect(beat).toMatchObject({ code: "SUCCESS", data: true });
    const [all, one] = of("queryJobList");
    expect(all.data.jobList.length).toBeGreaterThan(0);
    expect(one.data.jobList).toMatchObject([{ id: idOf("commands"), status: "RUNNING" }]);
    const [logs] = of("getLogsFromCli");
    expect(Object.keys(logs.data)).toEqual(
      expect.arrayContaining(["total_num", "total_pages", "logs", "totalSize", "totalPages", "logList"]),
    );
    expect(of("stopApplicationFromCli")).toMatchObject([{ code: "SUCCESS" }]);
    expect((await server.run(idOf("commands"))).status).toBe("KILLED");
  });
});
