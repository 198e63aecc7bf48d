import type { Collector } from "../collector.ts";
import { ARTIFACT_STREAM, deviceOfStream, type Entry } from "../entry.ts";
import type { OpenLines } from "../log/open.ts";
import type { LogLine } from "../log/schema.ts";
import type { MetricBatch } from "../metric/batch.ts";
import { decodeBatch } from "../metric/decode.ts";
import type { Run } from "../run/schema.ts";
import type { Announcement } from "../store/bus.ts";
import { readSpans } from "../span/read.ts";
import type { SpanRow } from "../span/schema.ts";
import { unpackLines } from "../store/log-chunk.ts";
import { Tick } from "./live-tick.ts";
import { eventText, type EventStream } from "./stream.ts";

const TICK_MS = 250;
/** So many entries are gone through for a reader that was away; whoever missed more reloads, which is cheaper. */
const MAX_MISSED = 2000;
/** And so many bytes of them, which are all read and partly unpacked at once. */
const MAX_MISSED_BYTES = 8 * 1024 * 1024;
const READ_ENTRIES = 100;
/** Every watcher of the list shares one channel, which hears of runs alone. */
const LIST = "";

interface Reader {
  stream: EventStream;
  /** It was too slow for a tick, which is lost to it: its next event is `reset`. */
  lagging: boolean;
}

interface Channel {
  readers: Set<Reader>;
  ticks: Map<string, Tick>;
  timer: ReturnType<typeof setTimeout> | undefined;
  tickedAt: number;
}

/** Everything that is watched live. One channel a run: a tick is put together once, and the same bytes go to all who watch. */
export interface LiveHub {
  /** Watches a run, or with none the list of runs, from after entry `after` on; returns what ends it. */
  watch(run: string | undefined, after: number | undefined, stream: EventStream): () => void;
  readonly readers: number;
}

export function createLiveHub(collector: Collector): LiveHub {
  const { bus, journal } = collector;
  const channelByRun = new Map<string, Channel>();
  let readers = 0;
  let unsubscribe: (() => void) | undefined;
  let seq = 0;

  function hear(announcement: Announcement): void {
    seq = announcement.seq;
    const own = channelByRun.get(announcement.run);
    if (own) note(own, announcement);
    // An alias moves, a version goes: of which runs it was is not said, and it is a small thing to hear.
    if (announcement.run === ARTIFACT_STREAM)
      for (const [run, channel] of channelByRun) if (run !== LIST) note(channel, announcement);
    const list = /^(run|artifact)\./.test(announcement.kind) ? channelByRun.get(LIST) : undefined;
    if (list) note(list, announcement);
  }

  function note(channel: Channel, announcement: Announcement): void {
    addTo(tickOf(channel.ticks, announcement.run), announcement);
    channel.timer ??= setTimeout(
      () => flush(channel),
      // The first change after a quiet time is shown at once; a stream of them four times a second.
      Math.max(0, channel.tickedAt + TICK_MS - performance.now()),
    );
  }

  function flush(channel: Channel): void {
    clearTimeout(channel.timer);
    channel.timer = undefined;
    if (channel.ticks.size === 0) return;
    channel.tickedAt = performance.now();
    const text = textOf(channel.ticks, seq);
    channel.ticks = new Map();
    if (text !== "") for (const reader of channel.readers) deliver(reader, text);
  }

  function deliver(reader: Reader, text: string): void {
    if (!reader.lagging) reader.lagging = !reader.stream.send(text);
    else reader.lagging = !reader.stream.send(eventText("reset", { reason: "too slow" }, seq));
  }

  function open(run: string): Channel {
    let channel = channelByRun.get(run);
    if (!channel) {
      channel = { readers: new Set(), ticks: new Map(), timer: undefined, tickedAt: 0 };
      channelByRun.set(run, channel);
    }
    return channel;
  }

  return {
    get readers() {
      return readers;
    },
    watch(runId, after, stream) {
      const run = runId ?? LIST;
      unsubscribe ??= bus.subscribe(hear);
      readers++;
      const channel = open(run);
      // What waits for the next tick is in the journal too: it goes to the others now, so that nobody gets it twice.
      flush(channel);
      seq = journal.bounds().last;
      const reader: Reader = { stream, lagging: false };
      stream.send(missed(collector, runId, after));
      if (runId !== undefined) sendOpenLines(collector, runId, stream);
      channel.readers.add(reader);
      return () => {
        readers--;
        channel.readers.delete(reader);
        if (channel.readers.size === 0) {
          clearTimeout(channel.timer);
          channelByRun.delete(run);
        }
        if (readers === 0) {
          unsubscribe?.();
          unsubscribe = undefined;
        }
      };
    },
  };
}

function tickOf(ticks: Map<string, Tick>, run: string): Tick {
  let tick = ticks.get(run);
  if (!tick) ticks.set(run, (tick = new Tick()));
  return tick;
}

function addTo(tick: Tick, { kind, data }: Pick<Announcement, "kind" | "data">): void {
  if (kind === "metric.appended") tick.addRecords(data as MetricBatch);
  else if (kind === "log.appended") tick.addLines(data as LogLine[]);
  else if (kind === "span.recorded") tick.addSpans(data as SpanRow[]);
  else if (kind === "log.open") tick.setOpen(data as OpenLines);
  else if (kind.startsWith("artifact.")) tick.noteArtifact();
  else if (kind.startsWith("run."))
    tick.setRun({ ...(data as Run), deleted: kind === "run.deleted" || kind === "run.pruned" });
}

/** The id stands on the last event alone: whoever loses the connection in the middle gets the tick again, not half of it. */
function textOf(ticks: Map<string, Tick>, seq: number): string {
  const events = [...ticks].flatMap(([run, tick]) => tick.events(run));
  return events
    .map(([event, data], index) => eventText(event, data, index === events.length - 1 ? seq : undefined))
    .join("");
}

/** What a reader that has seen everything up to `after` has to hear first. */
function missed(collector: Collector, run: string | undefined, after: number | undefined): string {
  const { first, last } = collector.journal.bounds();
  const ready = eventText("ready", { seq: last }, last);
  if (after === undefined || after === last) return ready;
  // A seq from the future belongs to another data folder, or to one that was restored.
  const reset = eventText("reset", { reason: "too old" }, last);
  if (after > last || after < first - 1 || last - after > MAX_MISSED) return reset;
  const ticks = new Map<string, Tick>();
  let bytes = 0;
  for (let from = after; from < last;) {
    const entries = collector.journal.read(from, READ_ENTRIES);
    for (const entry of entries) {
      // What devices said in the night is no reason to load everything anew in the morning.
      if (deviceOfStream(entry.run) !== undefined) continue;
      bytes += entry.payload.byteLength;
      if (entry.kind.startsWith("artifact.") && (run === undefined || isHeardBy(entry.run, run)))
        addTo(tickOf(ticks, entry.run), { kind: entry.kind, data: undefined });
      if (run !== undefined && entry.run !== run) continue;
      // A run's state is not in its entries as listings show it: the page asks for it anew.
      if (entry.kind.startsWith("run.")) return reset;
      if (run !== undefined && !entry.kind.startsWith("artifact."))
        addTo(tickOf(ticks, entry.run), { kind: entry.kind, data: decode(entry) });
    }
    if (entries.length === 0 || bytes > MAX_MISSED_BYTES) return reset;
    from = entries.at(-1)!.seq;
  }
  return ready + textOf(ticks, last);
}

const isHeardBy = (stream: string, run: string) => stream === run || stream === ARTIFACT_STREAM;

function decode(entry: Entry): unknown {
  if (entry.kind === "metric.appended") return decodeBatch(entry);
  if (entry.kind === "span.recorded") return readSpans(entry);
  return entry.kind === "log.appended" ? unpackLines(entry) : undefined;
}

function sendOpenLines({ logs }: Collector, run: string, stream: EventStream): void {
  const { stdout, stderr } = logs.open.get(run);
  if (stdout !== null || stderr !== null) stream.send(eventText("open", { run, rank: 0, stdout, stderr }));
}
