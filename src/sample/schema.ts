import { z } from "zod";
import { Json } from "../run/schema.ts";
import { readingOf, readings, type ReadingKey } from "./reading.ts";
import { MACHINE } from "./subject.ts";

export { CGROUP, MACHINE, runOfSubject, subjectOfRun } from "./subject.ts";

/** What one subject of a device read at one time. What could not be read is absent. */
export interface Sample {
  subject: string;
  /** ms since the epoch. */
  time: number;
  values: Record<ReadingKey, number>;
}

/** Why a reading of a GPU has no value now. */
export const ReadingState = z.enum(["ok", "unsupported", "denied", "transient", "lost"]);
export type ReadingState = z.infer<typeof ReadingState>;

export const EventKind = z.enum([
  /** Sampling of a device, or of one subject, began or ended: what lies between two of them without a sample has another reason. */
  "sampling.began",
  "sampling.ended",
  /** The reader of the GPUs: no driver, mismatch, lost access, hung, well again. `detail.status` is the new one. */
  "gpu.status",
  /** One reading of one GPU changed its state: detail {reading, state, reason}. */
  "reading.state",
  "gpu.lost",
  "gpu.back",
  /** detail {xid, name}. */
  "gpu.xid",
  /** detail {reasons}. */
  "throttle.began",
  "throttle.ended",
  "memory.oom_kill",
  /** The wall clock moved against the monotonic one, the machine slept, or the collector was held up: detail {ms}. */
  "clock.jumped",
]);
export type EventKind = z.infer<typeof EventKind>;

/** Something that happened to a device at one time; shown on its charts. */
export const DeviceEvent = z
  .object({
    id: z.number(),
    device: z.string(),
    /** "" the machine, "cgroup", a GPU's UUID, "run/<id>". */
    subject: z.string(),
    /** RFC 3339 UTC with ms. */
    time: z.string(),
    kind: EventKind,
    /** One line for a person. */
    text: z.string(),
    detail: z.record(z.string(), Json),
  })
  .meta({ id: "DeviceEvent" });
export type DeviceEvent = z.infer<typeof DeviceEvent>;

/** An event on its way into the store. */
export interface NewDeviceEvent {
  subject: string;
  /** ms since the epoch. */
  time: number;
  kind: EventKind;
  text: string;
  detail?: Record<string, z.core.util.JSONType>;
}

const list = z
  .string()
  .max(20_000)
  .transform((text) => text.split(",").filter((part) => part !== ""));

/** "machine" stands for the machine itself, whose name is empty. */
const subjectList = list.transform((subjects) =>
  subjects.map((subject) => (subject === "machine" ? MACHINE : subject)),
);

/** A misspelt name would else be an empty chart. */
const readingList = list.superRefine((names, context) => {
  for (const name of names.filter((name) => !readingOf(name)).slice(0, 3))
    context.addIssue({
      code: "custom",
      message: `there is no ${name.slice(0, 60)}; use ${likely(name).join(", ")}`,
    });
});

/** Readings of the same family, or where there is none of that name, of all. */
function likely(name: string): string[] {
  const all = Object.keys(readings);
  const family = all.filter((known) => known.startsWith(`${name.split(".")[0]}.`));
  return family.length > 0 ? family : all;
}

/** ms since the epoch, up to the end of the year 9999. */
const time = z.coerce.number().min(0).max(253_402_300_799_999);

const isForward = ({ from, to }: { from?: number | undefined; to?: number | undefined }) =>
  from === undefined || to === undefined || from <= to;
const BACKWARD = { path: ["from"], message: "must not be later than `to`" };

/** GET /api/v1/devices/{id}/samples. */
export const QuerySamples = z
  .object({
    /** Default: an hour before `to`. */
    from: time.optional(),
    /** Default: now. */
    to: time.optional(),
    /** Buckets at the most. */
    points: z.coerce.number().int().min(1).max(5000).default(500),
    /** Subjects, separated by commas, "machine" for the machine itself; absent: all but runs. */
    subjects: subjectList.optional(),
    /** Reading names without parts, separated by commas; absent: all. An unknown one is refused. */
    readings: readingList.optional(),
  })
  .refine(isForward, BACKWARD);
export type QuerySamples = z.infer<typeof QuerySamples>;

/** One line of a chart. The arrays are as long as `times` of the answer; null where nothing was read. */
export const SampleSeries = z.object({
  subject: z.string(),
  reading: z.string(),
  part: z.string().nullable(),
  mean: z.array(z.number().nullable()),
  /** Absent where every bucket holds one value only. */
  min: z.array(z.number().nullable()).optional(),
  max: z.array(z.number().nullable()).optional(),
});
export type SampleSeries = z.infer<typeof SampleSeries>;

/** Answer to GET /api/v1/devices/{id}/samples. */
export const SamplePage = z
  .object({
    device: z.string(),
    from: z.number(),
    to: z.number(),
    /** Width of a bucket, ms; a hole wider than this was not recorded. */
    step: z.number(),
    /** Where each bucket begins, ms since the epoch, ascending; the same for every series. */
    times: z.array(z.number()),
    series: z.array(SampleSeries),
  })
  .meta({ id: "SamplePage" });
export type SamplePage = z.infer<typeof SamplePage>;

/** GET /api/v1/devices/{id}/events. */
export const QueryEvents = z
  .object({
    from: time.optional(),
    to: time.optional(),
    /** Subjects, separated by commas, "machine" for the machine itself; absent: all. */
    subjects: subjectList.optional(),
    /** The newest so many. */
    limit: z.coerce.number().int().min(1).max(10_000).default(1000),
  })
  .refine(isForward, BACKWARD);
export type QueryEvents = z.infer<typeof QueryEvents>;

export const DeviceEventPage = z
  .object({
    device: z.string(),
    /** Ascending in time. */
    events: z.array(DeviceEvent),
    /** Older ones of the window are left out. */
    more: z.boolean(),
    /**
     * With `from`: events before it that still held then: sampling had ended, GPUs could not be read or were lost, readings had
     * no value, clocks were held down. What was in order is not named.
     */
    states: z.array(DeviceEvent),
  })
  .meta({ id: "DeviceEventPage" });
export type DeviceEventPage = z.infer<typeof DeviceEventPage>;
