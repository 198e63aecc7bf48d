import { SignatureV4 } from "@smithy/signature-v4";
import { NodeSha256 } from "../../sigv4-digest.ts";
import type { StorageConfig } from "./configs.ts";

export interface ToSign {
  method: string;
  /** Encoded as it is sent. */
  url: URL;
  headers: Record<string, string>;
  /** Hex SHA-256 of the body. */
  sha256: string;
  at: Date;
}

/** The headers of a request, with the signature (AWS SigV4). */
export async function sign(
  { region, accessKeyId, secretAccessKey }: StorageConfig,
  { method, url, headers, sha256, at }: ToSign,
): Promise<Record<string, string>> {
  const signer = new SignatureV4({
    service: "s3",
    region,
    credentials: { accessKeyId, secretAccessKey },
    sha256: NodeSha256,
    // S3's own rule: a path is encoded once.
    uriEscapePath: false,
    applyChecksum: false,
  });
  const signed = await signer.sign(
    {
      method,
      protocol: url.protocol,
      hostname: url.hostname,
      path: url.pathname,
      query: Object.fromEntries(url.searchParams),
      headers: { ...headers, host: url.host, "x-amz-content-sha256": sha256 },
    },
    { signingDate: at },
  );
  // It is the connection's own.
  return Object.fromEntries(Object.entries(signed.headers).filter(([name]) => name !== "host"));
}
