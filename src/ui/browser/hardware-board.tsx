/** @jsxImportSource hono/jsx/dom */
import { useState } from "hono/jsx/dom";
import { DeviceFacts, GpuNotice } from "../components/device-facts.tsx";
import { EventTable } from "../components/event-table.tsx";
import { Icon } from "../components/icon.tsx";
import { formatCount } from "../format.ts";
import type { HardwareChart, Section } from "../hardware-charts.ts";
import { isTold, unreadOf } from "../hardware-gpus.ts";
import type { HardwareView } from "../hardware-view.ts";
import { whyNothing } from "../hardware-words.ts";
import type { Run } from "../../run/schema.ts";
import { isEnded } from "../components/time.tsx";
import { readCollapsed, rememberCollapsed } from "./collapsed.ts";
import { HardwareCard, type CardShared } from "./hardware-card.tsx";
import type { HardwareData } from "./hardware-data.ts";
import { HardwareTools } from "./hardware-tools.tsx";

const sections: [Section, string][] = [
  ["run", "Run"],
  ["gpu", "GPU metrics"],
  ["machine", "Machine metrics"],
];

export interface BoardProps {
  data: HardwareData;
  run: Run | undefined;
  ranges: readonly number[];
  usual: number | undefined;
  onView: (change: Partial<HardwareView>) => void;
}

/** Everything about one device: what it is, charts by section, and what happened. */
export const HardwareBoard = ({ data, run, ranges, usual, onView }: BoardProps) => {
  const { state, device, place, source } = data;
  const { charts, view, events, problem } = state;
  if (!place || !device || !source) return <Nothing data={data} run={run} onView={onView} />;
  const shared: CardShared = {
    source,
    window: data.window,
    facts: data.gapFacts,
    onZoom: (from, to) => onView({ zoom: { from, to } }),
    onReset: () => onView({ zoom: undefined }),
  };
  const isAnybodys = run === undefined || (place.use !== undefined && !isTold(place.use));
  const own = place.use?.gpus.map(({ uuid }) => uuid) ?? [];
  return (
    <>
      <DeviceFacts device={device} use={place.use} linked={run !== undefined} />
      <HardwareTools
        view={view}
        onView={onView}
        devices={state.places}
        device={place.id}
        gpus={data.gpus}
        own={isAnybodys ? undefined : own}
        shown={data.shownGpus}
        ranges={ranges}
        whole={run === undefined ? undefined : "Whole run"}
        usual={usual}
      />
      {problem !== undefined && (
        <p class="notice bad" role="alert">
          {problem}
        </p>
      )}
      {charts === undefined ? (
        <p class="loading faint" role="status">
          Loading…
        </p>
      ) : charts.length === 0 ? (
        <Nothing data={data} run={run} onView={onView} />
      ) : (
        sections.map(([section, title]) => (
          <ChartSection
            key={section}
            section={section}
            title={title}
            charts={charts.filter((chart) => chart.section === section)}
            subjects={state.subjects[section]}
            {...shared}
          >
            {section === "gpu" && <GpuNotice device={device} />}
            {section === "gpu" &&
              unreadOf(data.gpus, data.shownGpus).map(({ readings, gpus, reason }) => (
                <p key={reason} class="faint gpu-note">
                  Not read on {gpus.join(", ")}: {readings.join(", ")}. {reason}
                </p>
              ))}
            {section === "gpu" && data.shownGpus.length === 0 && data.gpus.length > 0 && (
              <p class="faint gpu-note">
                No GPU is known to be the run’s: none is named in its CUDA_VISIBLE_DEVICES, and no process of
                it was seen on one.{" "}
                <button class="link" type="button" onClick={() => onView({ gpus: "all" })}>
                  Show all GPUs of the machine
                </button>
              </p>
            )}
          </ChartSection>
        ))
      )}
      {charts !== undefined && (
        <EventTable
          events={events}
          gpus={data.gpus}
          more={state.more}
          onShow={(time) => {
            onView({ zoom: { from: time - SHOW_MS, to: time + SHOW_MS } });
            document.querySelector(".hardware-tools")?.scrollIntoView({ block: "start" });
          }}
        />
      )}
    </>
  );
};

/** Around an event, on each side. */
const SHOW_MS = 120_000;

type SectionProps = CardShared & {
  section: Section;
  title: string;
  charts: HardwareChart[];
  subjects: readonly string[];
  children?: unknown;
};

function ChartSection({ section, title, charts, subjects, children, ...shared }: SectionProps) {
  const name = `hardware/${section}`;
  const [open, setOpen] = useState<boolean>(() => !readCollapsed()[name]);
  const notes = Array.isArray(children) && children.flat().some(Boolean);
  if (charts.length === 0 && !notes) return null;
  return (
    <section class="chart-group" aria-label={title}>
      <h2>
        <button
          type="button"
          class="group-toggle"
          aria-expanded={open ? "true" : "false"}
          onClick={() => {
            rememberCollapsed(name, open);
            setOpen(!open);
          }}
        >
          <Icon name={open ? "down" : "right"} size={14} />
          <span>{title}</span>
          <span class="num faint">{charts.length > 0 ? formatCount(charts.length) : ""}</span>
        </button>
      </h2>
      {children}
      {open && charts.length > 0 && (
        <div class="chart-grid">
          {charts.map((chart) => (
            <HardwareCard key={chart.id} chart={chart} subjects={subjects} {...shared} />
          ))}
        </div>
      )}
    </section>
  );
}

interface NothingProps {
  data: HardwareData;
  run: Run | undefined;
  onView: (change: Partial<HardwareView>) => void;
}

const Nothing = ({ data, run, onView }: NothingProps) => {
  const { view, devices, places } = data.state;
  const { title, text, narrow } = whyNothing({
    run: run && { device: run.device, ended: isEnded(run) },
    devices,
    uses: run ? places.length : 0,
    narrow: places.length > 0 && (view.zoom !== undefined || (run !== undefined && view.last !== undefined)),
  });
  return (
    <section class="card no-match">
      <h2>{title}</h2>
      <p>{text}</p>
      {narrow && (
        <button class="button" type="button" onClick={() => onView({ zoom: undefined, last: undefined })}>
          {run ? "Show the whole run" : "Back to the present"}
        </button>
      )}
    </section>
  );
};
