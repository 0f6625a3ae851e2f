#!/usr/bin/env python3
"""Measures what dh promises of itself: `dh engine list` with 100 engines, and the memory of an engine's own programs.

    scripts/bench.py [PROFILE]

Prints each figure beside its limit. Exits with 1 if a count is over it; a time that is over is only said, for it depends
on what else the machine does. `make bench` builds the programs first.
"""

import contextlib
import fcntl
import json
import os
import re
import select
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ENGINES = 100
RUNS = 60
LOOKS = 200
LIST_MS = 15.0
LIST_MIB = 20.0
AGENT_MIB = 10.0
DEADLINE = 60.0

PROFILE = sys.argv[1] if len(sys.argv) > 1 else "release"
TARGET = Path(__file__).resolve().parent.parent / "target" / PROFILE
wrong = []


def line(name: str, value: str, note: str):
    print(f"{name:48} {value:>11}  {note}")


def report(name: str, value: float, unit: str, limit: float, fails: bool):
    over = value > limit
    line(name, f"{value:.1f} {unit}", f"(limit {limit:g}){' OVER' if over else ''}")
    if over and fails:
        wrong.append(name)


def dh(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run([TARGET / "dh", *arguments], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench: dh {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def kib(process: Path, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", (process / "status").read_text(), re.M)
    return int(found[1]) if found else 0


def programs(home: Path) -> dict[str, Path]:
    """The engine's `dh-agent run` and `dh-agent supervise`."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            if not arguments[0].endswith(b"dh-agent"):
                continue
            if bytes(home) in (entry / "environ").read_bytes() + b"\0".join(arguments):
                found[arguments[1].decode()] = entry
    return found


def measure_agent(environment: dict[str, str], home: Path):
    """The most that an engine's programs had in memory, once the agent has looked around many times."""
    ledger = next((home / "data" / "engines").glob("i-*")) / "disk/var/ledger.jsonl"
    # Whoever holds the engine or lets go of it makes the agent look at once.
    for number in range(LOOKS // 2):
        dh(environment, "engine", "coffee", "bench-0", f"{number + 1}m")
        dh(environment, "engine", "coffee", "bench-0", "--cancel")
    looks = ledger.read_text().count("\n")
    found = programs(home)
    if "run" not in found or "supervise" not in found or looks < LOOKS // 2:
        sys.exit(f"bench: the engine's programs that run are {sorted(found)}, after {looks} looks")
    for name, process in sorted(found.items()):
        after = f", after {looks} looks" if name == "run" else ""
        report(f"dh-agent {name}, resident memory{after}", kib(process, "VmHWM") / 1024, "MiB", AGENT_MIB, True)
        line("  of which its own, not shared with files", f"{kib(process, 'RssAnon') / 1024:.1f} MiB", "")


def engine(home: Path) -> tuple:
    """The engine as it is now: its row, and its folder's files."""
    with contextlib.closing(sqlite3.connect(home / "state" / "dh.sqlite3")) as database:
        row = database.execute("SELECT environment, name, alias, open, ord, version, document FROM engines").fetchone()
    folder = home / "data" / "engines" / row[2]
    return row, {name: (folder / name).read_text() for name in ("machine.json", "agent.json", "boot-id", "machine.lock")}


def multiply(home: Path, kinds: list[tuple]) -> list:
    """Makes the other engines: copies of the one there is, in each state it had. Returns the power of those that run,
    which their supervisors would hold."""
    power = []
    with contextlib.closing(sqlite3.connect(home / "state" / "dh.sqlite3")) as database, database:
        for number in range(1, ENGINES):
            row, files = kinds[number % len(kinds)]
            name, machine = f"bench-{number}", f"i-{number:017x}"
            document = json.loads(row[6]) | {"name": name, "machine": machine}
            values = (row[0], name, machine, row[3], row[4] + number, row[5], json.dumps(document))
            database.execute(
                "INSERT INTO engines (environment, name, alias, open, ord, version, document) VALUES (?,?,?,?,?,?,?)", values
            )
            folder = home / "data" / "engines" / machine
            (folder / "disk").mkdir(parents=True, mode=0o700)
            for file, text in files.items():
                (folder / file).write_text(text.replace(row[2], machine).replace('"bench-0"', f'"{name}"'))
            if json.loads(files["machine.json"])["state"] == "running":
                power.append((folder / "machine.lock").open())
                fcntl.flock(power[-1], fcntl.LOCK_EX)
    return power


def listed(out: str) -> str:
    if out.count("bench-") != ENGINES or out.count("running") != ENGINES // 2:
        sys.exit(f"bench: dh engine list did not list {ENGINES} engines, half of which run:\n{out}")
    return out


def measure_start(environment: dict[str, str]):
    milliseconds = []
    for _ in range(RUNS):
        before = time.perf_counter()
        listed(dh(environment, "engine", "list"))
        milliseconds.append((time.perf_counter() - before) * 1e3)
    report(f"dh engine list, {ENGINES} engines, median of {RUNS}", statistics.median(milliseconds), "ms", LIST_MS, False)


def measure_instructions(environment: dict[str, str]):
    """Tells a change in the programs from a change in the machine's mood."""
    command = [TARGET / "dh", "engine", "list"]
    name = "  instructions in user space"
    if shutil.which("perf"):
        done = subprocess.run(
            ["perf", "stat", "-x,", "-e", "instructions:u", *command], env=environment, capture_output=True, text=True
        )
        if found := re.search(r"^(\d+),", done.stderr, re.M):
            return line(name, f"{int(found[1]) / 1e6:.1f} M", "(perf)")
    if shutil.which("valgrind"):
        tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command]
        done = subprocess.run(tool, env=environment, capture_output=True, text=True)
        if found := re.search(r"Collected : (\d+)", done.stderr):
            return line(name, f"{int(found[1]) / 1e6:.1f} M", "(valgrind)")
    return line(name, "skipped", "(neither perf nor valgrind can count them here)")


def measure_list_memory(environment: dict[str, str]):
    """The most that `dh engine list` had in memory when it has come to writing its table. What the kernel says of a
    process at its end is no use: that counts the memory of the parent it was forked from."""
    reader, writer = os.pipe()
    # So small that the table does not fit: dh stands still until it is read.
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen([TARGET / "dh", "engine", "list"], env=environment, stdout=writer)
    os.close(writer)
    status = Path("/proc") / str(process.pid)
    deadline = time.monotonic() + DEADLINE
    select.select([reader], [], [], DEADLINE)
    while not re.search(r"^State:\s+S", (status / "status").read_text(), re.M) and time.monotonic() < deadline:
        time.sleep(0.001)
    peak = kib(status, "VmHWM")
    with os.fdopen(reader) as out:
        listed(out.read())
    if process.wait() != 0 or not peak:
        sys.exit("bench: dh engine list failed")
    report(f"dh engine list, {ENGINES} engines, peak memory", peak / 1024, "MiB", LIST_MIB, True)


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="dh-bench."))
    home = folder / "dh"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DH_", "XDG_"))}
    environment |= {"HOME": str(folder), "DH_HOME": str(home), "DH_AGENT": str(TARGET / "dh-agent"), "COLUMNS": "200"}
    try:
        dh(environment, "engine", "launch", "bench-0", "--type", "cpu", "--skip-ssh-config")
        measure_agent(environment, home)
        running = engine(home)
        dh(environment, "engine", "stop", "bench-0", "-y")
        power = multiply(home, [engine(home), running])
        measure_start(environment)
        measure_instructions(environment)
        measure_list_memory(environment)
        dh(environment, "engine", "terminate", "bench-0", "-y")
        for lock in power:
            lock.close()
    finally:
        subprocess.run([TARGET / "dh", "engine", "terminate", "bench-0", "-y"], env=environment, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
    if wrong:
        print(f"bench: over the limit: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
