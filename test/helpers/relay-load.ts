/**
 * What a machine records, and who owes what. The oracle: what the collector answered 2xx is at the platform exactly once, with
 * what was sent and in that order; what it refused is not there; what it did not answer is there once, whole, or not at all.
 */
import { expect } from "bun:test";
import { createHash } from "node:crypto";
import { PACK_TYPE, SMALL_BYTES } from "../../src/blob/schema.ts";
import type { Collector } from "../../src/collector.ts";
import { takeBounds } from "../../src/relay/bounds.ts";
import { samplesHistory } from "../../src/relay/history-samples.ts";
import type { Sample } from "../../src/sample/schema.ts";
import { readSamples } from "../../src/source/read-samples.ts";
import type { Party } from "./child.ts";
import { DEVICE } from "./device.ts";
import type { Random } from "./fault-proxy.ts";

/** unknown: sent, and no answer came. */
type State = "acked" | "unknown";

interface Obligation<T> {
  values: T[];
  state: State;
}

interface Batch {
  client: string;
  seq: number;
  items: unknown[];
}

interface LoadRun {
  id: string;
  records: Obligation<number>[];
  lines: Obligation<string>[];
  nextValue: number;
  /** What was said of it last: the tag, and whether it has ended. */
  tag: { value: string; state: State } | undefined;
  ended: State | undefined;
}

interface Model {
  name: string;
  state: State;
}

interface Writer {
  name: string;
  run: LoadRun | undefined;
  runs: number;
  client: number;
  seq: number;
  /** Was not answered, and is tried again. */
  pending: (() => Promise<void>) | undefined;
}

/** Nobody answers any more: the process is gone. */
export class Gone extends Error {}

/** Who record at once. */
const WRITERS = 3;

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** Of the name alone, so that none has to be kept to be compared. */
export function filesOf(name: string): { path: string; bytes: Buffer }[] {
  const noise = createHash("sha512").update(name).digest();
  // Some are files of their own, others lie in the database.
  const size = 200 + 2 * noise.readUInt16LE(0);
  return [
    { path: "weights.bin", bytes: Buffer.alloc(size, noise) },
    { path: "about/name.txt", bytes: Buffer.from(`model ${name}`) },
  ];
}

export interface WriteOptions {
  steps?: number;
  signal?: AbortSignal;
  /** Models with a large file that are logged first. */
  large?: number;
}

export interface RelayLoad {
  /** Records until the collector is gone, until it is told to stop, or for so many steps of each writer. */
  write(child: Party, options?: WriteOptions): Promise<void>;
  /** All of it is at the platform, and no more. */
  check(platform: Party, collector: Party): Promise<void>;
  /** The same of what the hardware read, in the databases of processes that have ended. */
  checkSamples(platform: Collector, collector: Collector): Promise<void>;
  counts: Record<string, number>;
}

export interface RelayLoadOptions {
  /** Whether it is a collector that takes what would read the hardware. */
  samples?: boolean;
}

export function createRelayLoad(
  random: Random,
  { samples: hasSamples = true }: RelayLoadOptions = {},
): RelayLoad {
  const runs: LoadRun[] = [];
  const models: Model[] = [];
  const samples: Obligation<Sample>[] = [];
  const all: Writer[] = Array.from({ length: WRITERS }, (_, i) => ({
    name: `w${i}`,
    run: undefined,
    runs: 0,
    client: 0,
    seq: 0,
    pending: undefined,
  }));
  const counts: Record<string, number> = { answered: 0, refused: 0, unanswered: 0 };
  let lastTime = 0;
  let names = 0;

  async function ask(
    child: Party,
    method: string,
    path: string,
    body?: unknown,
    type = "application/json",
  ): Promise<{ status: number; text: string }> {
    try {
      const response = await fetch(`http://127.0.0.1:${child.port}/api/v1${path}`, {
        method,
        headers: { authorization: `Bearer ${child.token}`, "content-type": type },
        ...(body !== undefined && {
          body: body instanceof Buffer ? new Uint8Array(body) : JSON.stringify(body),
        }),
      });
      return { status: response.status, text: await response.text() };
    } catch (error) {
      counts["unanswered"]!++;
      throw new Gone("nobody answers", { cause: error });
    }
  }

  async function okay(
    child: Party,
    method: string,
    path: string,
    body?: unknown,
    type?: string,
  ): Promise<string> {
    const { status, text } = await ask(child, method, path, body, type);
    // A database that fails under it says so, and is about to end; one that has no room has not taken it.
    if (status === 500 || status === 503 || status === 507) {
      counts["unanswered"]!++;
      throw new Gone(text);
    }
    expect(status, `${method} ${path}: ${text}`).toBeLessThan(300);
    counts["answered"]!++;
    return text;
  }

  /** Does it until it is answered, through however many lives of the collector. */
  async function settle(writer: Writer, work: () => Promise<void>): Promise<void> {
    writer.pending = work;
    await work();
    writer.pending = undefined;
  }

  async function append(at: () => Party, writer: Writer, run: LoadRun): Promise<void> {
    const size = random() < 0.6 ? 1 + Math.floor(random() * 3) : Math.floor(random() * 200);
    const values = Array.from({ length: size }, () => run.nextValue++);
    const isLog = random() < 0.3;
    const batch: Batch = { client: `${run.id}-${writer.client}`, seq: writer.seq + 1, items: [] };
    const obligation: Obligation<unknown> = { values: [], state: "unknown" };
    if (isLog) {
      obligation.values = values.map((value) => `${run.id} line ${value}`);
      batch.items = obligation.values.map((text) => ({ text }));
      run.lines.push(obligation as Obligation<string>);
    } else {
      obligation.values = values;
      batch.items = values.map((value) => ({
        metrics: { value, half: value / 2, ...(value % 5 === 0 && { note: `text ${value}` }) },
      }));
      run.records.push(obligation as Obligation<number>);
    }
    await settle(writer, async () => {
      const text = await okay(at(), "POST", `/runs/${run.id}/${isLog ? "logs" : "records"}`, batch);
      expect(text).toBe(JSON.stringify({ acked: batch.seq }));
      obligation.state = "acked";
      writer.seq = batch.seq;
    });
  }

  async function refuse(at: () => Party, run: LoadRun): Promise<void> {
    const batch = { client: "stranger", seq: 7, items: [{ metrics: { value: -1 } }] };
    const { status } = await ask(at(), "POST", `/runs/${run.id}/records`, batch);
    if (status >= 500) throw new Gone();
    // It can't begin with its seventh batch.
    expect(status).toBe(409);
    counts["refused"]!++;
  }

  async function log(at: () => Party, run: LoadRun | undefined, isLarge = false): Promise<void> {
    const isWanted = () => !isLarge || filesOf(`m${names}`).some(({ bytes }) => bytes.length > SMALL_BYTES);
    do names++;
    while (!isWanted());
    const model: Model = { name: `m${names}`, state: "unknown" };
    models.push(model);
    const files = filesOf(model.name);
    for (const { bytes } of files.filter(({ bytes }) => bytes.length > SMALL_BYTES)) {
      const digest = sha256(bytes);
      const upload = { size: bytes.length, chunks: [digest] };
      await okay(at(), "POST", `/blobs/${digest}/upload`, upload);
      await okay(at(), "PUT", `/blobs/${digest}/chunks/0`, bytes, "application/octet-stream");
      await okay(at(), "POST", `/blobs/${digest}/commit`, {});
    }
    const small = files.filter(({ bytes }) => bytes.length <= SMALL_BYTES);
    const pack = Buffer.concat(
      small.flatMap(({ bytes }) => {
        const length = Buffer.alloc(4);
        length.writeUInt32LE(bytes.length);
        return [Buffer.from(sha256(bytes), "hex"), length, bytes];
      }),
    );
    await okay(at(), "POST", "/blobs/pack", pack, PACK_TYPE);
    await okay(at(), "POST", run ? `/runs/${run.id}/artifacts` : "/artifacts", {
      kind: "model",
      name: model.name,
      type: "model",
      files: files.map(({ path, bytes }) => ({ path, size: bytes.length, sha256: sha256(bytes) })),
    });
    model.state = "acked";
  }

  async function read(at: () => Party): Promise<void> {
    const values = Array.from({ length: 1 + Math.floor(random() * 4) }, (): Sample => {
      lastTime = Math.max(lastTime + 1, Date.now());
      return {
        subject: "",
        time: lastTime,
        values: { "load.1": (lastTime % 1000) / 10, "memory.used": (lastTime % 7919) * 4096 },
      };
    });
    const obligation: Obligation<Sample> = { values, state: "unknown" };
    samples.push(obligation);
    await okay(at(), "POST", "/samples", values);
    obligation.state = "acked";
  }

  async function step(at: () => Party, writer: Writer): Promise<void> {
    if (writer.pending) {
      // As a process that dies with its batch: nobody will ever know, and a new one begins.
      if (random() < 0.8 || !writer.run) return await settle(writer, writer.pending);
      writer.pending = undefined;
      writer.client++;
      writer.seq = 0;
    }
    const { run } = writer;
    const dice = random();
    if (!run) {
      const made: LoadRun = {
        id: `${writer.name}-${writer.runs++}`,
        records: [],
        lines: [],
        nextValue: 0,
        tag: undefined,
        ended: undefined,
      };
      runs.push(made);
      writer.seq = 0;
      const name = `run ${made.id}`;
      return await settle(writer, async () => {
        await okay(at(), "POST", "/runs", { id: made.id, name });
        writer.run = made;
      });
    }
    if (dice < 0.02) {
      run.ended = "unknown";
      writer.run = undefined;
      return await settle(writer, async () => {
        await okay(at(), "POST", `/runs/${run.id}/finish`, {
          status: "FINISHED",
          reason: `reason ${run.id}`,
        });
        run.ended = "acked";
      });
    }
    if (dice < 0.06) {
      const tag = { value: `tag ${run.nextValue}`, state: "unknown" as State };
      return await settle(writer, async () => {
        run.tag = tag;
        await okay(at(), "PATCH", `/runs/${run.id}`, { tags: [tag.value] });
        tag.state = "acked";
      });
    }
    if (dice < 0.1) return await refuse(at, run);
    if (dice < 0.15) return await log(at, run);
    if (dice < 0.17 && hasSamples) return await read(at);
    await append(at, writer, run);
  }

  async function write(
    child: Party,
    { steps = Infinity, signal, large = 0 }: WriteOptions = {},
  ): Promise<void> {
    const work = async (writer: Writer) => {
      try {
        if (writer === all[0]) for (let left = large; left > 0; left--) await log(() => at, writer.run, true);
        for (let left = steps; left > 0 && !signal?.aborted; left--) await step(() => at, writer);
      } catch (error) {
        if (!(error instanceof Gone)) throw error;
      }
    };
    at = child;
    await Promise.all(all.map(work));
  }
  /** Whom writers speak to: what is tried again goes to the process that is there now. */
  let at: Party;

  const get = async (child: Party, path: string) => JSON.parse(await okay(child, "GET", path));

  async function check(platform: Party, collector: Party): Promise<void> {
    for (const run of runs) {
      const detail = await rowOf(collector, run.id);
      expect(await rowOf(platform, run.id)).toEqual(detail);
      if (!detail) {
        expect([run.records, run.lines].flat().filter(({ state }) => state === "acked")).toEqual([]);
        continue;
      }
      if (run.tag?.state === "acked") expect(detail["tags"]).toEqual([run.tag.value]);
      if (run.ended === "acked") expect(detail["status"]).toBe("FINISHED");
      const there = await pointsOf(platform, run.id);
      const values = there["value"]!.map(([, y]) => y as number);
      expectSequence(run.id, values, run.records);
      expect(there["half"]!.map(([, y]) => 2 * (y as number))).toEqual(values);
      expect(there["note"]!.map(([, y]) => y)).toEqual(
        values.filter((value) => value % 5 === 0).map((value) => `text ${value}`),
      );
      expect(there).toEqual(await pointsOf(collector, run.id));
      const lines = await linesOf(platform, run.id);
      expectSequence(
        run.id,
        lines.map(({ text }) => text),
        run.lines,
      );
      expect(lines).toEqual(await linesOf(collector, run.id));
    }
    const listed = await get(platform, "/runs?limit=1000");
    expect(listed.runs.map(({ id }: { id: string }) => id).toSorted()).toEqual(
      (await get(collector, "/runs?limit=1000")).runs.map(({ id }: { id: string }) => id).toSorted(),
    );
    await checkModels(platform);
  }

  async function checkModels(platform: Party): Promise<void> {
    const { artifacts } = await get(platform, "/artifacts?limit=1000");
    const byName = new Map<string, { id: number; latest: object }>();
    for (const artifact of artifacts) {
      expect(byName.has(artifact.name), artifact.name).toBe(false);
      byName.set(artifact.name, artifact);
    }
    for (const { name, state } of models) {
      const found = byName.get(name);
      if (state === "acked") expect(found, name).toBeDefined();
      if (!found) continue;
      byName.delete(name);
      expect(found.latest).toMatchObject({ version: "v1", files: 2 });
      for (const { path, bytes } of filesOf(name)) {
        const response = await contentOf(platform, found.id, path);
        expect(response.status, `${name} ${path}`).toBe(200);
        expect(Buffer.compare(Buffer.from(await response.arrayBuffer()), bytes), `${name} ${path}`).toBe(0);
      }
    }
    expect([...byName.keys()]).toEqual([]);
  }

  /** Files come beside the entries: where it is not known that one is missing, it may follow. */
  async function contentOf(platform: Party, id: number, path: string): Promise<Response> {
    const end = performance.now() + 10_000;
    for (;;) {
      const response = await platform.request(
        `/artifacts/${id}/versions/v1/file?path=${encodeURIComponent(path)}`,
      );
      if (response.status !== 409 || performance.now() > end) return response;
      await Bun.sleep(20);
    }
  }

  async function rowOf(child: Party, id: string): Promise<Record<string, unknown> | undefined> {
    const { status, text } = await ask(child, "GET", `/runs/${id}`);
    if (status === 404) return undefined;
    const { name, project, status: word, reason, tags, config, created } = JSON.parse(text);
    return { name, project, status: word, reason, tags, config, created };
  }

  async function pointsOf(child: Party, id: string): Promise<Record<string, [number, unknown][]>> {
    const points: Record<string, [number, unknown][]> = {};
    for (const key of ["value", "half", "note"])
      // 404: nothing was logged under it.
      points[key] = JSON.parse((await ask(child, "GET", `/runs/${id}/points?key=${key}`)).text).points ?? [];
    return points;
  }

  async function linesOf(child: Party, id: string): Promise<{ line: number; text: string; time: unknown }[]> {
    const lines: { line: number; text: string; time: unknown }[] = [];
    for (;;) {
      const page = await get(child, `/runs/${id}/logs?after=${lines.at(-1)?.line ?? 0}&limit=10000`);
      if (page.lines.length === 0) return lines;
      lines.push(...page.lines);
    }
  }

  async function checkSamples(platform: Collector, collector: Collector): Promise<void> {
    const there = await samplesOf(platform);
    expect(there).toEqual(await samplesOf(collector));
    expectSequence("samples", there, samples);
  }

  return { write, check, checkSamples, counts };
}

async function samplesOf(collector: Collector): Promise<Sample[]> {
  const found: Sample[] = [];
  const bounds = await takeBounds(collector);
  for await (const { frames } of samplesHistory(collector, DEVICE, { from: 0, bounds }))
    for (const frame of frames) {
      expect(frame.kind).toBe("sample.appended");
      found.push(...readSamples(frame));
    }
  return found;
}

/** Exactly once, in this order; what is unknown, whole or not at all. */
function expectSequence<T>(what: string, stored: T[], obligations: Obligation<T>[]): void {
  let at = 0;
  for (const { values, state } of obligations) {
    const found = stored.slice(at, at + values.length);
    const isThere = Bun.deepEquals(found, values);
    if (state === "acked") expect(found, `${what} from ${at}`).toEqual(values);
    if (isThere) at += values.length;
  }
  expect(stored.slice(at), `${what}: more than was sent`).toEqual([]);
}
