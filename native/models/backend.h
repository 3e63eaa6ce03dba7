#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/row_sampling.h"
#include "common/status.h"
#include "models/model.h"

// What the decoder asks of a device: plain views and about a dozen operations. One backend is one
// rank. Fusion is an epilogue on `linear`: a backend may fuse it or decompose it, the decoder does
// not change.
namespace quire {

// Activations [rows, columns] in the backend's memory and its own element type; `stride` counts
// elements between rows.
struct View {
  std::byte* data = nullptr;
  int32_t rows = 0;
  int32_t columns = 0;
  int64_t stride = 0;
};

// A matrix [rows = outputs, columns = inputs] in the backend's own layout.
struct PackedMatrix {
  std::byte* data = nullptr;
  int32_t packing = 0;
  int32_t rows = 0;
  int32_t columns = 0;
};

struct MatrixLayout {
  int32_t packing = 0;
  int64_t bytes = 0;  // a multiple of 64
};

// Output column `output_column + n` is row n of the matrix times the input, plus bias[n].
struct LinearPart {
  PackedMatrix matrix;
  const float* bias = nullptr;
  int32_t output_column = 0;
};

// Up to three matrices over one input, computed by one call (query, key, value; gate, up).
struct Linear {
  LinearPart parts[3];
  int32_t part_count = 0;
};

enum class Epilogue : uint8_t {
  kStore,      // output = product
  kAddScaled,  // output += scale * product
  kSiluMul,    // output = silu(first part) * second part
  kGeluMul,    // output = gelu_tanh(first part) * second part
};

struct LinearArgs {
  View input;
  const Linear* weight = nullptr;
  Epilogue epilogue = Epilogue::kStore;
  float scale = 1.0f;
  View output;
};

struct NormArgs {
  View input;
  const float* weight = nullptr;
  float offset = 0.0f;
  float epsilon = 0.0f;
  View output;  // may be the input
};

// Turns queries and keys in place (norm per head first, where there is one), then writes keys and
// values to the cache through the block table.
struct RopeStoreArgs {
  View qkv;  // [tokens, query heads + 2 * KV heads, head_dim] of this rank
  int32_t layer = 0;
  const float* query_norm = nullptr;  // [head_dim] or null
  const float* key_norm = nullptr;
};

struct AttentionArgs {
  View qkv;     // the queries come first
  View output;  // [tokens, query heads * head_dim]
  int32_t layer = 0;
};

// One step, flattened over its chunks; see StepBatch in engine/device.ts. The arrays are the
// host's.
struct Batch {
  int32_t chunk_count = 0;
  int32_t token_count = 0;
  const int32_t* rows = nullptr;
  const int32_t* starts = nullptr;
  const int32_t* counts = nullptr;
  const uint8_t* flags = nullptr;
  const int32_t* token_ids = nullptr;  // or kLastSampled
};

// Where a step's samples go, in the order of its sampling chunks; host memory of maxRows entries.
struct SampleOutput {
  int32_t* token_ids = nullptr;
  float* logprobs = nullptr;
  int32_t* top_token_ids = nullptr;  // [S, kMaxTopLogprobs]
  float* top_logprobs = nullptr;
};

// Limits that size every buffer.
struct StepLimits {
  int32_t max_rows = 0;
  int32_t max_batched_tokens = 0;
  int32_t max_model_len = 0;
  int32_t block_size = 0;
};

// The sizes of one rank's part of the model.
struct RankShape {
  int32_t rank = 0;
  int32_t rank_count = 1;
  int32_t head_count = 0;
  int32_t kv_head_count = 0;
  int32_t ffn_size = 0;
  int32_t vocab_begin = 0;
  int32_t vocab_count = 0;

  int32_t query_size(const ModelSpec& spec) const { return head_count * spec.head_dim; }
  int32_t kv_size(const ModelSpec& spec) const { return kv_head_count * spec.head_dim; }
  int32_t qkv_size(const ModelSpec& spec) const { return query_size(spec) + 2 * kv_size(spec); }
};

// Memory that the device gives its backends, 64-byte aligned.
struct BackendMemory {
  std::byte* scratch = nullptr;  // scratch_bytes
  std::byte* sampler = nullptr;  // sampler_bytes; the same for all ranks
  std::byte* kv = nullptr;       // block_count * kv_block_bytes of this rank
  int32_t block_count = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // --- memory -----------------------------------------------------------------------------------
  // Bytes that this rank may plan with; ranks that share one memory report it at rank 0 alone.
  virtual int64_t available_bytes() const = 0;
  // KV cache to take at most where nobody said how much memory there is to use; 0 takes all of it.
  virtual int64_t kv_limit_bytes() const = 0;
  // Zeroed memory, 64-byte aligned, that the backend owns. kOutOfMemory names the bytes.
  virtual Status allocate(int64_t bytes, std::byte** memory) = 0;

  // --- before the first allocation: sizes -------------------------------------------------------
  virtual std::string description() const = 0;
  virtual int32_t element_bytes() const = 0;  // of activations
  virtual MatrixLayout matrix_layout(WeightType type, int32_t rows, int32_t columns) const = 0;
  virtual int64_t kv_block_bytes() const = 0;
  // `matrices` are all that the backend will multiply with; their data is not read.
  virtual int64_t scratch_bytes(const std::vector<PackedMatrix>& matrices) const = 0;
  virtual int64_t sampler_bytes() const = 0;

  // --- loading ----------------------------------------------------------------------------------
  // Packs whole rows that lie in host memory; row_begin is a multiple of 16. Several threads may
  // pack different panels of one matrix at once.
  virtual void pack(const PackedMatrix& matrix, WeightType type, const std::byte* source,
                    int32_t row_begin, int32_t row_count) const = 0;
  // Widens one row of `columns` elements to float32.
  virtual void load_vector(WeightType type, const std::byte* source, int32_t columns,
                           float* output) const = 0;
  virtual void bind(const BackendMemory& memory, const std::vector<PackedMatrix>& matrices) = 0;

  // --- rows: state between steps; the device applies changes in order with the steps ------------
  // Counts `token_ids` for penalties. Swaps `sampling` with the row's, so that nothing is
  // allocated.
  virtual void open_row(int32_t row, RowSampling& sampling, const std::vector<int32_t>& token_ids,
                        int32_t prompt_length) = 0;
  virtual void set_blocks(int32_t row, int32_t first_index, const int32_t* blocks,
                          int32_t count) = 0;

  // --- one step ---------------------------------------------------------------------------------
  // kDeviceFailed for a row, position, token or block out of bounds; names it.
  virtual Status begin_step(const Batch& batch) = 0;
  // output[t] = scale * table[token t - first_row]; zero for tokens of other ranks.
  virtual void embed(const PackedMatrix& table, int32_t first_row, float scale, View output) = 0;
  virtual void rms_norm(const NormArgs& args) = 0;
  virtual void linear(const LinearArgs& args) = 0;
  virtual void rope_and_store_kv(const RopeStoreArgs& args) = 0;
  virtual void attention(const AttentionArgs& args) = 0;
  // accumulator += scale * input
  virtual void add_scaled(View input, float scale, View accumulator) = 0;
  // Copies the last token of each sampling chunk; returns how many there are.
  virtual int32_t gather_sampled(View input, View output) = 0;
  // logits = softcap(logits * scale), float32; softcap 0 for none.
  virtual void scale_softcap(float scale, float softcap, View logits) = 0;
  // Draws for each sampling chunk from logits [S, vocab], float32; on rank 0.
  virtual Status sample(View logits, const SampleOutput& output) = 0;
  // Sums over ranks, in the order of ranks, into every rank's view; nothing for one rank.
  virtual void all_reduce(View view) = 0;
  // Lays the ranks' columns side by side in rank 0's `full`; nothing for one rank.
  virtual void gather_columns(View local, int32_t first_column, View full) = 0;
};

// What the user may choose of a backend; the fields mean what they mean in engine/device.ts.
struct BackendOptions {
  int32_t thread_count = 0;
  std::string cpu_isa = "auto";
  bool float32 = false;
};

// One backend per rank. The library that is linked decides which kind.
//
// kUnavailable when the machine lacks what the options ask for. `spec` outlives the backends.
Status make_backends(const ModelSpec& spec, const std::vector<RankShape>& shapes,
                     const StepLimits& limits, const BackendOptions& options,
                     std::vector<std::unique_ptr<Backend>>* backends);

}  // namespace quire
