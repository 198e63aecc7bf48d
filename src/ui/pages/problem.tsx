/** @jsxImportSource hono/jsx */
import { Compass } from "../components/icon.tsx";
import type { Theme } from "../theme.ts";
import { Layout } from "./layout.tsx";

export interface ProblemProps {
  theme: Theme;
  title: string;
  detail: string;
  hint?: string | undefined;
}

/** An error a person sees in the browser: what happened and what to do next. */
export const ProblemPage = ({ theme, title, detail, hint }: ProblemProps) => (
  <Layout title={`${title} · binnacle`} theme={theme} script="plain" signedIn={false}>
    <section class="card empty" aria-labelledby="problem">
      <div class="rose">
        <Compass size={44} />
      </div>
      <h2 id="problem">{title}</h2>
      <p class="soft">{detail}</p>
      {hint !== undefined && <p class="soft">{hint}</p>}
      <p>
        <br />
        <a class="button" href="/">
          All runs
        </a>
      </p>
    </section>
  </Layout>
);
