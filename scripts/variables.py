#!/usr/bin/env python3
"""Checks that every environment variable the programs read is in dh-core/src/connect/variables.rs.

    scripts/variables.py [ROOT]
"""

import re
import sys
from pathlib import Path

from rust_source import sources

REGISTRY = Path("dh-core/src/connect/variables.rs")
_CONST = re.compile(r'\bconst\s+(\w+)\s*:\s*&(?:\'static\s+)?str\s*=\s*"(\w+)"')
_READ = re.compile(r"\benv::var(?:_os)?\s*\(\s*([^)]*)\)")
_CLAP = re.compile(r"\benv\s*=\s*([^,)\]]+)")


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent)
    known = set(re.findall(r'^\s+([A-Z][A-Z_]*): "', (root / REGISTRY).read_text(), re.M))
    files = [source for src in sorted(root.glob("dh-*/src")) for source in sources(src)]
    constants = {name: value for source in files for name, value in _CONST.findall(source.text)}
    wrong = []
    for source in files:
        if source.path == root / REGISTRY:
            continue
        for pattern in (_READ, _CLAP):
            # The code tells where a read is, the text what it names: literals are blank in the code.
            for match in pattern.finditer(source.code):
                if pattern is _CLAP and "arg(" not in source.code[source.code.rfind("#[", 0, match.start()) : match.start()]:
                    continue
                argument = pattern.match(source.text, match.start())
                argument = (argument or match)[1].strip()
                name = argument.strip('"') if '"' in argument else constants.get(argument.split("::")[-1])
                if name not in known:
                    here = f"{source.path}:{source.line(match.start())}"
                    wrong.append(f"{here}: {name or argument} is not in {REGISTRY}")
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong:
        print(f"variables: all that are read are among the {len(known)} in {REGISTRY}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
