-- Blobs that were found not to be what their digests say. Who brings such a one again mends it.
CREATE TABLE blob_damage (
  sha256 TEXT PRIMARY KEY REFERENCES blob (sha256) ON DELETE CASCADE
) WITHOUT ROWID;
