"Every public function and method says what it takes and what it gives."
import dataclasses
import importlib
import inspect
import pkgutil

import pytest

import vasa_ref

MODULES = [m.name for m in pkgutil.walk_packages(vasa_ref.__path__, "vasa_ref.")
           if not m.ispkg and not m.name.rpartition(".")[2].startswith("_")]


def functions(module):
    "What a module exports, by name: its functions, and the methods of its classes that it writes out itself."
    for name in getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")]):
        thing = vars(module).get(name)
        if getattr(thing, "__module__", None) != module.__name__: continue
        if not inspect.isclass(thing):
            if inspect.isroutine(thing): yield name, thing
            continue
        for method, value in vars(thing).items():
            made = method == "__init__" and (dataclasses.is_dataclass(thing) or hasattr(thing, "_fields"))
            if method.startswith("_") and method not in ("__init__", "__call__") or made: continue
            value = getattr(value, "__func__", getattr(value, "fget", value))
            if inspect.isroutine(value): yield f"{name}.{method}", value


def unannotated(name, function):
    "Parameters of a function, and 'return', without an annotation."
    signature = inspect.signature(function)
    method = "." in name
    bare = [p.name for i, p in enumerate(signature.parameters.values())
            if p.annotation is p.empty and not (method and i == 0 and p.name in ("self", "cls"))
            and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return bare + ["return"] * (signature.return_annotation is signature.empty and not name.endswith("__init__"))


@pytest.mark.parametrize("name", MODULES)
def test_public_functions_are_annotated(name):
    found = functions(importlib.import_module(name))
    bare = {f: missing for f, function in found if (missing := unannotated(f, function))}
    assert not bare, bare


def test_a_missing_annotation_is_found():
    def half(a: int, b, *rest, **options): return a
    assert unannotated("half", half) == ["b", "return"]
    assert unannotated("Thing.half", lambda self, a: a) == ["a", "return"]
