#!/bin/sh
# Makes the chart ready for helm in build/charts/quire: with the CRDs, which are kept once, in crds/.
set -eu
cd "$(dirname "$0")/.."
rm -rf build/charts
mkdir -p build/charts/quire/crds
cp -R charts/quire/. build/charts/quire/
cp crds/inferenceservice.yaml crds/autoscalingpolicy.yaml build/charts/quire/crds/
echo build/charts/quire
