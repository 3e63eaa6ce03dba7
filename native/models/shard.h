#pragma once

#include "common/status.h"
#include "models/backend.h"
#include "models/model.h"

namespace quire {

// Cuts the model for `rank` of `rank_count`: query, key, value, gate and up by outputs, attention
// output and down by inputs, embedding and output matrix by vocabulary.
//
// kInvalidArgument when the ranks do not divide KV heads or the FFN, or a cut would fall inside a
// quantized block.
Status shard_model(const Model& model, int32_t rank, int32_t rank_count, RankShape* shape);

}  // namespace quire
