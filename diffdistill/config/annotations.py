"""Whether a value of a config is what the annotation of an argument asks for."""

import enum
import inspect
import math
import os
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

import torch

from diffdistill.errors import InputError

PLAIN = {bool: "True or False", int: "a whole number", float: "a number", str: "text", type(None): "None"}
PLAIN_VALUES = bool | int | float | str | list | tuple | None
ANYTHING = typing.Any, object, inspect.Parameter.empty
SPELT = (enum.Enum, os.PathLike, torch.dtype, torch.device)  # classes whose objects a config may spell as text
UNIONS = typing.Union, types.UnionType
LISTS = (list, tuple, set, Sequence, Collection, Iterable)


def signature_of(kind: Callable) -> dict[str, inspect.Parameter]:
    """The arguments of `kind`; annotations that are strings are resolved, or left out where they cannot be."""
    names: dict = {}
    inside = kind.func if isinstance(kind, partial) else kind
    for each in reversed(getattr(inside, "__mro__", [inspect.unwrap(inside)])):
        names |= vars(sys.modules.get(each.__module__, typing))
    return {name: resolved(each, names) for name, each in inspect.signature(kind).parameters.items()}


def resolved(parameter: inspect.Parameter, names: Mapping[str, object]) -> inspect.Parameter:
    """`parameter` with its annotation as an object, looked up in `names`; without one, that of a True or False default."""
    if parameter.annotation is parameter.empty and isinstance(parameter.default, bool):
        return parameter.replace(annotation=bool)
    if not isinstance(parameter.annotation, str):
        return parameter
    try:
        return parameter.replace(annotation=eval(parameter.annotation, dict(names)))  # as typing.get_type_hints does
    except Exception:  # such as a name that only a type checker imports
        return parameter.replace(annotation=parameter.empty)


def check_fits(where: str, value: object, parameter: inspect.Parameter) -> None:
    """Raise InputError, naming `value` as `where`, unless it is the default of `parameter` or what its annotation says."""
    default, annotation = parameter.default, parameter.annotation
    if value is default or (type(value) is type(default) and value == default) or fits(value, annotation):
        return
    where, value, annotation = culprit(where, value, annotation)
    hint = ""
    if expects_list(annotation):
        hint = f"; a list of one is [{shorten(value)}]" if isinstance(value, str) else hint
        hint = "; a key that has dots itself is written as {'a.b': ...}" if isinstance(value, Mapping) else hint
    raise InputError(f"{where}={shorten(value)} must be {describe(annotation)}{hint}")


def culprit(where: str, value: object, annotation: object) -> tuple[str, object, object]:
    """The entry of a dict or list that does not fit, with its full name and annotation; or else `value` itself."""
    alternatives = typing.get_args(annotation) if typing.get_origin(annotation) in UNIONS else [annotation]
    for each in alternatives:
        kind, arguments = typing.get_origin(each), typing.get_args(each)
        if kind in (dict, Mapping) and isinstance(value, Mapping):
            items = value.items()
        elif kind in LISTS and isinstance(value, list | tuple) and (kind is not tuple or len({*arguments} - {...}) == 1):
            items = enumerate(value)
        else:
            continue
        inner = arguments[1 if kind in (dict, Mapping) else 0]
        for key, item in items:
            if not fits(item, inner):
                return culprit(f"{where}.{key}", item, inner)
    return where, value, annotation


def fits(value: object, annotation: object) -> bool:
    """Whether `value` is one of `annotation`; True where the annotation says nothing of values that a config can hold.

    A dict stands for an object of any class, since it may be what that object is built from. True and False are no numbers.
    """
    kind, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if kind in UNIONS:
        return any(fits(value, each) for each in arguments)
    if kind is typing.Literal:
        return any(value == each and type(value) is type(each) for each in arguments)
    if kind is None or kind is type(None):
        return value is None
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    if kind is str:
        return isinstance(value, str | os.PathLike)
    if kind in (dict, Mapping):
        return isinstance(value, Mapping) and all(fits(item, each) for each in arguments[1:] for item in value.values())
    if kind in LISTS:
        if not isinstance(value, list | tuple | set | range) or not arguments:
            return isinstance(value, list | tuple | set | range)
        if kind is tuple and arguments[-1] is not Ellipsis:
            return len(value) == len(arguments) and all(map(fits, value, arguments))
        return all(fits(item, arguments[0]) for item in value)
    if kind is Callable:
        return callable(value) or isinstance(value, Mapping)
    if not isinstance(kind, type) or kind in ANYTHING or not isinstance(value, PLAIN_VALUES):
        return True
    return isinstance(value, kind) or (isinstance(value, str) and issubclass(kind, SPELT))


def expects_list(annotation: object) -> bool:
    """Whether a list may be given where `annotation` stands."""
    kind = typing.get_origin(annotation) or annotation
    if kind in UNIONS:
        return any(map(expects_list, typing.get_args(annotation)))
    return kind in LISTS


def describe(annotation: object) -> str:
    """What `annotation` asks for, in words: "a whole number or None"."""
    kind, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if kind in UNIONS:
        return " or ".join(dict.fromkeys(map(describe, arguments)))
    if kind is typing.Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if kind in (dict, Mapping):
        return "a dict" + (f" (each value {describe(arguments[1])})" if len(arguments) > 1 else "")
    if kind in LISTS:
        if kind is tuple and arguments and arguments[-1] is not Ellipsis:
            return f"a list of {len(arguments)} (each {' or '.join(dict.fromkeys(map(describe, arguments)))})"
        return "a list" + (f" (each {describe(arguments[0])})" if arguments else "")
    if kind is Callable:
        return "a dict that says its type"
    return PLAIN.get(type(None) if kind is None else kind) or f"a {getattr(kind, '__name__', kind)}"


def shorten(value: object, most: int = 100) -> str:
    """`value` as an error shows it: the beginning of what is very long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
