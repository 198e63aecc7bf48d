import { CollectorError } from "../error.ts";
import { connectionFlags, defineCommand } from "./command.ts";
import { connect } from "./connect.ts";
import { publicDevice } from "./device-list.ts";
import type { DeviceView } from "./device-values.ts";
import { renderDevice } from "./device-view.ts";
import { findDevice, watchDevice, type WatchedDevice } from "./device-watch.ts";
import { UsageError } from "./error.ts";
import { print } from "./output.ts";
import { lookOf, openScreen } from "./screen.ts";
import { wholeNumber } from "./values.ts";

export const command = defineCommand({
  name: "device top",
  usage: "[DEVICE]",
  maxPositionals: 1,
  summary: "Watch a machine, its GPUs and its live runs.",
  description: `Shows the collector's own machine, or DEVICE: its id, the beginning of it, or its host name. q or Ctrl-C ends it.
Where the output is no terminal it prints the present once; with --json a line of JSON for each interval.`,
  flags: {
    interval: { type: "string", short: "i", value: "SECONDS", help: "how often (default 1)" },
    count: { type: "string", short: "n", value: "N", help: "with --json: end after N lines" },
    json: { type: "boolean", help: "print one JSON object a line" },
    ...connectionFlags,
  },
  examples: [
    ["device top", "watch this machine"],
    ["device top gpu-17 --interval 5", "watch another, with less of a hurry"],
    [
      `device top --json | jq '.latest[""].values["cpu.utilization"]'`,
      "print how busy its processors are, every second",
    ],
  ],
  async run({ values, positionals: [name] }) {
    const interval = intervalOf(values.interval);
    const count = wholeNumber(values.count, "--count", 1);
    if (count !== undefined && !values.json) throw new UsageError("--count wants --json.");
    const find = () => connect(values);
    const { id } = await findDevice(find(), name);
    const options = { find, device: id, interval };
    if (values.json) return printLines({ ...options, count: count ?? Infinity });
    if (process.stdout.isTTY && process.env["TERM"] !== "dumb") return show(options);
    return printOnce(options);
  },
});

/** A terminal that was left alone for long should not ask a collector that was taken away for ever. */
const PATIENCE_MS = 10 * 60_000;
const LOOK_AGAIN_MS = 500;
/** A script does not wait longer for the first line: a device that is read says something each second. */
const SILENT_MS = 10_000;

interface Options {
  find: () => ReturnType<typeof connect>;
  device: string;
  /** ms. */
  interval: number;
}

function intervalOf(text: string | undefined): number {
  if (text === undefined) return 1000;
  const seconds = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || seconds < 1 || seconds > 86_400)
    throw new UsageError(`--interval wants a number of seconds, 1 or more, not '${text}'.`);
  return seconds * 1000;
}

/** Until q, Ctrl-C or a signal. */
async function show({ find, device, interval }: Options): Promise<number> {
  const look = lookOf(process.env, true);
  const stop = new AbortController();
  let exitCode = 0;
  let drawnAt = -Infinity;
  const end = (code: number) => {
    exitCode = code;
    stop.abort();
  };
  const signals = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
  const handlers = Object.entries(signals).map(([signal, code]) => [signal, () => end(code)] as const);
  let screen: ReturnType<typeof openScreen> | undefined;
  let watched: WatchedDevice | undefined;
  let failure: unknown;

  function draw(): void {
    const view = watched?.view();
    if (!view || !screen || stop.signal.aborted) return;
    drawnAt = performance.now();
    screen.draw(renderDevice(view, { width: screen.width, height: screen.height }, look)).catch((error) => {
      failure ??= error;
      end(1);
    });
  }

  const isDue = (late: number) => performance.now() - drawnAt >= interval + late;
  const watch = watchDevice({
    find,
    device,
    patience: PATIENCE_MS,
    signal: stop.signal,
    onChange: (what) => {
      // A tick may come a little early; what a device is, is shown at once.
      if (what === "state" || isDue(-300)) draw();
    },
  });
  watched = watch.watched;
  // Without news the picture grows old, and says so.
  const timer = setInterval(() => isDue(LOOK_AGAIN_MS) && draw(), LOOK_AGAIN_MS);
  for (const [signal, handler] of handlers) process.on(signal, handler);
  try {
    screen = openScreen({
      onKey(key) {
        if (key === "quit") end(0);
        if (key === "redraw") draw();
        if (key === "suspend") suspend();
      },
      onResize: draw,
    });
    await Promise.race([watch.ended, aborted(stop.signal)]);
  } finally {
    clearInterval(timer);
    stop.abort();
    screen?.close();
    for (const [signal, handler] of handlers) process.off(signal, handler);
  }
  if (failure) throw failure;
  return exitCode;

  /** Ctrl-Z: raw mode gives us the key in the place of the signal. */
  function suspend(): void {
    screen?.pause();
    process.kill(process.pid, "SIGSTOP");
  }
}

const aborted = (signal: AbortSignal) =>
  new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve());
  });

/** A line each interval. While the collector is away there is none. */
async function printLines({ find, device, interval, count }: Options & { count: number }): Promise<number> {
  const stop = new AbortController();
  let printedAt = -Infinity;
  let left = count;
  let printing = Promise.resolve();
  let failure: unknown;

  const silence = setTimeout(() => {
    failure ??= new CollectorError(
      "busy",
      `Nothing is read of ${watched.view()?.device.name ?? device} now.`,
      {
        hint: "Either it is not the collector's machine, or that was started with --no-hardware.",
      },
    );
    stop.abort();
  }, SILENT_MS);
  const { watched, ended } = watchDevice({
    find,
    device,
    patience: PATIENCE_MS,
    signal: stop.signal,
    onChange(what) {
      if (what === "samples") clearTimeout(silence);
      // Each tick of the collector is a line, so that no second is told twice and none is made up.
      if (what !== "samples" || left <= 0 || performance.now() - printedAt < interval - 300) return;
      printedAt = performance.now();
      left--;
      const line = lineOf(watched.view()!);
      printing = printing.then(() => print(line));
      printing.catch((error) => {
        failure ??= error;
        stop.abort();
      });
      if (left === 0) stop.abort();
    },
  });
  await ended.finally(() => clearTimeout(silence));
  await printing.catch(() => {});
  if (failure) throw failure;
  return 0;
}

/** As `device list --json` has it, with the values of this second. */
function lineOf({ device, samples, now }: DeviceView): string {
  const fresh = [...samples].filter(([, { time }]) => Math.abs(now - time) <= FRESH_MS);
  const latest = Object.fromEntries(
    fresh.map(([subject, { time, values }]) => [subject, { time: new Date(time).toISOString(), values }]),
  );
  const last = Math.max(Date.parse(device.last_seen), ...fresh.map(([, { time }]) => time));
  const present = publicDevice({ ...device, last_seen: new Date(last).toISOString(), latest });
  return `${JSON.stringify({ time: new Date(now).toISOString(), ...present })}\n`;
}

const FRESH_MS = 10_000;

/** The present, once, as wide as it needs to be. */
async function printOnce({ find, device }: Options): Promise<number> {
  const stop = new AbortController();
  const { watched, ended } = watchDevice({
    find,
    device,
    patience: 0,
    signal: stop.signal,
    // The name of each run comes after the device: when all are there, or one more second has passed, it is complete.
    onChange() {
      const view = watched.view();
      if (view && view.device.runs.every((run) => view.runs.has(run))) stop.abort();
    },
  });
  const timer = setTimeout(() => stop.abort(), 2000);
  await ended;
  clearTimeout(timer);
  const view = watched.view();
  if (!view) return 1;
  const lines = renderDevice(view, { width: 160, height: Infinity }, lookOf(process.env, false));
  await print(lines.map((line) => `${line}\n`).join(""));
  return 0;
}
