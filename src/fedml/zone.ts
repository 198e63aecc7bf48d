const MINUTE = 60_000;
/** Offsets change at whole quarters of an hour. */
const QUARTER = 15 * MINUTE;

/** Writes times as a clock in some zone shows them: "2026-11-23 10:33:34.938 +01". */
export function clockIn(zone: unknown): (time: number) => string {
  const parts = formatterOf(zone);
  const offsetByQuarter = new Map<number, { offset: number; text: string }>();
  return (time) => {
    const quarter = Math.floor(time / QUARTER);
    let known = offsetByQuarter.get(quarter);
    if (!known) {
      const offset = offsetAt(parts, quarter * QUARTER);
      known = { offset, text: textOf(offset) };
      offsetByQuarter.set(quarter, known);
    }
    const local = new Date(Math.floor(time) + known.offset).toISOString();
    return `${local.slice(0, 10)} ${local.slice(11, 23)} ${known.text}`;
  };
}

/** An unknown zone is UTC, as whoever sends "local" has no better name for it. */
function formatterOf(zone: unknown): Intl.DateTimeFormat {
  const format = (timeZone: string) =>
    new Intl.DateTimeFormat("en-US", {
      timeZone,
      hourCycle: "h23",
      year: "numeric",
      month: "numeric",
      day: "numeric",
      hour: "numeric",
      minute: "numeric",
    });
  try {
    return format(typeof zone === "string" && zone !== "" ? zone : "UTC");
  } catch {
    return format("UTC");
  }
}

/** ms that the zone's clock is ahead of UTC, at the beginning of a quarter. */
function offsetAt(format: Intl.DateTimeFormat, time: number): number {
  const part = Object.fromEntries(format.formatToParts(time).map(({ type, value }) => [type, Number(value)]));
  const shown = Date.UTC(part["year"]!, part["month"]! - 1, part["day"]!, part["hour"]!, part["minute"]!);
  return shown - time;
}

function textOf(offset: number): string {
  const minutes = Math.abs(Math.round(offset / MINUTE));
  const two = (n: number) => String(n).padStart(2, "0");
  const rest = minutes % 60 === 0 ? "" : two(minutes % 60);
  return `${offset < 0 ? "-" : "+"}${two(Math.floor(minutes / 60))}${rest}`;
}
