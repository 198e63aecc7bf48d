import { checkAddress } from "./address.ts";
import type { Destination } from "./destinations.ts";
import { checkFedmlAddress, FEDML_PREFIX } from "./fedml/address.ts";
import { checkOtlpAddress, OTLP_PREFIX } from "./otlp/address.ts";

/** A destination's address as it is kept, and what is spoken there. Throws where nothing may be sent to it. */
export function checkDestination(
  text: string,
  options: { insecureHttp: boolean },
): Pick<Destination, "kind" | "url"> {
  const begins = (prefix: string) => text.toLowerCase().startsWith(prefix);
  if (begins(OTLP_PREFIX)) return { kind: "otlp", url: checkOtlpAddress(text, options) };
  if (begins(FEDML_PREFIX)) return { kind: "fedml", url: checkFedmlAddress(text, options) };
  return { kind: "platform", url: checkAddress(text, options) };
}
