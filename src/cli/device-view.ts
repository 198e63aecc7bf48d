import { CGROUP, MACHINE } from "../sample/subject.ts";
import { oneLine } from "./cells.ts";
import { gpuLines } from "./device-gpus.ts";
import { runLines } from "./device-runs.ts";
import {
  dim,
  known,
  networkRate,
  OLD_MS,
  ratio,
  STALE_MS,
  valuesOf,
  type DeviceView,
  type Lines,
  type Values,
} from "./device-values.ts";
import { bar, toLine, type Look, type Span } from "./frame.ts";
import { localTime } from "./text.ts";
import { age, bytes, bytesASecond, bytesOf, percent, tenths } from "./units.ts";

export interface Size {
  width: number;
  /** Infinity where the lines just go on. */
  height: number;
}

/** Lines. */
const LOW = 16;
const EVENT_MS = 60_000;

/** The device as lines, none wider and no more than there is room for. */
export function renderDevice(view: DeviceView, { width, height }: Size, look: Look): string[] {
  // In a low terminal, what changes goes before what does not.
  const isLow = height < LOW;
  const head = [
    ...header(view, width).slice(0, isLow ? 1 : 2),
    ...warnings(view),
    ...(isLow ? [] : [[]]),
    ...meters(view, width, look),
  ];
  const gpus = gpuLines(view, width, look);
  const runs = runLines(view, width, look);
  const room = Math.max(0, height - head.length);
  const lines = [...head, ...share(gpus, runs, room)];
  return lines.slice(0, height).map((spans) => toLine(spans, width, look));
}

function header({ device, now }: DeviceView, width: number): Lines {
  const facts = [
    device.os === "" ? null : `${device.os} ${device.kernel}`,
    device.processor,
    device.cores === null ? null : `${device.cores} ${device.cores === 1 ? "core" : "cores"}`,
    device.memory === null ? null : bytes(device.memory),
  ].filter((fact) => fact !== null);
  const clock = localTime(now).slice(-8);
  const name = oneLine(device.name);
  const text = ` · ${facts.map(oneLine).join(" · ")}`;
  const { driver, cuda } = device.gpu_reader;
  const reader = driver === null ? [] : [[dim(`NVIDIA ${driver}${cuda === null ? "" : ` · CUDA ${cuda}`}`)]];
  return [
    width < 40
      ? [{ text: name, style: "bold" }]
      : [{ text: `${clock}  `, style: "dim" }, { text: name, style: "bold" }, { text }],
    ...reader,
  ];
}

function warnings({ device, samples, now, lostFor, event }: DeviceView): Lines {
  const lines: Lines = [];
  if (lostFor !== undefined)
    lines.push([
      {
        text: `The collector has not answered for ${age(lostFor)}: waiting for it to come back.`,
        style: "bad",
      },
    ]);
  const newest = Math.max(...[...samples.values()].map(({ time }) => time));
  const unseen = now - Date.parse(device.last_seen);
  if (samples.size === 0)
    lines.push([
      {
        text:
          unseen > OLD_MS
            ? `Nothing is read here now: the last time was ${age(unseen)} ago.`
            : "The first values are on their way.",
        style: "warn",
      },
    ]);
  else if (now - newest > STALE_MS)
    lines.push([
      { text: `Stale: nothing was read for ${age(now - newest)}; these are the last values.`, style: "warn" },
    ]);
  if (event && now - event.time < EVENT_MS)
    lines.push([{ text: `${localTime(event.time).slice(-8)}  ${oneLine(event.text)}`, style: "warn" }]);
  return lines;
}

const joined = (...parts: (string | false | undefined)[]) => parts.filter(Boolean).join(" · ");

function meters(view: DeviceView, width: number, look: Look): Lines {
  const values = valuesOf(view, MACHINE);
  const container = valuesOf(view, CGROUP);
  const barWidth = Math.min(40, Math.max(6, Math.floor(width * 0.3)));
  const meter = (label: string, share: number | undefined, text: string): Span[] => [
    { text: label.padEnd(10), style: "bold" },
    ...bar(share, barWidth, look),
    { text: ` ${percent(share).padStart(5)}  ` },
    { text },
  ];
  const lines: Lines = [
    meter("CPU", values["cpu.utilization"], processorText(values)),
    meter("Memory", ratio(values["memory.used"], values["memory.total"]), memoryText(values)),
  ];
  // Disks and network as far as the machine has them.
  if (known(values["disk.read"]) || known(values["disk.write"]))
    lines.push(
      meter(
        "Disk",
        busiestDisk(values),
        `read ${bytesASecond(values["disk.read"])} · written ${bytesASecond(values["disk.write"])}`,
      ),
    );
  if (known(values["network.receive"]) || known(values["network.transmit"]))
    lines.push(meter("Network", networkShare(view, values), networkText(view, values)));
  if (known(container["cpu.utilization"]) && known(container["cpu.limit"]))
    lines.push(
      meter(
        "Container",
        container["cpu.utilization"],
        `CPU ${tenths(container["cpu.cores"])} of ${tenths(container["cpu.limit"])} cores`,
      ),
    );
  if (known(container["memory.used"]) && known(container["memory.total"]))
    lines.push(
      meter(
        known(container["cpu.limit"]) ? "" : "Container",
        ratio(container["memory.used"], container["memory.total"]),
        `memory ${bytesOf(container["memory.used"], container["memory.total"])}`,
      ),
    );
  return lines;
}

function processorText(values: Values): string {
  const load = ["load.1", "load.5", "load.15"].map((name) => values[name]);
  const share = (word: string, name: string) => known(values[name]) && `${word} ${percent(values[name])}`;
  return joined(
    load.every(known) && `load ${load.map((value) => value!.toFixed(1)).join(" ")}`,
    share("user", "cpu.user"),
    share("system", "cpu.system"),
    share("waiting", "cpu.iowait"),
    (values["cpu.steal"] ?? 0) > 0.005 && share("stolen", "cpu.steal"),
  );
}

function memoryText(values: Values): string {
  const { "swap.used": swapUsed, "swap.total": swapTotal } = values;
  return joined(
    bytesOf(values["memory.used"], values["memory.total"]),
    swapTotal !== undefined && swapTotal > 0 && `swap ${bytesOf(swapUsed, swapTotal)}`,
  );
}

/** A machine waits for its busiest disk, however idle the others are. */
function busiestDisk(values: Values): number | undefined {
  const shares = Object.entries(values)
    .filter(([key]) => key === "disk.utilization" || key.startsWith("disk.utilization@"))
    .map(([, share]) => share);
  return shares.length > 0 ? Math.max(...shares) : undefined;
}

/** Nobody knows what its networks can carry: a share of the most they did carry of late. */
const networkShare = ({ networkPeak }: DeviceView, values: Values) =>
  networkPeak === undefined || networkPeak <= 0 ? undefined : networkRate(values) / networkPeak;

const networkText = ({ networkPeak }: DeviceView, values: Values) =>
  joined(
    `in ${bytesASecond(values["network.receive"])}`,
    `out ${bytesASecond(values["network.transmit"])}`,
    networkPeak !== undefined && networkPeak > 0 && `peak ${bytesASecond(networkPeak)}`,
  );

/** Both where both fit; else the GPUs first, and each says how much of it is not shown. */
function share(gpus: Lines, runs: Lines, room: number): Lines {
  if (gpus.length + runs.length <= room) return [...gpus, ...runs];
  const forRuns = Math.min(runs.length, Math.floor(room / 3));
  const forGpus = Math.min(gpus.length, room - (forRuns < LEAST_LINES ? 0 : forRuns));
  return [...shorten(gpus, forGpus), ...shorten(runs, room - forGpus)];
}

/** A blank, a heading, a row and the word of what is hidden. */
const LEAST_LINES = 4;

function shorten(lines: Lines, room: number): Lines {
  if (lines.length <= room) return lines;
  if (room < LEAST_LINES) return [];
  return [...lines.slice(0, room - 1), [dim(`${lines.length - room + 1} more`)]];
}
