-- This installation, as the platforms see it: one row. `nonce` is new whenever the database is opened: a copy of this database that
-- goes on elsewhere has another one, and platforms see it.
DROP TABLE source;

CREATE TABLE installation (
  id TEXT PRIMARY KEY,
  epoch INTEGER NOT NULL,
  nonce TEXT NOT NULL,
  created REAL NOT NULL
) WITHOUT ROWID;

-- Where the journal goes. `acked` is the platform's word, never ours; tokens stand in the file relays.json.
CREATE TABLE destination (
  name TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  url TEXT NOT NULL,
  -- "history": everything kept; "now": what comes from now on.
  "from" TEXT NOT NULL,
  created REAL NOT NULL,
  epoch INTEGER NOT NULL DEFAULT 0,
  acked INTEGER NOT NULL DEFAULT 0,
  -- What it never gets: up to here the journal had come when it was added "from now".
  skip INTEGER NOT NULL DEFAULT 0,
  -- JSON, the newest first: earlier openings of this database under which it may know us (src/relay/openings.ts).
  openings TEXT NOT NULL DEFAULT '[]',
  -- The nonce that it answered to last.
  answered TEXT,
  -- Told to pause by a person, or by an answer that only a person can mend; why, in words.
  paused TEXT,
  -- The journal was cut behind `lacks_after`, where the destination stood: what came since this time history must bring.
  lacks_after INTEGER,
  lacks_from REAL
) WITHOUT ROWID;

-- What the platform refused for good, kept whole until a person looks.
CREATE TABLE dead_letter (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  destination TEXT NOT NULL REFERENCES destination (name) ON DELETE CASCADE,
  epoch INTEGER NOT NULL,
  -- 0: of history, which was made for it.
  seq INTEGER NOT NULL,
  kind TEXT NOT NULL,
  run TEXT NOT NULL,
  ordinal INTEGER NOT NULL,
  time REAL NOT NULL,
  records INTEGER NOT NULL,
  -- The whole entry as one frame of the wire.
  frame BLOB NOT NULL,
  type TEXT NOT NULL,
  detail TEXT NOT NULL,
  at REAL NOT NULL
);

CREATE UNIQUE INDEX dead_letter_entry ON dead_letter (destination, epoch, seq, kind, run, ordinal, time);

-- What never reached a destination ("": any), with its range and why.
CREATE TABLE relay_drop (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  destination TEXT NOT NULL,
  stream TEXT NOT NULL,
  kind TEXT NOT NULL,
  first_seq INTEGER,
  last_seq INTEGER,
  first_time REAL,
  last_time REAL,
  records INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  reason TEXT NOT NULL,
  at REAL NOT NULL
);

-- Installations that relay here. `name` is the one of their token; a second one under the same token gets a label of its own.
CREATE TABLE source (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  label TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  acked INTEGER NOT NULL,
  -- Something of entries up to here is here, as history has brought it.
  reach INTEGER NOT NULL DEFAULT 0,
  -- Of the entry at `reach` (src/relay/digest.ts): whether the source is still the one it was.
  digest TEXT,
  nonce TEXT NOT NULL,
  -- Of its last greeting under this nonce.
  turn INTEGER NOT NULL DEFAULT 0,
  -- JSON, the newest first: earlier nonces of it, and up to where each brought what is here.
  openings TEXT NOT NULL DEFAULT '[]',
  -- Entries up to here may be known by their content.
  doubt INTEGER NOT NULL DEFAULT 0,
  host TEXT,
  version TEXT,
  -- JSON: the installations its data comes through, itself first.
  path TEXT NOT NULL DEFAULT '[]',
  first_seen REAL NOT NULL,
  last_seen REAL NOT NULL,
  -- Our clock less theirs, ms.
  skew REAL,
  entries INTEGER NOT NULL DEFAULT 0,
  records INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE UNIQUE INDEX source_label ON source (label);

-- Who may relay here; of the token only its digest is kept.
CREATE TABLE source_token (
  hash TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  created REAL NOT NULL,
  expires REAL,
  revoked REAL,
  used REAL
) WITHOUT ROWID;

CREATE INDEX source_token_name ON source_token (name);

-- A source's run, and the run it is here: under its own id unless that one is taken. `next_ordinal` and `next_line` count as the source
-- does, shifted where a restored source counts again what is here already. NULL: an earlier life of the source went on with it, so
-- that nobody knows what of it is here until its next entry says so. `seq`: the last entry of which records or lines of it are here;
-- `history`: the last one that a piece of history may hold of. 1 in `renew`: such a piece is of the life that was left, and can't be compared with entries:
-- what comes next begins a run of its own. 2: history is still to bring all of it; entries wait.
CREATE TABLE source_run (
  source TEXT NOT NULL,
  run TEXT NOT NULL,
  local TEXT NOT NULL,
  seq INTEGER NOT NULL DEFAULT 0,
  history INTEGER NOT NULL DEFAULT 0,
  renew INTEGER NOT NULL DEFAULT 0,
  next_ordinal INTEGER DEFAULT 0,
  next_line INTEGER DEFAULT 1,
  ordinal_shift INTEGER NOT NULL DEFAULT 0,
  line_shift INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (source, run)
) WITHOUT ROWID;

CREATE UNIQUE INDEX source_run_local ON source_run (local);

-- A source's device likewise; `upto`: the time of the last sample received, ms.
CREATE TABLE source_device (
  source TEXT NOT NULL,
  device TEXT NOT NULL,
  local TEXT NOT NULL,
  upto REAL,
  PRIMARY KEY (source, device)
) WITHOUT ROWID;

CREATE UNIQUE INDEX source_device_local ON source_device (local);

-- NULL: this installation's own.
ALTER TABLE run ADD COLUMN source TEXT;
-- By labels, the one whose run it is last: whose it was where its source has it from.
ALTER TABLE run ADD COLUMN origin TEXT;
ALTER TABLE run ADD COLUMN deleted_at_source REAL;
CREATE INDEX run_source ON run (source) WHERE source IS NOT NULL;
ALTER TABLE device ADD COLUMN source TEXT;

-- '': own. Names are a source's own, and so are their versions.
ALTER TABLE artifact ADD COLUMN source TEXT NOT NULL DEFAULT '';
DROP INDEX artifact_name;
CREATE UNIQUE INDEX artifact_name ON artifact (source, kind, name);

-- The source's number for it, where that one was taken by another life of the source; NULL: its own.
ALTER TABLE artifact_version ADD COLUMN source_version INTEGER;

-- Dead letters that were sent again: each is taken once.
CREATE TABLE source_requeued (
  source TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (source, epoch, seq)
) WITHOUT ROWID;

-- 1: known by its digest, and its bytes are still to come.
ALTER TABLE blob ADD COLUMN pending INTEGER NOT NULL DEFAULT 0;
CREATE INDEX blob_pending ON blob (sha256) WHERE pending = 1;
