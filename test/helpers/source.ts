import { createHash, randomBytes } from "node:crypto";
import type { Collector } from "../../src/collector.ts";
import { deviceStream, Encoding, type Entry } from "../../src/entry.ts";
import {
  ENTRIES_TYPE,
  type Cursor,
  type Frame,
  type HistoryPart,
  type Opening,
  type Part,
} from "../../src/relay/contract.ts";
import { encodeFrames } from "../../src/relay/frame.ts";
import { compress } from "../../src/store/zstd.ts";
import type { TestCollector } from "./collector.ts";

/** The entries of a collector's journal as they travel. */
export const framesOf = (collector: Collector, after = 0): Frame[] =>
  collector.journal.read(after, 100_000).map(({ ...entry }: Entry) => entry);

export interface Problem {
  status: number;
  type: string;
  detail: string;
  expected?: number;
  seq?: number;
  run?: string;
  epoch?: number;
  body?: string;
}

/** An installation that relays to a platform, by hand: what a request holds is a test's own affair. */
export class TestSource {
  readonly id: string;
  epoch = 1;
  nonce = randomBytes(16).toString("hex");
  turn = 0;
  openings: Opening[] = [];
  path: string[];
  token: string;
  readonly platform: TestCollector;

  constructor(platform: TestCollector, token: string, id = randomBytes(16).toString("hex")) {
    this.platform = platform;
    this.token = token;
    this.id = id;
    this.path = [id];
  }

  /** With a token of that name. */
  static async create(platform: TestCollector, name = "lab"): Promise<TestSource> {
    const { token } = await platform.json("/api/v1/sources", { body: { name } });
    return new TestSource(platform, token);
  }

  hello(last: number, more: object = {}): object {
    return {
      epoch: this.epoch,
      nonce: this.nonce,
      turn: ++this.turn,
      openings: this.openings,
      last,
      path: this.path,
      host: "node-1",
      version: "1.0.0",
      sent_at: Date.now(),
      ...more,
    };
  }

  /** The database is opened anew, as it was when `last` was its newest entry. */
  reopen(last: number): void {
    this.openings = [{ nonce: this.nonce, last }, ...this.openings];
    this.nonce = randomBytes(16).toString("hex");
    this.turn = 0;
  }

  async greet(last: number, more: object = {}): Promise<Cursor> {
    return okay(await this.request("cursor", { json: this.hello(last, more) }));
  }

  headers(more: Record<string, string> = {}): Record<string, string> {
    return {
      "x-relay-epoch": String(this.epoch),
      "x-relay-nonce": this.nonce,
      "x-relay-turn": String(this.turn),
      "x-relay-path": this.path.join(","),
      "x-relay-sent-at": String(Date.now()),
      ...more,
    };
  }

  request(
    path: string,
    {
      json,
      body,
      headers = {},
      method = "POST",
    }: {
      json?: object;
      body?: Uint8Array<ArrayBuffer>;
      headers?: Record<string, string>;
      method?: string;
    } = {},
  ): Promise<Response> {
    return Promise.resolve(
      this.platform.app.request(`/relay/v1/sources/${this.id}/${path}`, {
        method,
        headers: {
          authorization: `Bearer ${this.token}`,
          ...(json && { "content-type": "application/json" }),
          ...(body && { "content-length": String(body.length) }),
          ...headers,
        },
        ...(json && { body: JSON.stringify(json) }),
        ...(body && { body }),
      }),
    );
  }

  /** Frames as a body, with what belongs to it. */
  post(path: string, frames: readonly Frame[], headers: Record<string, string> = {}): Promise<Response> {
    const body = compress(encodeFrames(frames)) as Uint8Array<ArrayBuffer>;
    return this.request(path, {
      body,
      headers: {
        ...this.headers(),
        "content-type": ENTRIES_TYPE,
        "content-encoding": "zstd",
        "content-digest": contentDigest(body),
        ...headers,
      },
    });
  }

  batch(
    prev: number,
    last: number,
    frames: readonly Frame[],
    headers: Record<string, string> = {},
  ): Promise<Response> {
    const key = `"${this.epoch}/${prev + 1}-${last}"`;
    return this.post("batches", frames, { "idempotency-key": key, ...headers });
  }

  async send(prev: number, last: number, frames: readonly Frame[]): Promise<number> {
    return (await okay<{ acked: number }>(await this.batch(prev, last, frames))).acked;
  }

  history(
    part: HistoryPart,
    from: number,
    to: number,
    frames: readonly Frame[],
    { acked = 0, upto = 0 }: { acked?: number; upto?: number } = {},
  ): Promise<Response> {
    return this.post("history", frames, {
      "x-relay-acked": String(acked),
      "x-relay-upto": String(upto),
      "x-relay-part": JSON.stringify(part),
      "x-relay-from": String(from),
      "x-relay-to": String(to),
    });
  }

  /** All that is kept of a run has come. */
  async whole(run: string, where?: { acked?: number; upto?: number }): Promise<void> {
    await okay(await this.history({ of: "whole", run }, 0, 0, [], where));
  }

  async positions(parts: Part[]): Promise<number[]> {
    const response = await this.request("positions", { json: { parts }, headers: this.headers() });
    return (await okay<{ positions: number[] }>(response)).positions;
  }

  /** Greets and sends a whole journal. */
  async relay(collector: Collector): Promise<number> {
    const { last } = collector.journal.bounds();
    const { acked } = await this.greet(last);
    if (acked === last) return acked;
    return this.send(
      acked,
      last,
      framesOf(collector, acked).filter(({ seq }) => seq <= last),
    );
  }
}

export const contentDigest = (body: Uint8Array): string =>
  `sha-256=:${createHash("sha256").update(body).digest("base64")}:`;

export async function okay<T>(response: Response): Promise<T> {
  const text = await response.text();
  if (!response.ok) throw new Error(`${response.status} ${text}`);
  return JSON.parse(text) as T;
}

export async function problemOf(response: Response): Promise<Problem> {
  const problem = (await response.json()) as Problem;
  return { ...problem, status: response.status, type: problem.type.replace("urn:binnacle:", "") };
}

const blank = { version: 1, client: null, clientSeq: null, ordinal: null, nextStep: null, count: 1 };

/** A frame that says JSON. */
export const fact = (seq: number, kind: string, run: string, payload: unknown, more: object = {}): Frame => ({
  ...blank,
  seq,
  kind,
  run,
  time: 1_700_000_000_000 + seq,
  encoding: Encoding.json,
  payload: new TextEncoder().encode(JSON.stringify(payload)),
  ...more,
});

export const runRow = (name = "brisk-otter-1") => ({
  name,
  project: "default",
  status: "RUNNING",
  reason: null,
  config: {},
  tags: [],
  notes: null,
  command: null,
  device: null,
  exitCode: null,
  created: 1_700_000_000_000,
  started: 1_700_000_000_000,
  finished: null,
  presumed: false,
});

export const records = (
  seq: number,
  run: string,
  {
    ordinal,
    client = "c1",
    clientSeq,
    values,
  }: { ordinal: number; client?: string | null; clientSeq?: number; values: number[] },
): Frame =>
  fact(
    seq,
    "metric.appended",
    run,
    {
      rank: 0,
      items: values.map((loss, i) => ({ step: ordinal + i, time: 1_700_000_000_000 + i, metrics: { loss } })),
    },
    { ordinal, client, clientSeq: client === null ? null : (clientSeq ?? seq), count: values.length },
  );

export const lines = (
  seq: number,
  run: string,
  {
    first,
    client = "c1",
    clientSeq,
    texts,
  }: { first: number; client?: string | null; clientSeq?: number; texts: string[] },
): Frame =>
  fact(
    seq,
    "log.appended",
    run,
    {
      first,
      time: texts.map(() => 1_700_000_000_000),
      stream: "o".repeat(texts.length),
      level: "-".repeat(texts.length),
      rank: 0,
      text: texts,
    },
    { ordinal: first, client, clientSeq: client === null ? null : (clientSeq ?? seq), count: texts.length },
  );

export const streamOfDevice = deviceStream;
