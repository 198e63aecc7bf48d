import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A certificate that vouches for itself. `days` below 0: its time is over. */
export function selfSigned(name: string, { days = 2 } = {}): { cert: string; key: string } {
  const folder = mkdtempSync(join(tmpdir(), "binnacle-certificate-"));
  const [key, request, extensions, cert] = ["key", "request", "extensions", "cert"].map((file) =>
    join(folder, file),
  ) as [string, string, string, string];
  const curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes".split(" ");
  try {
    writeFileSync(extensions, `subjectAltName=DNS:${name}\nbasicConstraints=critical,CA:TRUE\n`);
    openssl(["req", ...curve, "-keyout", key, "-out", request, "-subj", `/CN=${name}`]);
    const signed = ["x509", "-req", "-in", request, "-signkey", key, "-days", String(days)];
    openssl([...signed, "-extfile", extensions, "-out", cert]);
    return { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function openssl(args: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(["openssl", ...args]);
  if (exitCode !== 0) throw new Error(stderr.toString());
}
