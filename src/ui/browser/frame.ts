/** What every page has: theme, copy buttons, keyboard shortcuts and the help that lists them. */
import "./banner.ts";
import { nextTheme, parseTheme, THEME_COOKIE, type Theme } from "../theme.ts";

const root = document.documentElement;

const themeNames: Record<Theme, string> = { auto: "as the system", light: "light", dark: "dark" };
const themePaths: Record<Theme, string> = {
  auto: "M8 14.2A6.2 6.2 0 1 0 8 1.8a6.2 6.2 0 0 0 0 12.4ZM8 1.8v12.4M8 5h5.3M8 8h6.2M8 11h5.3",
  light:
    "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6Zm0-9.5v1.2m0 10.6v1.2M1.5 8h1.2m10.6 0h1.2M3.4 3.4l.9.9m7.4 7.4.9.9m0-9.2-.9.9m-7.4 7.4-.9.9",
  dark: "M13.5 9.6A5.9 5.9 0 0 1 6.4 2.5a5.9 5.9 0 1 0 7.1 7.1Z",
};

const themeListeners = new Set<() => void>();

/** Canvas does not follow style sheets: charts draw themselves again. */
export function onTheme(listener: () => void): () => void {
  themeListeners.add(listener);
  return () => themeListeners.delete(listener);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
  themeListeners.forEach((listener) => listener()),
);

function setTheme(theme: Theme): void {
  if (theme === "auto") delete root.dataset["theme"];
  else root.dataset["theme"] = theme;
  document.cookie = `${THEME_COOKIE}=${theme}; path=/; max-age=31536000; samesite=strict`;
  const button = document.getElementById("theme");
  if (button) {
    button.dataset["theme"] = theme;
    button.title = `Colour theme: ${themeNames[theme]}`;
    button.querySelector("path")?.setAttribute("d", themePaths[theme]);
  }
  for (const listener of themeListeners) listener();
}

document.getElementById("theme")?.addEventListener("click", ({ currentTarget }) => {
  setTheme(nextTheme[parseTheme((currentTarget as HTMLElement).dataset["theme"])]);
});

document.addEventListener("click", async (event) => {
  const button = (event.target as Element).closest<HTMLElement>("[data-copy]");
  if (!button) return;
  const label = button.querySelector("span");
  const before = label?.textContent ?? "";
  const copied = await copy(button.dataset["copy"] ?? "");
  if (!label || label.dataset["busy"]) return;
  label.dataset["busy"] = "true";
  label.textContent = copied ? "Copied" : "Press Ctrl+C";
  setTimeout(() => {
    label.textContent = before;
    delete label.dataset["busy"];
  }, 1400);
});

async function copy(text: string): Promise<boolean> {
  try {
    // Absent outside secure contexts, such as http:// on another machine.
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

interface Shortcut {
  keys: string[];
  label: string;
  run: (event: KeyboardEvent) => void;
}

const shortcuts: Shortcut[] = [];

/** `keys` as KeyboardEvent.key has them; single ones without modifiers, and never while somebody types. */
export function shortcut(keys: string[], label: string, run: (event: KeyboardEvent) => void): void {
  shortcuts.push({ keys, label, run });
}

const isTyping = (target: EventTarget | null) =>
  target instanceof HTMLElement &&
  (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (isTyping(event.target)) {
    if (event.key === "Escape") (event.target as HTMLElement).blur();
    return;
  }
  if (document.querySelector("dialog[open]")) return;
  const found = shortcuts.find(({ keys }) => keys.includes(event.key));
  if (!found) return;
  event.preventDefault();
  found.run(event);
});

const keyNames: Record<string, string> = { ArrowDown: "↓", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→" };

function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function openDialog(dialog: HTMLDialogElement): Promise<string> {
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue);
    });
  });
}

function openHelp(): void {
  const list = element("dl", { className: "keys" });
  for (const { keys, label } of shortcuts) {
    const term = element("dt");
    for (const key of keys) term.append(element("kbd", {}, keyNames[key] ?? key));
    list.append(term, element("dd", {}, label));
  }
  const title = element("h2", { id: "help-title" }, "Keyboard");
  const close = element("button", { className: "button", value: "close" }, "Close");
  const form = element(
    "form",
    { method: "dialog" },
    title,
    list,
    element("div", { className: "buttons" }, close),
  );
  const dialog = element("dialog", {}, form);
  dialog.setAttribute("aria-labelledby", "help-title");
  void openDialog(dialog);
}

if (document.getElementById("help")) {
  document.getElementById("help")!.addEventListener("click", openHelp);
  shortcut(["?"], "This help", openHelp);
  shortcut(["t"], "Light, dark, or as the system", () => document.getElementById("theme")?.click());
}

export interface Question {
  title: string;
  text: string;
  action: string;
  danger?: boolean;
  /** Asks for a line of text, with this as its first value. */
  input?: string;
}

/** Asks before something that can't be undone. The answer: the line of text (or "yes"); undefined for no. */
export async function ask({ title, text, action, danger, input }: Question): Promise<string | undefined> {
  const heading = element("h2", { id: "ask-title" }, title);
  const field = element("input", { className: "field", value: input ?? "", required: true, maxLength: 250 });
  field.setAttribute("aria-labelledby", "ask-title");
  const cancel = element("button", { className: "button", type: "button" }, "Cancel");
  const go = element(
    "button",
    { className: `button primary${danger ? " danger" : ""}`, value: "yes" },
    action,
  );
  const form = element("form", { method: "dialog" }, heading);
  if (text) form.append(element("p", { className: "soft" }, text));
  if (input !== undefined) form.append(field);
  form.append(element("div", { className: "buttons" }, cancel, go));
  const dialog = element("dialog", {}, form);
  dialog.setAttribute("aria-labelledby", "ask-title");
  cancel.addEventListener("click", () => dialog.close(""));
  const answer = await openDialog(dialog);
  if (answer !== "yes") return undefined;
  return input === undefined ? "yes" : field.value.trim();
}
