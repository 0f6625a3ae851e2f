#!/usr/bin/env python3
"""Shows the house's own checks what they must find, and what they must let pass."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPTS = Path(__file__).parent
MANIFEST = '[package]\nname = "{name}"\nversion = "0.0.0"\nedition = "2024"\n[dependencies]\n{dependencies}'


class House(unittest.TestCase):
    def setUp(self):
        self._folder = tempfile.TemporaryDirectory()
        self.addCleanup(self._folder.cleanup)
        self.root = Path(self._folder.name)
        self.write("Cargo.toml", '[workspace]\nresolver = "3"\nmembers = ["dh-*"]\n')
        for name in ("dh-core", "dh-agent", "dh-cli"):
            self.crate(name, [] if name == "dh-core" else ["dh-core"])
        self.write("dh-core/src/connect/variables.rs", 'variables! {\n    DH_HOME: "x", "y";\n}\n')

    def write(self, path: str, text: str):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def crate(self, name: str, dependencies: list[str]):
        lines = "".join(f'{other} = {{ path = "../{other}" }}\n' for other in dependencies)
        self.write(f"{name}/Cargo.toml", MANIFEST.format(name=name, dependencies=lines))
        self.write(f"{name}/src/lib.rs", "")

    def run_check(self, script: str) -> tuple[int, str]:
        done = subprocess.run([sys.executable, SCRIPTS / script, self.root], capture_output=True, text=True)
        return done.returncode, done.stderr

    def refuses(self, script: str, *needles: str):
        code, said = self.run_check(script)
        self.assertEqual(code, 1, said)
        for needle in needles:
            self.assertIn(needle, said)

    def accepts(self, script: str):
        self.assertEqual(self.run_check(script), (0, ""))


class Directions(House):
    def test_inward_is_accepted(self):
        self.write("dh-core/src/domain/mod.rs", "mod id;\n")
        self.write("dh-core/src/domain/id.rs", "use super::Error;\n// crate::logic in a comment\n")
        self.write("dh-core/src/logic/mod.rs", "use crate::{domain::Id, ports::{Clock, Store}};\n")
        self.write("dh-core/src/backend/local/mod.rs", 'use super::local::x;\nconst S: &str = "crate::store";\n')
        self.write("dh-core/src/connect/mod.rs", "use crate::{backend::local, store, logic};\n")
        self.accepts("directions.py")

    def test_outward_uses_are_refused_with_their_line(self):
        for path, text, line, says in [
            ("domain/a.rs", "use std::fmt;\nuse crate::ports::Clock;\n", 2, "domain may not use ports"),
            ("ports/a.rs", "\n\nfn f() { crate::logic::decide() }\n", 3, "ports may not use logic"),
            ("logic/deep/a.rs", "use super::super::super::backend::local;\n", 1, "logic may not use backend"),
            ("logic/a.rs", "use crate::{\n    domain::X,\n    store::MemoryStore,\n};\n", 1, "logic may not use store"),
            ("store/a.rs", "use crate::backend::local::X;\n", 1, "store may not use backend"),
            ("sensor/a.rs", "mod inner {\n    use super::super::super::connect::Paths;\n}\n", 2, "sensor may not use connect"),
            ("wire/a.rs", "use crate :: logic :: X;\n", 1, "wire may not use logic"),
        ]:
            with self.subTest(path=path):
                self.write(f"dh-core/src/{path}", text)
                self.refuses("directions.py", f"{path}:{line}: {says}")
                (self.root / "dh-core/src" / path).unlink()

    def test_domain_and_logic_do_not_reach_for_the_world(self):
        for text in (
            "fn f() { std::fs::File::open(x); }",
            "use std::net::TcpStream;",
            "use std::env;",
            "fn f() { jiff::Zoned::now(); }",
            "fn f() { tokio::time::sleep(x); }",
            "use std::collections::hash_map::RandomState;",
            "fn f() { std::process::id(); }",
        ):
            for room in ("domain", "logic"):
                with self.subTest(text, room=room):
                    self.write(f"dh-core/src/{room}/a.rs", text)
                    self.refuses("directions.py", f"{room}/a.rs:1: {room} may not reach for the world")
                    self.write(f"dh-core/src/{room}/a.rs", f"#[cfg(test)]\nmod tests {{ {text} }}\n")
                    self.accepts("directions.py")

    def test_backends_do_not_know_each_other(self):
        self.write("dh-core/src/backend/aws/mod.rs", "")
        self.write("dh-core/src/backend/local/mod.rs", "use crate::backend::aws::Client;\n")
        self.refuses("directions.py", "backend local may not use backend aws")
        self.write("dh-core/src/backend/local/mod.rs", "use super::aws::Client;\n")
        self.refuses("directions.py", "backend local may not use backend aws")

    def test_tests_may_use_anything(self):
        self.write(
            "dh-core/src/logic/a.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::store::MemoryStore;\n    fn g() { if true {} }\n}\n",
        )
        self.write("dh-core/src/logic/b/mod.rs", "#[cfg(test)]\nmod tests;\n")
        self.write("dh-core/src/logic/b/tests.rs", "use crate::store::MemoryStore;\n")
        self.accepts("directions.py")
        self.write("dh-core/src/logic/a.rs", "#[cfg(test)]\nmod tests {}\nuse crate::store::MemoryStore;\n")
        self.refuses("directions.py", "a.rs:3: logic may not use store")

    def test_programs_do_not_depend_on_each_other(self):
        self.crate("dh-cli", ["dh-core", "dh-agent"])
        self.refuses("directions.py", "dh-cli may not depend on dh-agent")

    def test_the_core_depends_on_no_program(self):
        self.crate("dh-agent", [])
        self.crate("dh-core", ["dh-agent"])
        self.refuses("directions.py", "dh-core may not depend on dh-agent")

    def test_new_rooms_and_crates_are_asked_about(self):
        self.write("dh-core/src/attic/mod.rs", "")
        self.crate("dh-more", [])
        self.refuses("directions.py", "attic is a new room", "dh-more is a new crate")


class Variables(House):
    def test_listed_ones_are_accepted(self):
        self.write("dh-cli/src/lib.rs", 'fn f() { std::env::var_os("DH_HOME"); }\n')
        self.accepts("variables.py")

    def test_others_are_refused_with_their_line(self):
        self.write("dh-cli/src/lib.rs", '\nfn f() { std::env::var("DH_NEW"); }\n')
        self.refuses("variables.py", "lib.rs:2: DH_NEW is not in")

    def test_names_behind_constants_are_followed(self):
        self.write("dh-core/src/wire/mod.rs", 'pub const A: &str = "DH_HOME";\npub const B: &str = "DH_B";\n')
        self.write("dh-agent/src/lib.rs", "fn f() { env::var_os(wire::A); env::var_os(wire::B); }\n")
        self.refuses("variables.py", "DH_B is not in")
        self.assertNotIn("DH_HOME", self.run_check("variables.py")[1])

    def test_options_with_a_variable_count(self):
        self.write("dh-cli/src/lib.rs", 'struct A {\n    #[arg(long, env = "DH_OTHER")]\n    x: u8,\n}\n')
        self.refuses("variables.py", "DH_OTHER is not in")


if __name__ == "__main__":
    unittest.main()
