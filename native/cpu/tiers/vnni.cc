#include "cpu/tiers/attention.h"
#include "cpu/tiers/linear.h"
#include "cpu/tiers/tables.h"

// AVX-512 with int8 dot products; bfloat16 is widened and multiplied in float32.
namespace quire::cpu {

const KernelTable kVnniTable = {
    "vnni",     kLinearTile,   packing_for,       packed_bytes,
    pack,       unpack_row,    activation_bytes,  prepare_activation,
    linear,     page_bytes,    store_kv,          attention_scratch_bytes,
    attention,  rms_norm,      silu_mul,          gelu_mul,
    add_scaled, scale_softcap, max_and_logsumexp,
};

}  // namespace quire::cpu
