import { CollectorError } from "../../error.ts";
import { checkAddress } from "../address.ts";

export const FEDML_PREFIX = "fedml+";

/** What stands behind it lets anybody write into a run of another collector. */
const SECRET = /(?<=\/fedml\/).+$/i;
const HIDDEN = "…";
const HIDDEN_IN_PATH = encodeURIComponent(HIDDEN);

/** The address of a platform that speaks FedML's protocol, whole. Throws where nothing may be sent to it. */
export function checkFedmlAddress(text: string, options: { insecureHttp: boolean }): string {
  const url = FEDML_PREFIX + checkAddress(text.slice(FEDML_PREFIX.length), options);
  if (url.endsWith(`/fedml/${HIDDEN_IN_PATH}`))
    throw new CollectorError("invalid", "The address is as it is shown, without the secret in it.", {
      hint: "Give it whole: `binnacle fedml env` prints it where it leads to.",
    });
  return url;
}

/** Of an address as it was checked: where its HTTP interface is. */
export const readFedmlAddress = (url: string): string => url.slice(FEDML_PREFIX.length);

/** As any destination's address may be shown and kept in the database. */
export function shownAddress(url: string): string {
  const secret = secretOfAddress(url);
  return secret === undefined ? url : url.slice(0, -secret.length) + HIDDEN;
}

/** undefined: there is none, or it is not shown. */
export function secretOfAddress(url: string): string | undefined {
  if (!url.startsWith(FEDML_PREFIX)) return undefined;
  const secret = SECRET.exec(new URL(readFedmlAddress(url)).pathname)?.[0];
  return secret === HIDDEN_IN_PATH ? undefined : secret;
}
