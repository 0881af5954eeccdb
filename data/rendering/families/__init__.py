"""Families of rendered objects by name, with their shares of a library.

Foliage, flowers, wire and yarn together have more than half, because classical matting has the largest errors there.
"""

from collections.abc import Callable

import numpy as np

from data.rendering.families.feathers import feather, feathers
from data.rendering.families.flowers import flower, seed_head, thistle, umbel
from data.rendering.families.foliage import branch, conifer, fern, pot_plant, vine
from data.rendering.families.fur import fur, plush
from data.rendering.families.grass import bamboo, grass, plume
from data.rendering.families.hair import braid, hair
from data.rendering.families.lace import lace, web
from data.rendering.families.nets import basket, net, wire_mesh
from data.rendering.families.solids import loops, solid, turned
from data.rendering.families.yarn import ball_of_yarn, knit, rope, tassel
from data.rendering.model import Model

Family = Callable[[np.random.Generator], Model]

FAMILIES: dict[str, tuple[Family, float]] = {
    "fur": (fur, 0.10),
    "plush": (plush, 0.06),
    "hair": (hair, 0.12),
    "braid": (braid, 0.02),
    "grass": (grass, 0.04),
    "plume": (plume, 0.02),
    "bamboo": (bamboo, 0.02),
    "branch": (branch, 0.06),
    "fern": (fern, 0.03),
    "conifer": (conifer, 0.03),
    "vine": (vine, 0.03),
    "potplant": (pot_plant, 0.03),
    "flower": (flower, 0.07),
    "umbel": (umbel, 0.03),
    "thistle": (thistle, 0.03),
    "seedhead": (seed_head, 0.02),
    "yarnball": (ball_of_yarn, 0.03),
    "knit": (knit, 0.03),
    "tassel": (tassel, 0.04),
    "rope": (rope, 0.03),
    "net": (net, 0.03),
    "wire": (wire_mesh, 0.03),
    "basket": (basket, 0.03),
    "lace": (lace, 0.02),
    "web": (web, 0.01),
    "feather": (feather, 0.03),
    "feathers": (feathers, 0.02),
    "solid": (solid, 0.03),
    "turned": (turned, 0.03),
    "loops": (loops, 0.02),
}
