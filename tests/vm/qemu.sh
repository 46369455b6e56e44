# shellcheck shell=bash
# How a virtual appliance is put together: QEMU's arguments, its disks, and its control socket (QMP). Sourced by "vm",
# which sets $name and $dir.

# Sizes in MiB of disk01 to disk16: half of one size, as in a real shelf, and half of other ones.
disk_sizes=(2048 2048 2048 2048 2048 2048 2048 2048 3072 3072 4096 4096 1024 1024 512 5120)

# TERM=dumb keeps control sequences out of the console's log. Watchdogs are patient: an emulated processor on a busy
# machine may stand still for a while.
kernel_arguments="root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off init_on_alloc=0 loglevel=5 TERM=dumb"
kernel_arguments+=" workqueue.watchdog_thresh=120 rcupdate.rcu_cpu_stall_timeout=120"

# Arguments of one disk's device. Without a wwn the disk would have no SCSI uuid, which every real disk has. The last
# four say that they don't rotate.
disk_device() {
    local disk=$1 number=$((10#${1#disk})) rotation=7200
    [ "$number" -le 12 ] || rotation=1
    printf 'scsi-hd,bus=scsi.0,scsi-id=%d,id=%s,drive=%s,serial=VSNAP%s%02d,wwn=0x5000c5000000%s%03d,rotation_rate=%d' \
        "$number" "$disk" "$disk" "${name^^}" "$number" "$name" "$number" "$rotation"
}

make_disks() {
    local image=$1 number
    cp "$image/id_ed25519" "$dir/"
    qemu-img create -q -f qcow2 -b "$image/root.img" -F raw "$dir/root.qcow2"
    for number in $(seq 1 ${#disk_sizes[@]}); do
        truncate -s "${disk_sizes[number - 1]}M" "$dir/$(printf 'disk%02d.img' "$number")"
    done
    printf 'api=%s\nssh=0\nsmb=0\nnfs=0\niscsi=0\n' "${VSNAP_VM_API_PORT:-0}" >"$dir/ports"
}

# KVM when it works. The device may exist and still hang at the guest's first instruction, so it's tried: a kernel
# without a root disk panics and so ends QEMU within seconds.
accelerator() {
    if [ -n "${VSNAP_VM_ACCEL:-}" ]; then
        echo "$VSNAP_VM_ACCEL"
    elif grep -qwE 'vmx|svm' /proc/cpuinfo && [ -w /dev/kvm ] &&
        timeout 15 qemu-system-x86_64 -nodefaults -display none -machine q35 -accel kvm -cpu host -m 512 -no-reboot \
            -kernel "$1/vmlinuz" -append 'panic=-1 console=ttyS0' -serial stdio </dev/null 2>/dev/null |
            grep -q 'Linux version'; then
        echo kvm
    else
        echo tcg
    fi
}

# What an emulated processor does slowly. Without erms and fsrm the guest copies and clears memory by words; with them it
# is "rep movsb", which is emulated byte by byte. Without smap it switches nothing each time that it reads memory of a
# process. Page tables have four levels instead of five without la57. Together they make a boot a fifth faster, and the
# start of a program a quarter.
slow_when_emulated=erms=off,fsrm=off,smap=off,smep=off,pku=off,la57=off

# Fills the array qemu_command.
set_qemu_command() {
    local image number disk key cpu accel forwards='' private
    image=$(cat "$dir/image")
    accel=$(accelerator "$image")
    case $accel in
    tcg) accel=tcg,thread=multi cpu=max,$slow_when_emulated ;;
    kvm) cpu=host ;;
    *) fail "VSNAP_VM_ACCEL is \"$accel\"; it can be tcg or kvm" ;;
    esac
    for key in ssh:22 api:8900 smb:445 nfs:2049 iscsi:3260; do
        forwards+=",hostfwd=tcp:127.0.0.1:$(port "${key%:*}")-:${key#*:}"
    done
    case $name in
    a) private=stream,id=private,server=on,addr.type=unix,addr.path=../private.sock ;;
    b) private=stream,id=private,server=off,reconnect-ms=1000,addr.type=unix,addr.path=../private.sock ;;
    esac
    qemu_command=(qemu-system-x86_64 -name "vsnap-$name" -nodefaults -no-user-config -display none
        -machine q35 -accel "$accel" -cpu "$cpu" -smp "${VSNAP_VM_CPUS:-2}" -m "${VSNAP_VM_MEMORY:-3072}" -rtc base=utc
        -kernel "$image/vmlinuz" -initrd "$image/initrd.img"
        -append "$kernel_arguments vsnap.name=vsnap-$name"
        -pidfile pid -qmp unix:qmp.sock,server=on,wait=off
        -chardev socket,id=console,path=console.sock,server=on,wait=off,logfile=console.log,logappend=on
        -serial chardev:console
        -device virtio-rng-pci
        # A panic in the guest ends QEMU with an error.
        -device pvpanic-pci -action panic=exit-failure
        -drive if=none,id=root,file=root.qcow2,format=qcow2,cache=unsafe,discard=unmap
        -device virtio-blk-pci,drive=root
        -netdev "user,id=outside$forwards" -device "virtio-net-pci,romfile=,netdev=outside,mac=52:54:00:76:01:0$name"
        -netdev "$private" -device "virtio-net-pci,romfile=,netdev=private,mac=52:54:00:76:02:0$name"
        -device virtio-scsi-pci,id=scsi)
    for number in $(seq 1 ${#disk_sizes[@]}); do
        disk=$(printf 'disk%02d' "$number")
        qemu_command+=(-blockdev "driver=raw,node-name=$disk,discard=unmap,cache.no-flush=on,file.driver=file,file.filename=$disk.img"
            -device "$(disk_device "$disk")")
    done
}

# QEMU runs in a session of its own, so that a Ctrl-C for the tests doesn't reach it, and is ended by its pid.
launch() {
    local try
    [ -z "${VSNAP_VM_API_PORT:-}" ] || sed -i "s/^api=.*/api=$VSNAP_VM_API_PORT/" "$dir/ports"
    if [ "$(port api)" != 0 ] && (: <"/dev/tcp/127.0.0.1/$(port api)") 2>/dev/null; then
        fail "port $(port api) of this machine is taken by another program; stop that, or choose another port with VSNAP_VM_API_PORT"
    fi
    set_qemu_command
    rm -f "$dir/pid" "$dir"/*.sock
    (cd "$dir" && exec setsid "${qemu_command[@]}" >>qemu.log 2>&1 </dev/null 8>&- 9>&-) &
    for ((try = 0; try < 100; try++)); do
        sleep 0.1
        if running && remember_ports; then
            say "VM $name started (ssh on port $(port ssh), API on port $(port api))"
            return
        fi
        kill -0 $! 2>/dev/null || break
    done
    tail -n 20 "$dir/qemu.log" >&2
    fail "QEMU for VM $name didn't start; see $dir/qemu.log"
}

# QEMU has chosen free local ports for those that were 0. They stay the same when this VM is started again.
remember_ports() {
    local network key inside outside
    network=$(monitor info usernet 2>/dev/null) || return 1
    for key in api:8900 ssh:22 smb:445 nfs:2049 iscsi:3260; do
        inside=${key#*:}
        outside=$(awk -v inside="$inside" '/HOST_FORWARD/ && $6 == inside { print $4 }' <<<"$network")
        [ -n "$outside" ] || return 1
        sed -i "s/^${key%:*}=.*/${key%:*}=$outside/" "$dir/ports"
    done
}

# qmp COMMAND [ARGUMENTS]: one command on QEMU's control socket; both are JSON texts. Prints the answer.
qmp() {
    local line command='{"execute":'$1'}' answers=0
    [ $# = 1 ] || command='{"execute":'$1',"arguments":'$2'}'
    coproc QMP { socat - "UNIX-CONNECT:$dir/qmp.sock" 2>/dev/null; }
    # shellcheck disable=SC2153
    printf '{"execute":"qmp_capabilities"}\n%s\n' "$command" >&"${QMP[1]}" || return 1
    while IFS= read -r -t 20 line <&"${QMP[0]}"; do
        case $line in
        '{"return"'*) answers=$((answers + 1)) ;;
        '{"error"'*)
            echo "$line" >&2
            answers=-1
            ;;
        *) continue ;;
        esac
        [ "$answers" = 1 ] || break
    done
    # shellcheck disable=SC2154
    kill "$QMP_PID" 2>/dev/null || true
    wait "$QMP_PID" 2>/dev/null || true
    [ "$answers" = 2 ] || return 1
    printf '%s\n' "$line"
}

# A command of the human monitor. QMP puts its output into a JSON string.
monitor() {
    local answer
    answer=$(qmp '"human-monitor-command"' "{\"command-line\":\"${*//\"/\\\"}\"}") || return 1
    answer=${answer#'{"return": "'}
    printf '%b' "${answer%'"}'*}" | tr -d '\r'
}

pull_disk() {
    qmp '"device_del"' "{\"id\":\"$1\"}" >/dev/null
}

return_disk() {
    monitor "device_add $(disk_device "$1")"
}

show_ports() {
    local prefix=VSNAP_TEST
    [ "$name" = a ] || prefix=VSNAP_TEST_B
    set_ssh_command
    cat <<END
${prefix}_HOST=127.0.0.1
${prefix}_PORT=$(port api)
${prefix}_SSH_PORT=$(port ssh)
${prefix}_SMB_PORT=$(port smb)
${prefix}_NFS_PORT=$(port nfs)
${prefix}_ISCSI_PORT=$(port iscsi)
${prefix}_SSH='${ssh_command[*]}'
${prefix}_MONITOR=$dir/qmp.sock
${prefix}_VM=$vm_dir/vm
END
}
