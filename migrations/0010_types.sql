-- FedML's clients call artifacts of different types by the same name: each version has its own. NULL: its artifact's.
ALTER TABLE artifact_version ADD COLUMN type TEXT;

-- The same of what is only announced.
DROP TABLE announced;

CREATE TABLE announced (
  run TEXT NOT NULL,
  kind TEXT NOT NULL,
  type TEXT NOT NULL,
  name TEXT NOT NULL,
  -- Where it is to be; NULL: nowhere.
  scope TEXT,
  bucket TEXT,
  key TEXT,
  -- "awaited", "failed", "follows": each new object under that name is another version of it.
  state TEXT NOT NULL,
  -- Why it won't come, in words.
  reason TEXT,
  -- JSON, as it is to be logged.
  about TEXT NOT NULL,
  time REAL NOT NULL,
  PRIMARY KEY (run, kind, type, name)
) WITHOUT ROWID;

CREATE INDEX announced_object ON announced (scope, bucket, key);
