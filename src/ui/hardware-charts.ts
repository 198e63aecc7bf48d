/** Which charts there are for what was recorded, and their lines. Pure. */
import { readingOf, readings, type Scope, type Unit } from "../sample/reading.ts";
import { CGROUP, MACHINE, runOfSubject } from "../sample/subject.ts";
import { gpuLabel, shortName } from "./hardware-gpus.ts";
import { boundByLimit, order, shortTitles, titles } from "./hardware-titles.ts";
import type { Gpu } from "../device/schema.ts";

export type Section = "run" | "gpu" | "machine";

/** What a series is called by: whose, which, and which part of it. */
export interface SeriesName {
  subject: string;
  reading: string;
  part: string | null;
}

export interface Line extends SeriesName {
  key: string;
  /** Tells it from all others. */
  label: string;
  /** Tells it from the other lines of its chart: in the legend. */
  short: string;
  /** 1 to 8: the number of a colour of the style sheet. */
  color: number;
  /** A container's beside its host's, or past the eighth colour. */
  dashed: boolean;
  unit: Unit;
}

export interface HardwareChart {
  id: string;
  section: Section;
  title: string;
  unit: Unit;
  /** The axis ends here; undefined: at the limits, or where the values end. */
  max: number | undefined;
  lines: Line[];
  /** What the lines can't go beyond: total memory, power limit. Drawn where they lie, they end the axis. */
  limits: Line[];
  /** Lines there would be, too: more than so many nobody tells apart. */
  left: number;
  /** "share": each line is divided by the limit of its part. "since": a counter is shown from the start of the window. "spans": no line, but when something was the case. */
  shape: "lines" | "share" | "since" | "spans";
  /** What bounds it by nature, as the temperature at which a GPU slows down; it is drawn and ends the axis as limits do. */
  ceiling: number | undefined;
  /** What the lines have in common: the name of the GPUs, where it is the same. */
  common: string | undefined;
  /** Subjects whose events are marked on it. */
  subjects: string[];
}

export const keyOfSeries = ({ subject, reading, part }: SeriesName): string =>
  JSON.stringify([subject, reading, part]);

const MAX_COLORS = 8;
const MAX_LINES = 16;

const placeByChart = new Map(order.map((chart, i) => [chart, i]));

const scopeOf = (subject: string): Scope =>
  subject === MACHINE
    ? "machine"
    : subject === CGROUP
      ? "cgroup"
      : runOfSubject(subject) === undefined
        ? "gpu"
        : "run";

const sectionOf: Record<Scope, Section> = { run: "run", gpu: "gpu", machine: "machine", cgroup: "machine" };

interface Draft {
  chart: string;
  id: string;
  title: string;
  section: Section;
  series: SeriesName[];
}

/**
 * Charts of a list of series. Of GPUs one chart a reading with a line each; of machines and runs one chart for readings that
 * belong together, and another for their parts.
 */
export function chartsOf(series: readonly SeriesName[], gpus: readonly Gpu[]): HardwareChart[] {
  const drafts = new Map<string, Draft>();
  for (const name of series) {
    const reading = readingOf(name.reading);
    // Of a newer version: its unit is unknown here.
    if (!reading) continue;
    const section = sectionOf[scopeOf(name.subject)];
    const bounded = boundByLimit[name.reading] ?? name.reading;
    // The container's limit is drawn under its own use, not under the host's.
    const apart = name.part !== null && section === "machine" && reading.chart !== "filesystem";
    const byReading = section === "gpu" || apart;
    const id = byReading ? `${bounded}${apart ? "@" : ""}` : reading.chart;
    let draft = drafts.get(id);
    if (!draft) {
      const title = byReading
        ? (titles[bounded] ?? readingOf(bounded)?.title ?? bounded)
        : (titles[reading.chart] ?? reading.title);
      drafts.set(
        id,
        (draft = {
          chart: reading.chart,
          id,
          title: apart ? `${title}, each ${reading.part ?? "part"}` : title,
          section,
          series: [],
        }),
      );
    }
    draft.series.push(name);
  }
  // The only disk is all disks: one chart of it is enough.
  for (const [id, { series: parts, chart }] of drafts)
    if (id.endsWith("@") && new Set(parts.map(({ part }) => part)).size === 1)
      if (drafts.get(chart)?.series.some(({ reading }) => reading === parts[0]!.reading)) drafts.delete(id);
  const charts = [...drafts.values()].map((draft) => finish(draft, gpus));
  return charts
    .filter((chart) => chart !== undefined)
    .sort((a, b) => sections.indexOf(a.section) - sections.indexOf(b.section) || placeOf(a) - placeOf(b));
}

/** What there is nothing of is not used either: a machine without swap has no chart of it. */
export function withoutEmpty<T extends SeriesName & { mean: readonly (number | null)[] }>(
  series: readonly T[],
): T[] {
  const nothing = new Set(
    series
      .filter(({ reading, mean }) => reading === "swap.total" && mean.every((value) => !value))
      .map(({ subject }) => `${subject} swap`),
  );
  return series.filter(
    ({ subject, reading, mean }) =>
      mean.some((value) => value !== null) && !nothing.has(`${subject} ${reading.split(".")[0]}`),
  );
}

const essential = ["gpu.utilization", "gpu.memory.used", "gpu.power", "gpu.temperature"];

/** A GPU that is lost has no values, and yet its lines: their gap is what there is to see. */
export function withLost(
  series: readonly SeriesName[],
  gpus: readonly Gpu[],
  shown: readonly string[],
): SeriesName[] {
  const present = new Set(series.map(({ subject }) => subject));
  const lost = gpus.filter(({ uuid, lost }) => lost && shown.includes(uuid) && !present.has(uuid));
  if (lost.length === 0) return [...series];
  const others = series.filter(({ subject }) => shown.includes(subject)).map(({ reading }) => reading);
  const readings = new Set(others.length > 0 ? others : essential);
  return [
    ...series,
    ...lost.flatMap(({ uuid }) => [...readings].map((reading) => ({ subject: uuid, reading, part: null }))),
  ];
}

const sections: Section[] = ["run", "gpu", "machine"];

/** `gpu.memory.used` stands where its chart does; charts of parts stand behind all others. */
function placeOf({ id }: HardwareChart): number {
  if (id.endsWith("@")) return 1000;
  return placeByChart.get(id) ?? placeByChart.get(readingOf(id)?.chart ?? id) ?? 500;
}

function finish(
  { chart, id, title, section, series }: Draft,
  gpus: readonly Gpu[],
): HardwareChart | undefined {
  const limits = series.filter(({ reading }) => Object.hasOwn(boundByLimit, reading));
  const used = series.filter(({ reading }) => !Object.hasOwn(boundByLimit, reading));
  if (used.length === 0) return undefined;
  const first = readingOf(used[0]!.reading)!;
  const sorted = section === "gpu" || chart.startsWith("run.gpu") ? byGpu(used, gpus) : byPart(used);
  const readingsShown = new Set(sorted.map(({ reading }) => reading)).size;
  const shown = sorted.slice(0, MAX_LINES);
  const names = new Set(shown.map((name) => shortName(gpuOf(name, gpus)?.name ?? "")));
  const common = names.size === 1 ? [...names][0] || undefined : undefined;
  const lines = shown.map((name, i) => {
    const partner = sorted.findIndex(
      (other) => other.subject === MACHINE && other.reading === name.reading && other.part === name.part,
    );
    const isContainer = name.subject === CGROUP;
    const place = gpuPlace(name, gpus) ?? (isContainer && partner >= 0 ? partner : i);
    const label = labelOf(name, section, gpus, readingsShown > 1, used);
    const gpu = gpuOf(name, gpus);
    return {
      ...name,
      key: keyOfSeries(name),
      label,
      short: gpu && common !== undefined ? gpuLabel(gpu, gpus) : label,
      color: (place % MAX_COLORS) + 1,
      dashed: isContainer || place >= MAX_COLORS,
      unit: first.unit,
    };
  });
  const isShare = chart === "filesystem" && limits.length > 0;
  const shape = isShare ? "share" : first.unit === "J" ? "since" : first.unit === "bits" ? "spans" : "lines";
  return {
    id,
    section,
    title,
    unit: isShare ? "ratio" : first.unit,
    max: isShare ? 1 : first.max,
    lines,
    limits: limits.map((name, i) => ({
      ...name,
      key: keyOfSeries(name),
      label: readingOf(name.reading)!.title,
      short: readingOf(name.reading)!.title,
      color: (i % MAX_COLORS) + 1,
      dashed: true,
      unit: first.unit,
    })),
    left: sorted.length - lines.length,
    shape,
    ceiling: ceilingOf(chart, lines, gpus),
    common,
    subjects: [...new Set(lines.map(({ subject }) => subject))],
  };
}

function ceilingOf(chart: string, lines: readonly SeriesName[], gpus: readonly Gpu[]): number | undefined {
  const most = (of: (gpu: Gpu) => number | null) => {
    const values = lines.map((line) => gpuOf(line, gpus)).map((gpu) => gpu && of(gpu));
    const known = values.filter((value) => typeof value === "number");
    return known.length > 0 ? Math.max(...known) : undefined;
  };
  if (chart === "gpu.temperature") return most((gpu) => gpu.slowdown_temperature);
  if (chart === "gpu.clock.sm") return most((gpu) => gpu.max_clock_sm);
  if (chart === "gpu.clock.memory") return most((gpu) => gpu.max_clock_memory);
  return chart === "run.gpu.memory" ? most((gpu) => gpu.memory) : undefined;
}

/** The UUID that a line is about: its subject's, or its part's. */
const gpuOf = ({ subject, part }: SeriesName, gpus: readonly Gpu[]): Gpu | undefined =>
  gpus.find(({ uuid }) => uuid === subject || uuid === part);

/** The same GPU has the same colour on every chart. */
function gpuPlace(name: SeriesName, gpus: readonly Gpu[]): number | undefined {
  const gpu = gpuOf(name, gpus);
  return gpu && gpus.indexOf(gpu);
}

function byGpu<T extends SeriesName>(series: readonly T[], gpus: readonly Gpu[]): T[] {
  const place = (name: T) => gpuPlace(name, gpus) ?? gpus.length;
  return series.toSorted((a, b) => place(a) - place(b));
}

const natural = new Intl.Collator("en", { numeric: true });

const names = Object.keys(readings);
const rankOf = ({ reading }: SeriesName) => names.indexOf(reading);

/** The machine before its container, the whole before its parts; readings as the catalogue has them. */
const byPart = <T extends SeriesName>(series: readonly T[]): T[] =>
  series.toSorted(
    (a, b) =>
      Number(a.subject === CGROUP) - Number(b.subject === CGROUP) ||
      natural.compare(a.part ?? "", b.part ?? "") ||
      rankOf(a) - rankOf(b),
  );

function labelOf(
  name: SeriesName,
  section: Section,
  gpus: readonly Gpu[],
  several: boolean,
  all: readonly SeriesName[],
): string {
  const gpu = gpuOf(name, gpus);
  if (gpu) return `${gpuLabel(gpu, gpus)} ${shortName(gpu.name)}`;
  if (section === "gpu") return name.subject;
  const what = shortTitles[name.reading] ?? readingOf(name.reading)!.title;
  const both = new Set(all.map(({ subject }) => subject)).size > 1;
  const whose = name.subject === CGROUP ? "container" : both ? "host" : "";
  const words = name.part === null ? (several || whose === "" ? what : "") : name.part;
  if (whose === "") return words;
  return words === "" ? capital(whose) : `${words}, ${whose}`;
}

const capital = (word: string) => word.charAt(0).toUpperCase() + word.slice(1);
