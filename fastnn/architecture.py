"""What a network is made of, as plain data: a file holds it beside the parameters, and networks are made of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice, zip_longest
from typing import Any

import numpy as np

from fastnn import layers
from fastnn.arguments import Array

FORMAT = 1
LAYERS: dict[str, type[layers.Layer]] = {f"fastnn.{name}": getattr(layers, name) for name in layers.__all__}
IN_CODE = "build the network in code and call its load(path)"

# By its names: {"format": 1, "network": "fastnn.MLP", "layers": [Part, ...], "loss": Part}.
Architecture = dict[str, Any]
# {"layer": "fastnn.Affine", "params": ["W1", "b1"], "settings": {}}; an array that layers share has one name.
Part = dict[str, Any]


def name_of(kind: type, ours: Mapping[str, type]) -> str:
    """What a class is called in files: somebody's own by its name alone."""
    return next((name for name, other in ours.items() if other is kind), kind.__name__)


def text_of(kind: str, chain: tuple[Any, ...], loss: Any, names: list[str]) -> str:
    """The architecture of layers with a loss, whose parameters have `names`."""
    their_names = _names_of_memory([p for layer in chain for p in layer.params], names)
    parts = [_part(layer, [*islice(their_names, len(layer.params))]) for layer in chain]
    architecture: Architecture = {"format": FORMAT, "network": kind, "layers": parts, "loss": _part(loss, [])}
    return json.dumps(architecture, default=float)


def _names_of_memory(params: list[Any], names: list[str]) -> Iterator[str | None]:
    """Names, the first of each array; None for a view of an earlier array's memory."""
    for i, (p, name) in enumerate(zip(params, names, strict=True)):
        same = next((names[k] for k in range(i) if params[k] is p), None)
        shares = same is None and any(np.may_share_memory(p, params[k]) for k in range(i))
        yield same or (None if shares else name)


def _part(layer: Any, names: list[str | None]) -> Part:
    name = name_of(type(layer), LAYERS)
    settings = {setting: getattr(layer, setting) for setting in LAYERS[name].settings} if name in LAYERS else {}
    return {"layer": name, "params": names, "settings": settings}


def read(text: str) -> Architecture:
    """The architecture in a text; ValueError if there is none, or in a format of the future."""
    architecture = json.loads(text)
    number = architecture.get("format") if isinstance(architecture, dict) else None
    if type(number) is int and number > FORMAT:
        raise ValueError(f"its format is {number}, and this version of fastnn knows those up to {FORMAT}")
    if number != FORMAT or not _is_whole(architecture):
        raise ValueError("its architecture is damaged")
    return architecture


def _is_whole(architecture: Architecture) -> bool:
    if _types(architecture) != {"format": int, "network": str, "layers": list, "loss": dict}:
        return False
    return all(
        _types(part) == {"layer": str, "params": list, "settings": dict}
        and all(isinstance(name, str | None) for name in part["params"])
        for part in (*architecture["layers"], architecture["loss"])
    )


def _types(data: Any) -> dict[str, type]:
    return {key: type(value) for key, value in data.items()} if isinstance(data, dict) else {}


def difference(there: Architecture, here: Architecture) -> str:
    """The first part that is another one; empty if there is none."""
    pairs = [(f"layers[{i}]", *pair) for i, pair in enumerate(zip_longest(there["layers"], here["layers"]))]
    pairs.append(("the loss", there["loss"], here["loss"]))
    return next((f"{where} is {_shown(a)} there, but {_shown(b)} here" for where, a, b in pairs if a != b), "")


def _shown(part: Part | None) -> str:
    if part is None:
        return "missing"
    words = ["?" if name is None else name for name in part["params"]]
    words += [f"{key}={value!r}" for key, value in part["settings"].items()]
    return f"{part['layer']}({', '.join(words)})"


def arrays_of(architecture: Architecture) -> list[str]:
    """The names of the arrays that `build` takes; ValueError if the network cannot be built of these alone."""
    for where, part in _parts(architecture):
        if part["layer"] not in LAYERS:
            raise ValueError(f"{where} is {part['layer']}, which is none of fastnn's: {IN_CODE}")
        if None in part["params"]:
            raise ValueError(f"{where} has a view of another parameter, as a transpose is: {IN_CODE}")
    return [*dict.fromkeys(name for part in architecture["layers"] for name in part["params"])]


def build(architecture: Architecture, arrays: Mapping[str, Array]) -> list[Any]:
    """The layers and, last, the loss, which keep copies of the arrays; ValueError if these do not suit."""
    params = {name: np.array(array) for name, array in arrays.items()}
    for name, p in params.items():
        if p.dtype.kind != "f":
            raise ValueError(f"{name} is of dtype {p.dtype}, but parameters are floats")
    return [_built(where, part, params) for where, part in _parts(architecture)]


def _parts(architecture: Architecture) -> list[tuple[str, Part]]:
    """All of them, after what they are called."""
    chain = enumerate(architecture["layers"])
    return [*((f"layers[{i}]", part) for i, part in chain), ("the loss", architecture["loss"])]


def _built(where: str, part: Part, params: dict[str, Array]) -> Any:
    kind, names = LAYERS[part["layer"]], part["params"]
    if len(names) != len(kind.parameters):
        raise ValueError(f"{where} is {_shown(part)}, but takes {len(kind.parameters)} parameters")
    try:
        return kind(*(params[name] for name in names), **part["settings"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} is {_shown(part)}: {error}") from None
