import { deliverAbroad } from "../foreign.ts";
import { printable, createHttp } from "../http.ts";
import { createClock, type Lane, type LaneOptions } from "../lane.ts";
import { createLetterBox } from "../letters.ts";
import { createOutbox } from "../outbox.ts";
import type { Frame } from "../contract.ts";
import type { DeadLetter } from "../ports.ts";
import { createReport } from "../report.ts";
import { requeueAbroad } from "../requeue-abroad.ts";
import { readOtlpAddress } from "./address.ts";
import { putCut, putRejected } from "./drops.ts";
import { encode, type Body } from "./encode.ts";
import { createExporter, HINTS, MAX_EXPORT_ANSWER_BYTES, PROTOBUF, readRefusal } from "./exporter.ts";
import { prepare, type Prepared, type Signal } from "./prepare.ts";
import { createResources } from "./resource.ts";
import { createSeriesClock } from "./series-clock.ts";

/** What goes on for one OpenTelemetry backend: metrics, output and readings of the journal, at least once. */
export function startOtlpLane(options: Omit<LaneOptions, "path" | "facts">): Lane {
  const { collector, destination, destinations, onChange, onFailed } = options;
  const { connection, journal, now } = collector;
  const { name } = destination;
  const { base, step, signals } = readOtlpAddress(destination.url);
  const { token, ca } = destinations.secretsOf(name);
  const ending = new AbortController();
  const clock = createClock(now);
  const report = createReport({ collector, destination, clock, onChange, onFailed });
  const letters = createLetterBox(collector, name);
  const seriesClock = createSeriesClock();
  const exporter = createExporter(
    createHttp({
      url: base,
      token: () => token,
      ca,
      dialect: { root: "", accept: PROTOBUF, maxAnswerBytes: MAX_EXPORT_ANSWER_BYTES, readRefusal },
    }),
  );
  const outbox = createOutbox<undefined>({
    collector,
    destination: name,
    // Nothing but the journal goes there.
    history: { parts: async () => ({ parts: [], bounds: undefined }), async *of() {} },
    onAcked: report.onAcked,
  });

  const delivery = report.persist(
    () =>
      deliverAbroad<Signal, Prepared, Body>(
        {
          outbox,
          first: () => journal.bounds().first,
          onCut(acked, first) {
            // What was gone before it was added was never promised to it.
            const after = Math.max(acked, destination.skip);
            if (after + 1 < first) putCut(connection, { name, after, first, at: now() });
          },
          onRejected: (frames, records, message) =>
            putRejected(connection, { name, frames, records, message, at: now() }),
          prepare(frames) {
            const { prepared, unreadable } = prepareAll(frames);
            return { shares: signals.map((of) => ({ signal: of, prepared })), unreadable };
          },
          speaks: (of, prepared) => prepared[of].length > 0,
          encode,
          hints: HINTS,
          send: exporter.send.bind(exporter),
          clock,
          random: Math.random,
          onChange: report.change,
        },
        ending.signal,
      ),
    ending.signal,
  );

  function prepareAll(frames: readonly Frame[]): { prepared: Prepared[]; unreadable: DeadLetter[] } {
    const resources = createResources(collector);
    const prepared: Prepared[] = [];
    const unreadable: DeadLetter[] = [];
    for (const frame of frames)
      try {
        prepared.push(prepare(frame, { resources, clock: seriesClock, step }));
      } catch (error) {
        const detail = printable(error instanceof Error ? error.message : String(error), 500);
        unreadable.push({ frame, type: "unreadable", detail });
      }
    return { prepared, unreadable };
  }

  /** Why not; undefined: it has arrived. */
  async function sendAgain(frame: Frame): Promise<string | undefined> {
    const { prepared, unreadable } = prepareAll([frame]);
    if (unreadable[0]) return unreadable[0].detail;
    for (const signal of signals)
      for (const body of encode(signal, prepared)) {
        const { rejected, message } = await exporter.send(signal, body, ending.signal);
        if (rejected > 0) return message;
      }
    return undefined;
  }

  return {
    ...report,
    backlog: outbox.backlog,
    content: () => undefined,
    retry: clock.wake,
    requeue: (ids) => requeueAbroad({ letters, ids, name, sendAgain }),
    async close() {
      ending.abort();
      await delivery;
      outbox.close();
    },
  };
}
