/* Bundles, as the command meets them: hearth export, and import of what it wrote. */
#ifndef HEARTH_CLI_BUNDLE_H
#define HEARTH_CLI_BUNDLE_H

#include "cli/cli.h"

bool bundle_is_one(const char *path); /* it begins as a tar */
void bundle_print_imported(const json_t *last);

#endif
