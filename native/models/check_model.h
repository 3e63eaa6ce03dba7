#pragma once

#include "common/status.h"
#include "models/model.h"

namespace quire {

// Whether every size of the spec is in range and every weight has the shape that the spec implies,
// whole blocks, and a file that exists in the list. kInvalidArgument names the tensor and both
// shapes. What passes can be loaded and run without a further check.
Status check_model(const Model& model);

}  // namespace quire
