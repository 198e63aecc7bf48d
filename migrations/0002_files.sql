-- Bytes, once each, by their digest. Small ones lie in `data`; the others in the folder blobs/, as files.
CREATE TABLE blob (
  sha256 TEXT PRIMARY KEY,
  size INTEGER NOT NULL,
  -- When it was last brought, or found to be here already: what nothing refers to stays a while.
  touched REAL NOT NULL,
  data BLOB
);

-- The pieces of a file of more than one, so that another file which has the same need not be sent whole.
CREATE TABLE blob_chunk (
  sha256 TEXT NOT NULL,
  blob TEXT NOT NULL REFERENCES blob (sha256) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  PRIMARY KEY (sha256, blob, position)
) WITHOUT ROWID;

CREATE INDEX blob_chunk_blob ON blob_chunk (blob);

-- A name under which versions stand. kind: "model" (log_model) or "artifact" (log_artifact).
CREATE TABLE artifact (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  type TEXT NOT NULL,
  description TEXT,
  created REAL NOT NULL,
  updated REAL NOT NULL,
  -- Numbers are never used twice, whatever is deleted.
  next_version INTEGER NOT NULL DEFAULT 1
);

CREATE UNIQUE INDEX artifact_name ON artifact (kind, name);

CREATE TABLE artifact_version (
  artifact INTEGER NOT NULL REFERENCES artifact (id) ON DELETE CASCADE,
  version INTEGER NOT NULL,
  -- Of the sorted list of its files: equal lists are the same version.
  digest TEXT NOT NULL,
  size INTEGER NOT NULL,
  files INTEGER NOT NULL,
  description TEXT,
  -- JSON as users gave it.
  metadata TEXT NOT NULL DEFAULT '{}',
  created REAL NOT NULL,
  PRIMARY KEY (artifact, version)
) WITHOUT ROWID;

CREATE TABLE artifact_file (
  artifact INTEGER NOT NULL,
  version INTEGER NOT NULL,
  path TEXT NOT NULL,
  size INTEGER NOT NULL,
  sha256 TEXT NOT NULL REFERENCES blob (sha256),
  PRIMARY KEY (artifact, version, path),
  FOREIGN KEY (artifact, version) REFERENCES artifact_version (artifact, version) ON DELETE CASCADE
) WITHOUT ROWID;

CREATE INDEX artifact_file_blob ON artifact_file (sha256);

CREATE TABLE artifact_alias (
  artifact INTEGER NOT NULL,
  alias TEXT NOT NULL,
  version INTEGER NOT NULL,
  PRIMARY KEY (artifact, alias),
  FOREIGN KEY (artifact, version) REFERENCES artifact_version (artifact, version) ON DELETE CASCADE
) WITHOUT ROWID;

-- Which run made a version ("output"), or used it ("input").
CREATE TABLE run_artifact (
  run TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
  artifact INTEGER NOT NULL,
  version INTEGER NOT NULL,
  role TEXT NOT NULL,
  time REAL NOT NULL,
  -- What FedML's calls say beside: JSON {environment, edge}.
  origin TEXT NOT NULL DEFAULT '{}',
  PRIMARY KEY (run, artifact, version, role),
  FOREIGN KEY (artifact, version) REFERENCES artifact_version (artifact, version) ON DELETE CASCADE
) WITHOUT ROWID;

CREATE INDEX run_artifact_version ON run_artifact (artifact, version);
