"""Who a person is and how he or she looks: every number that a picture of somebody needs, drawn at random or asked for."""
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import VasaError
from .head import ORIGINS, SHAPES, Identity, random_identities

NECKLINES = ("crew", "v", "shirt", "turtleneck", "wide")
HATS = ("none", "beanie", "headscarf", "cap", "top hat")
HELD_OUT = ("dyed hair", "top hat", "sunglasses", "face paint")     # looks that are kept for measuring
PATTERNS = ("plain", "stripes", "checks", "knit")
LOOKS = (
    "melanin", "redness", "freckles", "moles", "stubble", "lipstick", "eye_shadow", "gloss", "pores",
    "iris_r", "iris_g", "iris_b", "pupil",
    "hair_style", "hair_r", "hair_g", "hair_b", "grey", "hair_volume", "hair_length", "curl", "parting",
    "brow_thickness", "brow_density", "brow_height", "beard", "beard_shape",
    "neckline", "pattern", "cloth_r", "cloth_g", "cloth_b", "trim_r", "trim_g", "trim_b", "pattern_scale",
    "face_paint", "earrings", "glasses", "roundness", "frame_r", "frame_g", "frame_b",
    "hat", "hat_r", "hat_g", "hat_b",
)
LOOK = {name: i for i, name in enumerate(LOOKS)}


@dataclass(frozen=True)
class Style:
    "How hair grows: lengths in decimetres, places of the head at rest in decimetres, shares from 0 to 1."
    length: float
    lift: float = 0.1           # how steeply it leaves the scalp; below 0.3 it lies on it, at 1 it is a cloud
    comb: tuple = (0.0, -0.3, -0.3)
    part: float = 0.0           # how much it falls to both sides of a parting
    fall: float = 0.25          # gravity
    curl: float = 0.0           # radius of its curls
    side: float = 1.0           # length at the sides, as a share
    fringe: float = 0.0         # how much of the front falls over the forehead
    recede: float = 0.0
    body: float = 1.0           # how thick it lies
    loose: float = 0.2
    cut: float = 0.0            # the height at which hanging hair ends
    knot: tuple = ()            # where it is tied
    tail: float = 0.0           # what hangs on the knot; 0: a bun


STYLES = {
    "bald": Style(0.0), "buzz": Style(0.05, 0.5), "short": Style(0.26, 0.30, (0.25, 0.0, 0.5), fall=0.08, side=0.5, loose=0.3),
    "side parting": Style(0.50, 0.32, (0.0, -0.1, -0.15), part=1.0, fall=0.10, side=0.35),
    "quiff": Style(0.42, 0.62, (0.0, 0.3, -0.8), fall=0.04, side=0.3, loose=0.25),
    "fringe": Style(1.0, 0.1, (0.0, -0.3, 0.0), part=0.6, fall=0.25, fringe=1.0, cut=6.75),
    "bob": Style(1.5, 0.12, (0.0, -0.3, -0.2), part=0.9, fall=0.3, cut=6.55), "long": Style(2.5, 0.12, part=0.9, fall=0.3, cut=5.7),
    "wavy": Style(2.0, 0.14, part=0.9, fall=0.3, curl=0.035, body=1.4, cut=6.0),
    "curly": Style(1.5, 0.2, (0.0, -0.1, -0.2), part=0.7, fall=0.25, curl=0.06, body=1.9, loose=0.25, cut=6.5),
    "afro": Style(0.52, 1.0, (0.0, 0.0, 0.0), fall=0.0, curl=0.001, side=0.85),
    "tied back": Style(1.5, 0.08, fall=0.0, body=0.3, knot=(0.0, 7.5, -0.58), tail=1.3),
    "bun": Style(1.5, 0.08, fall=0.0, body=0.3, knot=(0.0, 8.52, -0.02)),
    "braids": Style(1.5, 0.08, fall=0.0, body=0.4, knot=(0.82, 6.75, 0.15), tail=1.25),
    "receding": Style(0.20, 0.35, (0.0, 0.0, -0.5), fall=0.1, side=0.7, recede=1.0),
}
HAIR_STYLES = tuple(STYLES)


@dataclass
class People:
    "B people: `identity`, `look` (B, L) named by `LOOKS`, and `seed` (B,) int64 of what is random in skin and hair."
    identity: Identity
    look: Tensor
    seed: Tensor

    def __len__(self) -> int: return len(self.look)

    def __getitem__(self, index):
        "The people at `index` (int, slice, mask or index tensor), always as `People`."
        if isinstance(index, int): index = [index]
        return People(self.identity[index], self.look[index], self.seed[index])

    def to(self, device): return People(self.identity.to(device), self.look.to(device), self.seed.to(device))

    def get(self, name: str) -> Tensor: return self.look[:, LOOK[name]]

    def rgb(self, name: str) -> Tensor: return self.look[:, LOOK[name + "_r"]:LOOK[name + "_r"] + 3]

    @staticmethod
    def cat(people):
        "The people of a list of `People`, in one."
        return People(Identity(torch.cat([p.identity.macro for p in people]), torch.cat([p.identity.shape for p in people])),
                      torch.cat([p.look for p in people]), torch.cat([p.seed for p in people]))

    def flat(self) -> Tensor:
        "All numbers of each person in one row (B, A), for files."
        return torch.cat([self.identity.macro, self.identity.shape, self.look, self.seed[:, None].to(self.look)], 1)

    @staticmethod
    def unflat(rows: Tensor) -> "People":
        "The people of rows that `flat` made."
        macro, shape, look, seed = rows.split([7, len(SHAPES), len(LOOKS), 1], 1)
        return People(Identity(macro, shape), look, seed[:, 0].round().long())


def styled(people: People, name: str) -> Tensor:
    "A field of each person's `Style`, (B, 1) or (B, 1, 3)."
    styles = [getattr(STYLES[HAIR_STYLES[int(i)]], name) or 0.0 for i in people.get("hair_style")]
    rows = [s if isinstance(s, tuple) else ((s,) * 3 if name in ("comb", "knot") else s) for s in styles]
    return torch.tensor(rows, device=people.look.device, dtype=torch.float32)[:, None]


def among(colours: list, n: int, generator: torch.Generator, jitter: float = 0.03) -> Tensor:
    "n colours (n, 3), each near a random one of a list of RGB triples."
    table = torch.tensor(colours)
    chosen = table[torch.randint(len(table), (n,), generator=generator)]
    return (chosen + jitter * torch.randn(n, 3, generator=generator)).clamp(0.01, 0.99)


def pick(weights: dict, names: tuple, n: int, generator: torch.Generator) -> Tensor:
    "n random indices into `names`, each name as often as `weights` says (1 where it says nothing)."
    return torch.multinomial(torch.tensor([float(weights.get(x, 1)) for x in names]), n, True, generator=generator).float()


DARK_HAIR = [(0.07, 0.06, 0.055), (0.10, 0.075, 0.06), (0.14, 0.09, 0.065)]
BROWN_HAIR = [(0.20, 0.13, 0.085), (0.28, 0.18, 0.11), (0.36, 0.24, 0.15)]
FAIR_HAIR = [(0.50, 0.36, 0.19), (0.62, 0.47, 0.27), (0.42, 0.17, 0.07), (0.72, 0.60, 0.40)]
DYES = [(0.20, 0.35, 0.75), (0.85, 0.35, 0.60), (0.25, 0.60, 0.40), (0.50, 0.25, 0.65)]
CLOTHES = [(0.08, 0.09, 0.12), (0.85, 0.85, 0.83), (0.12, 0.17, 0.30), (0.45, 0.10, 0.12), (0.20, 0.30, 0.22), (0.55, 0.55, 0.56),
           (0.75, 0.62, 0.45), (0.30, 0.42, 0.58), (0.70, 0.45, 0.50), (0.05, 0.05, 0.05), (0.80, 0.70, 0.25), (0.35, 0.25, 0.45)]


def random_people(n: int, generator: torch.Generator | None = None, plain: bool = False, held_out: bool = False) -> People:
    """Draw n people on the CPU, the same for the same state of `generator`.

    plain: without glasses, hats, make-up, beards; held_out: each with one of HELD_OUT, which nobody else has."""
    generator = generator or torch.Generator().manual_seed(int(torch.randint(2 ** 31, ())))
    rand = lambda: torch.rand(n, generator=generator)
    identity = random_identities(n, generator)
    male, old, origin = identity.macro[:, 3] > 0.5, identity.macro[:, 4], identity.macro[:, :3]
    chance = lambda p: (rand() < p).float()
    melanin = ((origin * torch.tensor([0.78, 0.30, 0.16])).sum(1) + 0.16 * torch.randn(n, generator=generator)).clamp(0.02, 1)
    fair = (rand() < 0.55 * origin[:, 2])[:, None]
    hair = torch.where(fair, among(FAIR_HAIR, n, generator, 0.02), among(DARK_HAIR + BROWN_HAIR, n, generator, 0.01))
    dark = (origin[:, 2] < 0.5)[:, None] & (rand() < 0.9)[:, None]
    hair = torch.where(dark, among(DARK_HAIR, n, generator, 0.008), hair)
    grey = ((old - 0.45) * 2 * rand() * 1.4).clamp(0, 0.9)
    light_eyes = (rand() < 0.6 * origin[:, 2])[:, None]
    iris = torch.where(light_eyes, among([(0.30, 0.45, 0.60), (0.35, 0.45, 0.30), (0.42, 0.50, 0.52)], n, generator, 0.04),
                       among([(0.20, 0.10, 0.04), (0.30, 0.16, 0.06), (0.12, 0.06, 0.03)], n, generator, 0.02))
    men = pick({"bald": 1.2, "buzz": 2, "short": 3, "side parting": 3, "quiff": 2, "fringe": 1, "bob": 0.2, "long": 0.4,
                "curly": 1.3, "afro": 0.5, "tied back": 0.25, "bun": 0.1, "braids": 0, "wavy": 0.3, "receding": 1.5}, HAIR_STYLES, n, generator)
    women = pick({"bald": 0.05, "buzz": 0.2, "short": 0.7, "side parting": 0.7, "quiff": 0.2, "fringe": 2, "bob": 3,
                  "long": 4, "curly": 2, "afro": 0.8, "tied back": 2, "bun": 1.5, "braids": 0.8, "wavy": 3, "receding": 0}, HAIR_STYLES, n, generator)
    curly = origin[:, 0] * (0.4 + 0.6 * rand())
    beard = male * chance(0.38) * (0.3 + 0.7 * rand())
    worn = lambda p: chance(0.0 if plain else p)
    hat = pick({"none": 30, "beanie": 1.5, "headscarf": 0, "cap": 1.5, "top hat": 0}, HATS, n, generator)
    hat = torch.where(~male & (rand() < 0.08), HATS.index("headscarf"), hat) * (0 if plain else 1)
    columns = {
        "melanin": melanin, "redness": rand(), "freckles": worn(0.22) * rand() * (melanin < 0.4), "moles": rand(),
        "stubble": male * rand() * worn(0.7), "lipstick": ~male * worn(0.45) * rand() ** 1.5, "eye_shadow": ~male * worn(0.4) * rand(),
        "gloss": rand(), "pores": 0.3 + 0.7 * rand(), "pupil": rand(),
        "hair_style": torch.where(male, men, women), "grey": grey, "hair_volume": rand(), "hair_length": rand(),
        "curl": torch.maximum(curly, rand() ** 3), "parting": rand() * 2 - 1,
        "brow_thickness": (0.35 + 0.25 * male + 0.25 * torch.randn(n, generator=generator)).clamp(0.05, 1),
        "brow_density": 0.45 + 0.55 * rand(), "brow_height": torch.randn(n, generator=generator).clamp(-1.5, 1.5),
        "beard": beard * (0 if plain else 1), "beard_shape": rand(),
        "neckline": pick({"wide": 0.7}, NECKLINES, n, generator), "pattern": pick({"plain": 4}, PATTERNS, n, generator),
        "pattern_scale": rand(), "face_paint": 0 * old, "earrings": torch.where(male, chance(0.04), worn(0.4)), "glasses": worn(0.20), "roundness": rand(), "hat": hat,
    }
    if held_out:
        which = pick({}, HELD_OUT, n, generator)
        wears = lambda name: which == HELD_OUT.index(name)
        dyed = among(DYES, n, generator)
        hair = torch.where(wears("dyed hair")[:, None], dyed, hair)
        columns["grey"] = grey * ~wears("dyed hair")
        columns["hair_style"] = torch.where(wears("dyed hair"), columns["hair_style"].clamp(min=2), columns["hair_style"])
        columns["hat"] = torch.where(wears("top hat"), HATS.index("top hat"), torch.where(wears("dyed hair"), 0, hat))
        columns["face_paint"] = wears("face paint")
        columns["glasses"] = torch.where(wears("sunglasses"), 2.0, columns["glasses"])
    colours = {"iris": iris, "hair": hair, "cloth": among(CLOTHES, n, generator), "trim": among(CLOTHES, n, generator),
               "frame": among([(0.03, 0.03, 0.03), (0.20, 0.11, 0.06), (0.55, 0.50, 0.42), (0.10, 0.12, 0.25)], n, generator, 0.02),
               "hat": among(CLOTHES, n, generator)}
    columns |= {f"{name}_{c}": value[:, i] for name, value in colours.items() for i, c in enumerate("rgb")}
    look = torch.stack([columns[name].float() for name in LOOKS], 1)
    return People(identity, look, torch.randint(2 ** 23, (n,), generator=generator))


def person(seed: int, age: float | None = None, sex: str | None = None, origin: str | None = None,
           look: str | None = None) -> People:
    """The person of a seed, or one who differs from that in what is asked for.

    age: 18 to 90 years; sex: female or male; origin: one of ORIGINS; look: a hair style of HAIR_STYLES."""
    accepted = {"sex": ("female", "male"), "origin": ORIGINS, "look": HAIR_STYLES}
    for name, value in (("sex", sex), ("origin", origin), ("look", look)):
        if value is not None and value not in accepted[name]:
            raise VasaError(f"{name} is {value!r}; accepted are {', '.join(accepted[name])}")
    if age is not None and not 18 <= age <= 90: raise VasaError(f"age is {age}; accepted is 18 to 90 years")
    for attempt in range(4000):                                     # of the people of this seed, the first one that fits
        one = random_people(1, torch.Generator().manual_seed(seed + 1_000_003 * attempt))
        macro = one.identity.macro[0]
        if sex is not None and (macro[3] > 0.5) != (sex == "male"): continue
        if origin is not None and macro[:3].argmax() != ORIGINS.index(origin): continue
        break
    if age is not None: one.identity.macro[:, 4] = (age - 18) / 72
    if look is not None: one.look[:, LOOK["hair_style"]] = HAIR_STYLES.index(look)
    if look is not None: one.look[:, LOOK["hat"]] = 0
    return one
