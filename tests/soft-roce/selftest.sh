#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Proves what the rig promises, in about four minutes: tests/soft-roce/selftest.sh [NAME...]
# Without a name all checks run. Needs the packages perftest and ibverbs-utils besides those of the rig.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
rig=$here/rig
work=$(mktemp -d)
export TMPDIR=$work        # so that what a rig leaves behind can be told from what others do
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

for tool in ib_write_bw:perftest ibv_devinfo:ibverbs-utils; do
    command -v "${tool%:*}" >/dev/null && continue
    echo "selftest: ${tool%:*} is missing. Fix: apt-get install ${tool#*:}" >&2
    exit 2
done

# expect WHAT CONDITION...: one line per promise
expect() {
    local what=$1
    shift
    if "$@"; then
        echo "ok      $what"
    else
        echo "FAILED  $what"
        failures=$((failures + 1))
        [ ! -s "$work/log" ] || sed 's/^/        | /' "$work/log" | tail -40
    fi
}

# run STATUS OPTIONS... -- COMMAND...: output in log; `took` in seconds; the exit status must be STATUS
run() {
    local wanted=$1 began=$SECONDS status label
    shift
    label=${*: -1}
    label=${label%%$'\n'*}
    "$rig" "$@" >"$work/log" 2>&1
    status=$?
    took=$((SECONDS - began))
    expect "exit status $wanted: ${label:0:80}" test $status = "$wanted"
}

said() { grep -Eq -- "$1" "$work/log"; }

check_status() {
    run 0 --timeout 60 --verbose -- true
    local seconds
    seconds=$(sed -n 's/^rig: booted in \(.*\) s$/\1/p' "$work/log")
    expect "one host boots in less than 10 s: $seconds s" test "${seconds%.*}" -lt 10
    run 7 --timeout 60 -- sh -c 'exit 7'
    run 127 --timeout 60 -- no-such-command
}

check_guest() {
    # Arguments and environment must survive the trip through two shells, quotes and all.
    RAMFERRY_TRIP="a 'quoted' \$value" OTHER=kept LOST=gone \
        run 0 --timeout 90 --keep-env OTHER --out "$work/out" -- bash -c '
        echo "trip=$RAMFERRY_TRIP other=$OTHER lost=$LOST first=$1 in=$(pwd)"
        echo "memlock=$(ulimit -l) host=$(hostname)"
        stat -f -c "%n=%T" /dev/shm /dev/pts /run /proc /sys
        ls -d /dev/infiniband/uverbs0 /dev/infiniband/rdma_cm /dev/userfaultfd
        echo to-stderr >&2
        ibv_devinfo
        touch /usr/scribble && echo "the overlay takes writes"
        echo result >"$RAMFERRY_RIG_OUT/file"
        ip -6 address show dev eth0; ip address show dev lo' bash "two  words"
    expect "environment and arguments pass unchanged" \
        said "trip=a 'quoted' .value other=kept lost= first=two  words in=$work"
    expect "memlock is unlimited, hostname set" said "memlock=unlimited host=rig-a"
    local mount
    for mount in /dev/shm=tmpfs /dev/pts=devpts /run=tmpfs /proc=proc /sys=sysfs; do
        expect "$mount" said "^$mount\$"
    done
    expect "/dev/infiniband and /dev/userfaultfd are there" said "^/dev/userfaultfd"
    expect "stderr arrives" said '^to-stderr$'
    expect "rxe0 is active" said "state:.*PORT_ACTIVE"
    expect "path MTU is 4096" said "active_mtu:.*4096"
    expect "loopback is up, IPv6 is there" said "inet6 2001:db8::1/64"
    expect "a file comes out" grep -q result "$work/out/file"
    expect "the kernel log comes out" grep -q "Linux version" "$work/out/dmesg.txt"
    expect "the host's files stay untouched" test ! -e /usr/scribble
    (cd / && run 0 --timeout 60 -- stat -f -c '%n=%T' /tmp)
    expect "/tmp is fresh when the command does not live there" said '^/tmp=tmpfs$'
}

check_stdin() {
    echo "through the door" | "$rig" --stdin --timeout 60 -- cat >"$work/log" 2>&1
    expect "stdin arrives, and its end" said '^through the door$'
    head -c 5000000 /dev/urandom >"$work/random"
    "$rig" --stdin --timeout 60 -- md5sum <"$work/random" >"$work/log" 2>&1
    expect "5 MB of stdin arrive complete" said "^$(md5sum <"$work/random")"
    run 0 --timeout 60 -- cat
}

check_streaming() {
    "$rig" --timeout 60 -- sh -c 'echo first; sleep 4; echo second' 2>&1 |
        while read -r line; do echo "$line $SECONDS"; done >"$work/log"
    local first second
    first=$(sed -n 's/^first //p' "$work/log")
    second=$(sed -n 's/^second //p' "$work/log")
    expect "output arrives while the command runs" test $((second - first)) -ge 3
    run 0 --timeout 120 -- sh -c 'head -c 20000000 /dev/zero | tr "\0" x'
    expect "20 MB of output arrive complete" test "$(stat -c %s "$work/log")" = 20000000
}

check_timeout() {
    run 124 --timeout 12 --out "$work/out" -- sh -c 'echo before; sleep 1000'
    expect "killed in time ($took s)" test $took -le 15
    expect "says so, and keeps what was printed" said "^before$"
    expect "says what to do" said "killed after 12 s: the command was still running; --timeout raises the limit"
    run 124 --timeout 1 -- true
    expect "a boot that takes too long is killed too" said "the guest was still booting"
    "$rig" --timeout 12 -- yes >/dev/full 2>"$work/log"
    expect "a full disk on this side is no hang" test $? != 0
    # A reader that stops reading must not stop the clock.
    # shellcheck disable=SC2216
    { "$rig" --timeout 12 -- yes; echo $? >"$work/status"; } 2>/dev/null | sleep 20
    expect "a reader that stopped reading does not stop the clock" test "$(cat "$work/status")" = 124
}

check_kernel_log() {
    run 125 --timeout 60 --out "$work/out" -- sh -c 'echo "<4>WARNING: CPU: 0 PID: 1 at test" >/dev/kmsg; exit 3'
    expect "a kernel warning is shown and explained" said "WARNING: CPU: 0 PID: 1 at test"
    expect "the command's status is still told" said "own exit status was 3"
    run 125 --timeout 60 --out "$work/out" -- \
        sh -c 'echo "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:" >/dev/kmsg'
    run 0 --timeout 60 -- sh -c 'echo "Spectre V2 : WARNING: Unprivileged eBPF is enabled" >/dev/kmsg'
    run 125 --timeout 60 --out "$work/out" -- sh -c 'echo c >/proc/sysrq-trigger; sleep 100'
    expect "a panic ends the run at once ($took s)" test $took -lt 20
    expect "the panic is in dmesg.txt" grep -q "Kernel panic" "$work/out/dmesg.txt"
}

check_one_host_bandwidth() {
    run 0 --timeout 120 -- bash -c 'ib_write_bw -d rxe0 -s 1048576 -n 200 >/dev/null & sleep 2
        ib_write_bw -d rxe0 -s 1048576 -n 200 "$RAMFERRY_RIG_A" && wait'
    expect "ib_write_bw on one host: $(bandwidth) MB/s" test -n "$(bandwidth)"
}

bandwidth() { awk '/^ *[0-9]+ +[0-9]+ +[0-9.]+ +[0-9.]+/ { print $4 }' "$work/log" | tr '\n' ' '; }

# A function for the guest: ib_write_bw with the server on host B.
across='across() { rig-peer ib_write_bw -d rxe0 -s 65536 -n "$1" >/dev/null & sleep 3
    ib_write_bw -d rxe0 -s 65536 -n "$1" "$RAMFERRY_RIG_B" && wait $!; }; '

check_two_hosts() {
    run 0 --hosts 2 --timeout 200 --verbose --out "$work/out" -- bash -c "$across"'
        rig-peer hostname
        echo "through rig-peer" | rig-peer cat
        rig-peer sh -c "echo to-stderr >&2; exit 9"; echo "peer status $?"
        rig-peer no-such-command; echo "missing status $?"
        rig-peer sh -c "kill -KILL \$\$"; echo "killed status $?"
        rig-peer sh -c "echo from-b >$RAMFERRY_RIG_OUT/b"
        rig-peer sleep 1000 & sleep 1; kill $!; sleep 1
        rig-peer sh -c "pgrep -x sleep || echo the command ends with rig-peer"
        before=$(cat /sys/class/net/eth0/statistics/tx_bytes)
        across 200 || exit 1
        echo "data link carried $(($(cat /sys/class/net/eth0/statistics/tx_bytes) - before)) bytes"
        rig-link down; echo "carrier $(cat /sys/class/net/eth0/carrier) $(rig-peer cat /sys/class/net/eth0/carrier)"
        ibv_devinfo | grep -o PORT_DOWN
        rig-link up; sleep 1
        echo "carrier $(cat /sys/class/net/eth0/carrier) $(rig-peer cat /sys/class/net/eth0/carrier)"
        rig-link netem "loss 1%" && rig-peer tc qdisc show dev eth0 && across 50 && rig-link netem off'
    local seconds
    seconds=$(sed -n 's/^rig: booted in \(.*\) s$/\1/p' "$work/log")
    expect "two hosts boot in less than 20 s: $seconds s" test "${seconds%.*}" -lt 20
    expect "rig-peer runs on the other host" said '^rig-b$'
    expect "rig-peer connects stdin and stdout" said '^through rig-peer$'
    expect "rig-peer connects stderr" said '^to-stderr$'
    expect "rig-peer returns the status" said '^peer status 9$'
    expect "rig-peer returns 127 for a missing command" said '^missing status 127$'
    expect "rig-peer tells a killed command" said '^killed status 137$'
    expect "killing rig-peer ends its command" said '^the command ends with rig-peer$'
    expect "files come out of host B" grep -q from-b "$work/out/b"
    expect "ib_write_bw across, clean then 1 % loss: $(bandwidth) MB/s" test "$(bandwidth | wc -w)" = 2
    expect "the bytes crossed the link" said '^data link carried 1[34][0-9]{6} bytes$'
    expect "rig-link down takes both carriers" said '^carrier 0 0$'
    expect "the RDMA port is down with it" said '^PORT_DOWN$'
    expect "rig-link up brings them back" said '^carrier 1 1$'
    expect "rig-link netem reaches host B" said 'netem .*loss 1%'
    expect "both kernel logs come out" test -s "$work/out/dmesg-b.txt"
}

check_netem() {
    run 0 --hosts 2 --netem 'loss 1% delay 1ms' --timeout 200 -- bash -c "$across"'tc qdisc show dev eth0; across 50'
    expect "--netem reaches the link" said 'netem .*delay 1.*ms loss 1%'
    expect "ib_write_bw across with 1 % loss and delay: $(bandwidth) MB/s" test -n "$(bandwidth)"
    run 125 --hosts 2 --netem 'nonsense' --timeout 60 -- true
    expect "a wrong --netem is named" said "tc refuses --netem 'nonsense'"
    run 125 --hosts 2 --timeout 90 --out "$work/out" -- \
        sh -c 'rig-peer sh -c "echo c >/proc/sysrq-trigger"; sleep 60'
    expect "a panic on host B ends the run at once ($took s)" test $took -lt 30
    run 125 --hosts 2 --timeout 90 --out "$work/out" -- rig-peer sh -c 'echo "<4>WARNING: on B" >/dev/kmsg'
    expect "host B's kernel log is read" said "kernel log of host B: .*WARNING: on B"
}

check_nested() {
    # SeaBIOS reports on port 0x402: proof that a guest's guest executes code.
    run 0 --timeout 90 -- sh -c '
        qemu-system-x86_64 -accel tcg -m 64 -display none -nic none \
            -chardev file,id=debug,path=/dev/shm/bios -device isa-debugcon,iobase=0x402,chardev=debug & nested=$!
        until grep SeaBIOS /dev/shm/bios; do sleep 0.5; done
        kill $nested'
    expect "QEMU runs nested: $(grep SeaBIOS "$work/log")" said SeaBIOS
}

check_processor() {
    command -v cc >/dev/null || { echo "skipped check_processor: no C compiler"; return; }
    cat >v3.c <<'END'
int printf(const char *, ...);
int main(int one, char **unused) {
    float x[64], sum = 0;
    (void)unused;
    for (int i = 0; i < 64; i++) x[i] = i * one;
    for (int i = 0; i < 64; i++) sum += x[i] * x[i];
    return !printf("%.0f\n", sum);
}
END
    cc -O3 -ffast-math -march=x86-64-v3 -o v3 v3.c
    run 0 --timeout 60 -- ./v3
    expect "a program built for x86-64-v3 runs" said '^85344$'
}

check_missing() {
    local tool python
    python=$(python3 -c 'import sys; print(sys.executable)')
    mkdir -p bin
    for tool in ldd busybox modprobe rdma tc setpriv; do ln -sf "$(command -v $tool)" bin/; done
    PATH=$work/bin "$python" "$rig" -- true >"$work/log" 2>&1
    expect "a missing package is a skip (77)" test $? = 77
    expect "the fix names all of them" said "Fix: apt-get install cpio qemu-system-x86$"
    RAMFERRY_REQUIRE_RDMA=1 PATH=$work/bin "$python" "$rig" -- true >"$work/log" 2>&1
    expect "or a failure (125) if RAMFERRY_REQUIRE_RDMA=1" test $? = 125
    "$rig" --hosts 3 -- true >"$work/log" 2>&1
    expect "wrong usage is 2" test $? = 2
}

check_killed() {
    local signal rig_process
    for signal in TERM KILL; do
        "$rig" --timeout 60 --hosts 2 -- sleep 50 >"$work/log" 2>&1 & rig_process=$!
        sleep 4
        qemus=$(pgrep -P $rig_process | tr '\n' ' ')
        kill -$signal $rig_process
        wait $rig_process 2>/dev/null
        sleep 1
        expect "rig ended by SIG$signal leaves no QEMU (had: $qemus)" all_gone $qemus
        [ $signal = TERM ] || rm -rf "$work"/ramferry-rig-*   # the one thing that SIGKILL keeps it from doing
    done
}

all_gone() {
    [ $# -gt 0 ] || return 1
    for process in "$@"; do
        # A zombie has ended: it only waits for some process 1 to notice.
        [ ! -e "/proc/$process" ] || grep -q '^State:.Z' "/proc/$process/status" || return 1
    done
}

check_nothing_left() {
    expect "no process of ours is left" test -z "$(pgrep -f "$work")"
    expect "no file of ours is left" test -z "$(find "$work" -maxdepth 1 -name 'ramferry-rig-*')"
}

all="status guest stdin streaming timeout kernel_log one_host_bandwidth two_hosts netem nested processor missing killed"
checks=${*:-$all}
"$rig" --check || exit
for check in $checks nothing_left; do
    echo "# $check"
    "check_$check"
done
echo "$failures failed, $SECONDS s"
[ $failures = 0 ]
