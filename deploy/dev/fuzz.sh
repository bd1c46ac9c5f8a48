#!/usr/bin/env bash
# fuzz.sh TARGET [SECONDS]: builds the target's libFuzzer program and runs it on its corpus (new finds go to a temporary folder).
set -euo pipefail
target=${1:?usage: ./dev fuzz //package:name_fuzz_test [seconds]}
seconds=${2:-60}
bazel build --disk_cache="$DROVER_CACHE/bazel" --config=fuzz "${target}er"
program=$(bazel cquery --config=fuzz "${target}er" --output=starlark \
  --starlark:expr='target.files_to_run.executable.path' 2>/dev/null)
found=$(mktemp -d "/tmp/drover-fuzz.XXXXXX")
package=${target#//}
package=${package%%:*}
corpus=()
[ -d "$package/corpus" ] && while IFS= read -r folder; do corpus+=("$folder"); done < <(find "$package/corpus" -type d)
echo "==> fuzzing $target for $seconds s; finds go to $found" >&2
exec "$program" -max_total_time="$seconds" -artifact_prefix="$found/" "$found" "${corpus[@]}"
