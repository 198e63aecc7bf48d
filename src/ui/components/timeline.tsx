/** @jsxImportSource hono/jsx */
import { formatCount, formatTime } from "../format.ts";
import { durationWords, edgeLabel, elapsed, spanWords, type Bar } from "../timeline.ts";

export interface SpanTableProps {
  /** In time order. */
  bars: readonly Bar[];
  first: 0 | 1;
  /** Times stand as what has passed since this. */
  origin: number;
  isLive: boolean;
  selected: string | undefined;
  limit: number;
  onShow: (bar: Bar) => void;
  onMore: () => void;
}

const words = { event: "Event", round: "Round", status: "Status" } as const;

/** The same that the timeline shows, in words. */
export const SpanTable = ({
  bars,
  first,
  origin,
  isLive,
  selected,
  limit,
  onShow,
  onMore,
}: SpanTableProps) => (
  <section class="card panel spans" aria-labelledby="spans">
    <h2 id="spans">
      Spans <span class="faint num">{formatCount(bars.length)}</span>
    </h2>
    {bars.length === 0 ? (
      <p class="faint">None has these words.</p>
    ) : (
      <div class="table-wrap">
        <table class="small-table" role="table">
          <caption class="unseen">Spans in time order</caption>
          <thead role="rowgroup">
            <tr role="row">
              <th scope="col" role="columnheader">
                Start
              </th>
              <th scope="col" role="columnheader">
                Duration
              </th>
              <th scope="col" role="columnheader">
                Where
              </th>
              <th scope="col" role="columnheader">
                What
              </th>
              <th scope="col" role="columnheader">
                Kind
              </th>
            </tr>
          </thead>
          <tbody role="rowgroup">
            {bars.slice(0, limit).map((bar) => (
              <tr key={bar.span.id} role="row" {...(bar.span.id === selected && { "aria-current": "true" })}>
                <td class="num" role="cell">
                  <button
                    class="link"
                    type="button"
                    title={`${formatTime(bar.from, { millis: true })}: zoom to it in the timeline`}
                    onClick={() => onShow(bar)}
                  >
                    {bar.lacks === "start" ? "—" : elapsed(bar.from - origin)}
                  </button>
                </td>
                <td class="num" role="cell">
                  {durationWords(bar, isLive)}
                </td>
                <td class="where" role="cell">
                  <bdi>{bar.span.kind === "round" ? "Run" : edgeLabel(bar.span.edge)}</bdi>
                </td>
                <td class="what" role="cell">
                  <bdi>{spanWords(bar.span, first)}</bdi>
                </td>
                <td class="faint" role="cell">
                  {words[bar.span.kind]}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    )}
    {bars.length > limit && (
      <button class="button" type="button" onClick={onMore}>
        Show more
      </button>
    )}
  </section>
);
