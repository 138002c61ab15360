"""fastnn run: everything that can be seen of a program is as python has it."""

import io
import multiprocessing
import os
import re
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import processes
import pytest

EVERYTHING = '''\
# -*- coding: latin-1 -*-
"""What the script says of itself."""
import sys
print("first", list(globals()), sys.argv, sys.path[0], ascii("\xe9"))
sys._getframe(0)
try:
    print(sys._getframe(1))
except ValueError as error:
    print(error)

import atexit
import dataclasses
import importlib
import importlib.resources
import inspect
import json
import linecache
import logging
import os
import pickle
import pkgutil
import signal
import subprocess
import threading
import traceback
import typing
import warnings

import beside
import package.inner
from package import inner as again


def show(*what):
    print(*what, flush=True)


# ---- what __main__ is
main = sys.modules["__main__"]
show(main, vars(main) is globals(), __name__, __file__, __spec__, __package__, __doc__, __annotations__, __cached__)
show(type(__loader__), __loader__.name, __loader__.path, __loader__.is_package("__main__"), type(__builtins__))
__builtins__.answer = 42
show(answer, beside.of_builtins(), sys.flags, os.getcwd(), sys.exc_info(), sys.excepthook is sys.__excepthook__)
show([name for name in vars(sys) if name.startswith("last_")])
number: int = 3
show(__annotations__)


@dataclasses.dataclass
class Options:
    lr: float = 0.1


show([field.type for field in dataclasses.fields(Options)], typing.get_type_hints(Options))


class Layer:
    def __init__(self, W):
        self.W = W

    def __call__(self, x):
        return self.W * x

    def __eq__(self, other):
        return type(self) is type(other) and self.W == other.W

    def __del__(self):
        try:
            show("gone", self.W, __name__)
        except NameError:
            pass


def twice(x):
    return 2 * x


show(Layer.__module__, Layer.__qualname__, twice.__code__, twice.__code__.co_flags)
layer = Layer(3)
show(pickle.loads(pickle.dumps(layer)) == layer, pickle.dumps(twice))

# ---- sources
show(inspect.getsource(twice), inspect.getsourcelines(Layer)[1], inspect.getsourcefile(Layer), inspect.getmodule(twice))
show(inspect.getsource(beside), linecache.getline(__file__, 3), __loader__.get_source("__main__")[:20])

# ---- modules
for module in (beside, package, package.inner):
    show(module.__name__, module.__file__, module.__cached__, module.__package__, module.__doc__)
    show(type(module.__loader__), module.__loader__)
    show(module.__spec__.name, module.__spec__.origin, module.__spec__.cached, module.__spec__.has_location)
    show(module.__loader__ is module.__spec__.loader, module.__spec__.parent, list(vars(module)))
show(again is package.inner, package.inner.sibling(), package.__path__)
show(importlib.resources.files("package").joinpath("data.txt").read_text(), pkgutil.get_data("package", "data.txt"))
show(sorted(module.name for module in pkgutil.iter_modules(package.__path__)), importlib.util.find_spec("nowhere"))
beside.counted += 5
show(importlib.reload(beside) is beside, beside.counted, beside.__loader__.get_source("beside"))
with open("beside.py", "a") as file:
    file.write("later = 1\\n")
importlib.invalidate_caches()
show(importlib.reload(beside).later)
for name in ("broken", "nowhere", "package.nowhere", "package.failing", "null"):
    try:
        importlib.import_module(name)
    except Exception:
        traceback.print_exc()
show([name for name in sys.modules if name in ("broken", "package.failing")])


# ---- the stack
def depth(n=0):
    try:
        return depth(n + 1)
    except RecursionError:
        return n


traceback.print_stack()
show(depth(), [frame.function for frame in inspect.stack()], sys._getframe().f_back, inspect.stack()[-1].filename)
logging.basicConfig(format="%(filename)s:%(lineno)d %(funcName)s %(message)s", stream=sys.stdout)
logging.warning("logged")
logging.getLogger().warning("from below", stacklevel=3)

# ---- warnings
warnings.warn("mine", DeprecationWarning)
warnings.warn("the caller's", DeprecationWarning, stacklevel=2)
beside.warns()
warnings.warn("user's")
compile("0 is 0", "somewhere", "exec")

# ---- other processes
if hasattr(os, "fork"):
    child = os.fork()
    if not child:
        show("child", __name__, __file__)
        sys.exit(5)
    show("child's", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
words = [sys.executable, "-c", "import sys; print(sys.argv, 'fastnn' in sys.modules)", "word"]
show(subprocess.run(words, capture_output=True, text=True).stdout)

# ---- errors that are shown
for fails in (beside.fails, beside.fails_again, beside.group, beside.noted, lambda: exec("1 +")):
    try:
        fails()
    except Exception:
        traceback.print_exc()
sys.unraisablehook = lambda unraisable: show("unraisable", unraisable.exc_value)
class Bad:
    def __del__(self):
        raise ValueError("in __del__")
Bad()
sys.unraisablehook = sys.__unraisablehook__
for target in (sys.exit, beside.fails):
    thread = threading.Thread(target=target, name="another")
    thread.start()
    thread.join()
threading.excepthook = lambda args: show("of a thread", args.exc_value)
thread = threading.Thread(target=beside.fails)
thread.start()
thread.join()

# ---- signals
if hasattr(signal, "raise_signal"):
    show(signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    signal.signal(signal.SIGINT, lambda number, frame: show("signal", number, frame.f_code.co_name))
    signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        show("interrupted")
show(threading.main_thread() is threading.current_thread(), threading.active_count())

# ---- input and files
show(input("asked: "), sys.stdin.readline(), sys.stdin.isatty())
with open("written.json", "w") as file:
    json.dump({"argv": sys.argv, "file": __file__}, file)

# ---- the end
def last():
    show("at exit", [name for name in globals() if name.startswith("_")], pickle.dumps(Layer))
    show(sys.modules["__main__"] is main, threading.active_count())


def outlives():
    go_on.wait()
    threading.main_thread().join()
    show("outlives", pickle.loads(pickle.dumps(layer)) == layer, sys.modules["__main__"] is main, __name__)


atexit.register(last)
atexit.register(show, "before it")
go_on = threading.Event()
threading.Thread(target=outlives).start()
threading.Thread(target=threading.Event().wait, daemon=True).start()
print("not flushed", end="")
sys.stderr.write("to stderr\\n")
go_on.set()
ENDING
'''
POOLS = """
import multiprocessing
import sys
import beside

class Layer:
    def __init__(self, W):
        self.W = W

def made(W):
    return Layer(W), __name__, sys.argv, sys.path[0], sys.modules["__main__"].__name__

print("once or again", __name__, __file__, __spec__ and __spec__.name, sys.argv, flush=True)
if __name__ == "__main__":
    for method in set(sys.argv[1:]) & set(multiprocessing.get_all_start_methods()):
        with multiprocessing.get_context(method).Pool(1) as pool:
            layer, *found = pool.apply(made, (7,))
            print(method, type(layer) is Layer, layer.W, found, flush=True)
            try:
                pool.apply(beside.fails)
            except KeyError as error:
                print(error.__cause__, flush=True)
"""
BESIDE = '''
"""A module beside the script."""
from __future__ import annotations
import warnings
counted = 0
counted += 1
def of_builtins(): return answer
def warns(): warnings.warn("of a module", UserWarning, stacklevel=2)
def fails(): {}["key"]
def fails_again():
    try:
        fails()
    except KeyError as error:
        raise ValueError("again") from error
def group():
    raise ExceptionGroup("two", [ValueError(1), TypeError("2")])
def noted():
    try:
        fails()
    except KeyError as error:
        error.add_note("a note")
        raise
'''
ZIPPED = """
import sys, inspect, package.inner, beside
print(sys.argv, sys.path[0], __file__, __spec__, package.inner.__loader__, package.inner.sibling())
print(inspect.getsource(beside))
beside.fails()
"""
FILES = {
    "pools.py": POOLS,
    "folder/__main__.py": POOLS,
    "beside.py": BESIDE,
    "folder/beside.py": BESIDE,
    "broken.py": "x = (\n",
    "null.py": "x = 1\0\n",
    "package/__init__.py": '"""A package."""\n',
    "package/__main__.py": "from . import inner\nimport sys\nprint(inner.sibling(), __spec__, sys.argv)\n"
    "print(sys.path[0], __name__, __package__, __file__, list(globals()))\ninner.missing\n",
    "package/inner.py": "from .other import value\n\ndef sibling():\n    return value, __name__, __package__\n",
    "package/other.py": "value = 5\n",
    "package/failing.py": "from . import broken\nfrom .. import above\n",
    "package/broken.py": "1 / 0\n",
    "package/data.txt": "data\n",
}


def program(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="latin-1", newline="\n")


def seen(folder, *words, files=None, input="", environment=None):
    """Everything that a program in a folder shows."""
    program(folder, files or {})
    # This fastnn, wherever the program runs.
    paths = os.pathsep.join(path for path in sys.path if path)
    # From Python 3.12 on os.fork warns of threads, which NumPy's products start.
    alone = {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": ""}
    variables = {**os.environ, **alone, **(environment or {})}
    run = processes.run(sys.executable, *words, cwd=folder, input=input, env=variables)
    written = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    return run.returncode, run.stdout, run.stderr, written


def under_both(folder, *words, files=FILES, **given):
    """What a program shows under python, and under fastnn run, too."""

    def under(name, *command):
        (folder / name).mkdir()
        code, out, err, written = seen(folder / name, *command, *words, files=files, **given)
        # Without what differs between two folders and two processes.
        place = str(folder / name)
        shown = [re.sub(r"0x[0-9A-Fa-f]+", "0x", text.replace(place, "FOLDER")) for text in (out, err)]
        return code, *shown, {path: data.replace(place.encode(), b"FOLDER") for path, data in written.items()}

    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(under, "python"), pool.submit(under, "fastnn", "-m", "fastnn", "run", "--quiet")]
    expected, found = (run.result() for run in runs)
    for which in range(1, 3):
        assert found[which].splitlines() == expected[which].splitlines()
    assert found == expected
    return expected


@pytest.mark.parametrize(("ending", "code"), [("", 0), ("beside.noted()", 1), ("sys.exit('said at the end')", 1)])
def test_everything_that_a_script_sees(tmp_path, ending, code):
    files = {**FILES, "train.py": EVERYTHING.replace("ENDING", ending)}
    found = under_both(tmp_path, "train.py", "word", "--flag", files=files, input="typed\nmore\n")
    assert found[0] == code and "outlives True True __main__" in found[1] and "at exit" in found[1]


@pytest.mark.parametrize(
    "words",
    [
        *(["pools.py", method] for method in multiprocessing.get_all_start_methods()),
        ["-m", "pools", "spawn"],
        *(["folder", method] for method in multiprocessing.get_all_start_methods() if method == "fork"),
    ],
    ids=" ".join,
)
def test_processes_that_it_starts(tmp_path, words):
    found = under_both(tmp_path, *words)
    assert found[0] == 0 and "True 7" in found[1]


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "package", "-m", "--", "x"],
        ["-m", "package.inner"],
        ["-m", "package.failing"],
        ["-m", "broken"],
        ["-m", "nowhere"],
        ["package"],
        ["app.pyz", "x"],
        ["."],
        ["./package/../package/other.py"],
    ],
    ids=" ".join,
)
def test_every_way_to_name_a_program(tmp_path, words):
    app = io.BytesIO()
    with zipfile.ZipFile(app, "w") as file:
        for name in ("beside.py", "package/__init__.py", "package/other.py", "package/inner.py"):
            file.writestr(name, FILES[name])
        file.writestr("__main__.py", ZIPPED)
    under_both(tmp_path, *words, files={**FILES, "app.pyz": app.getvalue().decode("latin-1")})


SHORT = {
    "exit": "import sys\nsys.exit(3)",
    "exit with nothing": "raise SystemExit",
    "exit with words": "import sys\nsys.exit('no such thing')",
    "exit with a large number": "import sys\nsys.exit(2**40)",
    "exit at once": "import os\nprint('lost', end='')\nos._exit(4)",
    "an error": "def f():\n    return 1 / 0\nf()",
    "an error with a cause": "import beside\nbeside.fails_again()",
    "a group": "import beside\nbeside.group()",
    "an interrupt": "class A:\n    def __del__(self): print('gone')\na = A()\nprint('x', end='')\n"
    "exec('1')\nraise KeyboardInterrupt",
    "an interrupt in a coroutine": "import asyncio\nasync def f(): raise KeyboardInterrupt\nasyncio.run(f())",
    "run under another name": "import runpy\nprint(runpy.run_module('package.other', run_name='x')['__name__'])",
    "a signal": "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)",
    "no program": "x = (",
    "no text": "x = '\xff'",
    "a null": "x = 1\0",
    "no such encoding": "# coding: nowhere\nx = 1",
    "an error in an import": "import package.failing",
    "no syntax in an import": "import broken",
    "a hook": "import sys\nsys.excepthook = lambda *e: print('logged', e[0], e[2].tb_lineno, e[2].tb_next)\n1 / 0",
    "a hook that fails": "import sys\ndef hook(*e): {}['key']\nsys.excepthook = hook\n1 / 0",
    "a hook that exits": "import sys\nsys.excepthook = lambda *e: sys.exit(7)\n1 / 0",
    "no stdout": "import sys\nprint('x')\nsys.stdout.close()",
    "full": "import sys\nsys.stdout = open('/dev/full', 'w')\nprint('x')" if os.path.exists("/dev/full") else "",
    "builtins": "__builtins__.answer = 42\nprint(answer)",
    "fields": "import dataclasses\n@dataclasses.dataclass\nclass O:\n    lr: float = .1\n"
    "print(dataclasses.fields(O)[0].type)",
    "pickled at exit": "import atexit, pickle\nclass A: pass\natexit.register(lambda: print(pickle.dumps(A())))",
    "pickled by a thread": "import pickle, threading\nclass A: pass\ndef late():\n    threading.main_thread().join()\n"
    "    print(pickle.dumps(A()))\nthreading.Thread(target=late).start()",
    "what outlives": "import sys\nclass A:\n    def __init__(self, x): self.x = x\n"
    "    def __del__(self): print('gone', self.x, __name__)\na = A(1)\ndef f():\n    b = A(2)\n    sys.exit(3)\nf()",
    "frames": "import sys, inspect\nprint(len(inspect.stack()))\nsys._getframe(1)",
    "a mark": "\xef\xbb\xbfprint(ascii('\xc3\xa9'))",
}


@pytest.mark.parametrize("name", SHORT)
def test_short_programs(tmp_path, name):
    under_both(tmp_path, "s.py", files={**FILES, "s.py": SHORT[name]})


VARIABLES = [
    {"PYTHONSAFEPATH": "1", "PYTHONOPTIMIZE": "1"},
    {"PYTHONWARNINGS": "error::UserWarning,always::DeprecationWarning", "PYTHONUNBUFFERED": "1", "PYTHONDEVMODE": "1"},
]


@pytest.mark.parametrize("variables", VARIABLES, ids=" ".join)
def test_variables_of_the_environment(tmp_path, variables):
    text = '"""Doc."""\nimport sys, warnings\nprint(sys.flags, __doc__, sys.path[0], __debug__)\nassert 0, "seen"\n'
    text += "warnings.warn('old', DeprecationWarning)\nwarnings.warn('x')\nimport beside\nbeside.warns()\n"
    under_both(tmp_path, "s.py", files={**FILES, "s.py": text}, environment=variables)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_whoever_reads_may_go(tmp_path):
    program(tmp_path, {"s.py": "for i in range(100_000):\n    print(i)"})
    results = [
        processes.run("bash", "-c", f"{sys.executable} {words} s.py | head -n 1; echo ${{PIPESTATUS[0]}}", cwd=tmp_path)
        for words in ("", "-m fastnn run --quiet")
    ]
    assert results[0].stdout == results[1].stdout and results[0].stderr == results[1].stderr


# ---------------------------------------------------------------- what is run, and the report

DRIVER = """
import sys
from fastnn import runner

def told(source, file, name):
    print("compiled", name, flush=True)
    if name == "refused":
        raise LookupError
    return compile(source, file, "exec", dont_inherit=True)

def end():
    print("the end", flush=True)

runner.run(sys.argv[1], sys.argv[2:], told, as_module=sys.argv[1] == "package", at_end=end)
"""


def test_what_is_compiled(tmp_path):
    text = "import json, numpy, beside, package.inner, refused, importlib\nimportlib.reload(beside)\nprint('ran')\n"
    files = {**FILES, "s.py": text, "refused.py": "print('as it stands')", "no.py": "1 +"}
    code, out, err, written = seen(tmp_path, "-c", DRIVER, "s.py", files=files)
    names = ["__main__", "beside", "package", "package.inner", "package.other", "refused"]
    assert out.split("\n") == [
        *(f"compiled {name}" for name in names),
        "as it stands",
        "compiled beside",
        "ran",
        "the end",
        "",
    ]
    assert code == 0 and not err
    caches = [path.name for path in tmp_path.rglob("*.pyc")]
    assert len(caches) == 1 and caches[0].startswith("refused.")  # python ran it


def test_a_module_is_compiled_as_main(tmp_path):
    out = seen(tmp_path, "-c", DRIVER, "package", files={**FILES, "package/__main__.py": "import package.__main__"})[1]
    names = ["package", "__main__", "package.__main__"]
    assert out.splitlines() == [*(f"compiled {name}" for name in names), "the end"]


@pytest.mark.parametrize(
    ("ending", "shown"),
    [
        ("", "script\nof a thread\nat exit\nthe end\n"),
        ("sys.exit(3)", "script\nof a thread\nat exit\nthe end\n"),
        ("1 / 0", "script\nof a thread\nat exit\nthe end\n"),
        ("raise KeyboardInterrupt", "script\nof a thread\nat exit\nthe end\n"),
        ("os._exit(3)", "script\n"),
        ("if hasattr(os, 'fork') and os.fork(): os.wait()", None),
    ],
)
def test_the_report_comes_last_and_once(tmp_path, ending, shown):
    text = """
import atexit, os, sys, threading
atexit.register(print, "at exit")
main = threading.main_thread()
threading.Thread(target=lambda: (main.join(), print("of a thread"))).start()
print("script", flush=True)
"""
    out = seen(tmp_path, "-c", DRIVER, "s.py", files={"s.py": text + ending})[1].removeprefix("compiled __main__\n")
    assert out.count("the end") == (shown is None or "the end" in shown) and (shown is None or out == shown)
    assert out.endswith("the end\n") or "_exit" in ending


def test_the_report_of_the_command(tmp_path):
    code, out, err, _ = seen(tmp_path, "-m", "fastnn", "run", "s.py", files={"s.py": "print(1)\n1 / 0"})
    assert code == 1 and out == "1\n" and err.index("ZeroDivisionError") < err.index("fastnn run")
