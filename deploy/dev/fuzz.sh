#!/usr/bin/env bash
# fuzz.sh [TARGET [SECONDS]]: builds libFuzzer programs and runs each on its corpus (new finds go to a temporary folder).
# TARGET is a cc_fuzz_test, or `all`.
set -euo pipefail
target=${1:-all}
seconds=${2:-60}
quiet=(--noshow_progress --ui_event_filters=-info)

if [ "$target" = all ]; then
  fuzzers=$(bazel query 'attr(name, "_fuzzer$", kind(cc_binary, //...))' "${quiet[@]}")
else
  fuzzers=${target}er
fi
# shellcheck disable=SC2086
bazel build --disk_cache="$DROVER_CACHE/bazel" --config=fuzz $fuzzers
bin=$(bazel info bazel-bin --config=fuzz "${quiet[@]}")

found=$(mktemp -d "/tmp/drover-fuzz.XXXXXX")
failed=()
for fuzzer in $fuzzers; do
  package=${fuzzer#//}
  package=${package%%:*}
  mapfile -t corpus < <(find "$package/corpus" -type d 2>/dev/null)
  echo "==> fuzzing $fuzzer for $seconds s; finds go to $found" >&2
  mkdir -p "$found/${fuzzer##*:}"
  "$bin/$package/${fuzzer##*:}" -max_total_time="$seconds" -print_final_stats=1 -artifact_prefix="$found/${fuzzer##*:}-" \
    "$found/${fuzzer##*:}" "${corpus[@]}" || failed+=("$fuzzer")
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "fuzz: findings in ${failed[*]}; see $found" >&2
  exit 1
fi
echo "fuzz: no findings"
