"""What the site says of a function or class: its name, its signature, and a table of its parameters.

A parameter (a dataclass's field) is described by a comment behind it, or by comments on the lines above it:

    def say(text: str,       # what is spoken
            rate: int = 175  # words per minute
            ): ...

`tools/check_site.py` puts the tables on the pages; nbdev 2.4 writes the comments into the signature instead.
"""
import ast
import importlib
import io
import re
import textwrap
import tokenize
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FUNCTIONS = ast.FunctionDef, ast.AsyncFunctionDef
SHORT = 4                             # lines of a body: a function with no more that is shown has no heading


class Parameter(NamedTuple):
    name: str                         # with the stars of *args and **kwargs
    type: str                         # as it is written, "" where it is not
    default: str | None
    text: str


class Entry(NamedTuple):
    name: str                         # as Class.method
    line: int
    node: ast.AST
    rows: tuple[Parameter, ...]       # of all parameters or fields; none where not one is described
    methods: tuple["Entry", ...]      # of a class, those with rows


@cache
def entries(module):
    """{name: Entry} of the functions and classes of a module's file."""
    source = Path(module).read_text()
    tree, lines = ast.parse(source), source.splitlines()
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    said = {t.start[0]: t.string.lstrip("# ").rstrip() for t in tokens if t.type == tokenize.COMMENT}
    alone = {n for n in said if lines[n - 1].lstrip().startswith("#")}
    return {node.name: entry(node, "", said, alone, constants(module)) for node in tree.body
            if isinstance(node, (*FUNCTIONS, ast.ClassDef))}


def constants(module):
    """{name: code} of a module's numbers and words, for defaults that are given by name; nothing of other files."""
    if not Path(module).resolve().is_relative_to(ROOT): return {}
    name = ".".join(Path(module).resolve().relative_to(ROOT).with_suffix("").parts)
    found = vars(importlib.import_module(name)).items()
    return {name: repr(value) for name, value in found if isinstance(value, (int, float, str))}


def entry(node, owner, said, alone, values):
    """The Entry of one definition. said: {line: comment}; alone: lines that hold nothing else; values: of constants."""
    if isinstance(node, ast.ClassDef):
        inside = [entry(n, f"{node.name}.", said, alone, values) for n in node.body if isinstance(n, FUNCTIONS)]
        methods = [e for e in inside if e.rows and not e.node.name.startswith("_")]
        fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
        found = [(n.target.id, n.annotation, n.value, n) for n in fields]
        made = next((e for e in inside if e.node.name == "__init__"), None)
        rows = made.rows if made else described(node, found, said, alone, values)
        return Entry(node.name, node.lineno, node, rows, tuple(methods))
    arguments = node.args
    plain = arguments.posonlyargs + arguments.args
    defaults = [None] * (len(plain) - len(arguments.defaults)) + arguments.defaults
    found = [(a.arg, a.annotation, d, a) for a, d in zip(plain, defaults)]
    if owner and found and found[0][0] in ("self", "cls"): del found[0]
    if star := arguments.vararg: found.append((f"*{star.arg}", star.annotation, None, star))
    found += [(a.arg, a.annotation, d, a) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults)]
    if star := arguments.kwarg: found.append((f"**{star.arg}", star.annotation, None, star))
    return Entry(owner + node.name, node.lineno, node, described(node, found, said, alone, values), ())


def described(definition, found, said, alone, values):
    """The rows of (name, annotation, default, node), or none where no comment says what one is."""
    ends = [max(n.end_lineno for n in (node, default) if n is not None) for _, _, default, node in found]
    rows = []
    for (name, annotation, default, node), end in zip(found, ends):
        above = node.lineno
        while above - 1 in alone and above - 1 > definition.lineno: above -= 1
        parts = [said[n] for n in range(above, node.lineno)]
        if end in said and end > definition.lineno and ends.count(end) == 1: parts.append(said[end])
        value = None if default is None else values.get(ast.unparse(default), ast.unparse(default))
        rows.append(Parameter(name, "" if annotation is None else ast.unparse(annotation), value, " ".join(parts)))
    return tuple(rows) if any(row.text for row in rows) else ()


@cache
def everything():
    """{name: (page, Entry)} of all functions and classes of the package."""
    found = {}
    for path in sorted((ROOT / "vasa_ref").rglob("*.py")):
        if not path.name.startswith("_") and "app" not in path.parts:
            page = path.relative_to(ROOT / "vasa_ref").with_suffix(".html").as_posix()
            found |= {name: (page, entry) for name, entry in entries(path).items()}
    return found


def inherited(entry, seen=()):
    """(page, Entry) of the methods with rows that a class has from those before it."""
    for base in (ast.unparse(b) for b in getattr(entry.node, "bases", ())):
        page, there = everything().get(base, (None, None))
        if there is None: continue
        own = [method for method in there.methods if method.node.name not in seen]
        yield from ((page, method) for method in own)
        yield from inherited(there, (*seen, *(method.node.name for method in there.methods)))


@cache
def anchors():
    """The anchors of all methods that have a table: page#class.method."""
    return {f"{page}#{method.name.lower()}" for page, entry in everything().values() for method in entry.methods}


def code_of_type(text, link):
    """A type for a table's cell. Alternatives are joined by `or`, for a bar would end the cell."""
    if not text: return ""
    tree, parts = ast.parse(text, mode="eval").body, []
    while isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.BitOr):
        parts.insert(0, tree.right)
        tree = tree.left
    names = (p.value if isinstance(p, ast.Constant) and isinstance(p.value, str) else ast.unparse(p)
             for p in [tree, *parts])
    return " or ".join(link(f"`{name}`") for name in names).replace("|", "\\|")


def table(rows, link=lambda line: line, of="Parameter"):
    """A table of parameters or fields, as markdown; link is done to types and texts."""
    columns = [of, "Type", "Default", "What it is"]
    plain = lambda text: text.replace("|", "\\|")
    lines = [[f"`{row.name}`", code_of_type(row.type, link), plain(f"`{row.default}`") if row.default else "",
              plain(link(row.text))] for row in rows]
    used = [i for i in range(len(columns)) if i in (0, 3) or any(line[i] for line in lines)]
    widths = [17, 18, 12, 53]                                 # pandoc's hints for the columns' widths
    body = [columns, [":" + "-" * widths[i] for i in range(4)], *lines]
    return "\n".join("| " + " | ".join(line[i] for i in used) + " |" for line in body)


def body_lines(node):
    """Lines of a function's body, the docstring aside."""
    first = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return node.end_lineno - first[0].lineno + 1 if first else 0


def signature(node):
    """The first line of a function as Python code, in lines that fit the page."""
    parts, depth = [""], 0
    for letter in ast.unparse(node.args):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth: parts.append("")
        else: parts[-1] += letter
    parts = [re.sub(r"^( ?\w+: [^=]+)=", r"\1 = ", part).strip().replace(" ", "\xa0") for part in parts]   # stay whole
    returns = f"\xa0->\xa0{ast.unparse(node.returns)}" if node.returns else ""
    line = f"def\xa0{node.name}({', '.join(parts)}){returns}:"
    line = textwrap.fill(line, 92, subsequent_indent=" " * len(f"def {node.name}("), break_long_words=False)
    return "```python\n" + line.replace("\xa0", " ") + "\n```"


def reference(text, entry, shown, link=lambda line: line, site=""):
    """nbdev's text of a definition as the page has it. shown: its source stands beside it, so that signature and
    docstring are not said twice, and a short function has no heading, only its anchor. A table has all parameters, and
    a docstring's first line, which may end within a sentence, is not in italics. link: what is done to a table's text;
    site: where pages are."""
    head, fence, rest = text.partition("```python")
    short = isinstance(entry.node, FUNCTIONS) and body_lines(entry.node) <= SHORT and not entry.rows
    if shown and short:
        head = re.sub(r"^---\n+", "", head)
        head = re.sub(r"^#+ (\w+)$", lambda m: f"[**{m[1]}**]{{#{m[1].lower()}}}", head, flags=re.MULTILINE)
    fields = isinstance(entry.node, ast.ClassDef) and not any(
        isinstance(n, FUNCTIONS) and n.name == "__init__" for n in entry.node.body)
    parts = [head.rstrip()]
    if not shown:
        named, closing, docstring = rest.partition("```")
        if entry.rows and isinstance(entry.node, FUNCTIONS): parts.append(signature(entry.node))
        elif not (fields and entry.rows): parts.append(fence + named + closing)
        parts.append(re.sub(r"\A\*(.+)\*$", r"\1", docstring.strip(), count=1, flags=re.MULTILINE))
    if entry.rows and not (shown and fields): parts.append(table(entry.rows, link, "Field" if fields else "Parameter"))
    above = list(inherited(entry, [method.node.name for method in entry.methods]))
    page = everything().get(entry.name, ("", None))[0]
    places = [(method, f"{site}{where}#{method.name.lower()}")
              for where, method in [*((page, method) for method in entry.methods), *above]]
    own = {method.node.name: f"[`{method.node.name}`]({place})" for method, place in places}
    own_first = lambda line: link(re.sub(r"`(\w+)`", lambda m: own.get(m[1], m[0]), line))
    for method in entry.methods:
        parts.append(f"#### {method.name} {{#{method.name.lower()}}}")
        if not shown: parts += [signature(method.node), ast.get_docstring(method.node) or ""]
        parts.append(table(method.rows, own_first))
    if above: parts.append(f"Inherited methods: {', '.join(own[method.node.name] for _, method in above)}.")
    return "\n\n".join(filter(None, parts)) + "\n"
