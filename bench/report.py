"""The figures as tables for the terminal, as tables of the two READMEs, and as a plot."""

import os
from math import prod
from pathlib import Path

import numpy as np
from rich.table import Table

from bench.peers import LIBRARIES

PAGE = Path(__file__).with_name("README.md")  # every op and layer
README = Path(__file__).parents[1] / "README.md"  # ten rows: layers, optimizers, and ops that others compute faster
README_SHAPE = (256, 1024)
README_ROWS = [
    ("Relu", "float64"),
    ("Sigmoid", "float64"),
    ("Affine", "float64"),
    ("Softmax", "float64"),
    ("SoftmaxWithLoss", "float64"),
    ("sigmoid_cross_entropy", "float64"),
    ("adam", "float64"),
    ("sgd", "float64"),
    ("bias_grad", "float64"),
    ("tanh", "float32"),
]
COLOURS = {name: f"C{i}" for i, name in enumerate(LIBRARIES)}


def geometric_mean(values):
    return float(np.exp(np.mean(np.log(values)))) if values else float("nan")


def peers_of(row):
    return {name: seconds for name, seconds in row["seconds"].items() if not name.startswith("fastnn")}


def summary(rows):
    rows = [row for row in rows if peers_of(row)]  # none has the op where only NumPy is installed
    fastest = [min(peers_of(row).values()) / row["seconds"]["fastnn"] for row in rows]
    found = {
        "cells": len(rows),
        "cells not behind the fastest peer": sum(ratio >= 1 for ratio in fastest),
        "geometric mean against the fastest peer": geometric_mean(fastest),
    }
    for name in ("NumPy layers", "PyTorch", "fastnn, 1 thread"):
        ratios = [row["seconds"][name] / row["seconds"]["fastnn"] for row in rows if name in row["seconds"]]
        if ratios:
            found[f"geometric mean against {name}"] = geometric_mean(ratios)
            found[f"least against {name}"] = min(ratios)
    return found


def processors(rows):
    """How many each contender used: the most, but for one row of twenty, where the system may have counted wrong."""
    used = {}
    for row in rows:
        for name, number in row["processors"].items():
            used.setdefault(name, []).append(number)
    return {name: sorted(numbers)[-1 - len(numbers) // 20] for name, numbers in used.items()}


def refuse_if_busier(rows, threads):
    """No table says so many threads where a library has used more processors, if there are more."""
    for name, used in processors(rows).items():
        if used > 1.15 * threads and threads < (os.cpu_count() or 1):
            raise SystemExit(f"{name} used {used:.2f} processors: there is no table for {threads}")


def cells(rows, names, title):
    made = Table(title=f"{title}: microseconds a call; in brackets how many times as long as fastnn")
    for column in ("", "shape", "dtype", "a copy's", "fastnn", *names):
        made.add_column(column, justify="right" if column else "left", no_wrap=True)
    for row in rows:
        seconds, ours = row["seconds"], row["seconds"]["fastnn"]
        made.add_row(
            row["op"],
            "x".join(map(str, row["shape"])),
            row["dtype"].removeprefix("float"),
            f"{1e6 * row['copy']:.3g}" if row["copy"] else "",
            f"{1e6 * ours:.3g}",
            *(f"{1e6 * seconds[n]:.3g} ({seconds[n] / ours:.2f})" if n in seconds else "" for n in names),
            style="red" if min(peers_of(row).values(), default=ours) < ours else None,
        )
    return made


def limits(figures):
    made = Table("", "measured", "limit", title="Beside limits")
    for f in figures:
        value = f"{f['value']:.3g} {f['unit']}".rstrip()
        made.add_row(f["what"], value, f["limit"], style="red" if f["met"] is False else None)
    return made


def accuracy(rows):
    backends = list(rows[0]["ulp"])
    made = Table("op", "dtype", *backends, "promised", title="Largest distance seen from the reference, ULP")
    for row in rows:
        worst = [f"{row['ulp'][name]:.2f}" for name in backends]
        style = "red" if max(row["ulp"].values()) > row["promised"] else None
        made.add_row(row["what"], row["dtype"].removeprefix("float"), *worst, str(row["promised"]), style=style)
    return made


def microseconds(seconds):
    """Three digits, without an exponent."""
    return f"{float(f'{1e6 * seconds:.3g}'):,g}"


def markdown(rows, names):
    """The rows of one shape, the fastest in bold, empty where a peer has no such op; peers with none are left out."""
    rows = [row for row in rows if row["shape"] == README_SHAPE]
    names = ["fastnn", *(name for name in names if any(name in row["seconds"] for row in rows))]
    lines = [f"| 256 x 1024 | dtype | {' | '.join(names)} |", "|---|---" + "|---:" * len(names) + "|"]
    for row in rows:
        times = {name: microseconds(seconds) for name, seconds in row["seconds"].items()}
        fastest = min(row["seconds"], key=row["seconds"].get)
        times[fastest] = f"**{times[fastest]}**"
        lines.append(f"| {' | '.join([row['op'], row['dtype'], *(times.get(name, '') for name in names)])} |")
    return "\n".join(lines)


def for_readme(rows):
    """The ten rows of the project's README."""
    return [row for key in README_ROWS for row in rows if (row["op"], row["dtype"]) == key]


def training(rows):
    contenders = list(rows[0]["seconds"])
    made = Table(
        "", *contenders, title="A training step: microseconds; in brackets how many times as long as the Trainer"
    )
    for row in rows:
        seconds, ours = row["seconds"], row["seconds"]["Trainer"]
        made.add_row(
            row["what"],
            *(f"{1e6 * seconds[c]:.3g} ({seconds[c] / ours:.2f})" if c in seconds else "" for c in contenders),
        )
    return made


def training_markdown(rows):
    contenders = list(rows[0]["seconds"])
    lines = ["| step | " + " | ".join(contenders) + " |", "|---" + "|---:" * len(contenders) + "|"]
    for row in rows:
        times = {name: microseconds(seconds) for name, seconds in row["seconds"].items()}
        lines.append(f"| {' | '.join([row['what'], *(times.get(name, '') for name in contenders)])} |")
    return "\n".join(lines)


def write(page, mark, text):
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def plot(rows, names, header, path):
    """One panel for each op: how many times as long as fastnn every peer takes, by the size of the array."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    ops = list(dict.fromkeys(row["op"] for row in rows))
    columns = 4
    figure, panels = plt.subplots(
        -(-len(ops) // columns), columns, figsize=(16, 3.2 * -(-len(ops) // columns)), sharex=True, squeeze=False
    )
    for panel in panels.flat[len(ops) :]:
        panel.axis("off")
    for panel, op in zip(panels.flat, ops, strict=False):
        for name in names:
            for dtype, style in (("float32", "-"), ("float64", ":")):
                points = sorted(
                    (prod(row["shape"]), row["seconds"][name] / row["seconds"]["fastnn"])
                    for row in rows
                    if row["op"] == op and row["dtype"] == dtype and name in row["seconds"]
                )
                if points:
                    panel.plot(*zip(*points, strict=True), style, marker="o", markersize=3, color=COLOURS[name])
        panel.axhline(1, color="black", linewidth=0.8)
        panel.set(xscale="log", yscale="log", title=op)
        panel.xaxis.set_tick_params(labelbottom=True)
        panel.grid(alpha=0.3)
    handles = [Line2D([], [], color=COLOURS[name], marker="o", markersize=4, label=name) for name in names]
    handles += [Line2D([], [], color="black", linestyle=s, label=d) for d, s in (("float32", "-"), ("float64", ":"))]
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.975), ncols=len(handles), frameon=False)
    figure.supxlabel("elements")
    figure.supylabel("time over fastnn's: above 1, fastnn is faster")
    figure.suptitle(
        f"{header['cpu']}, {header['backend']}, threads: {header['threads']}, NumPy {header['numpy']}",
        y=0.995,
        fontsize=10,
    )
    figure.tight_layout(rect=(0.01, 0.01, 1, 0.96))
    figure.savefig(path, dpi=80)
