"""Just enough of Rust's syntax for the house's own checks: what is code, what is test, and which module it is in."""

import re
from dataclasses import dataclass
from pathlib import Path

# A raw string, a string, a character (not a lifetime), a comment.
_NO_CODE = re.compile(
    r"""(?P<raw>\bb?r(?P<hashes>\#*)".*?"(?P=hashes))
      | (?P<string>\bb?"(?:\\.|[^"\\])*"|"(?:\\.|[^"\\])*")
      | (?P<char>b?'(?:\\(?:x..|u\{[^}]*\}|.)|[^'\\])')
      | (?P<line>//[^\n]*)
      | (?P<block>/\*.*?\*/)""",
    re.S | re.X,
)


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def code_of(text: str) -> str:
    """Returns the text with comments and literals blanked; every other character keeps its place."""
    return _NO_CODE.sub(lambda match: _blank(match.group()), text)


def _end_of_item(code: str, start: int) -> int:
    """Returns where the item that starts here ends: after its braces, or its semicolon."""
    depth = 0
    for at in range(start, len(code)):
        if code[at] in "{([":
            depth += 1
        elif code[at] in "})]":
            depth -= 1
            if depth == 0 and code[at] == "}":
                return at + 1
        elif code[at] == ";" and depth == 0:
            return at + 1
    return len(code)


@dataclass
class Source:
    """One file of a crate."""

    path: Path
    module: list[str]
    text: str
    code: str

    def line(self, at: int) -> int:
        return self.text.count("\n", 0, at) + 1

    def module_at(self, at: int) -> list[str]:
        """Returns the module a position is in, the inline ones included."""
        inner = []
        for match in re.finditer(r"\bmod\s+(\w+)\s*\{", self.code[:at]):
            if _end_of_item(self.code, match.start()) > at:
                inner.append(match[1])
        return self.module + inner


def sources(src: Path) -> list[Source]:
    """Returns the files below a crate's `src`, without what is compiled for tests alone."""
    found, test_modules = [], []
    for path in sorted(src.rglob("*.rs")):
        module = list(path.relative_to(src).with_suffix("").parts)
        if module[-1] in ("mod", "lib", "main"):
            module.pop()
        text = path.read_text()
        code = code_of(text)
        for match in re.finditer(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*", code):
            file_module = re.match(r"(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*;", code[match.end() :])
            if file_module:
                test_modules.append(module + [file_module[1]])
            end = _end_of_item(code, match.end())
            code = code[: match.start()] + _blank(code[match.start() : end]) + code[end:]
        found.append(Source(path, module, text, code))
    return [source for source in found if not any(source.module[: len(test)] == test for test in test_modules)]
