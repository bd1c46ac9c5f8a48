#!/usr/bin/env bash
# Proves that Bazel refuses a dependency on a higher level: copies the tree's build files, plants a package at each
# level that reaches upward, and expects every one of them to be refused, and a downward one to be accepted.
set -euo pipefail
tree=$(dirname "$(readlink -f BUILD.bazel)")
copy=$(mktemp -d /tmp/drover-levels.XXXXXX)
trap 'rm -rf "$copy"' EXIT
(cd "$tree" && find . -path ./.git -prune -o -path './bazel-*' -prune -o \
  \( -name BUILD.bazel -o -name '*.bzl' -o -name WORKSPACE -o -name .bazelrc -o -name .bazelignore -o -name '*.py' \
  -o -path './deploy/*' \) -type f -print0 |
  xargs -0 cp --parents -t "$copy")
cd "$copy"

# plant PACKAGE TARGET: a library in PACKAGE that depends on TARGET.
plant() {
  mkdir -p "$1"
  printf 'cc_library(\n    name = "probe",\n    deps = ["%s"],\n)\n' "$2" >"$1/BUILD.bazel"
}

upward=(
  "vmm/base/probe //vmm/core:io_bus"
  "vmm/core/probe //vmm/kvm:kvm"
  "vmm/core/probe2 //devices/serial:serial"
  "devices/probe //vmm/worker:machine"
  "vmm/boot/probe //vmm/worker:machine"
  "vmm/kvm/probe //agent/helper:helper"
  "vmm/worker/probe //agent/helper:helper"
  "agent/probe //e2e/harness:agent_process"
  "proto/probe //vmm/base:status"
  "deploy/probe //agent/helper:helper"
)
for pair in "${upward[@]}"; do
  read -r package target <<<"$pair"
  plant "$package" "$target"
done
plant vmm/worker/downward //vmm/core:io_bus

bazel() { command bazel --output_user_root="$copy.out" --max_idle_secs=5 --host_jvm_args=-Xmx512m "$@"; }
trap 'bazel shutdown >/dev/null 2>&1; chmod -R u+w "$copy.out"; rm -rf "$copy" "$copy.out"' EXIT
status=0
for pair in "${upward[@]}"; do
  read -r package target <<<"$pair"
  out=$(bazel build --nobuild "//$package:probe" 2>&1) && code=0 || code=$?
  if [ $code -eq 0 ] || ! grep -q "is not visible from target '//$package:probe'" <<<"$out"; then
    echo "FAILED: //$package may use $target:"
    tail -5 <<<"$out"
    status=1
  fi
done
bazel build --nobuild //vmm/worker/downward:probe 2>&1 || status=1
exit $status
