#!/bin/sh
# steps.sh GUEST: Drover's main job, step by step, each with the command that a person would type.
# GUEST is "test" (the bare-metal test guest) or "linux" (stock Debian Linux). POSIX sh: it also runs under busybox.
#   BIN      folder with drover-agent, drover-helper, drover-vmm and drover
#   IMAGES   folder with guest.elf, or vmlinuz and guest_initrd
set -eu
GUEST=$1
WORK=$(mktemp -d /tmp/drover-demo.XXXXXX)
chmod 755 "$WORK"
NAME=$(basename "$WORK" | tr 'A-Z.' 'a-z-')
export DROVER_ADDRESS="unix:$WORK/run/agent.sock"
PATH="$BIN:$PATH"
METRICS=127.0.0.1:9464
agent=

heading() { printf '\n\033[1m%s\033[0m\n' "$*"; }
show() { printf '\033[36m$ %s\033[0m\n' "$*"; }
# step COMMAND...: prints and runs it.
step() {
  show "$@"
  "$@"
}
# step_text TEXT: prints and runs a line of shell.
step_text() {
  show "$1"
  sh -c "$1"
}

start_agent() {
  show "drover-agent --state-dir=$WORK/state --listen=$WORK/run/agent.sock --image-dir=$IMAGES &"
  drover-agent --state-dir="$WORK/state" --listen="$WORK/run/agent.sock" --image-dir="$IMAGES" \
    --cgroup-parent="$NAME" --metrics-listen="$METRICS" >>"$WORK/agent.log" 2>&1 &
  agent=$!
  tries=0
  until drover host >/dev/null 2>&1 && drover vm list >/dev/null 2>&1; do
    kill -0 "$agent" 2>/dev/null || { cat "$WORK/agent.log"; echo "demo: the agent ended" >&2; exit 1; }
    tries=$((tries + 1))
    [ $tries -lt 300 ] || { cat "$WORK/agent.log"; echo "demo: the agent does not serve" >&2; exit 1; }
    sleep 0.1
  done
}

clean_up() {
  status=$?
  [ -z "$agent" ] || {
    drover vm delete demo --force >/dev/null 2>&1 || true
    kill "$agent" 2>/dev/null || true
    wait "$agent" 2>/dev/null || true
  }
  [ $status -eq 0 ] || cat "$WORK/agent.log" >&2
  rm -rf "$WORK"
  exit $status
}
trap clean_up EXIT

# console SECONDS: what the console shows in that time.
console() {
  show "drover vm console demo"
  (sleep "$1" | timeout "$1" drover vm console demo 2>/dev/null | tail -n 12) || true
  echo
}

# wait_console TEXT SECONDS: until the console has shown it.
wait_console() {
  tries=0
  until sleep 2 | timeout 2 drover vm console demo 2>/dev/null | grep -q "$1"; do
    tries=$((tries + 1))
    [ $tries -lt "$2" ] || { echo "demo: the guest did not say '$1' in time" >&2; exit 1; }
  done
}

pid_of() { drover vm get demo -o json | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' | head -n 1; }

create() {
  if [ "$GUEST" = linux ]; then
    step drover vm create demo --vcpus 1 --memory 256 --kernel "$IMAGES/vmlinuz" --initrd "$IMAGES/guest_initrd" \
      --cmdline "console=ttyS0 panic=-1 quiet"
  else
    step drover vm create demo --vcpus 1 --memory 64 --kernel "$IMAGES/guest.elf" --cmdline "do=ticks,on,ms=500"
  fi
}

booted() { if [ "$GUEST" = linux ]; then wait_console 'guest# ' 60; else wait_console 'tick 2' 30; fi; }

show_jail() {
  pid=$(pid_of)
  step_text "grep -E '^(Uid|CapEff|NoNewPrivs|Seccomp):' /proc/$pid/status"
  step_text "ls -A /proc/$pid/root | wc -l     # files in the worker's root"
  step_text "cat /proc/$pid/mounts"
  step_text "for n in mnt pid net ipc uts user; do echo \$n host=\$(readlink /proc/self/ns/\$n) worker=\$(readlink /proc/$pid/ns/\$n); done"
  step_text "cat /proc/$pid/cgroup"
}

heading "1. An agent, with its helper"
start_agent
step drover host

heading "2. A gRPC call makes a VM, another boots it"
create
step drover vm start demo
booted
console 2

heading "3. Its state, and its jail from outside"
step drover vm get demo
show_jail

heading "4. A few metrics"
if command -v curl >/dev/null 2>&1; then
  step_text "curl -s http://$METRICS/metrics | grep -E '^drover_(vms|ready|build_info)'"
else
  step_text "wget -qO- http://$METRICS/metrics | grep -E '^drover_(vms|ready|build_info)'"
fi

heading "5. The agent is killed; the guest does not notice, and the next agent finds it"
before=$(pid_of)
step kill -9 "$agent"
wait "$agent" 2>/dev/null || true
start_agent
step drover vm list
after=$(pid_of)
[ "$before" = "$after" ] || { echo "demo: the worker changed from $before to $after" >&2; exit 1; }
console 2

heading "6. The end"
step drover vm stop demo --grace 1s
step drover vm delete demo --force
step drover vm list
echo
echo "demo: done ($GUEST guest)"
