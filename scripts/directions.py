#!/usr/bin/env python3
"""Checks that dependencies point inward: between the rooms of dh-core, between backends, and between crates; and that
`domain` and `logic` are pure.

    scripts/directions.py [ROOT]

Prints every line that points the wrong way, and exits with 1 if there is one. What a test alone uses is left out.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from rust_source import Source, sources

# Which rooms of dh-core a room may use, itself aside. A room that is not here has to be thought about first.
ROOMS = {
    "domain": set(),
    "ports": {"domain"},
    "wire": {"domain", "ports"},
    "logic": {"domain", "ports", "wire"},
    "backend": {"domain", "ports", "logic", "wire"},
    "store": {"domain", "ports", "logic", "wire"},
    "sensor": {"domain", "ports", "logic", "wire"},
    "layer": {"domain", "ports", "logic", "wire"},
    # The two that put the others together: for callers, and for tests.
    "connect": {"domain", "ports", "logic", "wire", "backend", "store", "sensor", "layer"},
    "testkit": {"domain", "ports", "logic", "wire", "backend", "store", "sensor", "layer", "connect"},
}

# Which of our crates a crate may depend on, tests and build scripts included.
CRATES = {
    "dh-core": set(),
    "dh-agent": {"dh-core"},
    "dh-server": {"dh-core"},
    "dh-cli": {"dh-core", "dh-server"},
    "dh-py": {"dh-core"},
    "dh-examples": None,
    "dh-tests": None,
}

_PATH = re.compile(r"\b(crate|super(?:\s*::\s*super)*)\s*::\s*(\{|\w+(?:\s*::\s*(?:\{|\w+))*)")


def _group(code: str, at: int) -> list[str]:
    """Returns the paths of the `{…}` that opens at a position, each as far as its own first group."""
    depth, start, paths = 0, at + 1, []
    for here in range(at, len(code)):
        if code[here] == "{":
            depth += 1
        elif code[here] in ",}":
            if depth == 1:
                paths.append(code[start:here].strip())
                start = here + 1
            if code[here] == "}":
                depth -= 1
                if depth == 0:
                    break
    return [path for path in paths if path]


def used(source: Source) -> list[tuple[int, list[str]]]:
    """Returns every path within the crate that a file names: where, and its segments from the crate's root."""
    found = []
    for match in _PATH.finditer(source.code):
        root, rest = match[1], re.sub(r"\s", "", match[2])
        if root == "crate":
            base = []
        else:
            module = source.module_at(match.start())
            base = module[: len(module) - root.count("super")]
        if rest.endswith("{"):
            prefix = [part for part in rest[:-1].split("::") if part]
            for path in _group(source.code, match.end() - 1):
                inner = re.split(r"\s*::\s*|\s+as\s+", path.split("{")[0].strip())
                found.append((match.start(), base + prefix + [part for part in inner if part and part != "self"]))
        else:
            found.append((match.start(), base + rest.split("::")))
    return found


def check_rooms(src: Path) -> list[str]:
    wrong = []
    for source in sources(src):
        room = source.module[0] if source.module else None
        if room is None:
            continue
        if room not in ROOMS:
            wrong.append(f"{source.path}:1: {room} is a new room: say in scripts/directions.py what it may use")
            continue
        for at, path in used(source):
            if not path or path[0] not in ROOMS:
                continue
            here = f"{source.path}:{source.line(at)}"
            if path[0] != room and path[0] not in ROOMS[room]:
                wrong.append(f"{here}: {room} may not use {path[0]} ({'::'.join(path)})")
            elif room == path[0] == "backend" and len(source.module) > 1 and len(path) > 1:
                mine, theirs = source.module[1], path[1]
                is_backend = (src / "backend" / theirs).is_dir() or (src / "backend" / f"{theirs}.rs").is_file()
                if is_backend and mine != theirs:
                    wrong.append(f"{here}: backend {mine} may not use backend {theirs} ({'::'.join(path)})")
    return wrong


# What `domain` and `logic` must come by through a port: the clock, the disk, the network, the environment, processes,
# randomness. Clippy's `disallowed-methods` names the replacement for the commonest; this finds the rest.
PURE = {"domain", "logic"}
WORLD = re.compile(
    r"\b(?:std::(?:fs|net|env|process|os|io)\b|std::time::(?:SystemTime|Instant)|tokio::(?:fs|net|process|time|signal)\b"
    r"|(?:Timestamp|Zoned|SystemTime|Instant)::now|RandomState|rustix::|libc::|rand::|getrandom::|(?:env|dbg|print|println|eprintln)!)"
)


def check_purity(src: Path) -> list[str]:
    wrong = []
    for source in sources(src):
        if source.module and source.module[0] in PURE:
            for match in WORLD.finditer(source.code):
                here = f"{source.path}:{source.line(match.start())}"
                wrong.append(f"{here}: {source.module[0]} may not reach for the world ({match[0]}): ask a port")
    return wrong


def check_crates(root: Path) -> list[str]:
    command = ["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"]
    metadata = json.loads(subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE).stdout)
    ours = {package["name"] for package in metadata["packages"]}
    wrong = []
    for package in metadata["packages"]:
        name, manifest = package["name"], package["manifest_path"]
        if name not in CRATES:
            wrong.append(f"{manifest}: {name} is a new crate: say in scripts/directions.py what it may depend on")
            continue
        for dependency in sorted({dependency["name"] for dependency in package["dependencies"]} & ours):
            if CRATES[name] is not None and dependency not in CRATES[name]:
                wrong.append(f"{manifest}: {name} may not depend on {dependency}")
    return wrong


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent)
    src = root / "dh-core" / "src"
    wrong = check_rooms(src) + check_purity(src) + check_crates(root)
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong:
        print(f"directions: {len(sources(src))} files of dh-core and all crates point inward")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
