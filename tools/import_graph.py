"""Draw which modules import which, before the rooms and now: nbs/pipeline/imports.svg.

    python tools/import_graph.py [--before COMMIT]

A line goes from a module up to one that it imports when it is itself imported. Coloured is what `from vasa_ref import
Talker` loads. Before: the package in COMMIT, each module below all that it imports. Now: the working tree, by rooms.
"""
import argparse
import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "nbs" / "pipeline" / "imports.svg"
BEFORE = "0869325"                                                          # the last with most modules in one folder
ROOMS = ("", "media", "trust", "world", "hearing", "face", "motion", "talking", "measure", "speed", "footage", "app")
WIDTH, STEP, HIGH, LEFT = 760, 60, 40, 66                                   # pixels
LOADED, OTHER, LINE, INK = "#ffd27d", "#f3f4f6", "#9ca3af", "#1f2937"


def sources(commit: str | None = None) -> dict[str, str]:
    """The text of each module, by its dotted name, in a commit or in the working tree."""
    git = lambda *args: subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    if commit:
        names = git("ls-tree", "-r", "--name-only", commit, "--", "vasa_ref").split("\n")
        files = {name: git("show", f"{commit}:{name}") for name in names if name.endswith(".py")}
    else: files = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "vasa_ref").rglob("*.py")}
    named = {name.removeprefix("vasa_ref/").removesuffix(".py").replace("/", "."): text for name, text in files.items()}
    return {name: text for name, text in named.items() if not name.split(".")[-1].startswith("_")}


def imported(name: str, text: str, known: set[str]) -> set[str]:
    """The modules that a module's text imports outside of functions."""
    def statements(body: list) -> Iterator[ast.ImportFrom]:
        for node in body:
            if isinstance(node, ast.ImportFrom): yield node
            elif isinstance(node, (ast.If, ast.Try, ast.With, ast.ClassDef)): yield from statements(node.body)
    room, found = name.split(".")[:-1], set()
    for node in statements(ast.parse(text).body):
        if not node.level and (node.module or "").split(".")[0] != "vasa_ref": continue
        base = room[:len(room) + 1 - node.level] if node.level else []
        base = base + (node.module or "").removeprefix("vasa_ref").strip(".").split(".")
        found |= {".".join(filter(None, [*base, *more])) for more in ([], *([alias.name] for alias in node.names))}
    return found & known - {name}


def graph(texts: dict[str, str]) -> dict[str, set[str]]:
    """For each module, those that it imports."""
    return {name: imported(name, text, set(texts)) for name, text in texts.items()}


def reached(edges: dict[str, set[str]], name: str) -> set[str]:
    """A module and all that importing it loads."""
    found, todo = set(), [name]
    while todo:
        if (now := todo.pop()) not in found:
            found.add(now)
            todo += edges[now]
    return found


def by_depth(edges: dict[str, set[str]]) -> list[tuple[str, list[str]]]:
    """Rows of modules, each below all that it imports."""
    @cache
    def depth(name: str) -> int: return max((depth(other) + 1 for other in edges[name]), default=0)
    return [("", sorted(name for name in edges if depth(name) == d)) for d in range(max(map(depth, edges)) + 1)]


def by_room(edges: dict[str, set[str]]) -> list[tuple[str, list[str]]]:
    """Rows of modules by room; in a room, those that are imported stand to the left."""
    depth = {name: i for i, (_, row) in enumerate(by_depth(edges)) for name in row}
    within = lambda room: [name for name in edges if name.rpartition(".")[0] == room]
    rows = [(room, sorted(within(room), key=lambda name: (depth[name], name))) for room in ROOMS]
    return [(room, row) for room, row in rows if row]


def drawn(edges: dict[str, set[str]], rows: list[tuple[str, list[str]]], top: int) -> tuple[list[str], int]:
    """Lines of SVG, and where the drawing ends."""
    loaded = reached(edges, "talking.talker" if "talking.talker" in edges else "talker")
    most, places, labels, y = 11, {}, [], top
    for room, row in rows:
        if room: labels.append(f'<text x="4" y="{y + 4}" text-anchor="start" font-weight="bold">{room}</text>')
        for i in range(0, len(row), most):
            part = row[i:i + most]
            left = LEFT + STEP / 2 + (0 if room or len(row) > most else (WIDTH - LEFT - len(part) * STEP) / 2)
            for k, name in enumerate(part): places[name] = left + k * STEP, y + 7 * (k % 2)
            y += HIGH
    lines = [f'<line x1="{places[a][0]:g}" y1="{places[a][1]}" x2="{places[b][0]:g}" y2="{places[b][1]}"/>'
             for a in sorted(edges) for b in sorted(edges[a])]
    boxes = []
    for name, (x, at) in places.items():
        fill, word = LOADED if name in loaded else OTHER, name.rpartition(".")[2]
        narrow = f' textLength="{STEP - 6}" lengthAdjust="spacingAndGlyphs"' if len(word) > 9 else ""
        boxes.append(f'<rect x="{x - STEP / 2 + 1:g}" y="{at - 9}" width="{STEP - 2}" height="16" rx="3" fill="{fill}" '
                     f'stroke="{LINE}"/>')
        boxes.append(f'<text x="{x:g}" y="{at + 3}"{narrow}>{word}</text>')
    return [f'<g stroke="{LINE}" stroke-width="0.6" opacity="0.7">', *lines, "</g>", *labels, *boxes], y


def picture(before: dict[str, set[str]], now: dict[str, set[str]]) -> str:
    """Both graphs as one SVG, one above the other."""
    count = lambda edges, name: f"{len(edges)} modules; Talker loads {len(reached(edges, name))} of them"
    first, end = drawn(before, by_depth(before), 60)
    second, bottom = drawn(now, by_room(now), end + 50)
    heading = lambda y, text: f'<text x="4" y="{y}" text-anchor="start" font-size="14" font-weight="bold">{text}</text>'
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom}" role="img" font-family="sans-serif" '
        f'font-size="10" text-anchor="middle" fill="{INK}">',
        "<title>what imports what, before the rooms and now</title>",
        f'<rect width="{WIDTH}" height="{bottom}" fill="white"/>',
        heading(24, f"before: {count(before, 'talker')}"), *first,
        heading(end + 14, f"now: {count(now, 'talking.talker')}"), *second, "</svg>\n"])


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default=BEFORE, metavar="COMMIT", help=f"(default: {BEFORE})")
    given = parser.parse_args(args)
    try: before = sources(given.before)
    except subprocess.CalledProcessError:
        sys.exit(f"import_graph: no commit {given.before} here; a shallow clone lacks it")
    OUT.write_text(picture(graph(before), graph(sources())))
    print(f"{OUT.relative_to(ROOT)}: {OUT.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
