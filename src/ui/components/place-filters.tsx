/** @jsxImportSource hono/jsx */
import { OWN } from "../../entry.ts";

/** Where things may come from, for filters. */
export interface Places {
  /** Labels. */
  sources: string[];
  devices: { id: string; name: string; source: string | null }[];
}

export interface PlaceFilterProps {
  value: string;
  onChange: ((value: string) => void) | undefined;
}

/** Absent where nobody relays here: there is nothing to choose. */
export const SourceFilter = ({
  sources,
  value,
  onChange,
}: PlaceFilterProps & { sources: readonly string[] }) => {
  if (sources.length === 0 && value === "") return null;
  const known = value === "" || value === OWN || sources.includes(value) ? sources : [value, ...sources];
  return (
    <label>
      <span class="unseen">Source</span>
      <select
        class="field"
        name="source"
        value={value}
        onChange={(event: Event) => onChange?.((event.target as HTMLSelectElement).value)}
      >
        <option value="">All sources</option>
        <option value={OWN} selected={value === OWN}>
          This collector
        </option>
        {known.map((label) => (
          <option key={label} value={label} selected={label === value}>
            {label}
          </option>
        ))}
      </select>
    </label>
  );
};

export const DeviceFilter = ({
  devices,
  value,
  onChange,
}: PlaceFilterProps & { devices: Places["devices"] }) => {
  if (devices.length < 2 && value === "") return null;
  const isKnown = value === "" || devices.some(({ id }) => id === value);
  return (
    <label>
      <span class="unseen">Device</span>
      <select
        class="field"
        name="device"
        value={value}
        onChange={(event: Event) => onChange?.((event.target as HTMLSelectElement).value)}
      >
        <option value="">All devices</option>
        {!isKnown && (
          <option value={value} selected>
            {value}
          </option>
        )}
        {devices.map(({ id, name, source }) => (
          <option key={id} value={id} selected={id === value}>
            {source === null ? name : `${name} (${source})`}
          </option>
        ))}
      </select>
    </label>
  );
};

/** Who relayed it. */
export const SourceBadge = ({ source }: { source: string | null }) =>
  source === null ? null : (
    <span class="source" title={`Relayed by ${source}`}>
      <span class="unseen">from </span>
      <bdi>{source}</bdi>
    </span>
  );
