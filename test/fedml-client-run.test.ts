import { afterAll, describe, expect, test } from "bun:test";
import { binaryPath } from "./helpers/binary.ts";
import { runCli } from "./helpers/cli.ts";
import { eventually, fedmlEnvironment } from "./helpers/fedml-environment.ts";
import { available, clients, removeHomes, runScript, type FedmlClient } from "./helpers/fedml-client.ts";
import { startCompiled } from "./helpers/python.ts";

const LIMIT = 120_000;
const LINES = 2500;

const server = available ? await startCompiled() : undefined;
afterAll(async () => {
  removeHomes();
  await server?.remove();
});
const envOf = (run: string) => fedmlEnvironment(server!, run);

type Span = Record<"kind" | "name" | "value" | "edge" | "started" | "ended", string | null> & {
  round: number | null;
  total: number | null;
};
const spansOf = async (id: string, kind: string): Promise<Span[]> =>
  (await server!.get(`/api/v1/runs/${id}/spans?kind=${kind}`)).spans;

const runOf = ({ version }: FedmlClient, name: string) => `${version.replaceAll(".", "")}-${name}`;

/** Mostly they wait for the client's uploader, so they do it all along. */
const logged = new Map(
  available
    ? clients.map((client) => {
        const id = runOf(client, "logs");
        return [client, runScript(client, "logs.py", { args: [id, String(LINES)], env: envOf(id) })];
      })
    : [],
);

describe.skipIf(!available).each(clients)("FedML's client $version", (client) => {
  const run = (name: string) => runOf(client, name);

  test(
    `${LINES} log lines, a traceback and a print arrive in their order, with time, level and device`,
    async () => {
      const id = run("logs");
      await logged.get(client);
      const page = await eventually(
        () => server!.get(`/api/v1/runs/${id}/logs?limit=10000`),
        ({ lines }) => lines.some(({ text }: { text: string }) => text.includes("the last line")),
      );
      const texts: string[] = page.lines.map(({ text }: { text: string }) => text);
      const numbered = texts.filter((text) => /^line \d+$/.test(text));
      expect(numbered).toEqual(Array.from({ length: LINES }, (_, number) => `line ${number}`));
      const traceback = page.lines.slice(texts.indexOf("it failed"), texts.indexOf("printed"));
      expect(traceback.map(({ text }: { text: string }) => text.trim())).toEqual([
        "it failed",
        "Traceback (most recent call last):",
        expect.stringContaining("logs.py"),
        "1 / 0",
        ...(texts.some((text) => text.trim() === "~~^~~") ? ["~~^~~"] : []),
        "ZeroDivisionError: division by zero",
      ]);
      expect(new Set(traceback.map(({ level }: { level: string }) => level))).toEqual(new Set(["ERROR"]));
      const times: number[] = page.lines.map(({ time }: { time: number }) => time);
      // The client takes whole seconds from the platform's clock and their fraction from its own: around a second's end its times jump.
      expect(times.filter((time, at) => at > 0 && time < times[at - 1]! - 1000)).toEqual([]);
      expect(Math.abs(times[0]! - Date.now())).toBeLessThan(LIMIT);
      expect(texts.join("\n")).not.toContain("/fedml/");
    },
    LIMIT,
  );

  test(
    "events, rounds and statuses of a federated run are its timeline, each once",
    async () => {
      const id = run("federated");
      await runScript(client, "federated.py", { args: [id], env: envOf(id) });
      const { status } = await eventually(
        () => server!.run(id),
        ({ status }) => status === "FINISHED",
      );
      expect(status).toBe("FINISHED");
      const events = await spansOf(id, "event");
      expect(events.map(({ name, value, edge }) => [name, value, edge])).toEqual([
        ["train", "0", "1"],
        ["train", "1", "1"],
        ["train", "2", "1"],
        ["comm_c2s", "3", "1"],
      ]);
      expect(events.map(({ started, ended }) => [started !== null, ended !== null])).toEqual([
        [true, true],
        [true, true],
        [true, true],
        [true, false],
      ]);
      const rounds = await spansOf(id, "round");
      expect(rounds.filter(({ round }) => round !== null).map(({ round, total }) => [round, total])).toEqual([
        [0, 3],
        [1, 3],
        [2, 3],
      ]);
      const statuses = await spansOf(id, "status");
      expect(statuses.filter(({ edge }) => edge === "1").map(({ name }) => name)).toEqual(["FINISHED"]);
      expect(statuses.filter(({ edge }) => edge === "server 1").map(({ name }) => name)).toEqual([
        "RUNNING",
        "FINISHED",
      ]);
      expect(await server!.points(id, "latency")).toEqual([[0, 12.5]]);
    },
    LIMIT,
  );

  test(
    "a client that says it is done ends its run, though its first word came without run and device",
    async () => {
      const id = run("client");
      await runScript(client, "client.py", { args: [id], env: envOf(id) });
      const { status } = await eventually(
        () => server!.run(id),
        ({ status }) => status === "FINISHED",
      );
      expect(status).toBe("FINISHED");
    },
    LIMIT,
  );

  test(
    "its command line lists, shows and stops a run, and reads its logs, with a token that is good",
    async () => {
      const id = `${client.version.replaceAll(".", "")}123456789012`;
      const launched = launch(id, ["sh", "-c", "echo hello; sleep 100"]);
      await eventually(
        () => server!.get(`/api/v1/runs/${id}/logs`),
        ({ total }) => total > 0,
      );
      const words = `-v local -k ${server!.token}`;
      const { out } = await runScript(client, "cli.py", {
        args: [
          `run list ${words}`,
          `run status -rid ${id} ${words}`,
          `run logs -rid ${id} ${words}`,
          `run list -v local -k wrong`,
          `run stop -rid ${id} ${words}`,
        ],
        env: envOf(id),
      });
      const [, list, status, logs, refused, stop] = out.split(/^\$ fedml run .*\n/m);
      const row = new RegExp(`\\| +sleeper +\\| +${id} +\\| +RUNNING +\\|`);
      expect(list).toMatch(row);
      expect(status).toMatch(row);
      expect(logs).toMatch(/^\[.+\] hello$/m);
      expect(refused).toContain("Failed to authenticate");
      expect(stop).toContain(`Run ${id} is stopped successfully.`);
      expect(await launched).not.toBe(0);
      expect((await server!.run(id)).status).toBe("KILLED");
    },
    LIMIT,
  );
});

async function launch(id: string, command: string[]): Promise<number> {
  const env = { BINNACLE_URL: server!.url, BINNACLE_TOKEN: server!.token, BINNACLE_DATA: server!.dataDir };
  const words = ["launch", "-n", "sleeper", "--run-id", id, "--", ...command];
  const { code } = await runCli(words, { env, program: [binaryPath()] });
  return code;
}
