import type { Connection } from "../client/typescript/connection.ts";
import { eventsOf } from "../client/typescript/events.ts";
import { request, requestJson } from "../client/typescript/http.ts";
import type { Device, RunDevice } from "../device/schema.ts";
import { CollectorError } from "../error.ts";
import type { Run } from "../run/schema.ts";
import type { LiveSamples } from "../sample/latest.ts";
import type { DeviceEvent } from "../sample/schema.ts";
import { MACHINE, runOfSubject } from "../sample/subject.ts";
import { ANSWER_WITHIN_MS, runPath } from "./connect.ts";
import { TREND_SECONDS } from "./device-gpus.ts";
import { networkRate, type DeviceView, type KnownRun } from "./device-values.ts";

/** The collector pings every ten seconds, and sends samples every second. */
const SILENCE_MS = 15_000;
const PEAK_SECONDS = 60;
/** How often it is asked what each run has used so far; and of so many runs. */
const ASK_RUNS_MS = 10_000;
const MAX_RUNS = 50;

/** What is known of a device, kept up to date by what the collector sends. */
export interface WatchedDevice {
  /** undefined until the collector has answered for the first time. */
  view(): DeviceView | undefined;
}

export interface WatchOptions {
  /** Asked before every attempt: a collector that was restarted may have another port or token. */
  find: () => Connection;
  /** Id of the device. */
  device: string;
  /** Something has changed; `samples`: a tick. */
  onChange: (what: "samples" | "state") => void;
  signal: AbortSignal;
  /** How long to wait for a collector that went away. */
  patience: number;
}

/** Watches until `signal` ends it, over restarts of the collector. Rejects where it is refused, or at the end of the patience. */
export function watchDevice({ find, device: id, onChange, signal, patience }: WatchOptions): {
  watched: WatchedDevice;
  ended: Promise<void>;
} {
  let device: Device | undefined;
  const samples = new Map<string, { time: number; values: Readonly<Record<string, number>> }>();
  const runs = new Map<string, KnownRun>();
  const trends = new Map<string, number[]>();
  let askedAt = -Infinity;
  const rates: number[] = [];
  /** The collector's clock less ours. */
  let skew = 0;
  let lostAt: number | undefined;
  let event: DeviceView["event"];

  function hear(name: string, data: string, connection: Connection): void {
    if (name === "ready") skew = (JSON.parse(data) as { time: number }).time - Date.now();
    if (name === "device") {
      device = JSON.parse(data) as Device;
      for (const { uuid } of device.gpus) if (!(uuid in device.latest)) samples.delete(uuid);
      take(
        Object.entries(device.latest).map(([subject, { time, values }]) => ({
          subject,
          time: Date.parse(time),
          values,
        })),
      );
      forgetRuns(device.runs);
      void askRuns(
        connection,
        device.runs.filter((run) => !runs.has(run)),
      );
      onChange("state");
    }
    if (name === "samples") {
      take((JSON.parse(data) as LiveSamples).samples);
      onChange("samples");
      if (device && performance.now() - askedAt > ASK_RUNS_MS) void askRuns(connection, device.runs);
    }
    if (name === "event") {
      const { time, text } = JSON.parse(data) as DeviceEvent;
      event = { time: Date.parse(time), text };
      onChange("state");
    }
  }

  function take(news: LiveSamples["samples"]): void {
    for (const { subject, time, values } of news) {
      const before = samples.get(subject);
      // The clock may have been set back: the last to come is the newest, unless it is one that we have.
      if (before?.time === time) continue;
      samples.set(subject, { time, values });
      if (subject === MACHINE) rates.push(networkRate(values));
      const busy = values["gpu.utilization"];
      if (busy !== undefined) {
        const trend = [...(trends.get(subject) ?? []), busy];
        trends.set(subject, trend.slice(-TREND_SECONDS));
      }
    }
    if (rates.length > PEAK_SECONDS) rates.splice(0, rates.length - PEAK_SECONDS);
  }

  function forgetRuns(live: string[]): void {
    for (const subject of samples.keys()) {
      const run = runOfSubject(subject);
      if (run === undefined || live.includes(run)) continue;
      samples.delete(subject);
      runs.delete(run);
    }
  }

  async function askRuns(connection: Connection, wanted: string[]): Promise<void> {
    askedAt = performance.now();
    for (const run of wanted.slice(0, MAX_RUNS)) {
      try {
        const name =
          runs.get(run)?.name ?? (await requestJson<Run>(connection, runPath(run), { signal })).name;
        const { devices } = await requestJson<{ devices: RunDevice[] }>(
          connection,
          runPath(run, "/devices"),
          {
            signal,
          },
        );
        runs.set(run, { name, use: devices.find((use) => use.device === id) });
        onChange("state");
      } catch {
        // It is shown without.
      }
    }
  }

  async function once(connection: Connection, onContact: () => void): Promise<void> {
    const abort = new AbortController();
    const both = AbortSignal.any([signal, abort.signal]);
    try {
      const response = await request(connection, "/api/v1/devices/live", {
        query: { device: id },
        headers: { accept: "text/event-stream" },
        timeout: 0,
        signal: both,
      });
      for await (const { event, data } of eventsOf(response, { silence: SILENCE_MS, onContact }))
        hear(event, data, connection);
    } finally {
      abort.abort();
    }
  }

  async function watch(): Promise<void> {
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        await once(find(), () => {
          attempt = 0;
          lostAt = undefined;
        });
      } catch (error) {
        if (signal.aborted) return;
        if (!isPassing(error) || !device) throw error;
        if (lostAt !== undefined && Date.now() - lostAt > patience) throw error;
      }
      lostAt ??= Date.now();
      await pause(Math.min(2000, 100 * 2 ** attempt), signal);
    }
  }

  return {
    watched: {
      view: () =>
        device && {
          device,
          samples,
          runs,
          trends,
          now: Date.now() + skew,
          networkPeak: rates.length > 1 ? Math.max(...rates) : undefined,
          lostFor: lostAt === undefined ? undefined : Date.now() - lostAt,
          event,
        },
    },
    ended: watch(),
  };
}

const isPassing = (error: unknown) =>
  error instanceof CollectorError && (error.code === "unreachable" || error.code === "busy");

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(end, ms);
    function end(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    }
    signal.addEventListener("abort", end);
  });
}

/** The device that a person means: by id, the beginning of it, or host name; without a word the collector's own. */
export async function findDevice(connection: Connection, name: string | undefined): Promise<Device> {
  if (name !== undefined && /^[\w.-]+$/.test(name))
    return requestJson<Device>(connection, `/api/v1/devices/${encodeURIComponent(name)}`, {
      timeout: ANSWER_WITHIN_MS,
    });
  if (name !== undefined)
    throw new CollectorError("not-found", `'${name}' is no device.`, {
      hint: "See `binnacle device list` for the devices there are.",
    });
  const devices = await listDevices(connection);
  const [device] = devices;
  if (!device)
    throw new CollectorError("not-found", "The collector has not read this machine yet.", {
      hint: "Try again in a second; a collector that was started without hardware never does.",
    });
  return device;
}

export async function listDevices(connection: Connection, source?: string): Promise<Device[]> {
  const { devices } = await requestJson<{ devices: Device[] }>(connection, "/api/v1/devices", {
    query: { source },
    timeout: ANSWER_WITHIN_MS,
  });
  return devices;
}
