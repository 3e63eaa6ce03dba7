#pragma once

#include <cmath>

#include "common/philox.h"

// The arithmetic of a softmax computed in pieces, for hosts and devices. Scores are in units of
// log 2; a piece is (maximum, sum of weights, weighted sum of values).
namespace quire {

// Two pieces over disjoint tokens, joined: the factor of each and the common maximum. A piece that
// saw no token has maximum -infinity and factor 0.
struct SoftmaxJoin {
  float maximum;
  float first;
  float second;
};

QUIRE_HOST_DEVICE inline SoftmaxJoin join_softmax(float first, float second) {
  const float maximum = first > second ? first : second;
  if (maximum == -INFINITY) return {maximum, 0.0f, 0.0f};
  return {maximum, exp2f(first - maximum), exp2f(second - maximum)};
}

}  // namespace quire
