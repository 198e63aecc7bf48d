import { CollectorError } from "../../error.ts";
import { checkAddress } from "../address.ts";
import type { Destination } from "../destinations.ts";

const PREFIX = "otlp+";
const STEP = "?step=true";

/** A destination's address as it is kept, and what it speaks there. Throws where nothing may be sent to it. */
export function checkDestination(
  text: string,
  options: { insecureHttp: boolean },
): Pick<Destination, "kind" | "url"> {
  if (!text.toLowerCase().startsWith(PREFIX)) return { kind: "platform", url: checkAddress(text, options) };
  const [address = "", query] = splitOnce(text.slice(PREFIX.length), "?");
  if (query !== undefined && !/^step=(true|false)?$/.test(query))
    throw new CollectorError("invalid", "The address asks for something that is not known.", {
      hint: `Leave out what is behind "?", or give ${STEP}.`,
    });
  const url = PREFIX + checkAddress(address, options);
  return { kind: "otlp", url: query === "step=true" ? url + STEP : url };
}

/** Of an address that is kept. */
export const readOtlpAddress = (url: string): { base: string; step: boolean } => {
  const [address = "", query] = splitOnce(url.slice(PREFIX.length), "?");
  return { base: address, step: query !== undefined };
};

function splitOnce(text: string, by: string): [string, string | undefined] {
  const at = text.indexOf(by);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}
