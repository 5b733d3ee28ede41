-- The catalog, schema 1. Released as it stands: a change is a new step in catalog.c's table.
--
--   tags --> models --> layers --> blobs --> files
--                  \-> provenance         trash
--
-- Digests are 32 bytes. Times are nanoseconds since 1970. Paths are bytes, not text.

-- A model is a manifest and the facts about it; its identity is the manifest's SHA-256.
CREATE TABLE models (
    id               INTEGER PRIMARY KEY,
    digest           BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
    manifest         BLOB    NOT NULL,             -- the JSON, byte for byte
    size             INTEGER NOT NULL,             -- of its layers, without the config
    format           TEXT    NOT NULL,             -- gguf
    family           TEXT    NOT NULL,
    parameter_size   TEXT    NOT NULL,             -- 134.5M
    quantization     TEXT    NOT NULL,
    capabilities     TEXT    NOT NULL,             -- comma-separated
    n_params         INTEGER NOT NULL,
    context_length   INTEGER NOT NULL,
    embedding_length INTEGER NOT NULL,
    has_weights      INTEGER NOT NULL CHECK (has_weights IN (0, 1))
) STRICT;

-- What people call it. Names compare without regard to ASCII case and keep the case they came in.
CREATE TABLE tags (
    id          INTEGER PRIMARY KEY,
    host        TEXT    NOT NULL COLLATE NOCASE,
    namespace   TEXT    NOT NULL COLLATE NOCASE,
    model       TEXT    NOT NULL COLLATE NOCASE,
    tag         TEXT    NOT NULL COLLATE NOCASE,
    model_id    INTEGER NOT NULL REFERENCES models (id),
    modified_ns INTEGER NOT NULL,
    UNIQUE (model, tag, namespace, host)
) STRICT;
CREATE INDEX tags_by_model ON tags (model_id);
CREATE INDEX tags_by_time ON tags (modified_ns, id);

-- Bytes with a name of their own. Small ones (configs) live here, large ones in files.
CREATE TABLE blobs (
    digest      BLOB    PRIMARY KEY NOT NULL CHECK (length(digest) = 32),
    size        INTEGER NOT NULL CHECK (size >= 0),
    body        BLOB    CHECK (body IS NULL OR length(body) = size),
    verified_ns INTEGER NOT NULL                   -- when all its bytes were last hashed
) STRICT;

-- Position 0 is the config; the manifest's layers follow in their order.
CREATE TABLE layers (
    model_id   INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    position   INTEGER NOT NULL,
    media_type TEXT    NOT NULL,
    digest     BLOB    NOT NULL REFERENCES blobs (digest),
    PRIMARY KEY (model_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX layers_by_digest ON layers (digest);

-- Where a blob's bytes are: path x'' is blobs/sha256-HEX, any other a file of the user's.
-- inode, mtime_ns and the blob's size are those of the file when it was last hashed; sound says
-- whether the hash was right then.
CREATE TABLE files (
    digest   BLOB    NOT NULL REFERENCES blobs (digest) ON DELETE CASCADE,
    path     BLOB    NOT NULL,
    inode    INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    sound    INTEGER NOT NULL CHECK (sound IN (0, 1)),
    PRIMARY KEY (digest, path)
) STRICT, WITHOUT ROWID;

-- Where a model came from.
CREATE TABLE provenance (
    model_id INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    kind     TEXT    NOT NULL,                     -- import, reference
    source   BLOB    NOT NULL,                     -- a path
    revision TEXT    NOT NULL,
    at_ns    INTEGER NOT NULL,
    PRIMARY KEY (model_id, kind, source)
) STRICT, WITHOUT ROWID;

-- Files in blobs/ that may have no row in files: listed before they are moved in, and in the
-- transaction that gives them up. Collected after it, and whenever a store is opened. A file in
-- blobs/ that is listed nowhere is not the store's to remove.
CREATE TABLE trash (
    digest BLOB PRIMARY KEY NOT NULL CHECK (length(digest) = 32)
) STRICT, WITHOUT ROWID;
