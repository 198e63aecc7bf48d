import { deviceOfStream, type Entry } from "../../entry.ts";
import type { LogLevel } from "../../log/schema.ts";
import { decodeBatch } from "../../metric/decode.ts";
import type { MetricBatch } from "../../metric/batch.ts";
import type { NewDeviceEvent } from "../../sample/schema.ts";
import { runOfSubject } from "../../sample/subject.ts";
import { unpackLines } from "../../store/log-chunk.ts";
import { unpackSamples } from "../../store/sample-batch.ts";
import type { Frame } from "../contract.ts";
import { instrumentOf, type Instrument } from "./names.ts";
import type { Time } from "./protobuf.ts";
import { encodeAttributes, type Attributes, type Resource, type Resources } from "./resource.ts";
import { toTime, type SeriesClock } from "./series-clock.ts";

export type Signal = "metrics" | "logs";

/** Points of one series. */
export interface Points {
  resource: Resource;
  instrument: Pick<Instrument, "name" | "unit" | "isCounter">;
  /** Fields of a NumberDataPoint. */
  attributes: Uint8Array;
  times: Time[];
  values: ArrayLike<number>;
  /** Of each point, where they are asked for. */
  steps?: number[] | undefined;
}

export interface LogEvent {
  resource: Resource;
  time: Time;
  observed: Time;
  severity: LogLevel | null;
  body: string;
  /** What happened; undefined: it is a line of output. */
  event?: string;
  attributes: Attributes;
}

/** What an entry says to a backend: with times that stay, however often it is sent. */
export interface Prepared {
  frame: Frame;
  metrics: Points[];
  logs: LogEvent[];
}

export interface PrepareOptions {
  resources: Resources;
  clock: SeriesClock;
  /** Each point has its step as an attribute. */
  step: boolean;
}

/** Throws where the entry can't be read. Models, files and facts of machines have no place in OpenTelemetry. */
export function prepare(frame: Frame, options: PrepareOptions): Prepared {
  switch (frame.kind) {
    case "metric.appended":
      return prepareRecords(frame, options);
    case "log.appended":
      return { frame, metrics: [], logs: linesOf(frame, options) };
    case "sample.appended":
      return { frame, metrics: samplesOf(frame, options), logs: [] };
    case "event.recorded":
      return { frame, metrics: [], logs: eventsOf(frame, options) };
    case "run.created":
    case "run.changed":
    case "run.deleted":
      return { frame, metrics: [], logs: runEventOf(frame, options) };
    default:
      return { frame, metrics: [], logs: [] };
  }
}

/** A gauge under each metric's own name; what is no number goes as an event. */
function prepareRecords(frame: Frame, { resources, clock, step }: PrepareOptions): Prepared {
  const batch = decodeBatch(frame as Entry);
  const resource = resources.run(frame.run, batch.rank);
  const metrics = batch.numbers.map(({ key, index, values }): Points => {
    const series = `${resource.key} ${key}`;
    const records = Array.from(values, (_, at) => index?.[at] ?? at);
    return {
      resource,
      instrument: { name: key, unit: "", isCounter: false },
      attributes: NONE,
      times: records.map((record) => clock.at(series, batch.time[record]!, batch.ordinal + record)),
      values,
      ...(step && { steps: records.map((record) => batch.step[record]!) }),
    };
  });
  return { frame, metrics, logs: textsOf(frame, batch, resource) };
}

const NONE = new Uint8Array();

const textsOf = (frame: Frame, batch: MetricBatch, resource: Resource): LogEvent[] =>
  batch.texts.flatMap(({ key, index, json }) =>
    json.map((body, at) => ({
      resource,
      time: toTime(batch.time[index[at]!]!, batch.ordinal + index[at]!),
      observed: toTime(frame.time),
      severity: null,
      body,
      event: "binnacle.metric",
      attributes: { "binnacle.metric": key, "binnacle.step": batch.step[index[at]!]! },
    })),
  );

const linesOf = (frame: Frame, { resources }: PrepareOptions): LogEvent[] =>
  unpackLines(frame as Entry).map(({ line, time, stream, level, rank, text }) => ({
    resource: resources.run(frame.run, rank),
    time: toTime(time, line),
    observed: toTime(frame.time),
    severity: level,
    body: text,
    attributes: { "log.iostream": stream, "binnacle.line": line },
  }));

function samplesOf(frame: Frame, { resources, clock }: PrepareOptions): Points[] {
  const device = requireDevice(frame);
  const resource = resources.device(device);
  const bySeries = new Map<string, Points & { values: number[] }>();
  for (const { subject, time, values } of unpackSamples(frame))
    for (const key in values) {
      const series = `${resource.key} ${subject} ${key}`;
      let points = bySeries.get(series);
      if (!points) {
        const instrument = instrumentOf(subject, key);
        const attributes = encodeAttributes(7, {
          ...instrument.attributes,
          "hw.model": resources.gpu(device, subject)?.name,
          "binnacle.run.id": runOfSubject(subject),
        });
        bySeries.set(series, (points = { resource, instrument, attributes, times: [], values: [] }));
      }
      points.times.push(clock.at(series, time, 0));
      points.values.push(values[key]!);
    }
  return [...bySeries.values()];
}

function eventsOf(frame: Frame, { resources }: PrepareOptions): LogEvent[] {
  const resource = resources.device(requireDevice(frame));
  return (readJson(frame) as NewDeviceEvent[]).map(({ subject, time, kind, text }) => ({
    resource,
    time: toTime(time),
    observed: toTime(frame.time),
    severity: null,
    body: text,
    event: `binnacle.${kind}`,
    attributes: { "binnacle.subject": subject },
  }));
}

/** Changes of a run's status; other changes are the run's own affair. */
function runEventOf(frame: Frame, { resources }: PrepareOptions): LogEvent[] {
  const { status, reason } = readJson(frame) as { status?: string; reason?: string | null };
  if (status === undefined && frame.kind === "run.changed") return [];
  return [
    {
      resource: resources.run(frame.run, 0),
      time: toTime(frame.time),
      observed: toTime(frame.time),
      severity: status === "FAILED" ? "ERROR" : "INFO",
      body: status ?? "DELETED",
      event: `binnacle.${frame.kind}`,
      attributes: { "binnacle.run.status": status, "binnacle.run.reason": reason ?? undefined },
    },
  ];
}

const readJson = ({ payload }: Frame): unknown => JSON.parse(new TextDecoder().decode(payload));

function requireDevice({ run }: Frame): string {
  const device = deviceOfStream(run);
  if (device === undefined) throw new Error(`${run} is no device.`);
  return device;
}
