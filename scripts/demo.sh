#!/usr/bin/env bash
# One engine's whole life on this machine, with the real programs, in a folder that is gone afterwards. `make demo` runs
# it; it exits with 0 only if everything was as it should be and nothing is left running.
set -euo pipefail
cd "$(dirname "$0")/.."

programs=${DH_PROGRAMS:-$PWD/target/debug}
dh=$programs/dh
folder=$(mktemp -d "${TMPDIR:-/tmp}/dh-demo.XXXXXX")
# The SSH config is the one file outside DH_HOME that dh writes: it goes into the folder too.
export HOME=$folder/home DH_HOME=$folder/dh DH_AGENT=$programs/dh-agent
unset DH_ENV DH_OUTPUT XDG_CONFIG_HOME XDG_DATA_HOME XDG_STATE_HOME
mkdir -m 0700 "$HOME"
cd "$HOME"

engine=demo
said=

fail() {
    echo "demo: $*" >&2
    exit 1
}

# Shows a command as people type it, runs it, shows what it prints, and keeps that in $said.
show() {
    printf '\n$ dh %s\n' "$*"
    "$dh" "$@" 2>&1 | tee "$folder/said" || fail "'dh $*' failed"
    said=$(<"$folder/said")
}

# What was said last has to hold a text.
says() {
    grep -qF -- "$1" <<<"$said" || fail "expected to read: $1"
}

# Waits until a command prints a text; shows neither the command nor what it prints before.
await() {
    local text=$1 deadline=$((SECONDS + 60))
    shift
    until "$dh" "$@" 2>/dev/null | grep -qF -- "$text"; do
        [ "$SECONDS" -lt "$deadline" ] || fail "'dh $*' did not come to say '$text' within a minute"
        sleep 0.2
    done
}

# Processes that carry the demo's folder in their environment or arguments, this script and its children aside.
left_running() {
    local entry pid
    for entry in /proc/[0-9]*; do
        pid=${entry#/proc/}
        [ "$pid" != $$ ] && [ "$pid" != "$BASHPID" ] || continue
        if tr '\0' '\n' <"$entry/cmdline" 2>/dev/null | grep -qF "$folder/dh"; then
            echo "$pid"
        fi
    done
}

clean_up() {
    local status=$? left
    trap - EXIT
    if [ "$status" != 0 ] && [ -x "$dh" ]; then
        "$dh" engine logs "$engine" --source agent 2>/dev/null | tail -20 >&2 || true
        "$dh" engine terminate "$engine" -y >/dev/null 2>&1 || true
    fi
    left=$(left_running)
    if [ -n "$left" ]; then
        echo "demo: still running: $(echo "$left" | tr '\n' ' ')" >&2
        # shellcheck disable=SC2086
        kill -9 $left 2>/dev/null || true
        status=1
    fi
    if grep -qF " $folder/" /proc/self/mounts; then
        echo "demo: still mounted below $folder" >&2
        grep -F " $folder/" /proc/self/mounts | cut -d ' ' -f 2 | sort -r | xargs -r -n 1 umount -l || true
        status=1
    fi
    rm -rf "$folder"
    [ "$status" = 0 ] && echo && echo "demo: all as it should be, and nothing is left running"
    exit "$status"
}
trap clean_up EXIT

[ -x "$dh" ] && [ -x "$DH_AGENT" ] || fail "the programs are not built: run 'make demo'"

show engine launch "$engine" --type cpu
says "Engine ready"
show studio create --size 1
says "Studio created"
show studio attach "$engine"
says "attached successfully"

# The path at which the studio's files are is what attach ends with.
files=$(grep -A1 -F 'now available at:' <<<"$said" | tail -1 | tr -d ' ')
show engine exec "$engine" -- sh -c "echo 'written before the stop' > '${files%/}/note.txt'"

show engine status "$engine" --detailed
says "SSH"
show engine list
says "Total: 1"
show engine coffee "$engine" 4h
says "Coffee lock set"
show engine coffee "$engine" --cancel

show engine idle "$engine" --set 10s
printf '\n(nobody is there: the engine warns after some seconds, and stops)\n'
await '"phase":"warned"' engine logs "$engine" --source ledger --lines 20
echo "it has warned"
await 'State: stopped' engine status "$engine"
show engine status "$engine"
says "State: stopped"
show engine why "$engine"

show engine start "$engine"
show engine idle "$engine" --set 30m
show engine exec "$engine" -- cat "${files%/}/note.txt"
says "written before the stop"

show studio detach
says "Studio detached"
show engine terminate "$engine" -y
show studio delete -y
says "deleted"
show engine list
! grep -qwF -- "$engine" <<<"$said" || fail "$engine is still listed"
