#!/usr/bin/env bash
# lint.sh fmt|lint [FILE...]: formats in place, or checks formatting, thread safety (clang) and clang-tidy.
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
echo "==> clang with -Werror=thread-safety" >&2
bazel build --disk_cache="$DROVER_CACHE/bazel" --config=clang --keep_going //... || status=1
echo "==> clang-tidy" >&2
flags="-std=c++20 -I. -Ibazel-bin -Ideploy/third_party/linux_uapi/include -Ideploy/third_party/linux_uapi/arch/x86/include"
if [ $# -gt 0 ]; then files="$*"; else files=$(cpp_files | grep '\.cc$' | grep -v '^e2e/guest/'); fi
# shellcheck disable=SC2086
echo $files | tr ' ' '\n' | xargs -P2 -n4 sh -c 'clang-tidy --quiet "$@" -- '"$flags"' 2>/dev/null' tidy || status=1
[ $status -eq 0 ] && echo "lint: clean" >&2
exit $status
