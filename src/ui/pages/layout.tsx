/** @jsxImportSource hono/jsx */
import type { Context } from "hono";
import { useContext, type Child } from "hono/jsx";
import type { JSX } from "hono/jsx/jsx-runtime";
import { assetPath, type AssetName } from "../assets.ts";
import { Compass, Icon } from "../components/icon.tsx";
import { ShellContext, type Shell } from "../shell.ts";
import type { Theme } from "../theme.ts";

type Section = "runs" | "models" | "devices" | "relay" | "sources";

const ways: [Section, string, string][] = [
  ["runs", "/", "Runs"],
  ["models", "/models", "Models"],
  ["devices", "/devices", "Devices"],
  ["relay", "/relay", "Relay"],
  ["sources", "/sources", "Sources"],
];

export interface LayoutProps {
  title: string;
  theme: Theme;
  script: AssetName;
  /** Which way of the navigation leads here. */
  section?: Section;
  /** Pages before sign-in show no ways into the product. */
  signedIn?: boolean;
  children?: Child;
}

/** The frame of every page. Nothing inline: the content security policy allows neither script nor style. */
export const Layout = ({ title, theme, script, section, signedIn = true, children }: LayoutProps) => {
  const { hasSources, hasRelays, banner } = useContext(ShellContext);
  return (
    <html lang="en" data-theme={theme === "auto" ? undefined : theme}>
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <meta name="referrer" content="same-origin" />
        <title>{title}</title>
        <link rel="icon" href={assetPath("icon")} type="image/svg+xml" />
        <link rel="stylesheet" href={assetPath("style")} />
        <script type="module" src={assetPath(script)} />
      </head>
      <body>
        <a class="skip" href="#main">
          Skip to the content
        </a>
        <header class="top">
          <a class="brand" href="/" aria-label="binnacle, all runs">
            <Compass />
            <span>binnacle</span>
          </a>
          {signedIn && (
            <nav aria-label="Main">
              {ways
                .filter(([name]) => name !== "sources" || hasSources)
                .map(([name, href, label]) => (
                  <a key={name} href={href} {...(section === name && { "aria-current": "page" })}>
                    {label}
                  </a>
                ))}
            </nav>
          )}
          <div class="top-tools">
            {signedIn && (
              <span class="live-dot" id="live" data-state="connecting" title="Connection to the collector">
                Connecting
              </span>
            )}
            {signedIn && (
              <button
                class="icon-button"
                type="button"
                id="help"
                aria-label="Keyboard shortcuts"
                title="Keyboard shortcuts (?)"
              >
                <Icon name="help" />
              </button>
            )}
            <button
              class="icon-button"
              type="button"
              id="theme"
              data-theme={theme}
              aria-label="Colour theme"
              title="Colour theme"
            >
              <Icon name={theme === "auto" ? "auto" : theme === "light" ? "sun" : "moon"} />
            </button>
          </div>
        </header>
        {signedIn && hasRelays && (
          <div class="banner" id="banner" role="status">
            <a href="/relay" title={banner?.text ?? ""} hidden={banner === null}>
              {banner?.text}
            </a>
          </div>
        )}
        <main id="main" tabindex={-1}>
          {children}
        </main>
      </body>
    </html>
  );
};

/** With its doctype: without one browsers draw in quirks mode, where tables forget the font. */
export const page = async (c: Context, document: JSX.Element): Promise<Response> =>
  c.html(`<!DOCTYPE html>${await document.toString()}`);

export type ShowPage = typeof page;

/** Pages of a collector, with what all of them have. */
export const pageIn =
  (shell: () => Promise<Shell>): ShowPage =>
  async (c, document) =>
    page(c, <ShellContext.Provider value={await shell()}>{document}</ShellContext.Provider>);
