/* Addresses in a registry, for pull and push. */
#ifndef HEARTH_STORE_REGISTRY_H
#define HEARTH_STORE_REGISTRY_H

#include "store/session.h"

/* BASE/v2/PATH/WHAT/WHICH in the session's arena; at a mirror with ?ns=HOST, as containerd asks its.
 * base: the session's own url (the pointer tells), or a mirror's. NULL: no memory. */
const char *registry_url(const struct session *s, const char *base, const char *what, const char *which);

#endif
