"""Draw the pipeline of the course, once for each part with its box lit: nbs/pipeline/PART.svg.

    python tools/pipeline.py [--check]

--check writes nothing; exit code 1 if a file is not what would be drawn.
"""
import argparse
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "nbs" / "pipeline"
WIDTH, HEIGHT, BOX = 760, 216, (104, 38)

BOXES = {  # name: (part that lights it, title, line below, x and y of the middle)
    "portrait": ("media", "portrait", "", (62, 40)),
    "encode": ("face", "face: encode", "volume, identity", (212, 40)),
    "decode": ("face", "face: decode", "copy and paint", (556, 40)),
    "video": ("media", "video", "", (704, 40)),
    "speech": ("media", "speech", "", (62, 112)),
    "hearing": ("hearing", "hearing", "sound to features", (212, 112)),
    "motion": ("motion", "motion", "diffusion", (384, 112)),
    "talking": ("talking", "talking", "windows, controls", (556, 112)),
    "world": ("world", "world", "people and voices, with the truth: what the others learn from", (62, 186)),
    "footage": ("footage", "footage", "films to clips", (384, 186)),
    "measure": ("measure", "measure", "how good is it?", (556, 186)),
    "speed": ("speed", "speed", "how fast is it?", (704, 186)),
    "trust": ("trust", "trust", "marked, signed", (704, 112)),
}
WIDE = {"world": 310}
ARROWS = [("portrait", "encode"), ("encode", "decode"), ("decode", "video"), ("speech", "hearing"),
          ("hearing", "motion"), ("motion", "talking"), ("talking", "decode"), ("trust", "video")]
PARTS = sorted({part for part, *_ in BOXES.values()} | {"all"})
LIT, PLAIN, LINE, TEXT = "#ffd27d", "#f3f4f6", "#6b7280", "#1f2937"


def box(name, lit):
    part, title, below, (x, y) = BOXES[name]
    width, height = WIDE.get(name, BOX[0]), BOX[1]
    lines = [f'<rect x="{x - BOX[0] / 2:g}" y="{y - height / 2:g}" width="{width}" height="{height}" rx="6" '
             f'fill="{LIT if part == lit else PLAIN}" stroke="{LINE}"/>']
    middle = x - BOX[0] / 2 + width / 2
    for text, dy, size, weight in ((title, -2 if below else 4, 13, "bold"), (below, 12, 10, "normal")):
        if text:
            lines.append(f'<text x="{middle:g}" y="{y + dy}" font-size="{size}" font-weight="{weight}">{text}</text>')
    return lines


def arrow(start, end):
    (x1, y1), (x2, y2) = BOXES[start][3], BOXES[end][3]
    if y1 == y2: x1, x2 = x1 + BOX[0] / 2, x2 - BOX[0] / 2 - 7
    else: y1, y2 = y1 - BOX[1] / 2, y2 + BOX[1] / 2 + 7
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{LINE}" marker-end="url(#tip)"/>'


def pipeline(lit):
    "The SVG with the boxes of one part lit; all: none."
    x, y = BOXES["motion"][3]
    wishes = [f'<text x="{x}" y="{y - 38}" font-size="10">gaze, distance, emotion</text>',
              f'<line x1="{x}" y1="{y - 34}" x2="{x}" y2="{y - 26}" stroke="{LINE}" marker-end="url(#tip)"/>']
    shown = "the whole pipeline" if lit == "all" else f"the pipeline, with {lit} lit"
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="sans-serif" text-anchor="middle" fill="{TEXT}">',
        f"<title>{shown}</title>",
        f'<defs><marker id="tip" markerWidth="7" markerHeight="7" refX="0" refY="3.5" orient="auto">'
        f'<path d="M0,0 L7,3.5 L0,7 z" fill="{LINE}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *(arrow(*ends) for ends in ARROWS), *wishes, *(line for name in BOXES for line in box(name, lit)), "</svg>\n"])


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check, stale = parser.parse_args(args).check, []
    FOLDER.mkdir(exist_ok=True)
    for part in PARTS:
        path = FOLDER / f"{part}.svg"
        if check and (not path.is_file() or path.read_text() != pipeline(part)): stale.append(path.name)
        if not check: path.write_text(pipeline(part))
    if stale: print(f"not what tools/pipeline.py draws: {', '.join(stale)}")
    return len(stale) > 0


if __name__ == "__main__":
    sys.exit(main())
