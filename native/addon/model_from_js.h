#pragma once

#include <napi.h>

#include "common/status.h"
#include "models/model.h"

namespace quire::addon {

// Reads a `Model` of engine/models/model-spec.ts. kInvalidArgument names the field at fault;
// whether the sizes make sense together is check_model's to say.
Status model_from_js(Napi::Value value, Model* model);

}  // namespace quire::addon
