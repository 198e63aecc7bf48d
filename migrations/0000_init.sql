CREATE TABLE source (
  id TEXT PRIMARY KEY,
  epoch INTEGER NOT NULL,
  created REAL NOT NULL
) WITHOUT ROWID;

-- AUTOINCREMENT is load-bearing: without it SQLite reuses the seq of deleted entries, and a platform that
-- remembers (source, epoch, seq) would take new data for old.
CREATE TABLE journal (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  version INTEGER NOT NULL,
  run TEXT NOT NULL,
  client TEXT,
  client_seq INTEGER,
  ordinal INTEGER,
  next_step REAL,
  count INTEGER NOT NULL,
  time REAL NOT NULL,
  encoding INTEGER NOT NULL,
  payload BLOB NOT NULL
);

CREATE TABLE run (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  project TEXT NOT NULL,
  status TEXT NOT NULL,
  reason TEXT,
  config TEXT NOT NULL,
  tags TEXT NOT NULL,
  notes TEXT,
  command TEXT,
  device TEXT,
  exit_code INTEGER,
  created REAL NOT NULL,
  started REAL,
  finished REAL,
  presumed INTEGER NOT NULL DEFAULT 0,
  deleted INTEGER NOT NULL DEFAULT 0,
  next_ordinal INTEGER NOT NULL DEFAULT 0,
  next_line INTEGER NOT NULL DEFAULT 1
) WITHOUT ROWID;

CREATE INDEX run_created ON run (created);

CREATE TABLE writer (
  run TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
  client TEXT NOT NULL,
  role TEXT NOT NULL DEFAULT 'client',
  rank INTEGER NOT NULL DEFAULT 0,
  device TEXT,
  pid INTEGER,
  boot TEXT,
  outcome TEXT,
  seq INTEGER NOT NULL DEFAULT 0,
  next_step REAL NOT NULL DEFAULT 0,
  PRIMARY KEY (run, client)
) WITHOUT ROWID;

-- Lines of a run's log in the order of their numbers, without gaps inside a chunk. Only a run's last chunk is ever rewritten.
CREATE TABLE log_chunk (
  run TEXT NOT NULL,
  first_line INTEGER NOT NULL,
  last_line INTEGER NOT NULL,
  min_time REAL NOT NULL,
  max_time REAL NOT NULL,
  levels INTEGER NOT NULL,
  size INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  encoding INTEGER NOT NULL,
  data BLOB NOT NULL
);

CREATE UNIQUE INDEX log_chunk_first ON log_chunk (run, first_line);
CREATE INDEX log_chunk_last ON log_chunk (run, last_line);
