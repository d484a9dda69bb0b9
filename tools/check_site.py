"""Check the pages of the site without Quarto.

    python tools/check_site.py

Writes what nbdev's own build writes before Quarto takes over (nbs/nbdev.yml, nbs/sidebar.yml, vasa_ref/_modidx.py, the
processed notebooks in _proc/), then reads every page with pandoc. Reported, one line each, with exit code 1: links to
pages, headings or files that do not exist, pictures that are missing, cross references without a target, formulas that
are no TeX, divs that are not closed, pictures without an alt text, and notebooks that the sidebar does not show.
"""
import configparser
import html
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import parameters

ROOT = Path(__file__).resolve().parents[1]


def build():
    """nbdev's steps before Quarto; returns the folder of processed notebooks."""
    os.chdir(ROOT)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    sys.path.insert(0, str(ROOT))
    import nbdev.doclinks
    from nbdev.quarto import nbdev_sidebar, refresh_quarto_yml
    from nbdev.serve import proc_nbs
    refresh_quarto_yml()
    nbdev.doclinks._build_modidx()
    nbdev_sidebar.__wrapped__()
    folder = Path(proc_nbs(n_workers=0, force=True))
    for path in sorted(folder.rglob("*.ipynb")): finish(path, ROOT / "nbs" / path.relative_to(folder))
    return folder


def finish(path, original):
    """What nbdev leaves undone on a page: a picture or film without an alt text gets the prose that leads to it, a
    signature and its docstring go where the source below repeats them, and so does the heading of a short function;
    parameters get their table; links to the source go to the page's module, those to methods to their class, and a
    linked name loses the brackets about it."""
    from slides import lead, plain
    notebook, heading, prose = json.loads(path.read_text()), "", ""
    own = re.search(r"#\| *default_exp ([\w.]+)", original.read_text())
    module = ROOT / "vasa_ref" / f"{own[1].replace('.', '/')}.py" if own else None
    known = parameters.entries(module) if module and module.exists() else {}
    shown = sources_first(notebook["cells"])
    said = "\n".join(text_of(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    sections = {title.lower() for title in re.findall(r"^#+ (\w+)$", said, re.MULTILINE)}    # have an anchor already
    for cell in notebook["cells"]:
        source, outputs = text_of(cell["source"]), cell.get("outputs", [])
        if cell["cell_type"] == "markdown":
            source = cell["source"] = links_mended(source)
            heading = (re.findall(r"^#+ (.+)$", source, re.MULTILINE) or [heading])[-1]
            paragraphs = [p for p in re.split(r"\n{2,}", source) if re.match(r"[\w*`\[$]", p) and "](" not in p[:2]]
            prose = lead(paragraphs[-1], from_end=True) if paragraphs else prose
        drawn = any(kind.startswith("image/") for output in outputs for kind in output.get("data", {}))
        alt = f"{plain(heading)}. {plain(prose)}".removeprefix(". ").removesuffix(":")
        for output in outputs:
            page = text_of(output.get("data", {}).get("text/html", ""))
            if "<video " in page and "aria-label" not in page:
                label = html.escape(f"A film with sound. {alt}")
                output["data"]["text/html"] = page.replace("<video ", f'<video aria-label="{label}" ', 1)
        if drawn and not re.search(r"^#\| *fig-alt:", source, re.MULTILINE):
            cell["source"] = f"#| fig-alt: {json.dumps(alt, ensure_ascii=False)}\n{source}"
        if named := SHOWN.search(source):
            entry = known.get(named[1])
            for output in outputs:
                text = links_mended(text_of(output.get("data", {}).get("text/markdown", "")))
                if not text: continue
                here = f"{module.relative_to(ROOT)}#L{entry.line}" if entry else None
                text = re.sub(r"vasa_ref/[\w/]+\.py#L\d+", here, text, count=1) if here else text
                if entry:
                    text = links_mended(parameters.reference(text, entry, named[1] in shown, link_line, site()))
                    if named[1].lower() in sections: text = re.sub(r"\[(\*\*\w+\*\*)\]\{#\w+\}", r"\1", text)
                elif named[1] in shown: text = text.partition("```python")[0].rstrip() + "\n"
                output["data"]["text/markdown"] = text
    path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n")


SHOWN = re.compile(r"^show_doc\((\w+)\)", re.MULTILINE)


def sources_first(cells):
    """Puts what is said of several definitions of one cell before it, in their order, for nbdev leaves all but one
    behind it, backwards; returns the names of all definitions whose source the page shows."""
    shown, at = set(), 0
    while at < len(cells):
        source = text_of(cells[at]["source"])
        if cells[at]["cell_type"] == "code" and "Exported source" in source:
            names = re.findall(r"^(?:async )?(?:def|class) (\w+)", source, re.MULTILINE)
            named = lambda cell: (found := SHOWN.search(text_of(cell["source"]))) and found[1] in names and found[1]
            first, last = at, at + 1
            while first and named(cells[first - 1]): first -= 1
            while last < len(cells) and named(cells[last]): last += 1
            docs = sorted(cells[first:at] + cells[at + 1:last], key=lambda cell: names.index(named(cell)))
            cells[first:last], at = [*docs, cells[at]], last - 1
            shown |= {*names}
        at += 1
    return shown


@cache
def lookup():
    from nbdev.doclinks import NbdevLookup
    return NbdevLookup()


def link_line(line): return lookup().link_line(line)


def links_mended(text):
    """Markdown in which links to methods without a table go to their class, and names that nbdev linked have no
    brackets about them."""
    text = re.sub(r"\[\[(`[^`]+`)\]\([^)]*\)\]\(", r"[\1](", text)                  # a link of the author's own
    text = re.sub(r"\[(\[`[^`]+`\]\([^)]*\))\]", r"\1", text)
    there = lambda m: m[0] if f"{m[2]}{m[3]}" in parameters.anchors() else f"{m[1]}{m[2]})"
    return re.sub(rf"(\]\({re.escape(site())})([^)#]*#\w+)(\.[\w.]+)\)", there, text)


@cache
def site():
    "Where the site is, as settings.ini says."
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "settings.ini")
    return config["DEFAULT"]["doc_host"] + config["DEFAULT"]["doc_baseurl"] + "/"


def text_of(value): return "".join(value) if isinstance(value, list) else value


def page(path):
    """A processed notebook as the markdown that Quarto gives to pandoc; also its output file and the labels of its
    cells."""
    notebook = json.loads(path.read_text())
    parts, labels = [], set()
    for cell in notebook["cells"]:
        source = text_of(cell["source"])
        if cell["cell_type"] in ("markdown", "raw"):
            parts.append(source)
            continue
        labels |= set(re.findall(r"^#\| *label: *(\S+)", source, re.MULTILINE))
        if not re.search(r"^#\| *echo: *false", source, re.MULTILINE):
            parts.append(f"~~~~~~~~ python\n{source}\n~~~~~~~~")
        parts += [text_of(o["data"]["text/markdown"]) for o in cell.get("outputs", [])
                  if "text/markdown" in o.get("data", {})]
    markdown = "\n\n".join(parts)
    named = re.search(r"^output-file: *(\S+)", markdown, re.MULTILINE)
    return markdown, named[1] if named else path.stem + ".html", labels


def pandoc(markdown, to, *options):
    """(output, warnings) of pandoc."""
    import pypandoc
    command = [pypandoc.get_pandoc_path(), "-f", "markdown+tex_math_single_backslash", "-t", to, *options]
    done = subprocess.run(command, input=markdown, capture_output=True, text=True)
    return done.stdout, [line for line in done.stderr.splitlines() if line.strip()]


def walk(node):
    """All elements of pandoc's tree."""
    if isinstance(node, dict):
        if "t" in node:
            yield node["t"], node.get("c")
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


ATTRIBUTES = {"Header": 1, "Div": 0, "Span": 0, "Image": 0, "Link": 0, "CodeBlock": 0, "Code": 0, "Figure": 0,
              "Table": 0}


def read(markdown, labels):
    """Anchors, links, pictures, cross references and warnings of one page."""
    tree, warnings = pandoc(markdown, "json")
    warnings += [w for w in pandoc(markdown, "html", "--mathml")[1] if "TeX math" in w]
    elements = list(walk(json.loads(tree)["blocks"]))
    anchors = {c[ATTRIBUTES[t]][0] for t, c in elements if t in ATTRIBUTES} | labels
    raw = " ".join(c[1] for t, c in elements if t in ("RawInline", "RawBlock"))
    anchors |= set(re.findall(r'\bid="([^"]+)"', raw)) | set(re.findall(r"\{#((?:eq|tbl|lst)-[\w-]+)\}", markdown))
    cited = {c["citationId"] for t, cites in elements if t == "Cite" for c in cites[0]}
    links = [c[2][0] for t, c in elements if t == "Link"] + re.findall(r'<a\b[^>]*\bhref="([^"]+)"', raw)
    pictures = [c[2][0] for t, c in elements if t == "Image"]
    warnings += [f"picture {c[2][0]} has no alt text" for t, c in elements if t == "Image" and not c[1]]
    warnings += ["an <img> has no alt text" for tag in re.findall(r"<img\b[^>]*>", raw) if 'alt="' not in tag]
    pictures += re.findall(r'<(?:img|video|source)\b[^>]*\bsrc="([^"]+)"', raw)
    return anchors, links, pictures, cited, warnings


def check(folder):
    home_page, pages = site(), {}
    for path in sorted(folder.rglob("*.ipynb")):
        markdown, output, labels = page(path)
        pages[path] = (output, *read(markdown, labels))
    home = lambda path: path.parent.relative_to(folder)
    place = lambda path: os.path.normpath(path).replace(os.sep, "/")
    by_place = {place(home(path) / name): p for path, p in pages.items() for name in (path.name, p[0])}
    for path, (output, anchors, links, pictures, cited, warnings) in pages.items():
        yield from (f"{path.name}: {w}" for w in warnings)
        yield from (f"{path.name}: cross reference @{c} has no target" for c in sorted(cited - anchors))
        for target in pictures:
            if not re.match(r"https?:|data:|attachment:", target) and not (path.parent / target).exists():
                yield f"{path.name}: no picture {target}"
        for link in links:
            target, _, anchor = link.removeprefix(home_page).partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            target = target and place(target if link.startswith(home_page) else home(path) / target)
            there = by_place.get(target) if target else pages[path]
            if there is None and not (ROOT / "nbs" / target).exists():
                yield f"{path.name}: link to {target}, which does not exist"
            elif there is not None and anchor and anchor not in there[1]:
                yield f"{path.name}: link to {link}, which has no such heading"
    sidebar = (ROOT / "nbs" / "sidebar.yml").read_text()
    shown = re.findall(r"- (\S+\.(?:ipynb|qmd))", sidebar)
    yield from (f"the sidebar shows {name}, which does not exist" for name in shown
                if not (ROOT / "nbs" / name).exists())
    notebooks = {place(p.relative_to(ROOT / "nbs")) for p in (ROOT / "nbs").rglob("*.ipynb")
                 if ".ipynb_checkpoints" not in p.parts}
    yield from (f"the sidebar does not show {name}" for name in sorted(notebooks - set(shown)))


def main():
    folder = build()
    problems = list(check(folder))
    print("\n".join(problems)
          or f"{len(list(folder.rglob('*.ipynb')))} pages: links, pictures, references and formulas are sound")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
