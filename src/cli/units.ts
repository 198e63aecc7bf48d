/** Figures for the eye: three digits, one unit. What is not known is "-". */
const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

function scaleOf(value: number): number {
  let scale = 0;
  // 999.5 would read 1000.
  while (scale < units.length - 1 && value / 1024 ** scale >= 999.5) scale++;
  return scale;
}

/** Always as many digits: a figure that changes its width each second cannot be read. */
const digits = (value: number, scale: number) => value.toFixed(scale > 0 && value < 99.95 ? 1 : 0);

export function bytes(value: number | undefined): string {
  if (value === undefined) return "-";
  const scale = scaleOf(value);
  return `${digits(value / 1024 ** scale, scale)} ${units[scale]}`;
}

export const bytesASecond = (value: number | undefined) => (value === undefined ? "-" : `${bytes(value)}/s`);

/** "71.2/79.6 GiB", both in the unit of the second. */
export function bytesOf(used: number | undefined, total: number | undefined): string {
  if (total === undefined || used === undefined) return bytes(used);
  const scale = scaleOf(total);
  return `${digits(used / 1024 ** scale, scale)}/${digits(total / 1024 ** scale, scale)} ${units[scale]}`;
}

/** Of a share, 0…1. */
export const percent = (share: number | undefined) =>
  share === undefined ? "-" : `${(share * 100).toFixed(0)} %`;

/** "612/700 W". */
export function whole(value: number | undefined, unit: string, of?: number): string {
  if (value === undefined) return "-";
  return `${value.toFixed(0)}${of === undefined ? "" : `/${of.toFixed(0)}`} ${unit}`;
}

export const tenths = (value: number | undefined) => (value === undefined ? "-" : value.toFixed(1));

/** Of joules, in the unit of who pays for them. */
export function wattHours(joules: number | undefined): string {
  if (joules === undefined) return "-";
  const hours = joules / 3600;
  return hours < 999.5 ? `${hours.toFixed(hours < 99.95 ? 1 : 0)} Wh` : `${(hours / 1000).toFixed(1)} kWh`;
}

/** "12 s", "3 min", "5 h", "2 d". */
export function age(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`;
}
