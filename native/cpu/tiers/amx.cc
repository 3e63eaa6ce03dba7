#include "cpu/tiers/attention.h"
#include "cpu/tiers/linear.h"
#include "cpu/tiers/tables.h"

// AMX tiles for linear layers of bfloat16 weights and for attention over a bfloat16 cache, and the
// vnni tier for everything else.
namespace quire::cpu {

const KernelTable kAmxTable = {
    "amx",      kLinearTile,   packing_for,       packed_bytes,
    pack,       unpack_row,    activation_bytes,  prepare_activation,
    linear,     page_bytes,    store_kv,          attention_scratch_bytes,
    attention,  rms_norm,      silu_mul,          gelu_mul,
    add_scaled, scale_softcap, max_and_logsumexp,
};

}  // namespace quire::cpu
