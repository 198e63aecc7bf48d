/** @jsxImportSource hono/jsx */
import type { Child } from "hono/jsx";
import type { Device, Gpu, RunDevice } from "../../device/schema.ts";
import { formatDuration, plural } from "../format.ts";
import { isTold, shortName } from "../hardware-gpus.ts";
import { attributionWords, readerNotice } from "../hardware-words.ts";
import { formatReading } from "../units.ts";

const Fact = ({ label, children }: { label: string; children: Child }) => (
  <div>
    <dt>{label}</dt>
    <dd>{children}</dd>
  </div>
);

/** "4 × H100 80GB HBM3 (0–3)"; of different ones, each kind. */
export function describeGpus(gpus: readonly Pick<Gpu, "name" | "index">[]): string {
  const byName = Map.groupBy(gpus, ({ name }) => shortName(name));
  return [...byName]
    .map(([name, same]) => `${same.length} × ${name} (${ranges(same.map(({ index }) => index))})`)
    .join(", ");
}

/** 0, 1, 2, 5 → "0–2, 5". */
function ranges(numbers: number[]): string {
  const sorted = [...new Set(numbers)].sort((a, b) => a - b);
  const parts: [number, number][] = [];
  for (const n of sorted) {
    const last = parts.at(-1);
    if (last && n === last[1] + 1) last[1] = n;
    else parts.push([n, n]);
  }
  return parts.map(([from, to]) => (from === to ? String(from) : `${from}–${to}`)).join(", ");
}

const joules = (energy: number) =>
  energy < 3600
    ? formatReading("J", energy)
    : `${formatReading("J", energy)} (${Math.round(energy / 1000)} kJ)`;

export interface DeviceFactsProps {
  device: Device;
  /** On a run's page: what the run used of it. */
  use?: RunDevice | undefined;
  linked?: boolean;
}

export const DeviceFacts = ({ device, use, linked = false }: DeviceFactsProps) => {
  const known = use?.gpus.map(({ energy }) => energy).filter((energy) => energy !== null) ?? [];
  const energy = known.length > 0 ? known.reduce((sum, each) => sum + each, 0) : undefined;
  const hours = use?.gpus.reduce((sum, gpu) => sum + gpu.hours, 0) ?? 0;
  const { gpu_reader: reader } = device;
  return (
    <section class="card panel device-facts" aria-label={`Machine ${device.name}`}>
      <dl>
        <Fact label="Machine">
          {linked ? <a href={`/devices/${device.id}`}>{device.name}</a> : device.name}
          {device.container && <span class="faint"> in a container</span>}
        </Fact>
        {(device.processor !== null || device.cores !== null) && (
          <Fact label="Processor">
            {[device.processor, device.cores !== null && plural(device.cores, "core")]
              .filter(Boolean)
              .join(", ")}
          </Fact>
        )}
        {device.memory !== null && <Fact label="Memory">{formatReading("B", device.memory)}</Fact>}
        {isTold(use) ? (
          <Fact label="GPUs of the run">
            {use.gpus.length === 0
              ? "none"
              : `${describeGpus(use.gpus)}${use.gpus.some(({ shared }) => shared) ? ", shared" : ""}`}
          </Fact>
        ) : (
          device.gpus.length > 0 && <Fact label="GPUs">{describeGpus(device.gpus)}</Fact>
        )}
        {energy !== undefined && (
          <Fact label="GPU energy">
            <span title={use?.gpus.some(({ shared }) => shared) ? "Of whole GPUs, though shared" : ""}>
              {joules(energy)}
            </span>
          </Fact>
        )}
        {use && use.gpus.length > 0 && <Fact label="GPU-hours">{hoursText(hours)}</Fact>}
        {isTold(use) && <Fact label="Processor time">{formatDuration(use.cpu_seconds * 1000)}</Fact>}
        {use && use.attribution !== null && (
          <Fact label="Processes told by">{attributionWords[use.attribution]}</Fact>
        )}
        {!use && device.os !== "" && (
          <Fact label="System">
            {device.os} <span class="faint">{device.kernel}</span>
          </Fact>
        )}
        {!use && reader.driver !== null && (
          <Fact label="NVIDIA driver">
            {reader.driver}
            {reader.cuda !== null && <span class="faint"> CUDA {reader.cuda}</span>}
          </Fact>
        )}
      </dl>
      {use && use.note !== null && <p class="soft">{use.note}</p>}
    </section>
  );
};

const hoursText = (hours: number): string =>
  hours < 0.1 ? `${hours.toFixed(4)} h` : hours < 10 ? `${hours.toFixed(2)} h` : `${hours.toFixed(1)} h`;

/** Why GPUs can't be read, and what a person can do about it. */
export const GpuNotice = ({ device }: { device: Device }) => {
  const notice = readerNotice(device.gpu_reader);
  if (!notice) return null;
  const words = [notice.text, notice.advice].filter(Boolean).join(" ");
  return notice.bad ? (
    <p class="notice bad" role="status">
      <span>{words}</span>
    </p>
  ) : (
    <p class="faint gpu-note">{words}</p>
  );
};
