import { CollectorError } from "../../error.ts";
import { checkAddress } from "../address.ts";
import type { Signal } from "./prepare.ts";

export const OTLP_PREFIX = "otlp+";

/** A backend's address as it is kept. Throws where nothing may be sent to it. */
export function checkOtlpAddress(text: string, options: { insecureHttp: boolean }): string {
  const [address, query] = split(text);
  const url = OTLP_PREFIX + checkAddress(address, options);
  const wishes = new URLSearchParams(query);
  const kept = new URLSearchParams();
  for (const [name, value] of wishes) {
    const isKnown =
      name === "step" ? value === "true" : ["metrics", "logs"].includes(name) && value === "false";
    if (!isKnown || (name !== "step" && kept.has(name === "logs" ? "metrics" : "logs")))
      throw new CollectorError("invalid", "The address asks for something that is not known.", {
        hint: 'Behind "?" may stand step=true, and logs=false or metrics=false.',
      });
    kept.set(name, value);
  }
  kept.sort();
  return kept.size > 0 ? `${url}?${kept}` : url;
}

/** Of an address that is kept. */
export function readOtlpAddress(url: string): { base: string; step: boolean; signals: Signal[] } {
  const [base, query] = split(url);
  const wishes = new URLSearchParams(query);
  const signals = (["metrics", "logs"] as const).filter((signal) => !wishes.has(signal));
  return { base, step: wishes.has("step"), signals };
}

function split(url: string): [address: string, query: string] {
  const address = url.slice(OTLP_PREFIX.length);
  const at = address.indexOf("?");
  return at < 0 ? [address, ""] : [address.slice(0, at), address.slice(at + 1)];
}
