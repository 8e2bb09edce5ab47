"""The waiting interpreter is not to be told from a new one, whatever a program looks at."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import pytest
import pytest_asyncio

from crucible.executor import ExecutorConfig, open_executor
from crucible.models import Limits, Program, SourceFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.executor import Executor

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

#: A name that an interpreter reads at its start, so that a new one is started for it.
COLD = {"LC_UNUSED": "1"}

PROGRAMS = {
    "nothing": "",
    "uncaught": "def f():\n    raise ValueError('x')\nf()",
    "chained": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('k') from e",
    "in-module": "import extra\nextra.fail()",
    "syntax": "x = (1,\ny = 2",
    "indentation": "if True:\npass",
    "nul": "x = 1\0",
    "encoding": "# -*- coding: latin-1 -*-\nprint(ascii('é'))",
    "unknown-encoding": "# -*- coding: nonsense -*-\n",
    "recursion": "def f(n):\n    return f(n + 1)\nf(0)",
    "recursion-depth": "def f(n):\n    return n if n == 990 else f(n + 1)\nprint(f(1))",
    "interrupt": "raise KeyboardInterrupt",
    "exit-none": "import sys; sys.exit()",
    "exit-7": "import sys; sys.exit(7)",
    "exit-minus": "import sys; sys.exit(-1)",
    "exit-large": "import sys; sys.exit(257)",
    "exit-huge": "import sys; sys.exit(10**30)",
    "exit-text": "import sys; sys.exit('why')",
    "exit-true": "import sys; sys.exit(True)",
    "exit-in-thread": "import threading, sys\nthreading.Thread(target=sys.exit, args=(3,)).start()",
    "os-exit": "import os; print('lost'); os._exit(3)",
    "quit": "quit(4)",
    "group": "raise ExceptionGroup('g', [ValueError(1), TypeError(2)])",
    "base": "class E(BaseException): pass\nraise E('b')",
    "notes": "e = ValueError('v'); e.add_note('a note'); raise e",
    "atexit": "import atexit\natexit.register(print, 'bye')\nprint('hi')",
    "atexit-fails": "import atexit\natexit.register(lambda: 1 / 0)",
    "thread": "import threading, time\n"
    "def work():\n    time.sleep(0.2); print('thread')\n"
    "threading.Thread(target=work).start()\nprint('main')",
    "daemon-thread": "import threading, time\n"
    "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\nprint('main')",
    "thread-fails": "import threading\nt = threading.Thread(target=lambda: 1 / 0, name='t')\n"
    "t.start(); t.join()",
    "finalizers": "class A:\n    def __init__(self, n): self.n = n\n"
    "    def __del__(self): print('del', self.n)\n"
    "a = A(1)\nb = A(2); b.me = b\nimport extra\nextra.kept = A(3)",
    "weakref-finalize": "import weakref\nclass A: pass\na = A()\n"
    "weakref.finalize(a, print, 'finalized')",
    "generator": "def g():\n    try: yield 1\n    finally: print('closed')\nx = g(); next(x)",
    "unflushed-file": "f = open('x', 'w'); f.write('y')",
    "hook": "import sys\nsys.excepthook = lambda *a: print('hook', a[0].__name__)\n1 / 0",
    "stdout-closed": "import sys\nprint('x'); sys.stdout.close()",
    "stdout-none": "import sys\nsys.stdout = None\nprint('x')",
    "stdout-broken": "import os\nprint('x')\nos.close(1)",
    "argv": "import sys\nprint(sys.argv, sys.orig_argv, sys.path[0], __name__, __file__)\n"
    "print(__builtins__, __spec__, __package__, __doc__, __cached__, type(__loader__))",
    "doc": "'''the doc'''\nprint(__doc__)",
    "globals": "print(sorted(globals()))",
    "annotations": "x: int = 1\nprint(__annotations__)",
    "flags": "import sys\nprint(sys.flags, sys.warnoptions, sys._xoptions)",
    "main-module": "import sys\nprint(sys.modules['__main__'].__dict__ is globals())",
    "import-self": "import main\nprint(__name__, main.__name__)",
    "stdin": "import sys\nprint(sys.stdin.read(), input and 1)",
    "no-stdin": "input()\ninput()\ninput()",
    "stdio": "import sys\nfor f in (sys.stdin, sys.stdout, sys.stderr):\n"
    "    print(f.name, f.mode, f.encoding, f.errors, f.line_buffering, f.fileno(), f.isatty())",
    "signals": "import signal\nfor n in (2, 10, 13, 15, 17, 25):\n"
    "    print(n, signal.getsignal(n), file=__import__('sys').stderr)",
    "signal-mask": "import signal\nprint(signal.pthread_sigmask(signal.SIG_BLOCK, []))",
    "process": "import os\nprint(os.getcwd(), os.getppid(), os.getpgrp() == os.getpid(),\n"
    "      os.getsid(0) == os.getpid(), os.umask(0), os.nice(0), sorted(os.environ))",
    "descriptors": "import os\nprint(sorted(os.listdir('/proc/self/fd')))",
    "limits": "import resource\nprint([resource.getrlimit(n) for n in range(16)])",
    "subprocess": "import subprocess, sys\n"
    "print(subprocess.run([sys.executable, '-c', 'print(5)'], capture_output=True).stdout)",
    "multiprocessing": "import multiprocessing as m\n"
    "def f(q): q.put(6 * 7)\n"
    "if __name__ == '__main__':\n"
    "    q = m.Queue(); p = m.Process(target=f, args=(q,)); p.start(); print(q.get()); p.join()",
    "spawn": "import multiprocessing as m\n"
    "def f(): print('child', flush=True)\n"
    "if __name__ == '__main__':\n"
    "    m.set_start_method('spawn'); p = m.Process(target=f); p.start(); p.join()",
    "asyncio": "import asyncio\nasync def f(): return 5\nprint(asyncio.run(f()))",
    "pickle": "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))) is A)",
    "dataclass": "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\nprint(A(1))",
    "warning": "import warnings\nwarnings.warn('careful')",
    "c-output": "import ctypes\nctypes.CDLL(None).printf(b'from c\\n')",
    "segfault": "import ctypes; ctypes.string_at(0)",
    "gc": "import gc\nprint(gc.isenabled(), gc.get_threshold())",
    "tempfile": "import tempfile\nprint(tempfile.gettempdir())",
    "hash": "print(hash('x') == hash('x'))",
}  # fmt: skip

EXTRA = SourceFile(
    name="extra.py", content="kept = None\ndef fail():\n    raise RuntimeError('e')\n"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def executor() -> AsyncIterator[Executor]:
    async with open_executor(ExecutorConfig(pool_min=2, pool_max=6)) as opened:
        yield opened


@pytest.mark.parametrize("name", PROGRAMS)
async def test_warm_and_cold_cannot_be_told_apart(executor: Executor, name: str) -> None:
    """Output, error output and exit are byte for byte those of a newly started interpreter."""
    warm = Program(
        language="python",
        code=PROGRAMS[name],
        stdin=b"one\ntwo\n",
        args=("a", "b c"),
        files=(EXTRA,),
        limits=Limits(wall_time_s=60, cpu_time_s=60),
    )
    cold = msgspec.structs.replace(warm, env=COLD)
    seen = []
    for program in (warm, cold):
        outcome = await executor.run(program)
        text = outcome.stdout.replace(b", 'LC_UNUSED'", b"").replace(b"'LC_UNUSED', ", b"")
        errors = re.sub(rb"0x[0-9a-f]+", b"0x", outcome.stderr)
        seen.append((text, errors, outcome.exit_code, outcome.signal, outcome.verdict))
    assert seen[0] == seen[1]


@pytest.mark.parametrize(("env", "depth", "limit"), [({}, 3, 1004), (COLD, 1, 1000)])
async def test_the_frames_below_a_program_are_as_documented(
    executor: Executor, env: dict[str, str], depth: int, limit: int
) -> None:
    """Two more than in a new interpreter, for which the recursion limit is higher."""
    code = "import inspect, sys\nprint(len(inspect.stack(0)), sys.getrecursionlimit())"
    outcome = await executor.run(Program(language="python", code=code, env=env))
    assert outcome.stdout.decode().split() == [str(depth), str(limit)]
