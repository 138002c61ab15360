"""``python -m bench.vectorised``: fails if GCC stops vectorising an inner loop of the kernels at x86-64-v3 or v4.

It builds the kernels with GCC's report switched on and holds it beside fastnn/_kernels/loops, in which every innermost
``for`` has to be vectorised, in float32 and in float64, unless a comment on its line begins with "scalar".
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
LOOPS = Path("fastnn", "_kernels", "loops")
TARGETS = ["x86_64_v3", "x86_64_v4"]
# A loop of a function without `real` stands in the C once, of the others once for each dtype.
SPECIALISATIONS = {0: "float32", 1: "float64", None: "both"}


def inner_loops(lines):
    """{line: last line} of the innermost for loops that are not said to be scalar; lines count from 1."""
    found = {}
    for number, line in enumerate(lines, 1):
        if not re.match(r" +for .*:", line) or "# scalar" in line:
            continue
        depth = len(line) - len(line.lstrip())
        last = number
        while last < len(lines) and (not lines[last].strip() or len(lines[last]) - len(lines[last].lstrip()) > depth):
            last += 1
        if not any(re.match(r" +(for|while) ", body) for body in lines[number:last]):
            found[number] = last
    return found


def origins(c_file):
    """For every line of the C: the file and line of the loops it was made from, and in which specialisation."""
    place, specialisation, found = None, None, {}
    for number, text in enumerate(c_file.read_text().splitlines(), 1):
        if match := re.match(r'\s*/\* "([^"]+)":(\d+)$', text):
            path = Path(match[1])
            place = (path.name, int(match[2])) if path.parent == LOOPS else None
        elif match := re.match(r"static .*?(?:__pyx_fuse_(\d))?__pyx_f_\w+\(.*{$", text):
            specialisation = int(match[1]) if match[1] else None
        found[number] = place, specialisation
    return found


def build():
    """The build's output, vectoriser's report included."""
    with tempfile.TemporaryDirectory() as folder:
        # One compiler at a time: the reports of several would run into each other.
        options = ["--force", "--parallel", "1", "--build-lib", folder, "--build-temp", folder]
        command = [sys.executable, "setup.py", "build_ext", *options]
        environment = os.environ | {"CFLAGS": "-fopt-info-vec-optimized"}
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(run.stdout + run.stderr)
    return run.stdout + run.stderr


def missed(loops, report, target):
    """[(file, line, specialisation)] of the loops that GCC has not vectorised in any family that has them."""
    there, done = set(), set()
    for c_file in sorted((ROOT / "build" / "cython" / target).rglob("*.c")):
        where = origins(c_file)
        pattern = re.escape(c_file.relative_to(ROOT).as_posix()) + r":(\d+):\d+: optimized: .*vectorized"
        there |= set(where.values())
        done |= {where[int(number)] for number in re.findall(pattern, report)}
    there, done = ({(*place, specialisation) for place, specialisation in found if place} for found in (there, done))
    if unknown := loops.keys() - {(file, line) for file, line, _ in there}:
        sys.exit(f"{LOOPS}, {sorted(unknown)}: loops that are not in the C for {target}")
    return [
        (file, first, specialisation)
        for file, first, specialisation in sorted(there, key=str)
        if (file, first) in loops
        and not any((file, line, specialisation) in done for line in range(first, loops[file, first] + 1))
    ]


def main():
    lines = {path.name: path.read_text().splitlines() for path in sorted((ROOT / LOOPS).glob("*.pxd"))}
    loops = {(file, first): last for file, text in lines.items() for first, last in inner_loops(text).items()}
    with Console(stderr=True).status("building"):
        report = build()
    table = Table("target", "dtype", "file", "line", "loop", title=f"{LOOPS}: inner loops that are not vectorised")
    for target in TARGETS:
        for file, first, specialisation in missed(loops, report, target):
            row = file, str(first), lines[file][first - 1].strip()
            table.add_row(target, SPECIALISATIONS[specialisation], *row)
    console = Console()
    if table.row_count:
        console.print(table)
        return 1
    console.print(f"All {len(loops)} inner loops of {LOOPS} are vectorised, for {' and '.join(TARGETS)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
