#!/usr/bin/env bash
# Runs the steps on this machine's KVM, and inside the emulated x86 machine with stock Debian Linux as the guest where
# this machine's KVM is not hardware (or is not there).
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD
cache=${DROVER_CACHE:-$HOME/.cache/drover}
say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

stage=$(mktemp -d /tmp/drover-demo-stage.XXXXXX)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"
mkdir "$stage/bin" "$stage/images"
for file in agent/daemon/drover-agent agent/helper/drover-helper agent/cli/drover vmm/worker/drover-vmm; do
  cp -L "bazel-bin/$file" "$stage/bin/"
done
cp -L bazel-bin/e2e/guest/guest.elf "$stage/images/"
for file in vmlinuz guest_initrd; do
  [ ! -f "$cache/machine/$file" ] || cp "$cache/machine/$file" "$stage/images/"
done
chmod 644 "$stage"/images/*

# Stock Linux needs a KVM that runs ring 0 itself: VMX or SVM in hardware.
hardware_kvm() { [ -w /dev/kvm ] && grep -qwE 'vmx|svm' /proc/cpuinfo && [ -f "$stage/images/vmlinuz" ] && ! [ -d /sys/module/kvm_pvm ]; }

if hardware_kvm && [ "${1:-}" != test ]; then
  say "hardware KVM: stock Debian Linux as the guest"
  BIN=$stage/bin IMAGES=$stage/images e2e/demo/steps.sh linux
  exit 0
fi
if [ -w /dev/kvm ]; then
  say "this machine's /dev/kvm, with the test guest"
  BIN=$stage/bin IMAGES=$stage/images e2e/demo/steps.sh test
else
  say "no /dev/kvm on this machine: only the emulated machine follows"
fi
say "the same steps inside an emulated x86 machine, with stock Debian Linux as the guest"
files=()
for file in "$stage"/bin/*; do files+=(--file "$file=/bin/$(basename "$file")"); done
e2e/machine/machine.py run --attempts 3 --memory 3072 --timeout 400 "${files[@]}" \
  --file "$stage/images/vmlinuz=/images/vmlinuz" --file "$stage/images/guest_initrd=/images/guest_initrd" \
  --file "$here/e2e/demo/steps.sh=/bin/steps.sh" --env BIN=/bin --env IMAGES=/images -- sh /bin/steps.sh linux
