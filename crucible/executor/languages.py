"""The languages a program may be in, as data: adding one is an entry here and its packages.

An environment has a language when its packages bring it, or when it lists it (external images). Of
several entries of one name the first counts: C by gcc where there is gcc, else by tcc.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import msgspec

from crucible.models import Limits

if TYPE_CHECKING:
    from crucible.environments import Environment


class Language(msgspec.Struct, frozen=True, kw_only=True):
    """How programs of one language are laid out and started.

    In words of ``run``, ``compile`` and values of ``env``, ``{memory_mb}`` is the program's
    memory limit and ``{cpus}`` the whole processors granted, at least one.

    Attributes:
        name: what clients write.
        aliases: what they may write instead.
        file_name: the source file in the working directory, which is ``/tmp/work``.
        run: the command; its arguments follow. The first word is a path.
        compile: the command that has to succeed first, or None; what it leaves is there to run.
        warm: the waiting interpreter of the sandbox can run it without starting another.
        packages: the Debian packages that bring it.
        env: variables of both commands, unless the program has its own.
        defaults: the limits of a program that names none.
        compile_defaults: the same of its compiler.
        version: the command whose output has the version; empty where there is none.
    """

    name: str
    aliases: tuple[str, ...] = ()
    file_name: str
    run: tuple[str, ...]
    compile: tuple[str, ...] | None = None
    warm: bool = False
    packages: tuple[str, ...]
    env: dict[str, str] = {}
    defaults: Limits = Limits()
    compile_defaults: Limits = Limits(wall_time_s=30.0, cpu_time_s=30.0, output_kb=64)
    version: tuple[str, ...] = ()


#: Compilers that are large, and start a thread for every processor of the machine.
_COMPILER = Limits(wall_time_s=30.0, cpu_time_s=30.0, memory_mb=512, pids=128, output_kb=64)
#: Their programs: no other memory and processes, which a sandbox would have to be given in between.
_COMPILED = Limits(memory_mb=_COMPILER.memory_mb, pids=_COMPILER.pids)
#: Node's own limit for its heap would be half of the machine's or the sandbox's memory.
_NODE = ("/usr/bin/node", "--max-old-space-size={memory_mb}", "main.js")
#: The collector without threads of its own. The heap may grow to the memory limit, so that the
#: kernel enforces it, as for any other language, and not the virtual machine somewhere below.
_JVM = ("-Xshare:auto", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xss64m", "-Xmx{memory_mb}m")

#: Types are dropped and not checked, as by the tools people run single files with: checking them
#: takes five times as long, and what it finds need not keep a program from running.
_TRANSPILE = """\
const fs = require("fs"), path = require("path"), ts = require("/usr/share/nodejs/typescript");
const compilerOptions = { target: "ES2022", module: "CommonJS", esModuleInterop: true };
const host = {
  getCurrentDirectory: () => ".", getNewLine: () => "\\n", getCanonicalFileName: (name) => name,
};
const sources = (folder) => fs.readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
  entry.isDirectory() ? sources(path.join(folder, entry.name)) : path.join(folder, entry.name));
let errors = "";
for (const fileName of sources(".").filter((name) => /(?<!\\.d)\\.ts$/.test(name))) {
  const text = fs.readFileSync(fileName, "utf8");
  const done = ts.transpileModule(text, { compilerOptions, fileName, reportDiagnostics: true });
  errors += ts.formatDiagnostics(done.diagnostics, host);
  fs.writeFileSync(fileName.slice(0, -3) + ".js", done.outputText);
}
if (errors) process.stderr.write(errors), process.exit(1);
"""

LANGUAGES: tuple[Language, ...] = (
    Language(
        name="python",
        aliases=("py", "python3"),
        file_name="main.py",
        run=("/usr/bin/python3", "main.py"),
        warm=True,
        packages=("python3",),
        version=("/usr/bin/python3", "--version"),
    ),
    Language(
        name="javascript",
        aliases=("js", "node", "nodejs"),
        file_name="main.js",
        run=_NODE,
        packages=("nodejs",),
        version=("/usr/bin/node", "--version"),
    ),
    Language(
        name="bash",
        aliases=("shell",),
        file_name="main.sh",
        run=("/bin/bash", "main.sh"),
        packages=(),
        version=("/bin/bash", "--version"),
    ),
    Language(name="sh", file_name="main.sh", run=("/bin/sh", "main.sh"), packages=()),
    Language(
        name="c",
        file_name="main.c",
        run=("./main",),
        compile=("/usr/bin/gcc", "-O2", "-std=gnu17", "-o", "main", "main.c", "-lm"),
        packages=("gcc", "libc6-dev"),
        version=("/usr/bin/gcc", "--version"),
    ),
    Language(
        name="c",
        file_name="main.c",
        run=("./main",),
        compile=("/usr/bin/tcc", "-o", "main", "main.c", "-lm"),
        packages=("libc6-dev", "tcc"),
        version=("/usr/bin/tcc", "-v"),
    ),
    *(
        Language(
            name=name,
            aliases=aliases,
            file_name="main.cpp",
            run=("./main",),
            compile=("/usr/bin/g++", "-O2", f"-std=gnu++{year}", "-o", "main", "main.cpp"),
            packages=("g++",),
            defaults=_COMPILED,
            compile_defaults=_COMPILER,
            version=("/usr/bin/g++", "--version"),
        )
        for name, year, aliases in (
            ("cpp", 17, ("c++", "cpp17", "c++17", "g++")),
            ("cpp20", 20, ("c++20",)),
        )
    ),
    Language(
        name="go",
        aliases=("golang",),
        file_name="main.go",
        run=("./main",),
        compile=("/usr/bin/go", "build", "-o", "main", "main.go"),
        packages=("golang-go",),
        # Nothing is fetched, and nothing needs a C compiler. The cache is the sandbox's own.
        env={
            "CGO_ENABLED": "0",
            "GO111MODULE": "off",
            "GOCACHE": "/tmp/go-build",  # noqa: S108 - in the sandbox
            "GOFLAGS": "-buildvcs=false",
            "GOMAXPROCS": "{cpus}",
            "GOPATH": "/tmp/go",  # noqa: S108 - in the sandbox
            "GOPROXY": "off",
            "GOTOOLCHAIN": "local",
        },
        defaults=_COMPILED,
        compile_defaults=_COMPILER,
        version=("/usr/bin/go", "version"),
    ),
    Language(
        name="rust",
        aliases=("rs",),
        file_name="main.rs",
        run=("./main",),
        compile=("/usr/bin/rustc", "--edition", "2021", "-O", "-o", "main", "main.rs"),
        packages=("rustc",),
        defaults=_COMPILED,
        compile_defaults=_COMPILER,
        version=("/usr/bin/rustc", "--version"),
    ),
    Language(
        name="java",
        file_name="Main.java",
        run=("/usr/bin/java", *_JVM, "-cp", ".", "Main"),
        compile=(
            *("/usr/bin/javac", "-J-Xshare:auto", "-J-XX:+UseSerialGC"),
            *("-J-XX:TieredStopAtLevel=1", "-encoding", "UTF-8", "Main.java"),
        ),
        packages=("openjdk-17-jdk-headless",),
        defaults=_COMPILED,
        compile_defaults=_COMPILER,
        # The command itself needs /proc, which is not there while an image is built.
        version=("/bin/sh", "-c", "cat /usr/lib/jvm/java-17-openjdk-*/release"),
    ),
    Language(
        name="typescript",
        aliases=("ts",),
        file_name="main.ts",
        run=_NODE,
        compile=("/usr/bin/node", "-e", _TRANSPILE),
        packages=("node-typescript",),
        defaults=_COMPILED,
        compile_defaults=_COMPILER,
        version=("/usr/bin/tsc", "--version"),
    ),
    Language(
        name="ruby",
        aliases=("rb",),
        file_name="main.rb",
        run=("/usr/bin/ruby", "main.rb"),
        packages=("ruby",),
        version=("/usr/bin/ruby", "--version"),
    ),
    Language(
        name="lua",
        file_name="main.lua",
        run=("/usr/bin/lua5.4", "main.lua"),
        packages=("lua5.4",),
        version=("/usr/bin/lua5.4", "-v"),
    ),
    Language(
        name="perl",
        aliases=("pl",),
        file_name="main.pl",
        run=("/usr/bin/perl", "main.pl"),
        packages=("perl", "perl-base"),
        version=("/usr/bin/perl", "--version"),
    ),
    Language(
        name="php",
        file_name="main.php",
        run=("/usr/bin/php", "main.php"),
        packages=("php-cli",),
        version=("/usr/bin/php", "--version"),
    ),
)


@functools.cache
def languages_of(environment: Environment) -> dict[str, Language]:
    """The languages that an environment has, by name."""
    found: dict[str, Language] = {}
    for language in LANGUAGES:
        if environment.image:
            has = language.name in environment.languages
        else:
            has = set(language.packages) <= set(environment.packages)
        if has:
            found.setdefault(language.name, language)
    return found


@functools.cache
def compiled_language(name: str) -> Language | None:
    """The first language of a name that has a compiler, in whatever environment; None for none."""
    return next((one for one in LANGUAGES if one.name == name and one.compile), None)
