#!/bin/busybox sh
# Makes the machine a small host, runs /machine/command, reports its exit status, and turns off.
# The kernel's console is ttyS0. The command owns ttyS1; a line there that starts with the marker
# is a record for the host: "begin", "exit STATUS" or "fail STEP".
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
marker=$(cat /machine/marker)

record() { printf '%s%s\n' "$marker" "$*" >/dev/ttyS1; }
drain() { stty -F /dev/ttyS1 raw -echo; } # waits until all is sent, and converts nothing
off() { drain; reboot -f; } # QEMU runs with -no-reboot
must() { "$@" || { record "fail $*"; off; }; }

mount -t devtmpfs dev /dev
must drain
must mount -t proc proc /proc
must mount -t sysfs sys /sys
must mkdir -p /dev/pts /dev/shm
must mount -t devpts -o ptmxmode=666,gid=5 devpts /dev/pts
must mount -t tmpfs -o mode=1777 shm /dev/shm
must mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
must sh -c 'echo "+cpu +memory +pids" >/sys/fs/cgroup/cgroup.subtree_control'
must hostname machine
must ip link set lo up
while read -r module; do
  must insmod $module
done </machine/modules

# A sign of life for the host, which takes a silent machine for a frozen one.
(while sleep 2; do echo alive >/dev/ttyS0; done) &

record begin
# A child, not exec: process 1 stays to reap orphans, as on any host.
setsid /machine/command </dev/null >/dev/ttyS1 2>&1
record "exit $?"
off
