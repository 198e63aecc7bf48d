/** @jsxImportSource hono/jsx */
import type { Device } from "../../device/schema.ts";
import { freshnessOf, freshnessWords } from "../device-view.ts";
import { SourceBadge } from "./place-filters.tsx";

export interface DeviceHeadProps {
  device: Device;
  now: number;
  /** Names of the runs that live on it, by id. */
  runs: Record<string, string>;
}

export const DeviceHead = ({ device, now, runs }: DeviceHeadProps) => (
  <>
    <nav class="crumbs" aria-label="Breadcrumb">
      <a href="/devices">Devices</a>
    </nav>
    <div class="run-head device-head">
      <div class="run-title">
        <h1>
          <bdi>{device.name}</bdi>
        </h1>
        <span class="fresh" data-fresh={freshnessOf(device, now)}>
          {freshnessWords(device, now)}
        </span>
        <SourceBadge source={device.source} />
        <span class="faint mono">{device.id}</span>
      </div>
      <p class="device-runs">
        {device.runs.map((id) => (
          <a key={id} href={`/runs/${id}/hardware`}>
            <bdi>{runs[id] ?? id}</bdi>
          </a>
        ))}
      </p>
    </div>
  </>
);
