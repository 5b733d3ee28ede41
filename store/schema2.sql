-- The catalog, schema 2, made of schema 1. Released as it stands: a change is a new step in catalog.c's
-- table.

-- SHA-256 of each MiB of a blob that is in a file, one after the other: they tell which part of it is
-- damaged. Recorded in the pass that found the blob's digest.
CREATE TABLE chunks (
    digest BLOB PRIMARY KEY NOT NULL REFERENCES blobs (digest) ON DELETE CASCADE,
    hashes BLOB NOT NULL CHECK (length(hashes) % 32 = 0)
) STRICT;

-- Where its bytes came from last: a path, or a URL without a query.
ALTER TABLE blobs ADD COLUMN source BLOB NOT NULL DEFAULT x'';

-- What the layer is (media.h); '' where its media type alone tells.
ALTER TABLE layers ADD COLUMN kind TEXT NOT NULL DEFAULT '';

-- A licence's short name, as the model file gives it: apache-2.0.
ALTER TABLE models ADD COLUMN license TEXT NOT NULL DEFAULT '';
