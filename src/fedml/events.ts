import { CollectorError } from "../error.ts";
import { MAX_TIME } from "../metric/schema.ts";
import type { SpanItem } from "../span/schema.ts";
import { readPayload, type Payload } from "./payload.ts";
import { placeRun } from "./place.ts";
import type { FedmlContext, FedmlTopic } from "./topic.ts";

const MAX_NAME = 250;
const MAX_VALUE = 1000;
/** Some clients say seconds, others milliseconds: in seconds this is the year 5138, in milliseconds a day of 1973. */
const FIRST_MS = 1e11;

/**
 * `fedml.mlops.event`: the beginning, or the end, of something that an edge does. The end is published twice, either may be lost or
 * come first; src/span/pair.ts puts together what belongs together.
 */
export const eventTopics = ({ collector, writer }: FedmlContext): FedmlTopic[] => [
  {
    filter: "mlops/events",
    async receive({ scope, payload, received }) {
      const fields = readPayload(payload);
      const item = readEvent(fields, received);
      await writer.spans(await placeRun(collector, scope, fields.run_id), [item]);
    },
  },
];

/** As a span's end. One without a time is of now: an end where it says that, else a beginning. */
export function readEvent(fields: Payload, received: number): SpanItem {
  const name = readLabel(fields.event_name, MAX_NAME);
  if (name === undefined)
    throw new CollectorError("invalid", "The event has no event_name.", {
      hint: "Send one, as FedML's client does.",
    });
  const started = readMoment(fields.started_time);
  const ended = readMoment(fields.ended_time);
  const value = readLabel(fields.event_value, MAX_VALUE);
  const edge = readLabel(fields.edge_id, MAX_NAME);
  const isEnd = started === undefined && "ended_time" in fields;
  return {
    kind: "event",
    name,
    ...(value !== undefined && { value }),
    ...(edge !== undefined && { edge }),
    ...(isEnd ? { ended: ended ?? received } : { started: started ?? received }),
    ...(started !== undefined && ended !== undefined && ended >= started && { ended }),
  };
}

/** ms since the epoch; undefined where it is no time. */
export function readMoment(value: unknown): number | undefined {
  if (typeof value !== "number" || !(value > 0)) return undefined;
  const ms = value < FIRST_MS ? value * 1000 : value;
  return ms <= MAX_TIME ? ms : undefined;
}

/** What stands for a name, an edge or a value: text or a number as it is, else as JSON; undefined where there is nothing. */
export function readLabel(value: unknown, most: number): string | undefined {
  if (value === undefined || value === null) return undefined;
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  return text.trim() === "" ? undefined : text.trim().slice(0, most);
}
