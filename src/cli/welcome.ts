import { VERSION } from "../version.ts";

export interface Started {
  url: string;
  /** Signs a browser in, once. */
  link: string;
  dataDir: string;
  /** FedML's own client may come. */
  servesFedml: boolean;
}

/** What `binnacle start` says first. `data`: the folder, if it was named on the command line; whoever named it must go on doing so. */
export function welcome({ url, link, dataDir, servesFedml }: Started, data: string | undefined): string {
  const flag = data === undefined ? "" : ` --data ${quote(data)}`;
  return (
    `binnacle ${VERSION} listens on ${url}, data in ${dataDir}\nDashboard: ${link}\n` +
    (servesFedml ? `FedML: eval "$(binnacle fedml env${flag})"\n` : "")
  );
}

/** For a shell, inside of "$(…)". */
const quote = (text: string) => (/^[\w./:@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
