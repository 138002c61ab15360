from collections.abc import Callable, Mapping
from types import CodeType, FrameType, TracebackType
from typing import Any

Path = tuple[Any, ...]

class Source:
    name: str
    what: Any
    written: bool
    def __init__(self, how: str, what: Any, written: bool = False) -> None: ...

class Plan:
    compute: Callable[..., Any]
    operands: tuple[Path, ...]
    result: Source
    effects: tuple[tuple[Path, Source], ...]
    conditions: tuple[tuple[Callable[[Any], Any], Path], ...]
    def __init__(
        self,
        compute: Callable[..., Any],
        operands: tuple[Path, ...],
        result: Source,
        effects: tuple[tuple[Path, Source], ...] = (),
        conditions: tuple[tuple[Callable[[Any], Any], Path], ...] = (),
    ) -> None: ...
    def __call__(self, *args: Any) -> Any: ...

class Kind:
    plan: Plan | None
    calls: int

class Gate:
    names: tuple[str, ...] | None
    methods: tuple[str, ...]
    by_shape: bool
    is_open: bool
    serves: bool
    code: CodeType
    def __init__(
        self,
        code: CodeType,
        begin: Callable[[Gate, FrameType, tuple[Any, ...]], Any],
        end: Callable[[Gate, Any, Any], None],
    ) -> None: ...
    def serve(self, *args: Any) -> Any: ...
    def serve_in(self, frame: FrameType, *args: Any) -> Any: ...
    def returned(self, result: Any) -> Any: ...
    def returned_to(self, frame: FrameType, result: Any) -> Any: ...
    def look_at(
        self,
        names: tuple[str, ...] | None,
        by_shape: bool,
        methods: tuple[str, ...] = ...,
        of: type | None = ...,
    ) -> None: ...
    def kind_of(self, *args: Any) -> Kind | None: ...
    def learn(
        self,
        args: tuple[Any, ...],
        plan: Plan | None,
        watched: tuple[tuple[Mapping[str, Any], str, Any], ...] = (),
        others: tuple[Any, ...] | None = None,
        kept: Any = None,
    ) -> Kind: ...
    @property
    def plans(self) -> list[Plan | None]: ...

class closed:
    def __enter__(self) -> None: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

def within(a: Any, limit: float) -> bool: ...
