"""What a constructor wants, read from its source, so that a mistake is told before torch is imported.

Importing torch and tensordict takes seconds; parsing the one file a `_target_` names takes a millisecond. The
stand-in classes made here carry the real ones' signatures, and nothing else: they serve to check a config.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib.util
import inspect
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from offpol.errors import ConfigError

PLAIN_TYPES = {t.__name__: t for t in (bool, int, float, str, tuple, list, dict, object)}
LIGHT_MODULES = ("typing", "collections.abc")  # what a stand-in's annotations may take for real
SUPER = re.compile(r"super\(.*\)\.__init__")


def parameters(target: Callable[..., object]) -> dict[str, inspect.Parameter]:
    """Map a constructor's parameters by name, with annotations evaluated where that is possible.

    An annotation that cannot be evaluated here (it names something imported only for type checkers) becomes
    `object`. That is right for what the program hands over at run time; yaml values never need such types. Where there
    is none it stays `inspect.Parameter.empty`. What `**kwargs` hands on to the parent's constructor counts too.
    """
    named = inspect.signature(target).parameters.values()
    own = {
        p.name: p.replace(annotation=_evaluate(p.annotation, _namespace(target, p.name)))
        for p in named
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }
    return {**_handed_on(target), **own} if any(p.kind is p.VAR_KEYWORD for p in named) else own


def is_record(annotation: object) -> bool:
    """Tell whether a mapping is to become an instance of this class: a dataclass or its stand-in."""
    return isinstance(annotation, type) and (
        dataclasses.is_dataclass(annotation) or hasattr(annotation, "__stand_in__")
    )


def stand_in(module: str, name: str) -> type | None:
    """Return a class with the signature of `module.name`, without importing it.

    None where the source does not say it all (no such class, no constructor of its own, inherited fields, `**kwargs`):
    the caller then has to import. Raises ModuleNotFoundError for a module that does not exist.
    """
    source = _source(module)
    node = source.classes.get(name) if source else None
    if source is None or node is None:
        return None
    init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if init is not None and init.args.kwarg is None:
        found = _of_function(init, source)
    elif init is None and _is_dataclass(node) and not node.bases and not _has_special_fields(node):
        found = _of_fields(node, source)
    else:
        return None
    members = {"__signature__": inspect.Signature(found), "__init__": lambda self, **_: None, "__stand_in__": True}
    return type(name, (), members)


class _Source:
    """One parsed module: its classes and what else it names, and a lazy namespace for evaluating annotations."""

    def __init__(self, module: str, tree: ast.Module) -> None:
        self.names = _Names(module, self)
        self.classes = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef)}
        self.assigned = {ast.unparse(n.targets[0]): n.value for n in tree.body if isinstance(n, ast.Assign)}
        self.imported = {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }


class _Names(dict[str, object]):
    """Names of a module, looked up only when an annotation uses them."""

    def __init__(self, module: str, source: _Source) -> None:
        super().__init__()
        self.module, self.source = module, source

    def __missing__(self, name: str) -> object:
        module, original = self.source.imported.get(name, (self.module, name))
        if module in LIGHT_MODULES:
            return getattr(importlib.import_module(module), original)
        found = None
        if name in self.source.imported or name in self.source.classes or name in self.source.assigned:
            found = stand_in(module, original) or _alias(module, original)
        if found is None:
            raise KeyError(name)
        return found


def _alias(module: str, name: str) -> object | None:
    """Return what a module's `name` stands for in annotations, as in Kind = Literal["a", "b"]."""
    source = _source(module)
    value = source.assigned.get(name) if source else None
    if source is None or value is None or any(isinstance(node, ast.Call) for node in ast.walk(value)):
        return None
    return _evaluate(ast.unparse(value), source.names)


def _source(module: str) -> _Source | None:
    if module == "__main__":  # a notebook's cell: the class is there, its source is not
        return None
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # of a package above it, which is imported to find it
        raise ConfigError(f"{module} cannot be found ({type(error).__name__}: {error}).") from error
    if spec is None:
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)
    if spec.origin is None or not spec.origin.endswith(".py"):
        return None
    written = Path(spec.origin).stat()
    return _parsed(module, spec.origin, written.st_mtime_ns, written.st_size)


@functools.cache
def _parsed(module: str, file: str, *_version: int) -> _Source:
    """Parse a file, once for each of its versions: a notebook's user edits a part and reloads it."""
    try:
        return _Source(module, ast.parse(Path(file).read_text()))
    except SyntaxError as error:
        raise ConfigError(f"{file}, line {error.lineno}, is not Python: {error.msg}.") from error


def _handed_on(target: Callable[..., object]) -> dict[str, inspect.Parameter]:
    """Map what a constructor's `**kwargs` may hold: the parent's parameters, without those that it sets itself."""
    having = [c for c in getattr(target, "__mro__", ()) if "__init__" in vars(c) and c is not object]
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(vars(having[0])["__init__"])))
    except (IndexError, OSError, TypeError):  # no class, or none with a source
        return {}
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and SUPER.fullmatch(ast.unparse(n.func))]
    call = next((c for c in calls if any(keyword.arg is None for keyword in c.keywords)), None)
    if call is None or len(having) == 1:
        return {}
    taken = {keyword.arg for keyword in call.keywords}
    return {name: p for name, p in [*parameters(having[1]).items()][len(call.args) :] if name not in taken}


def _of_function(init: ast.FunctionDef, source: _Source) -> list[inspect.Parameter]:
    plain, keyword = init.args.args[1:], init.args.kwonlyargs
    required = [True] * (len(plain) - len(init.args.defaults)) + [False] * len(init.args.defaults)
    required += [default is None for default in init.args.kw_defaults]
    return [_parameter(a.arg, a.annotation, r, source) for a, r in zip([*plain, *keyword], required, strict=True)]


def _of_fields(node: ast.ClassDef, source: _Source) -> list[inspect.Parameter]:
    fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and "ClassVar" not in ast.unparse(n.annotation)]
    return [_parameter(ast.unparse(f.target), f.annotation, f.value is None, source) for f in fields]


def _parameter(name: str, annotation: ast.expr | None, required: bool, source: _Source) -> inspect.Parameter:
    default = inspect.Parameter.empty if required else None
    evaluated = _evaluate(inspect.Parameter.empty if annotation is None else ast.unparse(annotation), source.names)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=evaluated)


def _has_special_fields(node: ast.ClassDef) -> bool:
    """Tell whether not every field of a dataclass is simply a parameter."""
    fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
    return any(re.search(r"\b(KW_ONLY|InitVar|field)\b", ast.unparse(field)) for field in fields)


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _namespace(target: Callable[..., object], parameter: str) -> dict[str, object]:
    """Find where an annotation was written: a dataclass inherits fields from other modules."""
    for klass in getattr(target, "__mro__", ()):
        if parameter in inspect.get_annotations(klass) and dataclasses.is_dataclass(klass):
            return vars(sys.modules[klass.__module__])
    return getattr(getattr(target, "__init__", target), "__globals__", {})


def _evaluate(annotation: object, names: dict[str, object]) -> object:
    if not isinstance(annotation, str):  # a type, or that there is none
        return annotation
    try:
        return eval(annotation, {"__builtins__": PLAIN_TYPES}, names)
    except (NameError, KeyError, AttributeError, TypeError):
        return object
