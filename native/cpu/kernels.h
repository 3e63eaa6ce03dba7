#pragma once

#include <cstddef>
#include <cstdint>

#include "common/weight_type.h"

// What the CPU backend asks of an instruction tier: a table of functions over plain pointers, one
// table per tier (ref, avx2, avx512, vnni, bf16, amx), chosen once at load. Every function is one
// thread's work; the caller splits rows, panels and heads over its pool. Results never depend on
// how the work was split, nor on what else is in the batch: each output element is summed in an
// order that its own row, column count and packing decide.
namespace quire::cpu {

// What activations and the KV cache are computed in. kFloat32 also keeps weights in float32.
enum class Compute : uint8_t { kFloat32, kBFloat16 };

// Output rows of a matrix that are packed side by side; work is split between panels.
constexpr int32_t kPanelRows = 16;

// A weight matrix [rows = outputs, columns = inputs] in a tier's own layout. `packing` is private
// to the tier that packed it. The rows of the last panel beyond `rows` are zero. `data` is 64-byte
// aligned and not owned.
struct Matrix {
  const std::byte* data = nullptr;
  int32_t packing = 0;
  int32_t rows = 0;
  int32_t columns = 0;
};

inline int32_t panel_count(int32_t rows) { return (rows + kPanelRows - 1) / kPanelRows; }

// Keys and values of one block and one KV head in the cache, a "page": the layout inside is the
// tier's own (store_kv writes it, attention reads it).
struct KvShape {
  int32_t block_size = 0;  // tokens
  int32_t head_dim = 0;
  Compute compute = Compute::kBFloat16;
};

// The queries of one chunk against one KV head.
struct AttentionArgs {
  // [token_count, group_size, head_dim]: element (t, g, d) at query[t * query_stride + g * head_dim
  // + d]. The query is not yet scaled.
  const float* query = nullptr;
  int64_t query_stride = 0;
  // Same indexing as query.
  float* output = nullptr;
  int64_t output_stride = 0;
  // Page of block b: cache + b * block_stride bytes.
  const std::byte* cache = nullptr;
  int64_t block_stride = 0;
  const int32_t* block_table = nullptr;  // [ceil((start + token_count) / block_size)]
  KvShape kv;
  int32_t group_size = 0;   // query heads per KV head
  int32_t start = 0;        // position of the first query; keys up to its own position are visible
  int32_t token_count = 0;  // queries
  int32_t window = 0;       // positions a query sees, itself included; 0 sees all
  float scale = 1.0f;
  float softcap = 0.0f;          // cap * tanh(score / cap) after scaling; 0 for none
  std::byte* scratch = nullptr;  // attention_scratch_bytes, 64-byte aligned, one per thread
};

// How much of a layer's operands a call of `linear` takes best, with all columns: what its kernel
// reads again and again stays in the second-level cache.
struct LinearTile {
  int64_t activation_bytes;
  int64_t weight_bytes;
};

struct KernelTable {
  const char* name;  // "ref", "avx2", "avx512", "vnni", "bf16", "amx"
  LinearTile linear_tile;

  // --- weights -------------------------------------------------------------------------------
  // The layout a matrix stored as `type` is packed to. Decides between keeping GGUF blocks and
  // widening to bf16 by what is faster on this tier; kFloat32 always widens to float32, exactly.
  int32_t (*packing_for)(WeightType type, Compute compute, int32_t rows, int32_t columns);
  // Bytes of the whole packed matrix; a multiple of 64.
  int64_t (*packed_bytes)(int32_t packing, int32_t rows, int32_t columns);
  // Packs rows [row_begin, row_begin + row_count) from `source` (stored as `type`, rows contiguous)
  // to their place in the matrix at `packed`. Panels are independent: threads may pack different
  // panels of one matrix at once. row_begin is a multiple of kPanelRows. Rows up to the end of the
  // last panel touched that the matrix does not have are set to zero.
  void (*pack)(int32_t packing, WeightType type, const std::byte* source, int32_t row_begin,
               int32_t row_count, int32_t columns, std::byte* packed);
  // One row as float32 (embedding look-up).
  void (*unpack_row)(const Matrix& matrix, int32_t row, float* output);

  // --- linear --------------------------------------------------------------------------------
  // Activations in the form that a packing multiplies (bf16 pairs, int8 blocks, float32).
  int64_t (*activation_bytes)(int32_t packing, int32_t columns);  // per token, a multiple of 64
  void (*prepare_activation)(int32_t packing, const float* input, int32_t columns,
                             std::byte* activation);  // one token
  // output[t * output_stride + n] = sum over k of input[t, k] * weight[n, k], for all tokens and
  // for the outputs n of panels [panel_begin, panel_end), n < rows. Tokens' activations lie
  // activation_bytes apart.
  void (*linear)(const Matrix& matrix, const std::byte* activations, int32_t token_count,
                 int32_t panel_begin, int32_t panel_end, float* output, int64_t output_stride);

  // --- attention -----------------------------------------------------------------------------
  int64_t (*page_bytes)(const KvShape& shape);  // a multiple of 64
  // Writes one token's key and value (head_dim floats each) to `slot` of a page.
  void (*store_kv)(const KvShape& shape, const float* key, const float* value, int32_t slot,
                   std::byte* page);
  int64_t (*attention_scratch_bytes)(const KvShape& shape, int32_t group_size);
  // Causal softmax attention over the paged cache, float32 online softmax; keys are walked from the
  // first visible one in fixed pieces, so a query's result depends on its own position alone.
  void (*attention)(const AttentionArgs& args);

  // --- one row of n elements -------------------------------------------------------------------
  // output = input / rms(input) * (weight + offset). May be in place.
  void (*rms_norm)(const float* input, const float* weight, float offset, float epsilon, int32_t n,
                   float* output);
  // output = silu(gate) * up, and gelu_tanh(gate) * up.
  void (*silu_mul)(const float* gate, const float* up, int32_t n, float* output);
  void (*gelu_mul)(const float* gate, const float* up, int32_t n, float* output);
  // accumulator += scale * input.
  void (*add_scaled)(const float* input, float scale, int32_t n, float* accumulator);
  // logits = softcap(logits * scale); softcap 0 for none.
  void (*scale_softcap)(float scale, float softcap, int32_t n, float* logits);
  // Maximum (lowest index of equals), and log(sum(exp(x - max))) + max in a fixed order.
  void (*max_and_logsumexp)(const float* x, int32_t n, int32_t* argmax, float* logsumexp);
};

// The best tier of this processor, or the one named; nullptr when the processor lacks it.
// "auto" is the best. ref is always there.
const KernelTable* kernel_table(const char* name);

// Threads that this process may use: its CPU affinity and its cgroup's quota, at least 1.
int32_t available_threads();

}  // namespace quire::cpu
