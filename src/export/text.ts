/** Prometheus' text format 0.0.4: families in the order in which they are begun, each with what it is in words. */
export const TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8";

export type Kind = "counter" | "gauge" | "untyped";

export type Labels = Readonly<Record<string, string | number>>;

/** Labels as they are written: for who has many values with the same ones. */
export type WrittenLabels = string & { readonly written: unique symbol };

export interface Family {
  /** A value that is absent is not written: there is no such thing as 0 for it. */
  add(value: number | undefined, labels?: Labels | WrittenLabels): void;
}

export interface Exposition {
  /** The family of this name; its HELP and TYPE are written once it has a value. */
  family(name: string, kind: Kind, help: string): Family;
  toString(): string;
}

export function createExposition(): Exposition {
  const families = new Map<string, { head: string; lines: Map<string, string> }>();
  return {
    family(name, kind, help) {
      let family = families.get(name);
      if (!family) {
        const head = `# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${kind}\n`;
        families.set(name, (family = { head, lines: new Map() }));
      }
      const { lines } = family;
      return {
        add(value, labels = UNLABELLED) {
          if (value === undefined) return;
          const key = typeof labels === "string" ? labels : writeLabels(labels);
          // One value for each set of labels: a repetition would cost the whole scrape.
          if (!lines.has(key)) lines.set(key, `${name}${key} ${formatValue(value)}\n`);
        },
      };
    },
    toString() {
      let text = "";
      for (const { head, lines } of families.values()) {
        if (lines.size === 0) continue;
        text += head;
        for (const line of lines.values()) text += line;
      }
      return text;
    },
  };
}

const escapeHelp = (text: string) => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");

/** Nearly no label has anything to escape. */
const escapeLabel = (text: string) => (/[\\\n"]/.test(text) ? escapeHelp(text).replaceAll('"', '\\"') : text);

export function writeLabels(labels: Labels): WrittenLabels {
  let pairs = "";
  for (const name in labels) {
    const value = labels[name]!;
    const text = typeof value === "number" ? value : escapeLabel(value);
    pairs += `${pairs === "" ? "" : ","}${name}="${text}"`;
  }
  return (pairs === "" ? "" : `{${pairs}}`) as WrittenLabels;
}

const UNLABELLED = "" as WrittenLabels;

function formatValue(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (Number.isFinite(value)) return String(value);
  return value > 0 ? "+Inf" : "-Inf";
}
