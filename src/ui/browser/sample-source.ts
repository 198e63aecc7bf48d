import type { SamplePage } from "../../sample/schema.ts";
import { request } from "./http.ts";

export interface WantedSamples {
  subjects: readonly string[];
  readings: readonly string[];
  from: number;
  to: number;
  points: number;
}

interface Batch {
  wanted: WantedSamples;
  readings: Set<string>;
  /** performance.now() */
  opened: number;
  /** Charts that still wait for it. */
  waiting: number;
  abort: AbortController;
  answer: Promise<SamplePage>;
}

/** Charts that come into sight together ask within so many ms of each other. */
const GATHER_MS = 25;
/** The windows of live ones are in whole seconds, and one may end between them; more on a busy machine. */
const APART_MS = 1000;

/** Readings of one device. Charts that want the same subjects over the same time share one request. */
export class SampleSource {
  readonly device: string;
  private readonly gathering = new Set<Batch>();

  constructor(device: string) {
    this.device = device;
  }

  async fetch(wanted: WantedSamples, signal: AbortSignal): Promise<SamplePage> {
    let batch = [...this.gathering].find((open) => areAlike(open, wanted));
    if (!batch) this.gathering.add((batch = this.open(wanted)));
    for (const reading of wanted.readings) batch.readings.add(reading);
    const { abort, answer } = batch;
    const own = batch;
    own.waiting++;
    signal.addEventListener("abort", () => {
      if (--own.waiting > 0) return;
      // Nobody may join it any more: a chart that asks twice at once would wait for nothing.
      this.gathering.delete(own);
      abort.abort();
    });
    const page = await answer;
    signal.throwIfAborted();
    return page;
  }

  private open(wanted: WantedSamples): Batch {
    const abort = new AbortController();
    const readings = new Set<string>();
    const send = async (): Promise<SamplePage> => {
      await new Promise((resolve) => setTimeout(resolve, GATHER_MS));
      this.gathering.delete(batch);
      return this.query({ ...wanted, readings: [...readings] }, abort.signal);
    };
    const batch: Batch = {
      wanted,
      readings,
      opened: performance.now(),
      waiting: 0,
      abort,
      answer: send(),
    };
    return batch;
  }

  /** All readings where none are named. */
  query({ subjects, readings, from, to, points }: WantedSamples, signal?: AbortSignal): Promise<SamplePage> {
    const query = new URLSearchParams({
      from: String(from),
      to: String(to),
      points: String(points),
      subjects: subjects.map((subject) => subject || "machine").join(","),
    });
    if (readings.length > 0) query.set("readings", readings.join(","));
    return request<SamplePage>(`/api/v1/devices/${this.device}/samples?${query}`, signal ? { signal } : {});
  }
}

function areAlike({ wanted, opened }: Batch, { subjects, from, to, points }: WantedSamples): boolean {
  const apart = APART_MS + performance.now() - opened;
  return (
    wanted.points === points &&
    Math.abs(wanted.from - from) <= apart &&
    Math.abs(wanted.to - to) <= apart &&
    wanted.subjects.join() === subjects.join()
  );
}
