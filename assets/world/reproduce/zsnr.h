// "Common Diffusion Noise Schedules and Sample Steps Are Flawed" (Lin et al., arXiv 2305.08891).
#pragma once
#include "assets/world/reproduce/reproduce.h"
#include "core/base/log.h"
#include "core/base/status.h"

status reproduce_zsnr(const reproduce_request *request, const log_sink *log, reproduce_result *result,
                      error *err);
