# shellcheck shell=bash
# Paths, progress lines and root rights for the scripts of the VM test bed, so that all of them agree.
# Sourced by them, never run.

vm_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project_dir=$(cd "$vm_dir/../.." && pwd)
# Everything expensive lives outside the checkout: continuous integration starts from a clean clone each time.
cache_dir=${VSNAP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vsnap}
# Seconds since the epoch when the outermost script began: one clock for all progress lines.
export VSNAP_STARTED=${VSNAP_STARTED:-$(date +%s)}

say() {
    local seconds=$(($(date +%s) - VSNAP_STARTED))
    printf '[%2d:%02d] %s\n' $((seconds / 60)) $((seconds % 60)) "$*"
}

fail() {
    say "error: $*" >&2
    exit 1
}

# A console log without its control sequences.
plain() {
    tr -d '\r' <"$1" | sed -E 's/\x1b(\[[0-9;?!]*[a-zA-Z]|[A-Z])//g'
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this step needs root: run it as root, or install sudo (the step: $*)"
    fi
}

# watched LABEL LOG COMMAND...: runs a long command with its output in LOG, and shows its newest line every ten
# seconds, so that no minute is silent. It gets a process group of its own so that a Ctrl-C ends all of it.
watched() {
    local label=$1 log=$2 pid seconds=0
    shift 2
    say "$label"
    set -m
    # Without the descriptors of locks and callers: mmdebstrap hands the next free one to a shell that can't take two digits.
    "$@" >"$log" 2>&1 </dev/null 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
    pid=$!
    set +m
    # shellcheck disable=SC2064
    trap "kill -INT -- -$pid 2>/dev/null; wait $pid; exit 130" INT TERM
    while kill -0 "$pid" 2>/dev/null; do
        sleep 1
        seconds=$((seconds + 1))
        if [ $((seconds % 10)) = 0 ]; then
            say "${label%%:*}: $(tail -c 2000 "$log" | tr "\r" "\n" | grep -av "^ *$" | tail -n 1 | cut -c 1-100)"
        fi
    done
    trap - INT TERM
    if ! wait "$pid"; then
        tail -n 40 "$log" >&2
        say "error: $label failed; the whole log is $log" >&2
        return 1
    fi
}

# The log got nothing for so many seconds and doesn't end within a line. A test that runs has written its name without a
# line end; that tells enough, and its result shall stand beside it.
silent_for() {
    [ ! -e "${VSNAP_TEST_LOG:-}" ] || {
        [ $(($(date +%s) - $(stat -c %Y "$VSNAP_TEST_LOG"))) -ge "$1" ] && [ -z "$(tail -c 1 "$VSNAP_TEST_LOG")" ]
    }
}

# ticking LABEL COMMAND...: runs a command whose output is shown, and adds a line with the time every half minute; when
# all output goes to a log too, only if nothing came for so long.
ticking() {
    local label=$1 ticker status=0
    shift
    (
        trap 'kill "$nap"; exit' TERM
        while kill -0 $$ 2>/dev/null; do
            sleep 30 &
            nap=$!
            wait "$nap"
            silent_for 25 && say "$label: still at work" >&2
        done
    ) &
    ticker=$!
    "$@" || status=$?
    kill "$ticker" 2>/dev/null || true
    wait "$ticker" 2>/dev/null || true
    return "$status"
}
