/* Every statement of the catalog, for catalog.c alone: X(name, what it does, for sentences, SQL). */
#ifndef HEARTH_STORE_CATALOG_SQL_H
#define HEARTH_STORE_CATALOG_SQL_H

#define OWN_FILE(digest) "EXISTS (SELECT 1 FROM files WHERE digest = " digest " AND path = x'')"

/* The last place that a model came from; one of a network, which can be asked again, before those of this machine. */
#define LAST "(kind IN ('registry', 'hub', 'url')) << 62 | at_ns"
#define ORIGIN(column)                                                                             \
    " (SELECT " column " FROM provenance p WHERE p.model_id = m.id ORDER BY " LAST " DESC LIMIT 1)"

/* A model is by reference when a blob of it is in a file, and in none of ours: asked of one model, and of all at once,
 * which few are. */
#define ELSEWHERE " f.path != x'' AND NOT " OWN_FILE("f.digest")
#define BY_REFERENCE                                                                               \
    " EXISTS (SELECT 1 FROM layers l JOIN files f ON f.digest = l.digest"                          \
    "  WHERE l.model_id = m.id AND" ELSEWHERE ")"
#define AMONG_REFERENCES                                                                           \
    " m.id IN (SELECT l.model_id FROM files f JOIN layers l ON l.digest = f.digest WHERE" ELSEWHERE ")"

/* What read_model reads, in its order. */
#define MODEL_COLUMNS(by_reference)                                                                \
    "t.id, t.host, t.namespace, t.model, t.tag, t.modified_ns, m.digest, m.size, m.format,"        \
    " m.family, m.parameter_size, m.quantization, m.capabilities, m.n_params, m.context_length,"   \
    " m.embedding_length, m.has_weights," by_reference ", m.license,"
#define NAMED " FROM tags t JOIN models m ON m.id = t.model_id"
#define WHERE_NAME " WHERE t.model = ?1 AND t.namespace = ?2 AND t.host = ?3"

/* No model has it, and it is not in use. CASE, for leased() is to be asked of those alone. */
#define NOBODYS(digest)                                                                            \
    "CASE WHEN EXISTS (SELECT 1 FROM layers l WHERE l.digest = " digest ") THEN 0"                 \
    " ELSE NOT leased(" digest ") END"

/*    statement     what it does, for sentences          SQL */
#define STATEMENTS(X)                                                                              \
    X(BEGIN,        "beginning a change",                "BEGIN IMMEDIATE")                        \
    X(COMMIT,       "committing a change",               "COMMIT")                                 \
    X(ROLLBACK,     "undoing a change",                  "ROLLBACK")                               \
    X(FIND,         "looking up a name",                                                           \
      "SELECT t.id, t.model_id, m.digest" NAMED WHERE_NAME " AND t.tag = ?4")                      \
    X(FIND_PINNED,  "looking up a digest",                                                         \
      "SELECT t.id, t.model_id, m.digest" NAMED WHERE_NAME " AND m.digest = ?4"                    \
      " ORDER BY t.modified_ns DESC, t.id DESC LIMIT 1")                                           \
    X(LIST,         "listing models",                                                              \
      "SELECT " MODEL_COLUMNS(AMONG_REFERENCES) " p.source, p.revision, p.kind" NAMED              \
      " LEFT JOIN (SELECT model_id, source, revision, kind, max(" LAST ") FROM provenance"         \
      "  GROUP BY model_id) p ON p.model_id = m.id"                                                \
      " ORDER BY t.modified_ns DESC, t.id DESC")                                                   \
    X(MODEL,        "reading a model",                                                             \
      "SELECT " MODEL_COLUMNS(BY_REFERENCE) ORIGIN("source") "," ORIGIN("revision") ","            \
      ORIGIN("kind") ","                                                                           \
      " m.manifest,"                                                                               \
      " (SELECT b.body FROM layers l JOIN blobs b ON b.digest = l.digest"                          \
      "  WHERE l.model_id = m.id AND l.position = 0)"                                              \
      NAMED " WHERE t.id = ?1")                                                                    \
    X(LAYERS,       "reading a model's layers",                                                    \
      "SELECT l.media_type, l.digest, b.size, l.kind FROM layers l"                                \
      " JOIN blobs b ON b.digest = l.digest WHERE l.model_id = ?1 AND l.position > 0"              \
      " AND (b.body IS NULL OR EXISTS (SELECT 1 FROM files f WHERE f.digest = l.digest))"          \
      " ORDER BY l.position")                                                                      \
    X(TEXTS,        "reading a model's texts",                                                     \
      "SELECT l.media_type, l.kind, b.body FROM models m JOIN layers l ON l.model_id = m.id"       \
      " JOIN blobs b ON b.digest = l.digest WHERE m.digest = ?1 AND b.body IS NOT NULL"            \
      " ORDER BY l.position")                                                                      \
    X(BLOB,         "looking for a blob",                                                          \
      "SELECT size, body IS NOT NULL FROM blobs WHERE digest = ?1")                                \
    X(BODY,         "reading a text",                                                              \
      "SELECT body FROM blobs WHERE digest = ?1 AND body IS NOT NULL")                             \
    X(SOURCE,       "reading where a blob came from",                                              \
      "SELECT source FROM blobs WHERE digest = ?1")                                                \
    X(ORIGINS,      "reading where a blob came from",                                              \
      "SELECT p.kind, p.source, p.revision FROM provenance p WHERE p.model_id IN"                  \
      " (SELECT l.model_id FROM layers l WHERE l.digest = ?1)"                                     \
      " ORDER BY p.at_ns DESC, p.source LIMIT 16")                                                 \
    X(LISTED,       "looking for a file",                                                          \
      "SELECT " OWN_FILE("?1") " OR EXISTS (SELECT 1 FROM trash WHERE digest = ?1)")               \
    X(UNNAMED,      "looking for blobs without a model",                                           \
      "SELECT digest FROM trash WHERE NOT " OWN_FILE("trash.digest")                               \
      " UNION SELECT digest FROM files WHERE path = x'' AND " NOBODYS("files.digest"))             \
    X(CHUNKS,       "reading a blob's hashes",                                                     \
      "SELECT hashes FROM chunks WHERE digest = ?1")                                               \
    X(FILES,        "reading a blob's places",                                                     \
      "SELECT path, inode, mtime_ns, sound FROM files WHERE digest = ?1 ORDER BY path")            \
    X(OWN,          "looking for a blob",                "SELECT " OWN_FILE("?1"))                 \
    X(TRASH,        "reading the trash",                                                           \
      "SELECT digest, " OWN_FILE("trash.digest") " FROM trash")                                    \
    X(PUT_TRASH,    "writing the trash",                                                           \
      "INSERT OR IGNORE INTO trash (digest) VALUES (?1)")                                          \
    X(EMPTY_TRASH,  "emptying the trash",                "DELETE FROM trash")                      \
    X(PUT_CHUNKS,   "adding a blob's hashes",                                                      \
      "INSERT OR REPLACE INTO chunks (digest, hashes) VALUES (?1, ?2)")                            \
    X(PUT_BLOB,     "adding a blob",                                                               \
      "INSERT INTO blobs (digest, size, body, verified_ns, source) VALUES (?1, ?2, ?3, ?4, ?5)"    \
      " ON CONFLICT (digest) DO UPDATE SET verified_ns = excluded.verified_ns,"                    \
      "  body = coalesce(body, excluded.body),"                                                    \
      "  source = CASE excluded.source WHEN x'' THEN source ELSE excluded.source END")             \
    X(PUT_FILE,     "adding a blob's place",                                                       \
      "INSERT INTO files (digest, path, inode, mtime_ns, sound) VALUES (?1, ?2, ?3, ?4, ?5)"       \
      " ON CONFLICT (digest, path) DO UPDATE SET inode = excluded.inode,"                          \
      "  mtime_ns = excluded.mtime_ns, sound = excluded.sound")                                    \
    X(DROP_FILE,    "forgetting a blob's place",                                                   \
      "DELETE FROM files WHERE digest = ?1 AND path = ?2 AND path != x''")                         \
    X(PUT_MODEL,    "adding a model",                                                              \
      "INSERT INTO models (digest, manifest, size, format, family, parameter_size, quantization,"  \
      "  capabilities, n_params, context_length, embedding_length, has_weights, license)"          \
      " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"                           \
      " ON CONFLICT (digest) DO UPDATE SET format = excluded.format, family = excluded.family,"    \
      "  parameter_size = excluded.parameter_size, quantization = excluded.quantization,"          \
      "  capabilities = excluded.capabilities, n_params = excluded.n_params,"                      \
      "  context_length = excluded.context_length, embedding_length = excluded.embedding_length,"  \
      "  has_weights = excluded.has_weights, license = excluded.license RETURNING id")             \
    X(PUT_LAYER,    "adding a layer",                                                              \
      "INSERT INTO layers (model_id, position, media_type, digest, kind)"                          \
      " VALUES (?1, ?2, ?3, ?4, ?5)"                                                               \
      " ON CONFLICT (model_id, position) DO UPDATE SET kind = excluded.kind")                      \
    X(PUT_SOURCE,   "noting where a model came from",                                              \
      "INSERT OR REPLACE INTO provenance (model_id, kind, source, revision, at_ns)"                \
      " VALUES (?1, ?2, ?3, ?4, ?5)")                                                              \
    X(PUT_TAG,      "naming a model",                                                              \
      "INSERT INTO tags (model, namespace, host, tag, model_id, modified_ns)"                      \
      " VALUES (?1, ?2, ?3, ?4, ?5, ?6)"                                                           \
      " ON CONFLICT (model, tag, namespace, host) DO UPDATE SET model_id = excluded.model_id,"     \
      "  modified_ns = excluded.modified_ns RETURNING id")                                         \
    X(DROP_TAG,     "removing a name",                   "DELETE FROM tags WHERE id = ?1")         \
    X(DROP_MODELS,  "removing models without a name",                                              \
      "DELETE FROM models WHERE id NOT IN (SELECT model_id FROM tags)")                            \
    X(TRASH_FILES,  "giving up files",                                                             \
      "INSERT OR IGNORE INTO trash SELECT digest FROM files"                                       \
      " WHERE path = x'' AND " NOBODYS("files.digest"))                                            \
    X(DROP_BLOBS,   "removing blobs without a model",                                              \
      "DELETE FROM blobs WHERE " NOBODYS("blobs.digest")                                           \
      " AND (digest IN (SELECT digest FROM trash) OR NOT " OWN_FILE("blobs.digest") ")")

#endif
