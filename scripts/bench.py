#!/usr/bin/env python3
"""Measures what dh promises of itself: `dh engine list` with 100 engines, and the agent's memory.

    scripts/bench.py [PROFILE]

Prints each figure beside its limit and exits with 1 if one is over it. `make bench` builds the programs first.
"""

import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ENGINES = 100
RUNS = 40
LIST_MS = 15.0
LIST_MIB = 20.0
AGENT_MIB = 10.0

PROFILE = sys.argv[1] if len(sys.argv) > 1 else "release"
TARGET = Path(__file__).resolve().parent.parent / "target" / PROFILE
wrong = []


def report(name: str, value: float, limit: float, unit: str):
    over = value > limit
    print(f"{name:42} {value:7.1f} {unit:4} (limit {limit:g}){'  OVER' if over else ''}")
    if over:
        wrong.append(name)


def dh(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run([TARGET / "dh", *arguments], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench: dh {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def multiply(home: Path):
    """Makes copies of the one stopped engine, its record and its folder, until there are enough."""
    with sqlite3.connect(home / "state" / "dh.sqlite3") as database:
        columns = "environment, name, alias, open, ord, version, document"
        row = database.execute(f"SELECT {columns} FROM engines").fetchone()
        machine = row[2]
        for number in range(1, ENGINES):
            name, other = f"bench-{number}", f"i-{number:017x}"
            document = json.loads(row[6]) | {"name": name, "machine": other}
            values = (row[0], name, other, row[3], row[4] + number, row[5], json.dumps(document))
            database.execute(f"INSERT INTO engines ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", values)
            folder = home / "data" / "engines" / other
            folder.mkdir(mode=0o700)
            for file in ("machine.json", "agent.json"):
                text = (home / "data" / "engines" / machine / file).read_text()
                (folder / file).write_text(text.replace(machine, other).replace('"bench-0"', f'"{name}"'))


def measure_list(environment: dict[str, str]):
    milliseconds, kib = [], 0
    for _ in range(RUNS):
        before = time.perf_counter()
        process = subprocess.Popen([TARGET / "dh", "engine", "list"], env=environment, stdout=subprocess.PIPE)
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        milliseconds.append((time.perf_counter() - before) * 1e3)
        process.returncode = status
        kib = max(kib, usage.ru_maxrss)
        if status != 0 or out.count(b"bench-") != ENGINES:
            sys.exit(f"bench: dh engine list did not list {ENGINES} engines:\n{out.decode()}")
    report(f"dh engine list, {ENGINES} engines, median", statistics.median(milliseconds), LIST_MS, "ms")
    report(f"dh engine list, {ENGINES} engines, peak memory", kib / 1024, LIST_MIB, "MiB")


def measure_agent(home: Path):
    """The resident memory of `dh-agent run` once its engine is ready."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            if not arguments[0].endswith(b"dh-agent") or bytes(home) not in (entry / "environ").read_bytes() + b"\0".join(arguments):
                continue
            status = (entry / "status").read_text()
        except OSError:
            continue
        resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
        found.append((arguments[1].decode(), resident / 1024))
    for name, resident in sorted(found):
        report(f"dh-agent {name}, resident memory", resident, AGENT_MIB, "MiB")
    if "run" not in [name for name, _ in found]:
        sys.exit("bench: the engine's agent does not run")


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="dh-bench."))
    home = folder / "dh"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DH_", "XDG_"))}
    environment |= {"HOME": str(folder), "DH_HOME": str(home), "DH_AGENT": str(TARGET / "dh-agent")}
    try:
        dh(environment, "engine", "launch", "bench-0", "--type", "cpu", "--skip-ssh-config")
        measure_agent(home)
        dh(environment, "engine", "stop", "bench-0", "-y")
        multiply(home)
        measure_list(environment)
        dh(environment, "engine", "terminate", "bench-0", "-y")
    finally:
        subprocess.run([TARGET / "dh", "engine", "terminate", "bench-0", "-y"], env=environment, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
