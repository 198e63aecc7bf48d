import type { LogLevel } from "../../log/schema.ts";
import type { LogEvent, Points, Prepared, Signal } from "./prepare.ts";
import { ProtobufWriter } from "./protobuf.ts";
import { encodeAttributes, SCOPE, type Resource } from "./resource.ts";

/** A request's body, and how many points or lines it has. */
export interface Body {
  bytes: Uint8Array<ArrayBuffer>;
  items: number;
}

/** Before compression: many backends take 20 MiB at a time, some no more than 4. */
const MAX_BODY_BYTES = 3 * 1024 * 1024;

/** Bodies of ExportMetricsServiceRequest or ExportLogsServiceRequest; none where nothing of this signal is there. */
export const encode = (signal: Signal, prepared: readonly Prepared[]): Body[] =>
  signal === "metrics"
    ? encodeMetrics(prepared.flatMap(({ metrics }) => metrics))
    : encodeLogs(prepared.flatMap(({ logs }) => logs));

interface Metric {
  instrument: Points["instrument"];
  /** Fields of its Gauge or Sum. */
  points: ProtobufWriter;
}

function encodeMetrics(all: readonly Points[]): Body[] {
  const bodies: Body[] = [];
  let groups = new Map<string, { resource: Resource; metrics: Map<string, Metric> }>();
  let size = 0;
  let items = 0;
  const point = new ProtobufWriter();

  for (const { resource, instrument, attributes, times, values, steps } of all) {
    let to = metricOf(resource, instrument);
    for (let at = 0; at < times.length; at++) {
      if (size > MAX_BODY_BYTES) {
        finish();
        to = metricOf(resource, instrument);
      }
      point.clear();
      // NumberDataPoint
      point.time(3, times[at]!).double(4, values[at]!).raw(attributes);
      if (steps) point.raw(encodeAttributes(7, { step: steps[at]! }));
      to.points.message(1, point.bytes());
      size += point.length + 3;
      items++;
    }
  }
  finish();
  return bodies;

  function metricOf(resource: Resource, instrument: Metric["instrument"]): Metric {
    let group = groups.get(resource.key);
    if (!group) groups.set(resource.key, (group = { resource, metrics: new Map() }));
    let metric = group.metrics.get(instrument.name);
    if (!metric) group.metrics.set(instrument.name, (metric = { instrument, points: new ProtobufWriter() }));
    return metric;
  }

  function finish(): void {
    if (items === 0) return;
    const request = new ProtobufWriter();
    for (const { resource, metrics } of groups.values()) {
      const scope = new ProtobufWriter().message(1, SCOPE);
      for (const metric of metrics.values()) scope.message(2, metricFields(metric));
      putGroup(request, resource, scope);
    }
    bodies.push({ bytes: request.bytes(), items });
    groups = new Map();
    size = items = 0;
  }
}

/** Metric {name = 1, unit = 3, gauge = 5, sum = 7 {points = 1, temporality = 2, monotonic = 3}} */
function metricFields({ instrument: { name, unit, isCounter }, points }: Metric): Uint8Array {
  const fields = new ProtobufWriter().string(1, name);
  if (unit !== "") fields.string(3, unit);
  // Cumulative. Since when is not told: not known.
  if (isCounter) fields.message(7, points.uint(2, 2).uint(3, 1).bytes());
  else fields.message(5, points.bytes());
  return fields.bytes();
}

function encodeLogs(all: readonly LogEvent[]): Body[] {
  const bodies: Body[] = [];
  let groups = new Map<string, { resource: Resource; scope: ProtobufWriter }>();
  let size = 0;
  let items = 0;

  for (const event of all) {
    if (size > MAX_BODY_BYTES) finish();
    const { resource } = event;
    let group = groups.get(resource.key);
    if (!group)
      groups.set(resource.key, (group = { resource, scope: new ProtobufWriter().message(1, SCOPE) }));
    const record = recordFields(event);
    group.scope.message(2, record);
    size += record.length + 3;
    items++;
  }
  finish();
  return bodies;

  function finish(): void {
    if (items === 0) return;
    const request = new ProtobufWriter();
    for (const { resource, scope } of groups.values()) putGroup(request, resource, scope);
    bodies.push({ bytes: request.bytes(), items });
    groups = new Map();
    size = items = 0;
  }
}

const severities: Record<LogLevel, number> = { DEBUG: 5, INFO: 9, WARNING: 13, ERROR: 17, CRITICAL: 21 };

/** LogRecord {time = 1, severity = 2, its text = 3, body = 5, attributes = 6, observed = 11, event = 12} */
function recordFields({ time, observed, severity, body, event, attributes }: LogEvent): Uint8Array {
  const fields = new ProtobufWriter().time(1, time).time(11, observed);
  if (severity !== null) fields.uint(2, severities[severity]).string(3, severity);
  fields.message(5, new ProtobufWriter().string(1, body).bytes());
  fields.raw(encodeAttributes(6, attributes));
  if (event !== undefined) fields.string(12, event);
  return fields.bytes();
}

/** ResourceMetrics or ResourceLogs {resource = 1, scope = 2 {scope = 1, …}} */
function putGroup(request: ProtobufWriter, resource: Resource, scope: ProtobufWriter): void {
  const fields = new ProtobufWriter().message(1, resource.bytes).message(2, scope.bytes());
  request.message(1, fields.bytes());
}
