/** @jsxImportSource hono/jsx */
import type { Gpu } from "../../device/schema.ts";
import type { DeviceEvent } from "../../sample/schema.ts";
import { formatCount, formatTime } from "../format.ts";
import { eventWord, severityOf, subjectLabel } from "../hardware-gaps.ts";

const MAX_ROWS = 300;

export interface EventTableProps {
  /** Ascending. */
  events: readonly DeviceEvent[];
  gpus: readonly Gpu[];
  /** Older ones were not fetched. */
  more: boolean;
  onShow?: (time: number) => void;
}

/** What happened, in time order: the same that stands on the charts, in words. */
export const EventTable = ({ events, gpus, more, onShow }: EventTableProps) => {
  const shown = events.slice(-MAX_ROWS);
  return (
    <section class="card panel events" aria-labelledby="events">
      <h2 id="events">
        Events <span class="faint num">{events.length > 0 ? formatCount(events.length) : ""}</span>
      </h2>
      {events.length === 0 ? (
        <p class="faint">Nothing out of the ordinary.</p>
      ) : (
        <div class="table-wrap">
          <table class="small-table" role="table">
            <caption class="unseen">Events in time order</caption>
            <thead role="rowgroup">
              <tr role="row">
                <th scope="col" role="columnheader">
                  Time
                </th>
                <th scope="col" role="columnheader">
                  Event
                </th>
                <th scope="col" role="columnheader">
                  Where
                </th>
                <th scope="col" role="columnheader">
                  What
                </th>
              </tr>
            </thead>
            <tbody role="rowgroup">
              {shown.map((event) => (
                <tr key={event.id} role="row">
                  <td class="num" role="cell">
                    {onShow ? (
                      <button
                        class="link"
                        type="button"
                        title="Show this time on the charts"
                        onClick={() => onShow(Date.parse(event.time))}
                      >
                        {formatTime(Date.parse(event.time))}
                      </button>
                    ) : (
                      formatTime(Date.parse(event.time))
                    )}
                  </td>
                  <td role="cell">
                    <span class="severity" data-severity={severityOf(event)}>
                      {eventWord(event)}
                    </span>
                  </td>
                  <td role="cell">{subjectLabel(event.subject, gpus)}</td>
                  <td class="what" role="cell">
                    {event.text}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {(more || shown.length < events.length) && (
        <p class="faint">Older ones are left out: choose a shorter time to see them.</p>
      )}
    </section>
  );
};
