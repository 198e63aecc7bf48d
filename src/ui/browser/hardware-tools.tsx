/** @jsxImportSource hono/jsx/dom */
import type { Gpu } from "../../device/schema.ts";
import { Icon } from "../components/icon.tsx";
import { formatTime } from "../format.ts";
import { gpuLabel, shortName } from "../hardware-gpus.ts";
import { rangeLabel, type HardwareView } from "../hardware-view.ts";

export interface HardwareToolsProps {
  view: HardwareView;
  onView: (change: Partial<HardwareView>) => void;
  devices: readonly { id: string; name: string }[];
  device: string;
  /** All of the machine. */
  gpus: readonly Gpu[];
  /** The run's; undefined on a device's own page. */
  own: readonly string[] | undefined;
  /** Those that are shown. */
  shown: readonly string[];
  ranges: readonly number[];
  /** In the place of the first range: all of the run's life. */
  whole: string | undefined;
  /** The range that holds while none was chosen. */
  usual: number | undefined;
}

interface ChoiceProps {
  pressed: boolean;
  onPress: () => void;
  label?: string;
  title?: string;
  children: unknown;
}

const Choice = ({ pressed, onPress, label, title, children }: ChoiceProps) => (
  <button
    type="button"
    aria-pressed={pressed ? "true" : "false"}
    aria-label={label}
    title={title}
    onClick={onPress}
  >
    {children}
  </button>
);

export const HardwareTools = (props: HardwareToolsProps) => {
  const { view, onView, devices, device, ranges, whole, usual } = props;
  const last = view.zoom ? null : (view.last ?? usual);
  return (
    <div class="toolbar metric-tools hardware-tools" role="toolbar" aria-label="Charts">
      {devices.length > 1 && (
        <label class="labelled">
          <span>Machine</span>
          <select
            class="field"
            id="device"
            value={device}
            onChange={(event: Event) =>
              onView({ device: (event.target as HTMLSelectElement).value, gpus: "run" })
            }
          >
            {devices.map(({ id, name }) => (
              <option key={id} value={id} selected={id === device}>
                {name}
              </option>
            ))}
          </select>
        </label>
      )}
      <div class="segments" role="group" aria-label="Time">
        {whole !== undefined && (
          <Choice pressed={last === undefined} onPress={() => onView({ last: undefined, zoom: undefined })}>
            {whole}
          </Choice>
        )}
        {ranges.map((minutes) => (
          <Choice
            key={minutes}
            pressed={last === minutes}
            label={`Last ${rangeLabel(minutes)}`}
            onPress={() => onView({ last: minutes === usual ? undefined : minutes, zoom: undefined })}
          >
            {rangeLabel(minutes)}
          </Choice>
        ))}
      </div>
      <GpuChoice {...props} />
      {view.zoom && (
        <button class="button" type="button" id="reset-zoom" onClick={() => onView({ zoom: undefined })}>
          <Icon name="reset" size={14} /> <span>Reset zoom</span>
          <span class="faint num zoomed">
            {formatTime(view.zoom.from).slice(11)} to {formatTime(view.zoom.to).slice(11)}
          </span>
        </button>
      )}
    </div>
  );
};

const GpuChoice = ({ view, onView, gpus, own, shown }: HardwareToolsProps) => {
  if (gpus.length < 2 && (own === undefined || own.length === gpus.length)) return null;
  const isAll = view.gpus === "all" || (own === undefined && view.gpus === "run");
  const toggle = (uuid: string) => {
    const next = shown.includes(uuid) ? shown.filter((other) => other !== uuid) : [...shown, uuid];
    // None at all would be a page without GPUs: the last one stays.
    if (next.length > 0)
      onView({ gpus: gpus.map((gpu) => gpu.uuid).filter((known) => next.includes(known)) });
  };
  return (
    <>
      <div class="segments" role="group" aria-label="GPUs">
        {own !== undefined && (
          <Choice pressed={view.gpus === "run"} onPress={() => onView({ gpus: "run" })}>
            This run’s GPUs <span class="num">{own.length}</span>
          </Choice>
        )}
        <Choice pressed={isAll} onPress={() => onView({ gpus: own === undefined ? "run" : "all" })}>
          All GPUs <span class="num">{gpus.length}</span>
        </Choice>
      </div>
      {gpus.length > 1 && (
        <div class="segments chips" role="group" aria-label="Each GPU">
          {gpus.map((gpu) => (
            <Choice
              key={gpu.uuid}
              pressed={shown.includes(gpu.uuid)}
              label={`${gpuLabel(gpu, gpus)} ${shortName(gpu.name)}`}
              title={`${gpuLabel(gpu, gpus)} ${shortName(gpu.name)}${gpu.lost ? ", lost" : ""}`}
              onPress={() => toggle(gpu.uuid)}
            >
              <span class="num">{gpuLabel(gpu, gpus).slice(4)}</span>
            </Choice>
          ))}
        </div>
      )}
    </>
  );
};
