/** Which groups of charts a person has folded, in this browser. */
const KEY = "binnacle.collapsed";

export function readCollapsed(): Record<string, boolean> {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}") as Record<string, boolean>;
  } catch {
    return {};
  }
}

export function rememberCollapsed(name: string, collapsed: boolean): void {
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...readCollapsed(), [name]: collapsed }));
  } catch {
    // No storage: it holds for this page.
  }
}
