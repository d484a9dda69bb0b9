"""What the site says of a function or class: its name, its signature, and a table of its parameters.

A parameter (a dataclass's field) is described by a comment behind it, or by comments on the lines above it:

    def say(text: str,       # what is spoken
            rate: int = 175  # words per minute
            ): ...

`tools/check_site.py` puts the tables on the pages; nbdev 2.4 writes the comments into the signature instead.
"""
import ast
import io
import re
import textwrap
import tokenize
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
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
    values = {target.id: ast.unparse(value) for target, value in assigned(tree) if isinstance(value, ast.Constant)}
    return {node.name: entry(node, "", said, alone, values) for node in tree.body if isinstance(node, DEFINITIONS)}


FUNCTIONS = ast.FunctionDef, ast.AsyncFunctionDef
DEFINITIONS = *FUNCTIONS, ast.ClassDef


def assigned(tree):
    """(name, value) of the assignments of a module, `A, B = 1, 2` as two."""
    for node in (n for n in tree.body if isinstance(n, ast.Assign)):
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts)
            yield from ((t, v) for t, v in pairs if isinstance(t, ast.Name))


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


def table(rows, link=lambda line: line):
    """A table of parameters, as markdown; link is done to types and texts."""
    columns = ["Parameter", "Type", "Default", "What it is"]
    lines = [[f"`{row.name}`", code_of_type(row.type, link), f"`{row.default}`".replace("|", "\\|") if row.default else "",
              link(row.text).replace("|", "\\|")] for row in rows]
    used = [i for i in range(len(columns)) if i in (0, 3) or any(line[i] for line in lines)]
    widths = [17, 18, 12, 53]                                 # pandoc's hints for the columns' widths
    body = [columns, ["-" * widths[i] for i in range(4)], *lines]
    return "\n".join("| " + " | ".join(line[i] for i in used) + " |" for line in body)


def body_lines(node):
    """Lines of a function's body, the docstring aside."""
    first = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return node.end_lineno - first[0].lineno + 1 if first else 0


def signature(node):
    """The first line of a function as Python code, of lines that fit the page."""
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"def {node.name}({ast.unparse(node.args)}){returns}"
    return f"```python\n{textwrap.fill(line, 92, subsequent_indent='    ', break_long_words=False)}\n```"


def reference(text, entry, shown, link=lambda line: line):
    """nbdev's text of a definition as the page has it. shown: its source stands beside it, so that signature and
    docstring are not said twice, and a short function has no heading, only its anchor. A table has all parameters."""
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
        if entry.rows: named = re.sub(r"[ ]+# .*$", "", named, flags=re.MULTILINE)
        if not (fields and entry.rows and "VAR_POSITIONAL" in named): parts.append(fence + named + closing)
        parts.append(docstring.strip())
    if entry.rows and not (shown and fields): parts.append(table(entry.rows, link))
    for method in entry.methods:
        parts.append(f"#### {method.name} {{#{method.name.lower()}}}")
        if not shown: parts += [signature(method.node), ast.get_docstring(method.node) or ""]
        parts.append(table(method.rows, link))
    return "\n\n".join(filter(None, parts)) + "\n"
