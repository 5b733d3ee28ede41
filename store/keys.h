/* The store's own key pair, by which Ollama's registry knows who pulls and pushes.
 *
 *   keys/             0700, below the home
 *   keys/id_ed25519   0600, OpenSSH's format without a passphrase, as ssh-keygen writes it
 *   keys/id_ed25519.pub  "ssh-ed25519 BASE64 hearth"
 *
 * Made at first need, whole or not at all; a pair that is there (of ssh-keygen's, of another
 * program's) is used. The private key leaves this file for no sentence, log or reply.
 * ERR_FORMAT: what is there is no such key. ERR_CONFLICT: it has a passphrase. Thread: any. */
#ifndef HEARTH_STORE_KEYS_H
#define HEARTH_STORE_KEYS_H

#include "runtime/base/err.h"
#include "runtime/base/str.h"

struct store;

/* Appends "ssh-ed25519 BASE64". */
enum err_code keys_public(struct store *s, struct buf *out, struct err *e);
/* Appends "BASE64 of the public key:BASE64 of the signature" over the text. */
enum err_code keys_sign(struct store *s, struct str text, struct buf *out, struct err *e);
/* Appends base64, padded. */
void keys_base64(struct buf *out, const void *bytes, size_t n);

#endif
