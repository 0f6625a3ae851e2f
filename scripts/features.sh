#!/usr/bin/env bash
# Builds dh-core with no feature, with each alone, and with all, and sees that what is not chosen stays out.
set -euo pipefail
cd "$(dirname "$0")/.."

features=$(cargo metadata --no-deps --format-version 1 | python3 -c '
import json, sys
packages = json.load(sys.stdin)["packages"]
core = next(package for package in packages if package["name"] == "dh-core")
print(*sorted(set(core["features"]) - {"default"}))
')

check() {
    echo "features: ${*:-none}"
    local said
    said=$(cargo check --quiet --package dh-core --lib --no-default-features --features "$*" 2>&1) || true
    # A warning of one combination of features shows nowhere else.
    [ -z "$said" ] || { echo "$said" >&2; exit 1; }
}

# Fails when a crate is among what dh-core needs with these features.
stays_out() {
    local crate=$1 tree
    shift
    tree=$(cargo tree --package dh-core --edges normal,build --no-default-features --features "$*" --prefix none --format '{p}')
    if grep -q "^$crate " <<<"$tree"; then
        echo "features: $crate is pulled in by: ${*:-none}" >&2
        exit 1
    fi
}

# The check above must be able to fail.
if (stays_out rusqlite sqlite) 2>/dev/null; then
    echo "features: cargo tree does not show rusqlite even with 'sqlite'" >&2
    exit 1
fi

check
for feature in $features; do
    check "$feature"
done
check "$features"

for feature in "" $features; do
    [ "$feature" = sqlite ] || { stays_out rusqlite "$feature"; stays_out libsqlite3-sys "$feature"; }
    [ "$feature" = mock ] || stays_out mockall "$feature"
done
