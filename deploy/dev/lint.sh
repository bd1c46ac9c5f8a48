#!/usr/bin/env bash
# lint.sh fmt|lint [SOURCE...]: formats in place, or checks formatting, thread safety and clang-tidy (of SOURCEs only).
set -euo pipefail
mode=$1
shift

cpp_files() { git ls-files '*.cc' '*.h' | grep -v '^deploy/third_party/'; }
build_files() { git ls-files '*.bazel' '*.bzl' WORKSPACE; }
# Loads of native rules are not wanted by the Bazel that this tree builds with.
BUILDIFIER="buildifier -lint=off"

if [ "$mode" = fmt ]; then
  cpp_files | xargs -P2 -n40 clang-format -i
  build_files | xargs $BUILDIFIER -mode=fix
  exit 0
fi

status=0
echo "==> clang-format" >&2
cpp_files | xargs -P2 -n40 clang-format --dry-run -Werror || status=1
echo "==> buildifier" >&2
build_files | xargs $BUILDIFIER -mode=check || status=1
echo "==> clang-tidy, with clang's warnings and its thread-safety analysis" >&2
bazel build --disk_cache="$DROVER_CACHE/bazel" //proto/... || status=1 # the generated headers
if [ $# -eq 0 ]; then
  # The guest is freestanding and GCC's; //e2e/guest builds it with -Werror.
  mapfile -t sources < <(git ls-files '*.cc' | grep -v '^e2e/guest/.*' && git ls-files 'e2e/guest/*_test.cc')
  set -- "${sources[@]}"
fi
deploy/dev/tidy.py "$@" || status=1
[ $status -eq 0 ] && echo "lint: clean" >&2
exit $status
