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

-- What is known of a series without its points. Counts and `sealed_…` tell what is in chunks; the journal has the rest. NULL stands
-- for NaN, which SQLite cannot store.
CREATE TABLE series (
  id INTEGER PRIMARY KEY,
  run TEXT NOT NULL,
  key TEXT NOT NULL,
  rank INTEGER NOT NULL,
  first_ordinal INTEGER NOT NULL,
  sealed INTEGER NOT NULL,
  sealed_ordinal INTEGER NOT NULL,
  sealed_texts INTEGER NOT NULL,
  sealed_text_ordinal INTEGER NOT NULL,
  min REAL,
  max REAL,
  last REAL,
  last_ordinal INTEGER NOT NULL,
  last_text TEXT,
  last_text_ordinal INTEGER NOT NULL,
  last_step REAL,
  last_time REAL,
  min_step REAL,
  max_step REAL,
  min_time REAL,
  max_time REAL,
  x TEXT,
  axis INTEGER NOT NULL
);

CREATE UNIQUE INDEX series_key ON series (run, key, rank);

-- Points of a series in arrival order; id = series * 2^24 + position. `nodes` stands before the long columns, so that a chart
-- reads few pages. Chunks of the same records share the axis (ordinals, steps, times) of one of them.
CREATE TABLE chunk (
  id INTEGER PRIMARY KEY,
  count INTEGER NOT NULL,
  step_min REAL NOT NULL,
  step_max REAL NOT NULL,
  time_min REAL NOT NULL,
  time_max REAL NOT NULL,
  nodes BLOB NOT NULL,
  axis_chunk INTEGER,
  axis BLOB,
  points BLOB NOT NULL
);

-- The upper levels of the pyramid over 64 full chunks; id = series * 2^24 + position / 64.
CREATE TABLE block (
  id INTEGER PRIMARY KEY,
  step_min REAL NOT NULL,
  step_max REAL NOT NULL,
  time_min REAL NOT NULL,
  time_max REAL NOT NULL,
  upper BLOB NOT NULL,
  nodes BLOB NOT NULL
);

-- Values that are no numbers.
CREATE TABLE series_text (
  series INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  step REAL NOT NULL,
  time REAL NOT NULL,
  json TEXT NOT NULL,
  PRIMARY KEY (series, ordinal)
) WITHOUT ROWID;

-- Where the numbering of a client's batches stood when the last of its journal entries was deleted. Not in `writer`: who
-- only sends batches never said that it lives.
CREATE TABLE counter (
  run TEXT NOT NULL,
  client TEXT NOT NULL,
  seq INTEGER NOT NULL,
  next_step REAL,
  PRIMARY KEY (run, client)
) WITHOUT ROWID;
