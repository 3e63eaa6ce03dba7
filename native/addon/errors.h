#pragma once

#include <napi.h>

#include "common/status.h"

namespace quire::addon {

// Throws the status as a JavaScript error whose `code` names it: INVALID_ARGUMENT, OUT_OF_MEMORY,
// UNAVAILABLE, IO or DEVICE_FAILED.
void throw_status(Napi::Env env, const Status& status);

}  // namespace quire::addon
