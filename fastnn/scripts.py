"""A script profiled as it stands and with fastnn's layers, each in a process of its own.

In both runs the layers, functions and optimizers that fastnn replaces are timed in the same way, theirs or ours, and so
is what NumPy and Python do beside them, as far as that goes through functions which can be wrapped.  What the timing
itself costs inside a layer is measured and taken off.
"""

from __future__ import annotations

import builtins
import gzip
import io
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from threading import Thread, get_ident
from time import perf_counter
from types import CodeType, FrameType
from typing import Any

import numpy as np

from fastnn import dropin, profiling, runner
from fastnn.backends import active, config
from fastnn.dropin.reach import gate_of
from fastnn.reports import Line, Report, Run

__all__ = ["ScriptError", "profile_script"]

PRODUCTS, LOADING, IMPORTS, LEFT = "matrix products", "loading data", "imports", "left as they are"
READERS = [
    *((np, name) for name in ("load", "loadtxt", "genfromtxt", "fromfile")),
    (np.lib.npyio.NpzFile, "__getitem__"),
    (pickle, "load"),
    (json, "load"),
    (gzip, "decompress"),
    (gzip.GzipFile, "read"),
]
_Book = Callable[[float, tuple[Any, ...], Any], None]  # told the seconds, arguments and result of a call
UNSEEN = (
    "Outside layers, products written with @ and files read with open() count as everything else: they cannot be told "
    "from Python's own work."
)


class ScriptError(Exception):
    """A script could not be profiled."""


def profile_script(path: str | os.PathLike[str], argv: Sequence[str] = ()) -> Report:
    """
    Run a script twice, as it stands and with fastnn's layers in place of its own.

    Both runs start from the same random seeds, for scripts that set none, and have the same standard input.  The second
    one runs in a copy of the working folder as it was before the first, and what it prints is not shown.

    Parameters
    ----------
    path : path
    argv : sequence of str, optional
        The script's own arguments.

    Returns
    -------
    Report

    Raises
    ------
    ScriptError
        A run ended with an exit code other than 0, or without leaving its figures.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path} is no file")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder, notes = _copy(scratch)
        for note in notes:
            print(f"fastnn profile: {note}", file=sys.stderr)
        heard = Path(scratch, "stdin")
        heard.touch()
        before = _in_a_process(path, argv, None, heard)
        after = _in_a_process(path, argv, folder, heard)
        if folder != os.getcwd():
            notes.append("The second run had a copy of the working folder, and the same files by their absolute paths.")
        if heard.stat().st_size:
            notes.append("Both runs were given the same standard input.")
    runs = [_run(measured["run"]) for measured in (before, after)]
    if before["unseeded"]:
        notes.append(f"It draws from {' and '.join(before['unseeded'])} without a seed: both runs were given one.")
    left = after["left"]
    notes.append(f"{runs[-1].trying:.1f} s for trying its functions beside fastnn's are in neither run.")
    if not runs[-1].lines:
        left = ["fastnn served no call: the two runs are the same.", *left]
    return Report(f"Profile of {os.path.basename(path)}", runs, after["config"], [*left, *notes, UNSEEN])


def _run(figures: dict[str, Any]) -> Run:
    lines = {
        name: [Line(**{**line, "shape": tuple(line["shape"])}) for line in figures[name]]
        for name in ("lines", "inside")
    }
    return Run(**{**figures, **lines})


# ---------------------------------------------------------------- the parent

COPIED_BYTES, COPIED_FILES = 64 << 20, 5_000  # of a working folder at most; the rest are links


def _copy(scratch: str) -> tuple[str, list[str]]:
    """A copy of the working folder, and what to say of it.

    What is large, as data and environments are, is a link in it.
    """
    here, there = os.getcwd(), os.path.join(scratch, "folder")
    os.mkdir(there)
    linked, room = [], [COPIED_BYTES, COPIED_FILES]
    try:
        for entry in sorted(os.scandir(here), key=lambda entry: entry.name):
            target = os.path.join(there, entry.name)
            holds_copy = Path(entry.path).resolve() in Path(there).resolve().parents
            if entry.is_symlink() or holds_copy or not _fits(entry, room):
                os.symlink(os.path.realpath(entry.path), target, entry.is_dir())
                linked += [entry.name] if not entry.name.startswith(".") else []
            elif entry.is_dir():
                shutil.copytree(entry.path, target, symlinks=True)
            else:
                shutil.copy2(entry.path, target)
    except (OSError, shutil.Error) as error:
        return here, [f"{here} was not copied ({error}): the second run finds there what the first has left."]
    if not linked:
        return there, []
    what = f"{', '.join(linked[:5])}{' and more' if linked[5:] else ''}"
    return there, [f"{what} in {here} was not copied: the second run finds there what the first has left."]


def _fits(entry: os.DirEntry[str], room: list[int]) -> bool:
    """Whether there is room for a file or folder, which it then takes up."""
    size, files = entry.stat().st_size, 1
    for folder, folders, names in os.walk(entry.path):
        files += len(folders) + len(names)
        if files > room[1]:
            return False
        size += sum(os.lstat(os.path.join(folder, name)).st_size for name in names)
    if size > room[0] or files > room[1]:
        return False
    room[:] = room[0] - size, room[1] - files
    return True


# The folder of the parent's own fastnn is looked into last, if the child would not find fastnn without it.
_CHILD = """
import sys
first = [] if sys.flags.safe_path else [sys.path.pop(0)]
sys.path.append(sys.argv.pop(1))
from fastnn import scripts
sys.path[:] = first + sys.path[:-1]
scripts.child()
"""


def _in_a_process(path: str, argv: Sequence[str], copy: str | None, heard: Path) -> Any:
    """What `child` measures in a fresh process: of the script as it stands, or with fastnn's ops in a copy."""
    which, program = "as it stands", path
    if copy is not None:
        which, program = "with fastnn's layers", os.path.abspath(path)
        if program.startswith(os.path.join(os.getcwd(), "")):
            program = os.path.join(copy, os.path.relpath(program))
    asked = copy is None and os.isatty(0)
    with tempfile.TemporaryDirectory() as folder, heard.open("rb") as again:
        results = os.path.join(folder, "run.json")
        task = {"path": program, "argv": [*argv], "patched": copy is not None, "results": results}
        words = [sys.executable, "-c", _CHILD, str(Path(__file__).parents[1])]
        with subprocess.Popen(
            [*words, json.dumps({**task, "asked": str(heard) if asked else ""})],
            stdin=again if copy else None if asked else subprocess.PIPE,
            stdout=subprocess.PIPE if copy else None,
            stderr=subprocess.STDOUT if copy else None,
            cwd=copy,
            env={"PYTHONHASHSEED": "0", **os.environ},
        ) as run:
            if run.stdin:
                Thread(target=_hand_on, args=(run.stdin, heard), daemon=True).start()
            said = run.stdout.read() if run.stdout else b""
            run.wait()
        if run.returncode or not os.path.exists(results):
            sys.stderr.write(said.decode(errors="replace"))
            left = "" if run.returncode else " before its figures could be taken"
            raise ScriptError(f"{path} ended with exit code {run.returncode}{left}, {which}")
        return json.loads(Path(results).read_text(encoding="utf-8"))


def _hand_on(pipe: Any, heard: Path) -> None:
    """Give standard input to a process, and keep it for the next one."""
    with suppress(OSError, ValueError), pipe, heard.open("wb", buffering=0) as file:  # until it has ended
        while words := os.read(0, 1 << 16):
            file.write(words)
            pipe.write(words)
            pipe.flush()


# ---------------------------------------------------------------- the child


def child() -> None:
    """Run the script that the command line tells of, and write what it took."""
    task = json.loads(sys.argv.pop(1))
    patched, backend, clock = task["patched"], active(), _Clock()
    replacer = _Timing(clock, patched)
    if task["asked"]:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(_Heard(task["asked"])), sys.stdin.encoding, sys.stdin.errors)
    machine, unseeded = config(), _seeded()
    clock.watch()
    recorder = ExitStack()
    profile = recorder.enter_context(profiling.profile())
    start = perf_counter()

    def measured() -> None:
        seconds = perf_counter() - start - clock.lost
        recorder.close()
        run = clock.run(profile.compiled_for if patched else "as it stands", seconds)
        if patched:
            run.inside = profile.lines_by(lambda code: getattr(gate_of(code), "name", ""))
            recording: Any = profiling.Profile(backend)
            _take_off(run, _cost(recording.relu, backend.relu, np.ones(1)))
        left = [f"{finding.where}: {'; '.join(finding.reasons)}." for finding in replacer.findings if finding.is_left]
        figures = {"run": asdict(run), "left": left, "unseeded": unseeded(), "config": machine}
        Path(task["results"]).write_text(json.dumps(figures), encoding="utf-8")

    runner.run(task["path"], task["argv"], replacer.compile, at_end=measured)


class _Heard(io.RawIOBase):
    """Standard input from a terminal, kept in a file for the next run."""

    def __init__(self, path: str) -> None:
        self._kept = open(path, "wb", buffering=0)

    def readable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return True

    def readinto(self, room: Any) -> int:
        words = os.read(0, len(room))
        self._kept.write(words)
        room[: len(words)] = words
        return len(words)


def _seeded() -> Callable[[], list[str]]:
    """Seed the generators that scripts use; what comes back says which were drawn from and not seeded by the script."""
    own: set[str] = set()
    numbers, streams = iter(range(1 << 30)), np.random.default_rng

    @wraps(streams)
    def default_rng(seed: Any = None) -> Any:
        if seed is None:
            own.add("default_rng")
        return streams(next(numbers) if seed is None else seed)

    def told(name: str, function: Any) -> Any:
        @wraps(function)
        def seed(*args: Any, **kwargs: Any) -> Any:
            if next(iter([*args, *kwargs.values()]), None) is None:
                return function(next(numbers))
            states.pop(name, None)
            return function(*args, **kwargs)

        return seed

    np.random.seed(0)  # noqa: NPY002, the generator that scripts use
    random.seed(0)
    read: dict[str, Any] = {"np.random": lambda: repr(np.random.get_state()), "random": random.getstate}  # noqa: NPY002
    states = {name: state() for name, state in read.items()}
    vars(np.random)["default_rng"] = default_rng
    for module, name in ((np.random, "seed"), (np.random, "set_state"), (random, "seed"), (random, "setstate")):
        setattr(module, name, told("random" if module is random else "np.random", getattr(module, name)))
    return lambda: [*sorted(own), *(name for name, state in states.items() if read[name]() != state)]


class _Timing(dropin.Replacer):
    """Has the calls timed that fastnn can serve, and serves them or not."""

    def __init__(self, clock: _Clock, serves: bool) -> None:
        super().__init__()
        self.around = clock.stopped
        self._clock, self._serves = clock, serves

    def gate(self, module: str, of_class: str, name: str, code: CodeType) -> Any:
        gate = super().gate(module, of_class, name, code)
        if gate is None:
            return None
        gate.serves = self._serves
        return _TimedGate(gate, ".".join(filter(None, (of_class, name))), self._clock)


class _TimedGate:
    """A gate whose calls are timed: as a line of the report those that fastnn can serve, the others as what is left."""

    def __init__(self, gate: Any, name: str, clock: _Clock) -> None:
        self.code = gate.code
        self._gate, self.name, self._clock = gate, name, clock
        self._began: dict[int, _Call] = {}  # by the frame of theirs

    def serve(self, *args: Any) -> Any:
        frame = sys._getframe(1)
        self._began.pop(id(frame), None)
        if self._clock.is_busy():
            return self._gate.serve_in(frame, *args)
        kind = self._gate.kind_of(*args)
        # The first of a kind is looked at, and what is served in it is not told.
        call = _Call(args, kind is not None and kind.plan is not None, kind is None)
        call.began = self._clock.begin(frame, call.is_whole)
        answer = self._gate.serve_in(frame, *args)
        if answer is ...:
            self._began[id(frame)] = call
        else:
            self._end(call, answer)
        return answer

    def returned(self, result: Any) -> Any:
        frame = sys._getframe(1)
        if self._clock.is_mine() and id(frame) in self._began:
            self._end(self._began.pop(id(frame)), result)
        return self._gate.returned_to(frame, result)

    def _end(self, call: _Call, result: Any) -> None:
        seconds = self._clock.end(call.began, call.is_whole)
        if call.is_line:
            self._clock.book(self.name, seconds, call.args, result)
        else:
            self._clock.leave(seconds)


@dataclass
class _Call:
    """A call on its way."""

    args: tuple[Any, ...]
    is_line: bool
    is_first: bool
    began: Any = None

    @property
    def is_whole(self) -> bool:
        return self.is_line or self.is_first


def _is_running(frame: FrameType) -> bool:
    at: FrameType | None = sys._getframe()
    while at is not None and at is not frame:
        at = at.f_back
    return at is frame


class _Clock:
    """
    Where the time of the main thread goes, no moment counted twice.

    Attributes
    ----------
    lost : float
        Seconds that are not the script's.
    trying : float
        Those of them in which its functions were tried.
    """

    def __init__(self) -> None:
        self.lost = self.trying = 0.0
        self._counted = 0.0
        self._parts = dict.fromkeys((PRODUCTS, LOADING, IMPORTS, LEFT), 0.0)
        self._lines: dict[tuple[str, tuple[int, ...]], Line] = {}
        self._products = 0.0
        self._losses: list[Any] = []
        self._inside: Any = False  # the frame of what is timed, where that is somebody's own
        self._importing = False
        self._in_product = True  # matrix products are told apart in layers only
        self._thread = get_ident()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What happens in here is not the script's time."""
        kept, lost, start = (self._inside, self._in_product), self.lost, perf_counter()
        self._inside = self._in_product = True
        try:
            yield
        finally:
            self._inside, self._in_product = kept
            seconds = perf_counter() - start
            self.lost, self.trying = lost + seconds, self.trying + seconds

    def watch(self) -> None:
        """Time what NumPy and Python do beside the layers, from now on."""
        self._cost = 0.0
        self._inside, self._in_product = True, False
        self._cost = _cost(self._product(_nothing), _nothing, None)
        self._inside, self._in_product = False, True
        self.lost = self._products = 0.0
        for name in ("dot", "matmul", "einsum", "tensordot"):
            setattr(np, name, self._product(getattr(np, name)))
        for holder, name in READERS:
            setattr(holder, name, self._leaf(getattr(holder, name), self._to(LOADING)))
        builtins.__import__ = self._import(builtins.__import__)

    def is_mine(self) -> bool:
        """Whether this is the thread that is watched."""
        return get_ident() == self._thread

    def is_busy(self) -> bool:
        """Whether this is another thread, or something that is timed is on its way."""
        if not self.is_mine():
            return True
        if isinstance(self._inside, FrameType) and not _is_running(self._inside):  # it has raised
            self._inside, self._in_product = False, True
        return bool(self._inside)

    def begin(self, frame: FrameType, is_whole: bool) -> Any:
        """Time a call, in which nothing else is timed if it `is_whole`."""
        if is_whole:
            self._inside, self._in_product = frame, False
        return perf_counter(), self.lost if is_whole else self.lost + self._counted

    def end(self, began: Any, is_whole: bool) -> float:
        """The seconds of a call, without those of what was timed in it."""
        start, before = began
        now = self.lost if is_whole else self.lost + self._counted
        if is_whole:
            self._inside, self._in_product = False, True
        seconds = perf_counter() - start - (now - before)
        self._counted += seconds
        return seconds

    def book(self, name: str, seconds: float, args: tuple[Any, ...], result: Any) -> None:
        """Add a call to a line of the report."""
        shape = next((each.shape for each in args if isinstance(each, np.ndarray)), ())
        line = self._lines.setdefault((name, shape), Line(name, "", shape))
        line.calls += 1
        line.seconds += seconds
        if isinstance(result, float | np.floating):
            self._losses.append(result)

    def leave(self, seconds: float) -> None:
        """Add a call to what is left as it is."""
        self._parts[LEFT] += seconds

    def run(self, name: str, seconds: float) -> Run:
        """What there is to report, after `seconds` in all."""
        lines = sorted(self._lines.values(), key=lambda line: -line.seconds)
        remainder = {part: each for part, each in self._parts.items() if each}
        losses = [float(loss) for loss in self._losses if np.ndim(loss) == 0]
        return Run(name, seconds, lines, [], remainder, self._products, losses, self.trying)

    def _to(self, part: str) -> _Book:
        def book(seconds: float, args: tuple[Any, ...], result: Any) -> None:
            self._parts[part] += seconds

        return book

    def _leaf(self, function: Any, book: _Book) -> Any:
        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._inside or not self.is_mine():
                return function(*args, **kwargs)
            self._inside = self._in_product = True
            result, lost, start = None, self.lost, perf_counter()
            try:
                result = function(*args, **kwargs)
                return result
            finally:
                seconds = perf_counter() - start - (self.lost - lost)
                self._inside, self._in_product = False, True
                self._counted += seconds
                book(seconds, args, result)

        return timed

    def _product(self, function: Any) -> Any:
        outside = self._leaf(function, self._to(PRODUCTS))

        @wraps(function)
        def product(*args: Any, **kwargs: Any) -> Any:
            if self._in_product or not self.is_mine():
                return outside(*args, **kwargs)
            self._in_product, start = True, perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._products += perf_counter() - start
                self._in_product = False
                self.lost += self._cost

        return product

    def _import(self, function: Any) -> Any:
        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._importing or self._inside or not self.is_mine():
                return function(*args, **kwargs)
            self._importing, before, start = True, self.lost + self._counted, perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._parts[IMPORTS] += perf_counter() - start - (self.lost + self._counted - before)
                self._importing = False

        return timed


def _nothing(x: Any) -> None:
    pass


def _cost(timed: Callable[[Any], Any], plain: Callable[[Any], Any], x: Any) -> float:
    """Seconds that timing adds to one call."""

    def fastest(function: Callable[[Any], Any]) -> float:
        return min(timeit.repeat(lambda: function(x), number=1000, repeat=5)) / 1000

    return max(0.0, fastest(timed) - fastest(plain))


def _take_off(run: Run, cost: float) -> None:
    """What recording the ops has cost, from the layers that called them."""
    for name in {line.layer for line in run.lines}:
        lines = [line for line in run.lines if line.layer == name]
        recorded = sum(op.calls for op in run.inside if op.layer == name) / sum(line.calls for line in lines)
        for line in lines:
            took = min(line.seconds, cost * recorded * line.calls)
            line.seconds -= took
            run.seconds -= took
