#include "addon/model_from_js.h"

#include <string>
#include <utility>

#include "addon/fields.h"

namespace quire::addon {
namespace {

struct TypeName {
  const char* name;
  WeightType type;
};

constexpr TypeName kTypeNames[] = {
    {"F32", WeightType::kF32},   {"F16", WeightType::kF16},   {"BF16", WeightType::kBF16},
    {"Q4_0", WeightType::kQ4_0}, {"Q4_1", WeightType::kQ4_1}, {"Q5_0", WeightType::kQ5_0},
    {"Q5_1", WeightType::kQ5_1}, {"Q8_0", WeightType::kQ8_0}, {"Q4_K", WeightType::kQ4_K},
    {"Q5_K", WeightType::kQ5_K}, {"Q6_K", WeightType::kQ6_K},
};

Status unknown(const char* field, const std::string& value) {
  return {Code::kInvalidArgument, std::string(field) + " '" + value + "' is not known"};
}

Status read_type(Napi::Object from, WeightType* type) {
  std::string name;
  QUIRE_TRY(read_string(from, "type", &name));
  for (const TypeName& known : kTypeNames) {
    if (name != known.name) continue;
    *type = known.type;
    return {};
  }
  return unknown("type", name);
}

Status read_slice(Napi::Object from, const char* field, WeightSlice* slice) {
  Napi::Object object;
  QUIRE_TRY(read_object(from, field, &object));
  QUIRE_TRY(read_string(object, "name", &slice->name));
  QUIRE_TRY(read_type(object, &slice->type));
  QUIRE_TRY(read_int32(object, "rows", &slice->rows));
  QUIRE_TRY(read_int32(object, "columns", &slice->columns));
  QUIRE_TRY(read_int32(object, "file", &slice->file));
  QUIRE_TRY(read_int64(object, "offset", &slice->offset));
  return read_int64(object, "byteLength", &slice->byte_length);
}

Status read_slice(Napi::Object from, const char* field, std::optional<WeightSlice>* slice) {
  if (from.Get(field).IsUndefined()) return {};
  slice->emplace();
  return read_slice(from, field, &**slice);
}

Status read_layer_weights(Napi::Object from, LayerWeights* layer) {
  QUIRE_TRY(read_slice(from, "attentionNorm", &layer->attention_norm));
  QUIRE_TRY(read_slice(from, "query", &layer->query));
  QUIRE_TRY(read_slice(from, "key", &layer->key));
  QUIRE_TRY(read_slice(from, "value", &layer->value));
  QUIRE_TRY(read_slice(from, "queryBias", &layer->query_bias));
  QUIRE_TRY(read_slice(from, "keyBias", &layer->key_bias));
  QUIRE_TRY(read_slice(from, "valueBias", &layer->value_bias));
  QUIRE_TRY(read_slice(from, "queryNorm", &layer->query_norm));
  QUIRE_TRY(read_slice(from, "keyNorm", &layer->key_norm));
  QUIRE_TRY(read_slice(from, "attentionOutput", &layer->attention_output));
  QUIRE_TRY(read_slice(from, "postAttentionNorm", &layer->post_attention_norm));
  QUIRE_TRY(read_slice(from, "mlpNorm", &layer->mlp_norm));
  QUIRE_TRY(read_slice(from, "gate", &layer->gate));
  QUIRE_TRY(read_slice(from, "up", &layer->up));
  QUIRE_TRY(read_slice(from, "down", &layer->down));
  return read_slice(from, "postMlpNorm", &layer->post_mlp_norm);
}

// Calls `read(object)` for every element of the array in `field`.
template <class Read>
Status read_each(Napi::Object from, const char* field, const Read& read) {
  Napi::Array array;
  QUIRE_TRY(read_array(from, field, &array));
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::HandleScope scope(array.Env());
    const Napi::Value element = array.Get(i);
    if (!element.IsObject()) {
      return {Code::kInvalidArgument, std::string(field) + " holds something not an object"};
    }
    QUIRE_TRY(read(element.As<Napi::Object>()));
  }
  return {};
}

Status read_weights(Napi::Object from, ModelWeights* weights) {
  QUIRE_TRY(read_slice(from, "embedding", &weights->embedding));
  QUIRE_TRY(read_slice(from, "finalNorm", &weights->final_norm));
  QUIRE_TRY(read_slice(from, "lmHead", &weights->lm_head));
  return read_each(from, "layers", [&](Napi::Object object) {
    return read_layer_weights(object, &weights->layers.emplace_back());
  });
}

Status read_rope(Napi::Object from, Rope* rope) {
  QUIRE_TRY(read_floats(from, "inverseFrequencies", &rope->inverse_frequencies));
  return read_float(from, "magnitude", &rope->magnitude);
}

Status read_layer_spec(Napi::Object from, LayerSpec* layer) {
  QUIRE_TRY(read_int32(from, "window", &layer->window));
  return read_int32(from, "rope", &layer->rope);
}

Status read_kinds(Napi::Object from, ModelSpec* spec) {
  std::string activation;
  QUIRE_TRY(read_string(from, "activation", &activation));
  if (activation != "silu" && activation != "gelu_tanh") return unknown("activation", activation);
  spec->activation = activation == "silu" ? Activation::kSilu : Activation::kGeluTanh;
  std::string layout;
  QUIRE_TRY(read_string(from, "ropeLayout", &layout));
  if (layout != "halves" && layout != "adjacent") return unknown("ropeLayout", layout);
  spec->rope_layout = layout == "halves" ? RopeLayout::kHalves : RopeLayout::kAdjacent;
  return {};
}

Status read_spec(Napi::Object from, ModelSpec* spec) {
  QUIRE_TRY(read_int32(from, "vocabSize", &spec->vocab_size));
  QUIRE_TRY(read_int32(from, "hiddenSize", &spec->hidden_size));
  QUIRE_TRY(read_int32(from, "headCount", &spec->head_count));
  QUIRE_TRY(read_int32(from, "kvHeadCount", &spec->kv_head_count));
  QUIRE_TRY(read_int32(from, "headDim", &spec->head_dim));
  QUIRE_TRY(read_int32(from, "ffnSize", &spec->ffn_size));
  QUIRE_TRY(read_float(from, "normEpsilon", &spec->norm_epsilon));
  QUIRE_TRY(read_float(from, "normOffset", &spec->norm_offset));
  QUIRE_TRY(read_float(from, "embeddingScale", &spec->embedding_scale));
  QUIRE_TRY(read_float(from, "attentionScale", &spec->attention_scale));
  QUIRE_TRY(read_float(from, "residualScale", &spec->residual_scale));
  QUIRE_TRY(read_float(from, "logitScale", &spec->logit_scale));
  QUIRE_TRY(read_float(from, "attentionSoftcap", &spec->attention_softcap));
  QUIRE_TRY(read_float(from, "logitSoftcap", &spec->logit_softcap));
  QUIRE_TRY(read_kinds(from, spec));
  QUIRE_TRY(read_each(from, "ropes", [&](Napi::Object object) {
    return read_rope(object, &spec->ropes.emplace_back());
  }));
  return read_each(from, "layers", [&](Napi::Object object) {
    return read_layer_spec(object, &spec->layers.emplace_back());
  });
}

Status read_files(Napi::Object from, std::vector<std::string>* files) {
  Napi::Array array;
  QUIRE_TRY(read_array(from, "files", &array));
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value element = array.Get(i);
    if (!element.IsString()) return {Code::kInvalidArgument, "files holds something not a string"};
    files->push_back(element.As<Napi::String>().Utf8Value());
  }
  return {};
}

}  // namespace

Status model_from_js(Napi::Value value, Model* model) {
  if (!value.IsObject()) return {Code::kInvalidArgument, "the model is not an object"};
  const auto object = value.As<Napi::Object>();
  Napi::Object spec;
  QUIRE_TRY(read_object(object, "spec", &spec));
  QUIRE_TRY(read_spec(spec, &model->spec));
  Napi::Object weights;
  QUIRE_TRY(read_object(object, "weights", &weights));
  QUIRE_TRY(read_weights(weights, &model->weights));
  return read_files(object, &model->files);
}

}  // namespace quire::addon
