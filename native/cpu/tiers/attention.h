#pragma once

#include "cpu/tiers/panel_product.h"
#include "cpu/tiers/row_ops.h"
#if defined(__AMX_BF16__)
#include "cpu/tiers/attention_tiles.h"
#endif

// Paged attention of the SIMD tiers. Internal linkage.
//
// A page holds keys and values as panels that `multiply` takes as they are:
//
//   keys    [block_size / 16][head_dim / 2 steps][16 keys]       a lane is a key
//   values  [head_dim / 16][block_size / 2 steps][16 elements]   a lane is an element of the head
//
// so scores are keys x queries and outputs are values x softmax weights. Queries go in tiles of
// (token, head) rows that share every key they load. Keys go by in pieces of 64 positions, anchored
// at position 0: for each row a piece gives scores, a new maximum and weights, and its weighted
// values are added key pair by key pair, so a row's bits do not depend on the other rows of its
// tile. Positions that a row does not see weigh exactly zero, and a piece without a visible one
// leaves the row as it was.
namespace quire::cpu {
namespace {

constexpr int32_t kPieceKeys = 64;
constexpr int32_t kPieceVectors = kPieceKeys / 16;
constexpr int32_t kTileRows = 48;

// How this tier multiplies bfloat16, and whether on tiles.
#if defined(__AMX_BF16__)
using AttentionPairs = TilePairs;
template <class Format>
constexpr bool kOnTiles = sizeof(typename Format::Element) == 2;
#else
using AttentionPairs = BFloat16Pairs;
template <class Format>
constexpr bool kOnTiles = false;
#endif

constexpr int64_t cache_line_multiple(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Where things lie in a page and in the scratch memory of a format.
template <class Format>
struct AttentionLayout {
  explicit AttentionLayout(const KvShape& shape, int32_t group_size)
      : head_steps(kOnTiles<Format> ? (shape.head_dim + 15) / 16 * 8
                                    : step_count_of(shape.head_dim)),
        key_panel_bytes(head_steps * Format::kStepBytes),
        value_panel_bytes(step_count_of(shape.block_size) * Format::kStepBytes),
        head_panels((shape.head_dim + 15) / 16),
        values_at((shape.block_size + 15) / 16 * key_panel_bytes),
        page_bytes(values_at + head_panels * value_panel_bytes),
        tile_rows(group_size > kTileRows ? group_size : kTileRows / group_size * group_size),
        kept_rows((tile_rows + 15) / 16 * 16),
        query_bytes(cache_line_multiple(head_panels * 8 * Format::kTokenStepBytes)),
        weight_bytes(kPieceKeys / 2 * Format::kTokenStepBytes) {}

  int64_t scratch_bytes() const {
    const int64_t row = query_bytes + weight_bytes + kPieceKeys * 4 + head_panels * 64 + 2 * 4;
    return cache_line_multiple(kept_rows * row) + head_panels * 8 * Format::kStepBytes + 64;
  }

  int32_t head_steps;  // pairs of the head's elements, whole tiles of them
  int64_t key_panel_bytes, value_panel_bytes;
  int32_t head_panels;
  int64_t values_at, page_bytes;
  int32_t tile_rows, kept_rows;  // the latter a multiple of sixteen
  int64_t query_bytes, weight_bytes;
};

// One tile of queries and its running softmax.
template <class Format>
class AttentionTile {
 public:
  AttentionTile(const AttentionArgs& args, const AttentionLayout<Format>& layout)
      : args_(args),
        layout_(layout),
        queries_(args.scratch),
        weights_(queries_ + layout.kept_rows * layout.query_bytes),
        scores_(reinterpret_cast<float*>(weights_ + layout.kept_rows * layout.weight_bytes)),
        sums_(scores_ + layout.kept_rows * kPieceKeys),
        maxima_(sums_ + layout.kept_rows * layout.head_panels * 16),
        denominators_(maxima_ + layout.kept_rows),
        last_step_(args.scratch + cache_line_multiple(reinterpret_cast<std::byte*>(
                                                          denominators_ + layout.kept_rows) -
                                                      args.scratch)) {}

  // The queries [token, token + token_count) of the chunk, at most a tile of them.
  void run(int32_t token, int32_t token_count) {
    token_ = token;
    rows_ = token_count * args_.group_size;
    begin_ = first_visible(args_.start + token);
    end_ = args_.start + token + token_count;
    start_rows();
    if constexpr (kOnTiles<Format>) Format::begin(rows_);
    for (int32_t piece = begin_ / kPieceKeys * kPieceKeys; piece < end_; piece += kPieceKeys) {
      find_pages(piece);
      score_piece();
      for (int32_t row = 0; row < rows_; ++row) weigh_row(piece, row);
      add_values(piece);
    }
    for (int32_t row = 0; row < rows_; ++row) finish_row(row);
    if constexpr (kOnTiles<Format>) Format::end();
  }

 private:
  int32_t first_visible(int32_t position) const {
    return args_.window > 0 && position >= args_.window ? position - args_.window + 1 : 0;
  }
  int32_t position_of(int32_t row) const { return args_.start + token_ + row / args_.group_size; }
  float* sums_of(int32_t row) const { return sums_ + row * layout_.head_panels * 16; }

  void start_rows() {
    const int32_t head_dim = args_.kv.head_dim;
    for (int32_t row = 0; row < rows_; ++row) {
      const float* query = args_.query + (token_ + row / args_.group_size) * args_.query_stride +
                           row % args_.group_size * head_dim;
      prepare_token<Format>(query, head_dim, queries_ + row * layout_.query_bytes);
      maxima_[row] = -__builtin_inff();
      denominators_[row] = 0.0f;
      for (int32_t p = 0; p < layout_.head_panels; ++p) store(sums_of(row) + p * 16, zeros());
    }
  }

  // The sixteens of keys of this piece that some row of the tile sees, and where they lie. Blocks
  // outside are not touched: they may belong to others.
  void find_pages(int32_t piece) {
    first_vector_ = begin_ > piece ? (begin_ - piece) / 16 : 0;
    end_vector_ = end_ - piece < kPieceKeys ? (end_ - piece + 15) / 16 : kPieceVectors;
    for (int32_t v = first_vector_; v < end_vector_; ++v) {
      const int32_t position = piece + v * 16;
      pages_[v] =
          args_.cache + args_.block_table[position / args_.kv.block_size] * args_.block_stride;
      vector_in_page_[v] = position % args_.kv.block_size / 16;
    }
  }

  void score_piece() {
    const Tokens queries{queries_, layout_.query_bytes};
    const auto panel_at = [&](int32_t v) {
      return pages_[v] + vector_in_page_[v] * layout_.key_panel_bytes;
    };
    if constexpr (kOnTiles<Format>) {
      for (int32_t v = first_vector_; v < end_vector_; ++v) {
        Format::add(panel_at(v), layout_.head_panels, queries, rows_,
                    {scores_ + v * 16, kPieceKeys * 4, true});
      }
    } else {
      multiply<Format>(
          panel_at, first_vector_, end_vector_, layout_.head_steps, queries, rows_,
          [](int32_t, int32_t) { return zeros(); },
          [&](int32_t v, int32_t row, Floats sum) {
            store(scores_ + row * kPieceKeys + v * 16, sum);
          });
    }
  }

  // Scores of one row become weights, relative to the largest score so far.
  void weigh_row(int32_t piece, int32_t row) {
    const float lowest = -__builtin_inff();
    const auto begin = static_cast<float>(first_visible(position_of(row)) - piece);
    const auto end = static_cast<float>(position_of(row) + 1 - piece);
    Floats scores[kPieceVectors];
    Floats most = broadcast(lowest);
    for (int32_t v = first_vector_; v < end_vector_; ++v) {
      Floats score = multiply(load(scores_ + row * kPieceKeys + v * 16), broadcast(args_.scale));
      if (args_.softcap != 0) score = capped(score, args_.softcap);
      const Floats key = add(lane_numbers(), broadcast(static_cast<float>(v * 16)));
      score = select_less(key, broadcast(end), score, broadcast(lowest));
      scores[v] = select_less(key, broadcast(begin), broadcast(lowest), score);
      most = maximum(most, scores[v]);
    }
    std::byte* weights = weights_ + row * layout_.weight_bytes;
    const float largest = max_of_lanes(most);
    if (largest == lowest) {  // nothing of this piece is visible
      for (int32_t v = first_vector_; v < end_vector_; ++v) {
        Format::store_token(weights, v * 16, zeros());
      }
      return;
    }
    if (largest > maxima_[row]) raise_maximum(row, largest);
    Floats sum = zeros();
    for (int32_t v = first_vector_; v < end_vector_; ++v) {
      const Floats weight = exponential(subtract(scores[v], broadcast(maxima_[row])));
      Format::store_token(weights, v * 16, weight);
      sum = add(sum, Format::rounded(weight));
    }
    denominators_[row] += sum_of_lanes(sum);
  }

  void raise_maximum(int32_t row, float largest) {
    const float factor = sum_of_lanes(exponential(broadcast(maxima_[row] - largest))) * (1.0f / 16);
    maxima_[row] = largest;
    denominators_[row] *= factor;
    float* sums = sums_of(row);
    for (int32_t p = 0; p < layout_.head_panels; ++p) {
      store(sums + p * 16, multiply(load(sums + p * 16), broadcast(factor)));
    }
  }

  // Sums += weights x values, sixteen keys at a time; they go on where the last ones stopped.
  void add_values(int32_t piece) {
    for (int32_t v = first_vector_; v < end_vector_; ++v) {
      const std::byte* values =
          pages_[v] + layout_.values_at + vector_in_page_[v] * 8 * Format::kStepBytes;
      const int32_t keys = end_ - piece - v * 16;
      if constexpr (kOnTiles<Format>) {
        add_tile_values(values, v, keys);
      } else {
        const int32_t whole_steps = keys >= 16 ? 8 : keys / 2;
        add_steps(values, layout_.value_panel_bytes, v * 16, whole_steps);
        if (keys < 16 && keys % 2 == 1) add_last_key(values, v * 16, whole_steps);
      }
    }
  }

  // Sixteen keys, of which the first `keys` are there.
  void add_tile_values(const std::byte* values, int32_t v, int32_t keys) {
    int64_t panel_bytes = layout_.value_panel_bytes;
    if (keys < 16) {
      Format::copy_first_keys(values, panel_bytes, layout_.head_panels, keys, last_step_);
      values = last_step_;
      panel_bytes = 8 * Format::kStepBytes;
    }
    const Tokens weights{weights_ + v * 8 * Format::kTokenStepBytes, layout_.weight_bytes};
    for (int32_t p = 0; p < layout_.head_panels; ++p) {
      Format::add(values + p * panel_bytes, 1, weights, rows_,
                  {sums_ + p * 16, layout_.head_panels * 64, false});
    }
  }

  // The key after the last one may hold anything, even NaN, which times zero is not zero: its half
  // of the pair is replaced.
  void add_last_key(const std::byte* values, int32_t key, int32_t step) {
    constexpr int64_t kElement = sizeof(typename Format::Element);
    for (int32_t p = 0; p < layout_.head_panels; ++p) {
      const std::byte* from = values + p * layout_.value_panel_bytes + step * Format::kStepBytes;
      std::byte* to = last_step_ + p * Format::kStepBytes;
      __builtin_memset(to, 0, Format::kStepBytes);
      for (int32_t lane = 0; lane < 16; ++lane) {
        const int64_t at = Format::place(lane, 0) * kElement;
        __builtin_memcpy(to + at, from + at, kElement);
      }
    }
    add_steps(last_step_, Format::kStepBytes, key + 2 * step, 1);
  }

  void add_steps(const std::byte* values, int64_t panel_bytes, int32_t key, int32_t steps) {
    if (steps == 0) return;
    const Tokens weights{weights_ + key / 2 * Format::kTokenStepBytes, layout_.weight_bytes};
    multiply<Format>(
        [&](int32_t p) { return values + p * panel_bytes; }, 0, layout_.head_panels, steps, weights,
        rows_, [&](int32_t p, int32_t row) { return load(sums_of(row) + p * 16); },
        [&](int32_t p, int32_t row, Floats sum) { store(sums_of(row) + p * 16, sum); });
  }

  void finish_row(int32_t row) {
    const int32_t head_dim = args_.kv.head_dim;
    float* output = args_.output + (token_ + row / args_.group_size) * args_.output_stride +
                    row % args_.group_size * head_dim;
    const Floats factor = broadcast(1.0f / denominators_[row]);
    // Adding zero makes a zero positive, however it came about.
    map_row(sums_of(row), head_dim, output,
            [&](Floats sum) { return multiply_add(sum, factor, zeros()); });
  }

  const AttentionArgs& args_;
  const AttentionLayout<Format>& layout_;
  std::byte* const queries_;
  std::byte* const weights_;
  float* const scores_;
  float* const sums_;
  float* const maxima_;
  float* const denominators_;
  std::byte* const last_step_;
  int32_t token_ = 0, rows_ = 0, begin_ = 0, end_ = 0;
  int32_t first_vector_ = 0, end_vector_ = 0;
  const std::byte* pages_[kPieceVectors] = {};
  int32_t vector_in_page_[kPieceVectors] = {};
};

template <class Format>
void attend(const AttentionArgs& args) {
  const AttentionLayout<Format> layout(args.kv, args.group_size);
  AttentionTile<Format> tile(args, layout);
  const int32_t tile_tokens = layout.tile_rows / args.group_size;
  for (int32_t token = 0; token < args.token_count; token += tile_tokens) {
    const int32_t left = args.token_count - token;
    tile.run(token, left < tile_tokens ? left : tile_tokens);
  }
}

void attention(const AttentionArgs& args) {
  if (args.kv.compute == Compute::kFloat32) {
    attend<Float32Pairs>(args);
  } else {
    attend<AttentionPairs>(args);
  }
}

int64_t page_bytes(const KvShape& shape) {
  return shape.compute == Compute::kFloat32 ? AttentionLayout<Float32Pairs>(shape, 1).page_bytes
                                            : AttentionLayout<AttentionPairs>(shape, 1).page_bytes;
}

int64_t attention_scratch_bytes(const KvShape& shape, int32_t group_size) {
  return shape.compute == Compute::kFloat32
             ? AttentionLayout<Float32Pairs>(shape, group_size).scratch_bytes()
             : AttentionLayout<AttentionPairs>(shape, group_size).scratch_bytes();
}

// Sixteen elements at a time: a key's pairs of elements go to its lane, a value's elements to its
// half of each lane's pair. Elements beyond the head are zeros.
template <class Format>
void store_row(const AttentionLayout<Format>& layout, const float* key, const float* value,
               int32_t head_dim, int32_t slot, std::byte* page) {
  using Element = typename Format::Element;
  constexpr int64_t kStepElements = 32;
  auto* keys = reinterpret_cast<Element*>(page + slot / 16 * layout.key_panel_bytes);
  const int32_t lane = slot % 16;
  for (int32_t d = 0; d < head_dim; d += 16) {
    const int32_t left = head_dim - d;
    Element elements[16];
    Format::store_elements(elements, left >= 16 ? load(key + d) : load_first(key + d, left, 0.0f));
    for (int32_t i = 0; i < 16 && (d + i) / 2 < layout.head_steps; ++i) {
      keys[(d + i) / 2 * kStepElements + Format::place(lane, i % 2)] = elements[i];
    }
    Format::store_elements(elements,
                           left >= 16 ? load(value + d) : load_first(value + d, left, 0.0f));
    auto* values =
        reinterpret_cast<Element*>(page + layout.values_at + d / 16 * layout.value_panel_bytes +
                                   slot / 2 * Format::kStepBytes);
    for (int32_t i = 0; i < 16; ++i) values[Format::place(i, slot % 2)] = elements[i];
  }
}

void store_kv(const KvShape& shape, const float* key, const float* value, int32_t slot,
              std::byte* page) {
  if (shape.compute == Compute::kFloat32) {
    store_row(AttentionLayout<Float32Pairs>(shape, 1), key, value, shape.head_dim, slot, page);
  } else {
    store_row(AttentionLayout<AttentionPairs>(shape, 1), key, value, shape.head_dim, slot, page);
  }
}

}  // namespace
}  // namespace quire::cpu
