#!/usr/bin/env bash
# Velin's main job on one machine: two processes with two identities, an encrypted link between them,
# real sound in at one end and out at the other, and a summary that compares the two.
#
# It plays on the default output when a sound server answers, and writes a WAV file otherwise.
#
#   VELIN_DEMO_OUTPUT=file|device    decides instead of looking for a sound server
#   VELIN_DEMO_KEEP=DIR              keeps the sound, the recording, the logs and statistics in DIR
#   VELIN_DEMO_BIN=DIR               uses the programs in DIR instead of building them
set -euo pipefail
cd "$(dirname "$0")/.."
# Nobody is asked anything; and where standard input is closed, no other file may take its place.
exec </dev/null
PATH="$PATH:$HOME/.cargo/bin"

main() {
    bin=${VELIN_DEMO_BIN:-}
    [ -n "$bin" ] || build

    prepare_folder
    say "making the sound: a voice over a tune"
    played="$folder/played.wav"
    "$bin/material" "$played"

    say "making two devices that trust each other"
    introduce

    start_receiver
    start_sender
    finish
    summarise
}

build() {
    scripts/setup.sh build demo
    say "building (the first time takes a few minutes)"
    cargo build --locked --release -p gst-velin -p velin-pipe -p velin
    bin=$(cargo metadata --locked --no-deps --format-version 1 |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/release
}

prepare_folder() {
    if [ -n "${VELIN_DEMO_KEEP:-}" ]; then
        mkdir -p "$VELIN_DEMO_KEEP"
        folder=$(cd "$VELIN_DEMO_KEEP" && pwd)
    else
        folder=$(mktemp -d "${TMPDIR:-/tmp}/velin-demo.XXXXXX")
    fi
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    heard="$folder/heard.wav"
    rm -f "$heard"
}

# Two configuration folders stand for two machines. Each is told the other's name: that is all.
introduce() {
    local sender receiver
    sender=$(as sender identity show 2>"$folder/trust.log" | recipient)
    receiver=$(as receiver identity show 2>>"$folder/trust.log" | recipient)
    echo "  sender    $sender"
    echo "  receiver  $receiver"
    as sender trust add "$receiver" --name receiver >>"$folder/trust.log" 2>&1
    as receiver trust add "$sender" --name sender >>"$folder/trust.log" 2>&1
}

start_receiver() {
    local playback=()
    output=${VELIN_DEMO_OUTPUT:-}
    if [ -z "$output" ]; then
        output=file
        if command -v pactl >/dev/null && timeout 3 pactl info >/dev/null 2>&1; then output=device; fi
    fi
    if [ "$output" = device ]; then
        say "playing on the default output; what it plays is recorded for the comparison"
        parec --device=@DEFAULT_MONITOR@ --file-format=wav --rate=48000 --channels=2 \
            --format=s16le --latency-msec=50 "$heard" 2>"$folder/recorder.log" &
        recorder=$!
        wait_for 5 recording || true # a silent output may be asleep
        playback=(--set 'playback=[{kind="device"}]')
    else
        say "no sound server here: writing what arrives to a WAV file"
        playback=(--set "playback=[{kind=\"file\",path=\"$heard\"}]")
    fi

    # On ports that are free, so that the demo runs beside a Velin in use.
    : >"$folder/receiver.log"
    VELIN_CONFIG_DIR="$folder/receiver" "$bin/velin-pipe" run presets/demo-receive.toml \
        --set receive.port=0 --set receive.audio-port=0 --set receive.bind=127.0.0.1 \
        "${playback[@]}" --status 1s --stats-json "$folder/receiver.json" \
        > >(tee "$folder/receiver.log") 2>&1 &
    receiver=$!
    if ! wait_for 20 playing || ! alive "$receiver"; then
        fail "the receiver does not begin" receiver
    fi
    port=$(sed -n 's/^listening: TCP port \([0-9]*\),.*/\1/p' "$folder/receiver.log")
}

start_sender() {
    VELIN_CONFIG_DIR="$folder/sender" "$bin/velin-pipe" run presets/demo-send.toml \
        --set capture.0.path="$played" --set send.to="127.0.0.1:$port" \
        --stats-json "$folder/sender.json" >"$folder/sender.log" 2>&1 &
    sender=$!
}

# The sender ends with its file, and the receiver when the sender has gone; if it waits for the next
# one instead, it is told to end as a user would tell it.
finish() {
    wait_for 40 ended "$sender" || fail "the sender did not come to its end" sender
    local status=0
    wait "$sender" || status=$?
    sender=
    [ "$status" -eq 0 ] || fail "the sender failed with exit status $status" sender

    sleep 1 # what is still in the output's buffer
    if [ -n "${recorder:-}" ]; then
        stop "$recorder"
        recorder=
    fi
    wait_for 3 ended "$receiver" || kill -INT "$receiver" 2>/dev/null || true
    wait_for 10 ended "$receiver" || fail "the receiver does not end at Ctrl-C" receiver
    wait "$receiver" || status=$?
    receiver=
    [ "$status" -eq 0 ] || fail "the receiver failed with exit status $status" receiver
}

summarise() {
    echo
    say "what came out, compared with what went in:"
    local status=0
    # A clean run gives 0.999 and more; the comparison follows a playout delay that changes.
    "$bin/compare" --at-least 0.99 "$played" "$heard" | tee "$folder/summary.txt" || status=$?
    if [ "$status" -ne 0 ] && [ "$output" = device ]; then
        echo "  Is the output muted, or something else playing?" >&2
    fi
    if [ -n "${VELIN_DEMO_KEEP:-}" ]; then
        echo "  sound, logs and statistics: $folder"
    elif [ "$output" = file ]; then
        mkdir -p target
        cp "$heard" target/demo.wav
        echo "  to listen: $PWD/target/demo.wav"
    fi
    [ "$status" -eq 0 ] || exit 1
}

as() {
    local who=$1
    shift
    VELIN_CONFIG_DIR="$folder/$who" "$bin/velin-pipe" "$@"
}

# The age recipient in what `identity show` prints.
recipient() { grep -om1 'age1[0-9a-z]*'; }

# True once the receiver listens and its output has settled, or it has ended.
playing() { ended "$receiver" || grep -q ': playing ' "$folder/receiver.log"; }

# True once there is more than a header.
recording() { [ "$(stat -c %s "$heard" 2>/dev/null || echo 0)" -gt 4096 ]; }

ended() { ! alive "$1"; }

# A zombie (state Z) has ended; its name is the second field.
alive() { [ -r "/proc/$1/stat" ] && [ "$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -c1)" != Z ]; }

wait_for() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

stop() {
    kill -TERM "$1" 2>/dev/null || true
    wait_for 5 ended "$1" || kill -KILL "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

clean_up() {
    local status=$? process
    trap - EXIT
    for process in "${sender:-}" "${receiver:-}" "${recorder:-}"; do
        [ -z "$process" ] || stop "$process"
    done
    [ -n "${VELIN_DEMO_KEEP:-}" ] || rm -rf "$folder"
    exit "$status"
}

say() { echo "demo: $*"; }

fail() {
    echo "demo: $1; the last it said:" >&2
    tail -n 15 "$folder/$2.log" | sed 's/^/  /' >&2
    exit 1
}

main "$@"
