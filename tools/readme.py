"""README.md from nbs/index.ipynb, without Quarto.

    python tools/readme.py [--check]

Prose, code and saved outputs in order; cells marked `#| hide` or `#| export` are left out, `#| echo: false` hides the
code. Quarto's callouts become GitHub's notes, links and pictures beside the notebook point into nbs/, and pictures of
outputs go to index_files/. --check writes nothing, and exits with 1 if README.md is not up to date.
"""
import argparse
import base64
import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
CALLOUTS = {"note": "NOTE", "tip": "TIP", "warning": "WARNING", "important": "IMPORTANT", "caution": "CAUTION"}
PICTURES = {"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif"}


def callouts(text):
    """Quarto's fenced divs: callouts become quotes that GitHub colours, other divs lose their fences."""
    def quote(match):
        kind, attributes, body = match.groups()
        title = re.search(r'title="([^"]*)"', attributes)
        lines = [f"[!{CALLOUTS[kind]}]"] + ([f"**{title[1]}**", ""] if title else []) + body.strip().splitlines()
        return "\n".join(f"> {line}".rstrip() for line in lines)
    text = re.sub(r"^:::+ *\{\.callout-(\w+)([^}]*)\}\n(.*?)\n:::+ *$", quote, text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^:::+.*\n?", "", text, flags=re.MULTILINE)


def local(target):
    """A link of nbs/ as it reads from the root."""
    if re.match(r"[a-z]+:|#|/", target):
        return target
    return target.removeprefix("../") if target.startswith("../") else f"nbs/{target}"


def markdown(source):
    source = callouts(source)
    source = re.sub(r"(\]\()([^)\s]+)(?=[)\s])", lambda m: m[1] + local(m[2]), source)
    source = re.sub(r'(<(?:img|video|source|a)\b[^>]*?\b(?:src|href)=")([^"]+)', lambda m: m[1] + local(m[2]), source)
    source = re.sub(r"(\]\([^)]*\)) *\{[^}]*\}", r"\1", source)             # attributes of pictures and links
    source = re.sub(r"^(#+ .*?) *\{[#.][^}]*\}$", r"\1", source, flags=re.MULTILINE)   # and of headings
    return source.strip()


def pictures_and_text(output, number, pictures, alt=""):
    """One output as markdown; pictures, described by `alt`, are collected as {file name: bytes}."""
    if output.output_type == "stream":
        return f"```\n{output.text.rstrip()}\n```" if output.name == "stdout" else ""
    data = output.get("data", {})
    if "text/markdown" in data:
        return markdown(data["text/markdown"])
    for mime, suffix in PICTURES.items():
        if mime in data:
            name = f"cell-{number}-{len(pictures)}.{suffix}"
            pictures[name] = base64.b64decode(data[mime])
            return f"![{alt}](index_files/{name})"
    if "<table" in data.get("text/html", ""):
        return re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.DOTALL).strip()
    return f"```\n{data['text/plain'].rstrip()}\n```" if "text/plain" in data else ""


def readme(notebook):
    """(text, {picture's file name: bytes}) of a notebook."""
    parts, pictures = [], {}
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            parts.append(markdown(cell.source))
        if cell.cell_type != "code":
            continue
        directives = {line.strip() for line in re.findall(r"^#\|(.*)$", cell.source, re.MULTILINE)}
        if any(d.split()[0] in ("hide", "export", "exporti", "default_exp") for d in directives if d):
            continue
        code = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.MULTILINE).strip()
        if code and "echo: false" not in directives:
            parts.append(f"```python\n{code}\n```")
        if "output: false" not in directives:
            written = next((d for d in directives if d.startswith("fig-alt:")), "").partition(":")[2].strip(' "')
            parts += [pictures_and_text(o, number, pictures, written) for o in cell.outputs]
    return "\n\n".join(part for part in parts if part) + "\n", pictures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if README.md is not up to date")
    check = parser.parse_args().check
    text, pictures = readme(nbformat.read(ROOT / "nbs" / "index.ipynb", as_version=4))
    files = {ROOT / "README.md": text.encode()} | {ROOT / "index_files" / name: data for name, data in pictures.items()}
    old = set((ROOT / "index_files").glob("*")) - files.keys()
    stale = [p for p, data in files.items() if not p.exists() or p.read_bytes() != data]
    if check:
        print("README.md is up to date" if not stale + list(old)
              else "README.md is not what nbs/index.ipynb says: make readme")
        return 1 if stale or old else 0
    for path in old:
        path.unlink()
    for path, data in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    print(f"README.md: {len(text.split())} words, {len(pictures)} pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
