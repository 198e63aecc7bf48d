import { CollectorError } from "../../error.ts";
import { checkAddress } from "../address.ts";
import type { Destination } from "../destinations.ts";
import type { Signal } from "./prepare.ts";

const PREFIX = "otlp+";

/** A destination's address as it is kept, and what it speaks there. Throws where nothing may be sent to it. */
export function checkDestination(
  text: string,
  options: { insecureHttp: boolean },
): Pick<Destination, "kind" | "url"> {
  if (!text.toLowerCase().startsWith(PREFIX)) return { kind: "platform", url: checkAddress(text, options) };
  const [address, query] = split(text);
  const url = PREFIX + checkAddress(address, options);
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
  return { kind: "otlp", url: kept.size > 0 ? `${url}?${kept}` : url };
}

/** Of an address that is kept. */
export function readOtlpAddress(url: string): { base: string; step: boolean; signals: Signal[] } {
  const [base, query] = split(url);
  const wishes = new URLSearchParams(query);
  const signals = (["metrics", "logs"] as const).filter((signal) => !wishes.has(signal));
  return { base, step: wishes.has("step"), signals };
}

function split(url: string): [address: string, query: string] {
  const address = url.slice(PREFIX.length);
  const at = address.indexOf("?");
  return at < 0 ? [address, ""] : [address.slice(0, at), address.slice(at + 1)];
}
