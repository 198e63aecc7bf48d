import { checkAddress } from "../address.ts";

export const FEDML_PREFIX = "fedml+";

/** The address of a platform that speaks FedML's protocol, as it is kept. Throws where nothing may be sent to it. */
export const checkFedmlAddress = (text: string, options: { insecureHttp: boolean }): string =>
  FEDML_PREFIX + checkAddress(text.slice(FEDML_PREFIX.length), options);

/** Of an address that is kept: where its HTTP interface is. */
export const readFedmlAddress = (url: string): string => url.slice(FEDML_PREFIX.length);
