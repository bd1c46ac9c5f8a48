#!/usr/bin/env bash
# Everything that a scheduler does, done with grpcurl against a running agent.
set -euo pipefail
if ! command -v grpcurl >/dev/null; then
  echo "SKIPPED: grpcurl is not installed (./dev test installs it)"
  exit 0
fi
if [ "$(id -u)" -ne 0 ] || [ ! -r /dev/kvm ]; then
  echo "SKIPPED: needs root and /dev/kvm"
  exit 0
fi
root=$(mktemp -d /tmp/dgc.XXXXXX)
chmod 755 "$root"
mkdir "$root/images"
cp e2e/guest/guest.elf "$root/images/guest"
agent/daemon/drover-agent --state-dir="$root/state" --listen="$root/run/agent.sock" --image-dir="$root/images" \
  --cgroup-parent="drover-$(basename "$root")" --helper="$PWD/agent/helper/drover-helper" \
  --worker="$PWD/vmm/worker/drover-vmm" --metrics-listen= >"$root/agent.log" 2>&1 &
agent=$!

call() { grpcurl -plaintext -unix -d "$2" "$root/run/agent.sock" "$1"; }
finish() {
  status=$?
  call drover.v1.VmService/DeleteVm '{"vmId": "curl", "force": true, "allowMissing": true}' >/dev/null 2>&1 || true
  kill "$agent" 2>/dev/null || true
  wait "$agent" 2>/dev/null || true
  [ $status -eq 0 ] || cat "$root/agent.log"
  rm -rf "$root"
  exit $status
}
trap finish EXIT

fail() {
  echo "FAILED: $*"
  exit 1
}
# expect WORD TEXT: TEXT, without blanks, contains WORD.
expect() { tr -d ' \n' <<<"$2" | grep -qF -- "$1" || fail "no $1 in: $2"; }

for _ in $(seq 600); do
  call grpc.health.v1.Health/Check '{}' 2>/dev/null | grep -q '"SERVING"' && break
  kill -0 "$agent" || fail "the agent ended"
  sleep 0.1
done

services=$(grpcurl -plaintext -unix "$root/run/agent.sock" list)
expect drover.v1.VmService "$services"
expect drover.v1.HostService "$services"
expect grpc.health.v1.Health "$services"
expect 'rpcCreateVm(.drover.v1.CreateVmRequest)returns(.drover.v1.Vm)' \
  "$(grpcurl -plaintext -unix "$root/run/agent.sock" describe drover.v1.VmService)"
expect '"kind":"kvm"' "$(call drover.v1.HostService/GetHost '{}')"

spec="{\"vmId\": \"curl\", \"vm\": {\"spec\": {\"vcpus\": 1, \"memoryMib\": 64,
  \"boot\": {\"kernelPath\": \"$root/images/guest\", \"commandLine\": \"do=ticks,on,ms=100\"}}}}"
expect '"state":"VM_STATE_CREATED"' "$(call drover.v1.VmService/CreateVm "$spec")"
expect '"state":"VM_STATE_RUNNING"' "$(call drover.v1.VmService/StartVm '{"vmId": "curl"}')"
expect '"id":"curl"' "$(call drover.v1.VmService/ListVms '{}')"
expect '"state":"VM_STATE_PAUSED"' "$(call drover.v1.VmService/PauseVm '{"vmId": "curl"}')"
expect '"state":"VM_STATE_RUNNING"' "$(call drover.v1.VmService/ResumeVm '{"vmId": "curl"}')"
expect '"boot_count":2' "$(call drover.v1.VmService/RebootVm '{"vmId": "curl"}')"
console=$(grpcurl -plaintext -unix -max-time 5 -d '{"vmId": "curl"}' "$root/run/agent.sock" \
  drover.v1.VmService/StreamConsole 2>/dev/null || true)
expect '"output":' "$console"
# An error with its details.
error=$(grpcurl -plaintext -unix -format-error -d '{"vmId": "curl"}' "$root/run/agent.sock" \
  drover.v1.VmService/ResumeVm 2>&1 || true)
expect WRONG_STATE "$error"
expect FailedPrecondition "$error$(call drover.v1.VmService/ResumeVm '{"vmId": "curl"}' 2>&1 || true)"
error=$(call drover.v1.VmService/CreateVm '{"vmId": "UP", "vm": {"spec": {"vcpus": -1}}}' 2>&1 || true)
expect vm.spec.vcpus "$error"
expect '"state":"VM_STATE_STOPPED"' "$(call drover.v1.VmService/StopVm '{"vmId": "curl", "force": true}')"
expect '{}' "$(call drover.v1.VmService/DeleteVm '{"vmId": "curl"}')"
expect NotFound "$(call drover.v1.VmService/GetVm '{"vmId": "curl"}' 2>&1 || true)"
echo "grpcurl: every call answered"
