/** @jsxImportSource hono/jsx */
import type { Device, Gpu } from "../../device/schema.ts";
import {
  freshnessOf,
  freshnessWords,
  gpuGauges,
  gpuNotes,
  machineGauges,
  sparkPath,
  type Gauge,
} from "../device-view.ts";
import { gpuLabel, shortName } from "../hardware-gpus.ts";
import { plural } from "../format.ts";
import { GpuNotice } from "./device-facts.tsx";
import { SourceBadge, SourceFilter } from "./place-filters.tsx";

export interface DeviceListState {
  devices: Device[];
  now: number;
  /** Names of the runs that live on them, by id. */
  runs: Record<string, string>;
  /** The source whose devices they are, and the labels of all there are. */
  source?: string;
  sources?: string[];
}

/** Values of the last minutes between 0 and 1, by device and subject. */
export type Sparks = ReadonlyMap<string, readonly (number | null)[]>;

export const sparkKey = (device: string, subject: string) => `${device} ${subject}`;

export interface DeviceTilesProps extends DeviceListState {
  sparks?: Sparks;
  onSource?: (source: string) => void;
}

export const DeviceTiles = ({
  devices,
  now,
  runs,
  sparks,
  source = "",
  sources = [],
  onSource,
}: DeviceTilesProps) => (
  <>
    <div class="list-head">
      <h1>Devices</h1>
      <span class="count num">{devices.length > 0 ? plural(devices.length, "machine") : ""}</span>
    </div>
    {(sources.length > 0 || source !== "") && (
      <form class="toolbar list-tools" action="/devices" method="get">
        <SourceFilter sources={sources} value={source} onChange={onSource} />
        <noscript>
          <button class="button" type="submit">
            Show
          </button>
        </noscript>
      </form>
    )}
    {devices.length === 0 && source !== "" ? (
      <div class="card no-match">
        <p>No device of this source.</p>
        <p>
          <a href="/devices">Show all devices</a>
        </p>
      </div>
    ) : devices.length === 0 ? (
      <section class="card no-match">
        <h2>No machine yet</h2>
        <p>
          A collector reads the machine that it runs on. This one was started with its readings switched off,
          or has only just begun.
        </p>
      </section>
    ) : (
      <div class="devices">
        {devices.map((device) => (
          <DeviceTile key={device.id} device={device} now={now} runs={runs} sparks={sparks} />
        ))}
      </div>
    )}
  </>
);

const DeviceTile = ({
  device,
  now,
  runs,
  sparks,
}: {
  device: Device;
  now: number;
  runs: Record<string, string>;
  sparks: Sparks | undefined;
}) => {
  const fresh = freshnessOf(device, now);
  return (
    <article class="card device-tile" data-fresh={fresh} data-device={device.id} aria-label={device.name}>
      <header>
        <h2>
          <a href={`/devices/${device.id}`}>
            <bdi>{device.name}</bdi>
          </a>
        </h2>
        <span class="fresh" data-fresh={fresh}>
          {freshnessWords(device, now)}
        </span>
        <SourceBadge source={device.source} />
        <span class="faint clip-line">
          {[device.processor, device.cores !== null && plural(device.cores, "core"), device.os]
            .filter(Boolean)
            .join(" · ")}
        </span>
      </header>
      <div class="device-machine">
        <Gauges gauges={machineGauges(device)} />
        <div>
          <span class="spark-label faint">Processor, last 5 minutes</span>
          <Spark values={sparks?.get(sparkKey(device.id, ""))} label="Processor, last 5 minutes" />
        </div>
      </div>
      <p class="device-runs">
        {device.runs.length === 0 ? (
          <span class="faint">No run</span>
        ) : (
          <>
            <span class="soft">{device.runs.length === 1 ? "Run" : "Runs"}</span>
            {device.runs.map((id) => (
              <a key={id} href={`/runs/${id}/hardware`}>
                <bdi>{runs[id] ?? id}</bdi>
              </a>
            ))}
          </>
        )}
      </p>
      <GpuNotice device={device} />
      {device.gpus.length > 0 && (
        <ul class="gpu-tiles">
          {device.gpus.map((gpu) => (
            <GpuTile key={gpu.uuid} device={device} gpu={gpu} sparks={sparks} />
          ))}
        </ul>
      )}
    </article>
  );
};

const GpuTile = ({ device, gpu, sparks }: { device: Device; gpu: Gpu; sparks: Sparks | undefined }) => (
  <li class="gpu-tile" data-lost={gpu.lost ? "true" : undefined} data-gpu={gpu.uuid}>
    <h3>
      <span>{gpuLabel(gpu, device.gpus)}</span> <span class="faint clip-line">{shortName(gpu.name)}</span>
    </h3>
    <Spark values={sparks?.get(sparkKey(device.id, gpu.uuid))} label="Use, last 5 minutes" />
    <Gauges gauges={gpuGauges(device, gpu)} />
    {gpuNotes(device, gpu).map(({ tone, text }) => (
      <p key={text} class="gpu-state" data-tone={tone}>
        {text}
      </p>
    ))}
  </li>
);

const Gauges = ({ gauges }: { gauges: Gauge[] }) => (
  <dl class="gauges num">
    {gauges.map(({ label, text, share, scarce }) => (
      <div key={label} data-full={scarce && share !== undefined && share >= 0.9 ? "true" : undefined}>
        <dt>{label}</dt>
        <dd>{text}</dd>
        {share !== undefined && (
          <svg
            class="bar"
            viewBox="0 0 100 4"
            preserveAspectRatio="none"
            aria-hidden="true"
            focusable="false"
          >
            <rect class="bar-whole" width="100" height="4" />
            <rect class="bar-part" width={(share * 100).toFixed(1)} height="4" />
          </svg>
        )}
      </div>
    ))}
  </dl>
);

/** Its room is there before its values are. */
const Spark = ({ values, label }: { values: readonly (number | null)[] | undefined; label: string }) => (
  <svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label={label}>
    {values && <path d={sparkPath(values)} vector-effect="non-scaling-stroke" />}
  </svg>
);
