import { join } from "node:path";
import { CollectorError } from "../error.ts";

/** A digest becomes part of a path only through here. */
function checked(sha256: string): string {
  if (!/^[0-9a-f]{64}$/.test(sha256))
    throw new CollectorError("invalid", "That is no SHA-256.", {
      hint: "Give 64 lower-case hexadecimal digits.",
    });
  return sha256;
}

/** Where a blob lies that is complete. */
export function blobPath(folder: string, sha256: string): string {
  const name = checked(sha256);
  return join(folder, name.slice(0, 2), name.slice(2));
}

/** Where it is put together: beside its final place, so that it can be renamed there. */
export const incomingPath = (folder: string, sha256: string): string =>
  join(folder, "incoming", checked(sha256));

/** Where it waits to be deleted. */
export const goingPath = (folder: string, sha256: string): string =>
  join(folder, "incoming", `${checked(sha256)}.going`);

/** Where bytes lie whose digest is not known yet, or that are a part of what comes. `id`: of ours, 32 hexadecimal digits. */
export function partPath(folder: string, id: string): string {
  if (!/^[0-9a-f]{32}$/.test(id)) throw new CollectorError("internal", "That is no part's id.");
  return join(folder, "incoming", `${id}.part`);
}

/** The id of a part by its file's name; undefined for other files. */
export const partOfName = (name: string): string | undefined => /^([0-9a-f]{32})\.part$/.exec(name)?.[1];
