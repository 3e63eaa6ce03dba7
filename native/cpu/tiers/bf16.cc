#include "cpu/tiers/attention.h"
#include "cpu/tiers/linear.h"
#include "cpu/tiers/tables.h"

// AVX-512 with bfloat16 and int8 dot products: pairs of bfloat16 and fours of bytes in one
// instruction.
namespace quire::cpu {

const KernelTable kBf16Table = {
    "bf16",     kLinearTile,   packing_for,       packed_bytes,
    pack,       unpack_row,    activation_bytes,  prepare_activation,
    linear,     page_bytes,    store_kv,          attention_scratch_bytes,
    attention,  rms_norm,      silu_mul,          gelu_mul,
    add_scaled, scale_softcap, max_and_logsumexp,
};

}  // namespace quire::cpu
