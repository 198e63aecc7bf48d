import { gzipSync } from "node:zlib";
import { assets } from "../generated.ts";

/** A file the pages need; its path holds a hash of its content. */
export interface Asset {
  path: string;
  type: string;
  body: string;
}

export type AssetName =
  | "run-list"
  | "run-overview"
  | "run-metrics"
  | "run-logs"
  | "run-hardware"
  | "run-files"
  | "run-timeline"
  | "models"
  | "model"
  | "version"
  | "devices"
  | "device"
  | "relay"
  | "sources"
  | "plain"
  | "style"
  | "icon";

const assetByPath = new Map(Object.values(assets).map((asset) => [asset.path, asset]));
const compressed = new Map<string, Uint8Array<ArrayBuffer>>();

export function assetPath(name: AssetName): string {
  const asset = assets[name];
  if (!asset) throw new Error(`The build left out the asset ${name}.`);
  return asset.path;
}

/** Exact matches alone: no path given by a client ever reaches a file system. */
export function serveAsset(path: string, acceptEncoding: string | undefined): Response | undefined {
  const asset = assetByPath.get(path);
  if (!asset) return undefined;
  const headers: Record<string, string> = {
    "content-type": asset.type,
    "cache-control": "public, max-age=31536000, immutable",
    "x-content-type-options": "nosniff",
    vary: "accept-encoding",
  };
  if (!acceptEncoding?.includes("gzip")) return new Response(asset.body, { headers });
  let bytes = compressed.get(path);
  if (!bytes) compressed.set(path, (bytes = new Uint8Array(gzipSync(asset.body))));
  return new Response(bytes, { headers: { ...headers, "content-encoding": "gzip" } });
}
