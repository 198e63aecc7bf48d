/** Rows of a table that lead to a page: the whole row for the mouse, j, k and Enter for the keyboard. */
import { shortcut } from "./frame.ts";

export function followRows(app: HTMLElement): void {
  app.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    const target = event.target as Element;
    if (target.closest("a, button, input, form, label, summary")) return;
    const row = target.closest<HTMLElement>("tr[data-href]");
    if (row && getSelection()?.isCollapsed !== false) location.href = row.dataset["href"]!;
  });
}

export interface WalkOptions {
  what: string;
  app: HTMLElement;
  current: () => number | undefined;
  setCurrent: (index: number) => void;
}

export function walkRows({ what, app, current, setCurrent }: WalkOptions): void {
  const rows = () => app.querySelectorAll<HTMLElement>("tr[data-href]");
  const move = (by: number) => {
    const count = rows().length;
    if (count === 0) return;
    const next = Math.min(count - 1, Math.max(0, (current() ?? (by > 0 ? -1 : 0)) + by));
    setCurrent(next);
    requestAnimationFrame(() => {
      const row = rows()[next];
      row?.querySelector<HTMLElement>("a")?.focus({ preventScroll: true });
      row?.scrollIntoView({ block: "nearest" });
    });
  };
  shortcut(["j", "ArrowDown"], `Next ${what}`, () => move(1));
  shortcut(["k", "ArrowUp"], `Previous ${what}`, () => move(-1));
  shortcut(["Enter"], `Open the ${what}`, () => {
    const at = current();
    const row = at === undefined ? undefined : rows()[at];
    if (row) location.href = row.dataset["href"]!;
  });
}
