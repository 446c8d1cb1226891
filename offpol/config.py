"""Parts from yaml: every value is checked against the annotations of the constructor that takes it.

There is no second schema: a constructor's annotations say what its yaml may hold. A mapping becomes a dataclass.
"""

from __future__ import annotations

import importlib
import inspect
import math
import sys
import types
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal, Union, cast, get_args, get_origin

from omegaconf import DictConfig, OmegaConf

from offpol.errors import ConfigError, did_you_mean
from offpol.signatures import is_record, parameters, stand_in

ANNOTATIONS = "int, float, bool, str, Literal, X | None, tuple[X, ...], list[X], dict[str, X] and dataclasses"
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def conf_dir() -> Path:
    """Return the folder of the yaml files: inside the package when installed, beside it in a clone."""
    package = Path(__file__).parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def build(node: Mapping[str, Any], key: str = "", /, **runtime: object) -> Any:
    """Construct what `node` describes: a mapping with a `_target_` and the target's parameters.

    Args:
        node: from yaml; every value is checked and coerced.
        key: where the node stands in the config, to name it in errors; by default the target's seam.
        runtime: what the program itself hands over. The constructor gets those that it names.

    Raises ConfigError, one sentence with the full key, for anything that yaml says wrongly, for a ValueError of the
    constructor, and for what is too large for memory.
    """
    node, key = _plain(node), key or _seam(node)
    target = _locate(node, key)
    wanted = parameters(target)
    values = _arguments(node, wanted, runtime, key)
    try:
        return target(**values, **{name: given for name, given in runtime.items() if name in wanted})
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error
    except AttributeError as error:
        if "Module.__init__()" not in str(error):
            raise
        raise ConfigError(f"{key}: {target.__name__}.__init__ must call super().__init__() first ({error}).") from error
    except MemoryError as error:
        raise ConfigError(f"{key} does not fit into memory: {error}.") from error


def build_all(group: str) -> dict[str, Any]:
    """Construct every option of a group of conf/ as its yaml has it, by name."""
    files = sorted((conf_dir() / group).glob("*.yaml"))
    return {file.stem: build(cast(DictConfig, OmegaConf.load(file))) for file in files}


def check(node: Mapping[str, Any], runtime_names: Collection[str], key: str = "") -> None:
    """Raise what `build` would say of the yaml's values, without importing or constructing the target."""
    node, key = _plain(node), key or _seam(node)
    module, _, name = _target(node, key).rpartition(".")
    try:
        target = stand_in(module, name)
    except ModuleNotFoundError:  # `_locate` says it in the user's words
        target = None
    _arguments(node, parameters(target or _locate(node, key)), runtime_names, key)


def keys(node: object) -> Mapping[str, inspect.Parameter] | None:
    """Return what the target of a section takes, or None where that cannot be told without an error."""
    try:
        module, _, name = _target(node, "").rpartition(".")  # type: ignore[arg-type]
        return parameters(stand_in(module, name) or _locate(node, ""))  # type: ignore[arg-type]
    except (ConfigError, ImportError):
        return None


def coerce(value: object, annotation: Any, key: str) -> object:
    """Return a yaml value as its annotation wants it, or raise ConfigError."""
    origin, options = get_origin(annotation), get_args(annotation)
    if annotation is object or annotation is Any:
        return value
    if annotation is inspect.Parameter.empty:
        raise ConfigError(f"{key} cannot be checked: annotate that parameter of the constructor, as with float.")
    if annotation in KINDS:
        return _scalar(value, annotation, key)
    if annotation is None or annotation is types.NoneType:
        return _require(value, value is None, "null", key)
    if origin is Literal:
        return _literal(value, options, key)
    if origin in (Union, types.UnionType):
        return _union(value, options, key)
    if (origin or annotation) in (tuple, list):
        return _sequence(value, origin or annotation, options, key)
    if (origin or annotation) is dict:
        _require(value, isinstance(value, Mapping), "a mapping", key)
        entry = options[1] if options else object
        return {name: coerce(item, entry, f"{key}.{name}") for name, item in value.items()}  # type: ignore[attr-defined]
    if is_record(annotation):
        return _record(value, annotation, key)
    shown = inspect.formatannotation(annotation)
    raise ConfigError(f"{key} cannot be checked: the constructor annotates it with {shown}, but may use {ANNOTATIONS}.")


def as_yaml(value: Any) -> Any:
    """Return a value as yaml has it: what numpy holds, as Python's own numbers and lists."""
    if isinstance(value, Mapping):
        return {name: as_yaml(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_yaml(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value


# ------------------------------------------------------------------------------------------- the pieces


def _plain(node: Mapping[str, Any]) -> Mapping[str, Any]:
    return OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else as_yaml(node)  # type: ignore[return-value]


def _target(node: Mapping[str, Any], key: str) -> str:
    if not isinstance(node, Mapping) and key:
        raise ConfigError(f"{key} is {_shown(node)}, but is a section: set a value in it, as in {key}.KEY=VALUE.")
    target = node.get("_target_") if isinstance(node, Mapping) else None
    if not isinstance(target, str) or "." not in target:
        raise ConfigError(f"{key or 'the node'} needs a _target_, the dotted path of a class, but has {target!r}.")
    return target


def _seam(node: Mapping[str, Any]) -> str:
    """Name a node by its target: offpol.critic.hl_gauss.HLGauss stands under `critic`."""
    parts = _target(node, "").split(".")
    return parts[1] if parts[0] == "offpol" else parts[-1]


def _locate(node: Mapping[str, Any], key: str) -> Callable[..., object]:
    target = _target(node, key)
    module_name, _, name = target.rpartition(".")
    if target.split(".")[0] in sys.stdlib_module_names:
        raise ConfigError(f"{key}._target_ is {target}, but must be a class of offpol or of a package of yours.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise ConfigError(
                f"{key}._target_ is {target}, but there is no module {error.name}: install it, or put its folder on "
                "PYTHONPATH."
            ) from error
        raise ConfigError(f"{key}: {target} needs the package {error.name}, which is not installed.") from error
    found = getattr(module, name, None)
    if not inspect.isclass(found):
        classes = [n for n, member in vars(module).items() if inspect.isclass(member)]
        raise ConfigError(
            f"{key}._target_ is {target}, but {module_name} has no class {name}{did_you_mean(name, classes) or '.'}"
        )
    return found


def _arguments(
    node: Mapping[str, Any], wanted: Mapping[str, inspect.Parameter], runtime: Collection[str], key: str
) -> dict[str, object]:
    known = [name for name in wanted if name not in runtime]
    given = {name: value for name, value in node.items() if name != "_target_"}
    for name in given:
        if name in runtime and name in wanted:
            raise ConfigError(f"{key}.{name} cannot be set here: offpol itself hands it over.")
    return _fields(given, {name: wanted[name] for name in known}, key)


def _fields(given: Mapping[str, Any], wanted: Mapping[str, inspect.Parameter], key: str) -> dict[str, object]:
    for name in given:
        if name not in wanted:
            options = ", ".join(wanted) or "nothing"
            near = did_you_mean(name, wanted, key)
            raise ConfigError(f"There is no key '{key}.{name}'{near or f': {key} takes {options}.'}")
    for name, parameter in wanted.items():
        missing = name not in given or given[name] == "???"
        if missing and (parameter.default is inspect.Parameter.empty or name in given):
            raise ConfigError(f"{key}.{name} is missing: give it a value, as in {key}.{name}=...")
    return {name: coerce(value, wanted[name].annotation, f"{key}.{name}") for name, value in given.items()}


def _record(value: object, annotation: type, key: str) -> object:
    wanted = parameters(annotation)
    _require(value, isinstance(value, Mapping), f"a mapping of {', '.join(wanted)}", key)
    values = _fields(value, wanted, key)  # type: ignore[arg-type]
    try:
        return annotation(**values)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error


def _scalar(value: object, kind: type, key: str) -> object:
    if kind is float and type(value) is int:
        return float(value)
    hint = ""
    if kind is int and isinstance(value, float) and value.is_integer():
        hint = f": write {int(value)}"
    elif kind is str and isinstance(value, int | float):
        hint = f": write it in quotes, as in {key}='\"{value}\"'"
    nan = isinstance(value, float) and math.isnan(value)
    return _require(value, type(value) is kind and not nan, KINDS[kind] + hint, key)


def _literal(value: object, options: tuple[object, ...], key: str) -> object:
    known = any(value == option and type(value) is type(option) for option in options)
    near = did_you_mean(str(value), [str(option) for option in options])
    return _require(value, known, f"one of {', '.join(map(str, options))}{near}", key)


def _union(value: object, options: tuple[object, ...], key: str) -> object:
    """Take the first alternative that fits; where only one could have, say what is wrong with it."""
    errors = []
    for option in options:
        try:
            return coerce(value, option, key)
        except ConfigError as error:
            errors.append((option, error))
    fitting = [error for option, error in errors if is_record(option) == isinstance(value, Mapping)]
    fitting = [error for error in fitting if "must be null" not in str(error)]
    if len(fitting) == 1:
        raise fitting[0]
    names = ", ".join(getattr(option, "__name__", str(option)).replace("NoneType", "null") for option in options)
    raise ConfigError(f"{key} is {value!r}, but must be one of: {names}.")


def _sequence(value: object, kind: type, options: tuple[object, ...], key: str) -> object:
    _require(value, isinstance(value, list | tuple), f"a list, as in {key}=[1,2]", key)
    items = list(value)  # type: ignore[call-overload]
    if kind is list or (len(options) == 2 and options[1] is Ellipsis):
        wanted = [options[0] if options else object] * len(items)
    else:
        wanted = list(options)
        _require(value, len(items) == len(wanted), f"a list of {len(wanted)} values", key)
    return kind(coerce(item, each, f"{key}[{i}]") for i, (item, each) in enumerate(zip(items, wanted, strict=True)))


def _require(value: object, fine: bool, expected: str, key: str) -> object:
    if not fine:
        end = "" if expected.endswith("?") else "."
        raise ConfigError(f"{key} is {_shown(value)}, but must be {expected}{end}")
    return value


def _shown(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
