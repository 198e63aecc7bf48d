-- Bytes under names of their clients' own, as S3 has them. scope: the run by whose keys they came, '' for the open ones.
CREATE TABLE object (
  scope TEXT NOT NULL,
  bucket TEXT NOT NULL,
  key TEXT NOT NULL,
  sha256 TEXT NOT NULL REFERENCES blob (sha256),
  size INTEGER NOT NULL,
  time REAL NOT NULL,
  -- The run that was said to have logged it; NULL: not heard of yet.
  run TEXT,
  PRIMARY KEY (scope, bucket, key)
) WITHOUT ROWID;

CREATE INDEX object_blob ON object (sha256);
CREATE INDEX object_run ON object (run);

-- An object that comes in parts.
CREATE TABLE object_upload (
  id TEXT PRIMARY KEY,
  scope TEXT NOT NULL,
  bucket TEXT NOT NULL,
  key TEXT NOT NULL,
  -- When the last part came: what nobody completes goes.
  touched REAL NOT NULL
) WITHOUT ROWID;

CREATE INDEX object_upload_scope ON object_upload (scope);

CREATE TABLE object_part (
  upload TEXT NOT NULL REFERENCES object_upload (id) ON DELETE CASCADE,
  number INTEGER NOT NULL,
  -- In blobs/incoming, without its ending.
  file TEXT NOT NULL,
  size INTEGER NOT NULL,
  sha256 TEXT NOT NULL,
  PRIMARY KEY (upload, number)
) WITHOUT ROWID;

CREATE INDEX object_part_file ON object_part (file);

-- What a run says that it has logged as an object: waits for it, or failed to come, or follows each new one under that name.
CREATE TABLE announced (
  run TEXT NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  -- Where it is to be; NULL: nowhere.
  scope TEXT,
  bucket TEXT,
  key TEXT,
  -- "awaited", "failed", "follows"
  state TEXT NOT NULL,
  -- Why it is not here, in words.
  reason TEXT,
  -- JSON, as it is to be logged.
  about TEXT NOT NULL,
  time REAL NOT NULL,
  PRIMARY KEY (run, kind, name)
) WITHOUT ROWID;

CREATE INDEX announced_object ON announced (scope, bucket, key);
