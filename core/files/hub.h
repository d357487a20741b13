// Models that other programs have downloaded: the cache of the Hugging Face hub. Nothing is downloaded here.
#pragma once
#include "core/base/status.h"

// The folder of the model "org/name", at the commit that its refs/main names; mem_free. NULL: ERR_NOINPUT
// where the cache does not hold it, and ERR_DATA where refs/main is malformed. The cache is $HF_HUB_CACHE,
// else $HF_HOME/hub, else $XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub.
char *hub_find(const char *model, error *err);
// Whether it is a name like "org/name", which may also be that of a file.
bool hub_is_name(const char *text);
