import { CollectorError } from "../../error.ts";

let chosen: string | undefined;

/** Where this process lays down the addon that the compiled program carries; to be said before the first library is opened. */
export function useAddons(folder: string): void {
  chosen = folder;
}

export function addonsFolder(): string {
  const folder = chosen ?? process.env["BINNACLE_ADDONS"];
  if (folder === undefined || folder === "")
    throw new CollectorError("internal", "Nobody said where native addons are kept.", {
      hint: "Set BINNACLE_ADDONS to a folder of your own, such as the data folder's addons.",
    });
  return folder;
}
