import type { MetricsView } from "../metrics-view.ts";
import type { LiveSeries } from "../series.ts";

/** A chart that is on screen. */
export interface VisibleChart {
  name: string;
  setView(view: MetricsView): void;
  append(live: LiveSeries): void;
  refresh(): void;
  recolor(): void;
}

export const cards = new Set<VisibleChart>();

type Seen = (visible: boolean) => void;

const listenerByElement = new WeakMap<Element, Seen>();

/** Charts a screen away are ready before they are reached; those beyond are let go. */
const observer = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) listenerByElement.get(target)?.(isIntersecting);
  },
  { rootMargin: "500px" },
);

export function observe(element: Element, listener: Seen): () => void {
  listenerByElement.set(element, listener);
  observer.observe(element);
  return () => observer.unobserve(element);
}
