/** @jsxImportSource hono/jsx */
import { FileTree } from "../components/file-tree.tsx";
import { ModelList } from "../components/model-list.tsx";
import { ModelVersions } from "../components/version-table.tsx";
import { VersionView } from "../components/version-view.tsx";
import type { ModelsState, ModelState, VersionState } from "../artifact-state.ts";
import { kindTitles, type ModelView } from "../artifact-view.ts";

import { buildTree, FILE_ROWS, usuallyOpen } from "../file-tree.ts";
import { embed } from "../state.ts";
import type { Theme } from "../theme.ts";
import { Layout } from "./layout.tsx";

export const ModelsPage = ({
  state,
  isFirstPage,
  theme,
}: {
  state: ModelsState;
  isFirstPage: boolean;
  theme: Theme;
}) => (
  <Layout title={`${kindTitles[state.view.kind]} · binnacle`} theme={theme} script="models" section="models">
    <div id="app" data-state={embed(state)}>
      <ModelList {...state} isFirstPage={isFirstPage} />
    </div>
  </Layout>
);

export const ModelPage = ({ state, view, theme }: { state: ModelState; view: ModelView; theme: Theme }) => (
  <Layout title={`${state.artifact.name} · binnacle`} theme={theme} script="model" section="models">
    <div id="app" data-state={embed(state)}>
      <ModelVersions {...state} view={view} />
    </div>
  </Layout>
);

export const VersionPage = ({ state, theme }: { state: VersionState; theme: Theme }) => {
  const { version, files } = state;
  const title = `${version.name} ${version.version} · binnacle`;
  return (
    <Layout title={title} theme={theme} script="version" section="models">
      <div id="app" data-state={embed(state)}>
        <VersionView {...state}>
          <FileTree
            id={version.id}
            version={version.version}
            total={version.files}
            page={files}
            open={usuallyOpen(buildTree(files.files))}
            limit={FILE_ROWS}
          />
        </VersionView>
      </div>
    </Layout>
  );
};
