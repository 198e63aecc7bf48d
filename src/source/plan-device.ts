import { z } from "zod";
import { DeviceFacts, DeviceId } from "../device/schema.ts";
import { deviceOfStream, deviceStream, Encoding } from "../entry.ts";
import type { Frame } from "../relay/contract.ts";
import type { HeldDevice } from "../relay/held.ts";
import { Json } from "../run/schema.ts";
import { takeId, toEvent } from "../sample/event.ts";
import { EventKind, type Sample } from "../sample/schema.ts";
import type { Write } from "../store/journal-rows.ts";
import { packSamples, SAMPLE_BATCH_VERSION } from "../store/sample-batch.ts";
import { blockStart } from "../store/sample-block.ts";
import { chunkStart, ROLLED_TIERS, type RolledRows, type Tier } from "../store/sample-rollup.ts";
import { device as deviceTable } from "../store/tables.ts";
import { compress } from "../store/zstd.ts";
import type { Plan } from "./plan.ts";
import { bad } from "./refuse.ts";

/** The last time that a Date can hold. */
const MAX_TIME = 8.64e15;
const time = z.number().min(0).max(MAX_TIME);
const MAX_EVENTS = 10_000;

export const RecordedEvents = z
  .array(
    z.object({
      subject: z.string().max(300),
      time,
      kind: EventKind,
      text: z.string().max(10_000),
      detail: z.record(z.string().max(1000), Json).default({}),
    }),
  )
  .max(MAX_EVENTS);

const reading = z.object({ count: z.number().min(1), mean: z.number(), min: z.number(), max: z.number() });

export const RolledSamples = z.object({
  subject: z.string().max(300),
  tier: z.literal(ROLLED_TIERS as unknown as readonly [number, ...number[]]),
  rows: z.array(z.tuple([time, z.record(z.string().max(500), reading)])).max(20_000),
});

function streamOf({ run }: Frame): string {
  const device = deviceOfStream(run);
  if (device === undefined || !DeviceId.safeParse(device).success) throw bad("That is no device.");
  return device;
}

/** As held facts, or as its own entry says it. */
export function planDevice(
  plan: Plan,
  frame: Frame,
  facts: DeviceFacts,
  { firstSeen, lastSeen }: Pick<HeldDevice, "firstSeen" | "lastSeen">,
): void {
  const { local, writes } = plan.ensureDevice(streamOf(frame));
  const { db } = plan.collector;
  const known = plan.collector.connection
    .prepare("SELECT facts, first_seen, last_seen FROM device WHERE id = ?")
    .get(local) as { facts: string; first_seen: number; last_seen: number } | undefined;
  if (
    known &&
    known.facts === JSON.stringify(facts) &&
    known.first_seen <= firstSeen &&
    known.last_seen >= lastSeen
  )
    return;
  const row = {
    name: facts.name,
    facts,
    firstSeen: Math.min(firstSeen, known?.first_seen ?? firstSeen),
    lastSeen: Math.max(lastSeen, known?.last_seen ?? lastSeen),
  };
  const write = db
    .insert(deviceTable)
    .values({ id: local, ...row, source: plan.source.id })
    .onConflictDoUpdate({ target: deviceTable.id, set: row })
    .toSQL();
  plan.appendFact(frame, "device.changed", deviceStream(local), {
    payload: facts,
    writes: [...writes, write],
  });
}

export function planSamples(plan: Plan, frame: Frame, samples: Sample[]): void {
  const device = streamOf(frame);
  const { local, writes } = plan.ensureDevice(device);
  let isSame = true;
  const mapped = samples.map((sample) => {
    const subject = plan.subject(sample.subject);
    if (subject === sample.subject) return sample;
    isSame = false;
    return { ...sample, subject };
  });
  if (!plan.isHistory) for (const { time } of samples) plan.sawSamples(device, time);
  const fresh = plan.isHistory || frame.seq <= plan.doubt ? mapped.filter(isNewTo(plan, local)) : mapped;
  if (fresh.length === 0) return;
  const { encoding, payload } = isSame && fresh.length === samples.length ? frame : packSamples(fresh);
  plan.append(
    {
      kind: "sample.appended",
      version: SAMPLE_BATCH_VERSION,
      run: deviceStream(local),
      client: null,
      clientSeq: null,
      ordinal: null,
      nextStep: null,
      count: fresh.length,
      time: frame.time,
      encoding: encoding as never,
      payload,
    },
    fresh,
    [...writes, ...seen(plan, local, fresh)],
  );
  if (!plan.isHistory) plan.after.push(() => showLatest(plan, local, fresh));
}

/** Rows that are here stay as they are. */
function isNewTo({ collector }: Plan, device: string): (sample: Sample) => boolean {
  const timesByBlock = new Map<string, Set<number>>();
  return ({ subject, time }) => {
    const start = blockStart(time);
    const id = `${start} ${subject}`;
    let times = timesByBlock.get(id);
    if (!times) {
      times = new Set(collector.samples.rowTimes(device, subject, start));
      timesByBlock.set(id, times);
    }
    return !times.has(time);
  };
}

function seen({ collector }: Plan, device: string, samples: Sample[]): Write[] {
  const last = samples.reduce((last, { time }) => Math.max(last, time), 0);
  return [
    {
      sql: "UPDATE device SET last_seen = ?1 WHERE id = ?2 AND last_seen < ?1",
      params: [Math.min(last, collector.now()), device],
    },
  ];
}

/** For who watches: the newest of each subject. */
function showLatest({ collector }: Plan, device: string, samples: Sample[]): void {
  const newest = new Map<string, Sample>();
  for (const sample of samples)
    if (sample.time >= (newest.get(sample.subject)?.time ?? 0)) newest.set(sample.subject, sample);
  collector.latest.put(device, [...newest.values()]);
}

/** Coarser rows have no place in memory: they go into their chunk with their entry. */
export function planRolled(plan: Plan, frame: Frame, data: z.infer<typeof RolledSamples>): void {
  const device = streamOf(frame);
  const { local, writes } = plan.ensureDevice(device);
  const subject = plan.subject(data.subject);
  const tier = data.tier as Tier;
  const rows = data.rows.filter(([, readings]) => Object.keys(readings).length > 0);
  if (rows.length === 0) return;
  const start = chunkStart(tier, rows[0]![0]);
  if (rows.some(([time]) => chunkStart(tier, time) !== start)) throw bad("Its rows are of several chunks.");
  if (new Set(rows.map(([time]) => time)).size !== rows.length) throw bad("It has a row twice.");
  plan.mergeRolled({ device: local, subject, tier, start }, rolledOf(rows));
  plan.append(
    {
      kind: "sample.rolled",
      version: 1,
      run: deviceStream(local),
      client: null,
      clientSeq: null,
      ordinal: null,
      nextStep: null,
      count: rows.length,
      time: frame.time,
      encoding: Encoding.jsonZstd,
      payload: compress(new TextEncoder().encode(JSON.stringify({ device: local, subject, tier, rows }))),
    },
    { device: local, subject, tier, rows },
    writes,
  );
}

function rolledOf(rows: z.infer<typeof RolledSamples>["rows"]): RolledRows {
  const sorted = [...rows].sort(([a], [b]) => a - b);
  const rolled: RolledRows = { times: Float64Array.from(sorted, ([time]) => time), columns: new Map() };
  sorted.forEach(([, readings], row) => {
    for (const [key, value] of Object.entries(readings)) {
      let column = rolled.columns.get(key);
      if (!column) {
        const none = () => new Float64Array(sorted.length).fill(NaN);
        column = { count: new Float64Array(sorted.length), min: none(), mean: none(), max: none() };
        rolled.columns.set(key, column);
      }
      for (const name of ["count", "min", "mean", "max"] as const) column[name][row] = value[name];
    }
  });
  return rolled;
}

const INSERT_EVENT = `INSERT INTO device_event (id, device, subject, time, kind, text, detail)
  SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE NOT EXISTS
  (SELECT 1 FROM device_event WHERE device = ?2 AND subject = ?3 AND time = ?4 AND kind = ?5 AND text = ?6)`;

/** What is here already is not told twice. */
export function planEvents(plan: Plan, frame: Frame, events: z.infer<typeof RecordedEvents>): void {
  const { collector } = plan;
  const { local, writes } = plan.ensureDevice(streamOf(frame));
  const isKnown = collector.connection.prepare(
    "SELECT 1 FROM device_event WHERE device = ? AND subject = ? AND time = ? AND kind = ? AND text = ?",
  );
  const mapped = events
    .map((event) => ({ ...event, subject: plan.subject(event.subject) }))
    .filter(({ subject, time, kind, text }) => !isKnown.get(local, subject, time, kind, text));
  if (mapped.length === 0) return;
  const rows = mapped.map((event) => ({ ...event, id: takeId(collector), device: local }));
  plan.appendFact(frame, "event.recorded", deviceStream(local), {
    payload: mapped,
    data: rows.map(toEvent),
    count: rows.length,
    writes: [
      ...writes,
      ...rows.map(({ id, subject, time, kind, text, detail }) => ({
        sql: INSERT_EVENT,
        params: [id, local, subject, time, kind, text, JSON.stringify(detail)],
      })),
    ],
  });
}
