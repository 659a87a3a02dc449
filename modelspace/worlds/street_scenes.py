"""Parameters of the rendered streets: houses, kerbs, sky, objects and camera.

Sampled like the rooms and yards (`modelspace.worlds.room_scenes`), with keys of the generator of their own, so that
street k shares no draw with room k or yard k of the same seed. World frame: metres, y up, the road at y = 0 along z,
centred in x; pavements on both sides are `kerb` metres higher, and rows of houses stand behind them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from modelspace.worlds.room_scenes import (
    BOX,
    BRICKS,
    CHECKER,
    CONCRETE,
    FRUSTUM,
    PLAIN,
    SPHERE,
    STRIPES,
    TILES,
    Coat,
    Color,
    Draw,
    Part,
    Primitive,
    Scene,
    check_range,
)
from modelspace.worlds.yard_scenes import (
    ASHLAR,
    ASPHALT,
    BARK,
    COBBLES,
    GRASS,
    LEAVES,
    MARBLE,
    METAL,
    SCALES,
    STUCCO,
    TIMBER,
    WATER,
    Item,
    Material,
    Sky,
)

#: To be raised when the same (seed, index, size) gives another image than before.
STREETS_VERSION = 1

#: Classes of the main object, in label order.
OBJECTS = ("car", "truck", "person", "tree", "lamp", "bench", "kiosk", "stall")

#: Surfaces of a street that belong to no house and no object: the faces of the kerbs at negative and positive x, the
#: road, the sky, and the pavements. Numbers of the road and the sky are those of a room's floor and ceiling.
KERB_N, KERB_P, ROAD, SKY, PAVEMENT_N, PAVEMENT_P = range(6)

#: Faces of a house; the roof has one slope on each side of its ridge, a flat roof is the second.
FACE_XN, FACE_XP, ROOF_N, ROOF_P, FACE_ZN, FACE_ZP = range(6)

#: Radius of the sky, a sphere about the eye, metres. Nothing farther is visible.
SKY_DISTANCE = 120.0

_STREAM = 0x73747265657473  # added to the seed ("streets")


@dataclass(frozen=True)
class House:
    """A house with a front of windows in rows, one door, and possibly a sign between the lowest two rows.

    Attributes:
        center: (x, z) metres.
        half: (x, z) half extents, metres.
        eaves: height of the walls, metres.
        rise: of the roof's ridge above the eaves, metres; 0 for a flat roof.
        ridge: axis of the ridge, 0 (x) or 2 (z).
        front: the face with door and windows, one of `FACE_XN`, `FACE_XP`, `FACE_ZN`, `FACE_ZP`.
        wall: coat of the walls.
        roof: coat of the roof.
        trim: colour of frames and cornice.
        paint: colour of door, sign and shop front.
        storey: height of a row of windows, metres; the ground floor's windows begin at the pavement.
        bay: width of a column of windows, metres.
        window: (width, height) as shares of bay and storey.
        hall: whether it has a gate and one row of windows under the eaves, as a factory has.
        shop: whether the ground floor is one long shop window.
        sign: whether there is a sign.
        door: number of the door's bay.
        salt: of the windows' shades.
    """

    center: tuple[float, float]
    half: tuple[float, float]
    eaves: float
    rise: float
    ridge: int
    front: int
    wall: Coat
    roof: Coat
    trim: Color
    paint: Color
    storey: float
    bay: float
    window: tuple[float, float]
    hall: bool
    shop: bool
    sign: bool
    door: int
    salt: int

    @property
    def length(self) -> float:
        """Of the front, metres."""
        return 2 * (self.half[1] if self.front in (FACE_XN, FACE_XP) else self.half[0])

    @property
    def planes(self) -> tuple[tuple[int, tuple[float, float, float], float], ...]:
        """Face, outward normal n of any length, and offset d of each plane; inside is n . p < d."""
        (x, z), (a, b) = self.center, self.half
        walls = (
            (FACE_XN, (-1.0, 0.0, 0.0), a - x), (FACE_XP, (1.0, 0.0, 0.0), x + a),
            (FACE_ZN, (0.0, 0.0, -1.0), b - z), (FACE_ZP, (0.0, 0.0, 1.0), z + b),
        )  # fmt: skip
        if not self.rise:
            return (*walls, (ROOF_P, (0.0, 1.0, 0.0), self.eaves))
        slope = self.rise / (a if self.ridge == 2 else b)
        top, middle = self.eaves + self.rise, x if self.ridge == 2 else z

        def pitched(side: float) -> tuple[float, float, float]:
            return (side * slope, 1.0, 0.0) if self.ridge == 2 else (0.0, 1.0, side * slope)

        return (
            *walls, (ROOF_N, pitched(-1.0), top - slope * middle), (ROOF_P, pitched(1.0), top + slope * middle)
        )  # fmt: skip


@dataclass(frozen=True)
class Street(Scene):
    """One street with its camera. `lights` and `decals` are empty, `coats` are those of the six surfaces.

    `half` is the distance of the building lines from the centre, in x those of both rows, in z those of the houses
    that close the street; no house is nearer. `height` is that of the highest house.

    Attributes:
        road: half the width of the road, metres.
        kerb: height of the pavements above the road, metres.
        houses: those of the row at negative x, of the row at positive x, and those at negative and positive z.
        sky: including the sun, the only light.
        crossing: z of the middle of a zebra crossing, if there is one.
        lined: whether the road has a dashed line in its middle.
    """

    road: float
    kerb: float
    houses: tuple[House, ...]
    sky: Sky
    crossing: float | None
    lined: bool


@dataclass(frozen=True)
class Place:
    """The parameters of a class of streets. Ranges are (low, high), metres."""

    name: str
    road: tuple[float, float]
    pavement: tuple[float, float]
    kerb: tuple[float, float]
    reach: tuple[float, float]
    width: tuple[float, float]
    eaves: tuple[float, float]
    gap: tuple[float, float]
    setback: tuple[float, float]
    rise: tuple[float, float]
    gables: float  # share of houses with the gable in front
    walls: tuple[int, ...]
    wall_colors: tuple[Color, ...]
    roofs: tuple[int, ...]
    roof_colors: tuple[Color, ...]
    ground: int
    ground_color: Color
    paving: int
    paving_color: Color
    storey: tuple[float, float]
    bay: tuple[float, float]
    shops: float
    signs: float
    lines: float
    others: tuple[int, ...]  # classes of the objects besides the main one


#: Classes of streets, in label order.
PLACES = (
    Place("old_town", (1.7, 2.8), (1.1, 1.8), (0.06, 0.12), (12.0, 20.0), (4.2, 6.6), (5.0, 8.5), (0.0, 0.0),
          (0.0, 0.35), (1.8, 3.0), 0.7, (STUCCO, TIMBER, STUCCO),
          ((0.90, 0.72, 0.40), (0.82, 0.46, 0.34), (0.56, 0.66, 0.58), (0.92, 0.86, 0.74)), (SCALES,),
          ((0.62, 0.28, 0.18), (0.50, 0.24, 0.18)), COBBLES, (0.50, 0.45, 0.41), ASHLAR, (0.62, 0.57, 0.50),
          (2.5, 2.9), (1.5, 2.1), 0.25, 0.25, 0.0, (2, 2, 5, 7, 4)),
    Place("high_street", (3.0, 4.5), (2.2, 3.4), (0.10, 0.16), (18.0, 28.0), (7.0, 11.0), (7.5, 13.0), (0.0, 0.0),
          (0.0, 0.2), (0.0, 0.0), 0.0, (STUCCO, BRICKS, TILES, CONCRETE),
          ((0.78, 0.78, 0.80), (0.70, 0.42, 0.32), (0.86, 0.82, 0.72), (0.46, 0.52, 0.60)), (CONCRETE,),
          ((0.40, 0.40, 0.42),), ASPHALT, (0.24, 0.25, 0.27), TILES, (0.66, 0.64, 0.60),
          (3.2, 3.8), (1.8, 2.8), 0.95, 0.85, 0.9, (2, 2, 2, 0, 4, 6)),
    Place("suburb", (2.6, 3.6), (3.0, 5.0), (0.08, 0.14), (20.0, 28.0), (7.0, 10.0), (2.9, 4.6), (2.5, 5.5),
          (0.5, 3.0), (1.6, 2.8), 0.4, (PLAIN, BRICKS, PLAIN),
          ((0.92, 0.90, 0.84), (0.72, 0.82, 0.86), (0.92, 0.84, 0.66), (0.62, 0.36, 0.28)), (SCALES,),
          ((0.34, 0.33, 0.36), (0.54, 0.26, 0.20), (0.32, 0.40, 0.36)), ASPHALT, (0.34, 0.34, 0.35),
          GRASS, (0.36, 0.56, 0.20), (2.5, 2.9), (1.9, 2.6), 0.0, 0.0, 0.4, (0, 3, 3, 2, 0)),
    Place("works", (3.2, 4.8), (1.4, 2.4), (0.08, 0.18), (18.0, 28.0), (9.0, 15.0), (4.6, 8.0), (0.0, 3.5),
          (0.0, 1.5), (0.0, 0.0), 0.0, (METAL, BRICKS, CONCRETE),
          ((0.42, 0.52, 0.58), (0.56, 0.34, 0.27), (0.58, 0.58, 0.55), (0.74, 0.62, 0.34)), (METAL, CONCRETE),
          ((0.44, 0.46, 0.48),), CONCRETE, (0.46, 0.45, 0.43), CONCRETE, (0.40, 0.40, 0.40),
          (4.2, 5.0), (3.2, 4.6), 0.0, 0.4, 0.25, (1, 1, 0, 4, 2)),
    Place("avenue", (4.5, 6.5), (4.0, 6.0), (0.12, 0.18), (24.0, 34.0), (9.0, 14.0), (11.0, 17.0), (0.0, 0.0),
          (0.0, 0.3), (2.0, 3.2), 0.0, (ASHLAR, MARBLE, ASHLAR),
          ((0.84, 0.78, 0.66), (0.88, 0.86, 0.82), (0.78, 0.70, 0.60)), (METAL, SCALES),
          ((0.38, 0.44, 0.48), (0.30, 0.46, 0.42)), ASPHALT, (0.30, 0.30, 0.32), CHECKER, (0.78, 0.72, 0.62),
          (3.3, 3.9), (1.8, 2.4), 0.3, 0.1, 1.0, (3, 3, 3, 0, 2, 6, 5)),
    Place("canal", (3.0, 5.0), (3.0, 4.4), (0.5, 0.9), (18.0, 28.0), (4.6, 7.0), (6.5, 10.5), (0.0, 0.0),
          (0.0, 0.15), (1.6, 2.6), 0.8, (BRICKS, BRICKS, STUCCO),
          ((0.50, 0.24, 0.19), (0.36, 0.22, 0.20), (0.70, 0.66, 0.60), (0.34, 0.38, 0.42)), (SCALES,),
          ((0.30, 0.28, 0.30), (0.48, 0.24, 0.18)), WATER, (0.14, 0.26, 0.26), BRICKS, (0.52, 0.36, 0.30),
          (2.8, 3.3), (1.4, 1.9), 0.15, 0.1, 0.0, (3, 4, 2, 5, 2)),
)  # fmt: skip

PLACE_NAMES = tuple(place.name for place in PLACES)

#: Horizon, zenith, cloud, share of clouds (low, high), haze, sun, sine of its elevation (low, high).
_SKIES: tuple[tuple[Color, Color, Color, tuple[float, float], float, Color, tuple[float, float]], ...] = (
    ((0.80, 0.88, 0.94), (0.26, 0.48, 0.86), (1.0, 1.0, 1.0), (0.1, 0.5), 0.12, (1.35, 1.28, 1.15), (0.5, 0.9)),
    ((0.86, 0.86, 0.86), (0.66, 0.68, 0.72), (0.94, 0.94, 0.95), (0.7, 0.95), 0.5, (0.40, 0.40, 0.40), (0.5, 0.9)),
    ((0.98, 0.78, 0.62), (0.42, 0.50, 0.78), (1.0, 0.84, 0.76), (0.2, 0.6), 0.30, (1.45, 1.02, 0.62), (0.3, 0.5)),
    ((0.62, 0.72, 0.82), (0.10, 0.18, 0.42), (0.5, 0.55, 0.64), (0.2, 0.6), 0.20, (1.15, 1.12, 1.12), (0.4, 0.8)),
)


def _times(color: Color, factor: float) -> Color:
    return color[0] * factor, color[1] * factor, color[2] * factor


# ---- objects


def _car(draw: Draw) -> list[Part]:
    long, wide, half = draw.between(1.8, 2.2), draw.between(0.8, 0.92), draw.between(0.27, 0.34)
    back, cabin, roof = draw.between(-0.5, -0.1), draw.between(0.9, 1.25), draw.between(0.24, 0.3)
    low = 0.28
    glass, top = low + 2 * half + roof, low + 2 * half + 2 * roof
    parts: list[Part] = [
        (BOX, (0, low + half, 0), (wide, half, long), 0),
        (BOX, (0, glass, back), (wide * 0.9, roof, cabin), 2),
        (BOX, (0, top, back), (wide * 0.88, 0.05, cabin * 0.88), 0),
    ]
    parts += [(SPHERE, (x * (wide - 0.12), 0.3, z * long * 0.62), (0.32, 0, 0), 1) for x in (-1, 1) for z in (-1, 1)]
    return [*parts, (BOX, (0, low + half * 1.2, long), (wide * 0.8, 0.07, 0.03), 3)]


def _truck(draw: Draw) -> list[Part]:
    wide, cargo, long = draw.between(0.95, 1.1), draw.between(0.8, 1.1), draw.between(1.5, 2.0)
    cab, low = draw.between(0.75, 0.95), 0.55
    front = long + 0.62
    parts: list[Part] = [
        (BOX, (0, low + cargo, -0.1), (wide, cargo, long), 3),
        (BOX, (0, low + cab, front), (wide * 0.94, cab, 0.5), 0),
        (BOX, (0, low + 1.4 * cab, front + 0.5), (wide * 0.8, 0.35 * cab, 0.03), 2),
    ]
    places = (front - 0.1, -0.2 * long, -0.7 * long)
    return parts + [(SPHERE, (x * (wide - 0.12), 0.4, z), (0.4, 0, 0), 1) for x in (-1, 1) for z in places]


def _person(draw: Draw) -> list[Part]:
    scale, stride = draw.between(0.9, 1.08), draw.between(0.0, 0.18)
    parts: list[Part] = [
        (FRUSTUM, (-0.1, 0.42, stride), (0.075, 0.42, 0.1), 1),
        (FRUSTUM, (0.1, 0.42, -stride), (0.075, 0.42, 0.1), 1),
        (FRUSTUM, (0, 1.13, 0), (0.19, 0.32, 0.22), 0),
        (FRUSTUM, (-0.27, 1.12, 0), (0.05, 0.3, 0.07), 0),
        (FRUSTUM, (0.27, 1.12, 0), (0.05, 0.3, 0.07), 0),
        (SPHERE, (0, 1.6, 0), (0.14, 0, 0), 2),
    ]
    if draw.chance(0.4):
        parts.append((FRUSTUM, (0, 1.7, 0), (0.2, 0.04, 0.13), 3))
    elif draw.chance(0.5):
        parts.append((BOX, (0, 1.18, -0.24), (0.16, 0.22, 0.1), 3))
    return [(shape, (x * scale, y * scale, z * scale), (a * scale, b * scale, c * scale), m)
            for shape, (x, y, z), (a, b, c), m in parts]  # fmt: skip


def _tree(draw: Draw) -> list[Part]:
    trunk, thick = draw.between(0.8, 1.2), draw.between(0.09, 0.16)
    parts: list[Part] = [(FRUSTUM, (0, trunk, 0), (thick * 1.2, trunk, thick), 1)]
    if draw.chance(0.3):  # a poplar
        wide, half = draw.between(0.4, 0.6), draw.between(0.8, 1.1)
        parts.append((FRUSTUM, (0, 1.6 * trunk + half, 0), (wide * 0.6, half, wide), 0))
        return [*parts, (FRUSTUM, (0, 1.6 * trunk + 2 * half + 0.8, 0), (wide, 0.8, 0.05), 0)]
    ball = draw.between(0.8, 1.05)
    parts.append((SPHERE, (0, 2 * trunk + 0.6 * ball, 0), (ball, 0, 0), 0))
    for k in range(3):
        angle, up = draw.between(0, 1) + 2.1 * k, draw.between(0.3, 1.3)
        side = (0.6 * math.sin(angle), 2 * trunk + up * ball, 0.6 * math.cos(angle))
        parts.append((SPHERE, side, (draw.between(0.5, 0.75), 0, 0), 0))
    return parts


def _lamp(draw: Draw) -> list[Part]:
    half, arm = draw.between(0.7, 0.95), draw.between(0.5, 0.8)
    top = 4 * half
    parts: list[Part] = [
        (FRUSTUM, (0, 0.25, 0), (0.26, 0.25, 0.15), 0),
        (FRUSTUM, (0, half, 0), (0.11, half, 0.1), 0),
        (FRUSTUM, (0, 3 * half, 0), (0.1, half, 0.08), 0),
    ]
    if draw.chance(0.5):  # a lantern
        parts.append((FRUSTUM, (0, top + 0.32, 0), (0.2, 0.32, 0.38), 1))
        return [*parts, (FRUSTUM, (0, top + 0.76, 0), (0.46, 0.12, 0.06), 0)]
    sides = (1,) if draw.chance(0.6) else (-1, 1)
    for side in sides:
        parts.append((BOX, (side * arm / 2, top - 0.04, 0), (arm / 2, 0.06, 0.06), 0))
        parts.append((FRUSTUM, (side * arm, top - 0.12, 0), (0.36, 0.14, 0.18), 1))
    return parts


def _bench(draw: Draw) -> list[Part]:
    long, high = draw.between(0.75, 1.05), draw.between(0.2, 0.24)
    parts: list[Part] = [(BOX, (x * long * 0.8, high, 0), (0.05, high, 0.22), 1) for x in (-1, 1)]
    parts.append((BOX, (0, 2 * high + 0.04, 0), (long, 0.04, 0.26), 0))
    parts.append((BOX, (0, 2 * high + 0.36, -0.26), (long, 0.16, 0.04), 0))
    parts += [(BOX, (x * long * 0.8, 2 * high + 0.25, -0.27), (0.04, 0.25, 0.03), 1) for x in (-1, 1)]
    return parts


def _kiosk(draw: Draw) -> list[Part]:
    wide, half = draw.between(0.5, 0.75), draw.between(1.0, 1.3)
    parts: list[Part] = [
        (FRUSTUM, (0, 0.15, 0), (wide * 1.12, 0.15, wide * 1.08), 1),
        (FRUSTUM, (0, 0.3 + half, 0), (wide, half, wide), 0),
        (FRUSTUM, (0, 0.38 + 2 * half, 0), (wide * 1.2, 0.08, wide * 1.2), 1),
    ]
    top = 0.46 + 2 * half
    if draw.chance(0.5):
        return [*parts, (SPHERE, (0, top, 0), (wide * 0.85, 0, 0), 2)]
    return [*parts, (FRUSTUM, (0, top + 0.3, 0), (wide * 1.1, 0.3, 0.03), 2)]


def _stall(draw: Draw) -> list[Part]:
    wide, deep, high = draw.between(0.9, 1.3), draw.between(0.6, 0.8), draw.between(1.0, 1.15)
    parts: list[Part] = [
        (BOX, (x * (wide - 0.05), high, z * (deep - 0.05)), (0.035, high, 0.035), 1) for x in (-1, 1) for z in (-1, 1)
    ]
    parts.append((BOX, (0, 0.42, 0.1), (wide * 0.9, 0.42, deep * 0.7), 2))
    parts += [(SPHERE, (k * wide * 0.4, 0.93, 0.2), (0.17, 0, 0), 3) for k in (-1, 0, 1)]
    parts.append((BOX, (0, 2 * high + 0.05, 0), (wide * 1.1, 0.06, deep * 1.25), 0))
    return [*parts, (BOX, (0, 2 * high - 0.1, deep * 1.25), (wide * 1.1, 0.12, 0.03), 0)]


#: Parts of the objects, in the order of `OBJECTS`.
_SHAPES: tuple[Callable[[Draw], list[Part]], ...] = (
    _car, _truck, _person, _tree, _lamp, _bench, _kiosk, _stall
)  # fmt: skip


def _materials(kind: int, draw: Draw) -> tuple[Material, ...]:
    """Materials 0 to 3 of an object: body, frame, glass or head, cargo."""
    name = OBJECTS[kind]
    vivid, other = draw.vivid(), draw.vivid()
    dark: Material = ((0.10, 0.10, 0.11), (0.05, 0.05, 0.05), PLAIN, 0.3)
    plain: Material = (vivid, _times(vivid, 0.6), PLAIN, 0.5)
    if name in ("car", "truck"):
        gray = draw.between(0.15, 0.9)
        body: Material = ((gray, gray, gray), (gray, gray, gray), PLAIN, 1.0) if draw.chance(0.4) else plain
        cargo: Material = (draw.near((0.86, 0.86, 0.84), 0.1), other, STRIPES if draw.chance(0.4) else PLAIN, 0.8)
        return body, dark, ((0.12, 0.16, 0.20), (0.3, 0.36, 0.4), TILES, 3.0), cargo
    if name == "person":
        skin = draw.near(((0.80, 0.60, 0.48), (0.56, 0.38, 0.28), (0.34, 0.22, 0.16))[draw.below(3)], 0.05)
        legs = draw.near(((0.14, 0.18, 0.34), (0.12, 0.12, 0.13), (0.46, 0.40, 0.32))[draw.below(3)], 0.06)
        cloth: Material = (vivid, other, STRIPES if draw.chance(0.3) else PLAIN, 0.12)
        return cloth, (legs, legs, PLAIN, 0.3), (skin, skin, PLAIN, 0.3), (other, other, PLAIN, 0.3)
    if name == "tree":
        leaf = draw.near(((0.26, 0.46, 0.14), (0.16, 0.36, 0.16), (0.66, 0.46, 0.12))[draw.below(3)], 0.06)
        leaves: Material = (leaf, _times(leaf, 0.4), LEAVES, draw.between(0.1, 0.18))
        return leaves, ((0.34, 0.27, 0.21), (0.15, 0.12, 0.1), BARK, 0.12), leaves, leaves
    if name == "lamp":
        iron = draw.near(((0.10, 0.12, 0.11), (0.50, 0.52, 0.52), (0.12, 0.26, 0.20))[draw.below(3)], 0.03)
        return (iron, iron, PLAIN, 0.3), ((0.96, 0.93, 0.80), (1.0, 1.0, 0.9), PLAIN, 0.3), dark, dark
    if name == "bench":
        wood = draw.near((0.56, 0.36, 0.2), 0.1) if draw.chance(0.7) else vivid
        return (wood, _times(wood, 0.6), STRIPES, 0.05), dark, dark, dark
    if name == "kiosk":
        green: Material = (draw.near((0.14, 0.32, 0.24), 0.06), (0.1, 0.2, 0.16), METAL, 0.12)
        return (vivid, other, CHECKER, draw.between(0.5, 0.8)), green, green, green
    white: Material = ((0.94, 0.93, 0.9), vivid, STRIPES, 0.2)
    awning: Material = (vivid, (0.94, 0.93, 0.9), CHECKER, 0.36) if draw.chance(0.5) else white
    return awning, ((0.5, 0.36, 0.24), (0.3, 0.2, 0.14), BARK, 0.2), (
        (0.56, 0.42, 0.28), (0.3, 0.2, 0.14), STRIPES, 0.14), (other, other, PLAIN, 0.2)  # fmt: skip


# ---- houses


def _coat(texture: int, color: Color, draw: Draw) -> Coat:
    scale = {BRICKS: 0.4, ASHLAR: 0.7, METAL: 0.3, TILES: 0.9, MARBLE: 1.2, SCALES: 0.35, TIMBER: 1.0}.get(texture, 0.5)
    second = _times(color, 0.6)
    if texture == BRICKS:
        second = (0.72, 0.69, 0.64)
    elif texture == TIMBER:
        color, second = draw.near((0.92, 0.86, 0.74), 0.05), draw.near((0.28, 0.17, 0.11), 0.04)
    return Coat(texture, color, second, scale * draw.between(0.8, 1.25))


def _house(place: Place, center: tuple[float, float], half: tuple[float, float], front: int, draw: Draw) -> House:
    gable = draw.chance(place.gables)
    along = 2 if front in (FACE_XN, FACE_XP) else 0
    length, deep = (2 * half[1], half[0]) if along == 2 else (2 * half[0], half[1])
    bays = max(1, round(length / draw.between(*place.bay)))
    rise = min(draw.between(*place.rise), 1.1 * (length / 2 if gable else deep)) if place.rise[1] else 0.0
    wall = _coat(
        place.walls[draw.below(len(place.walls))],
        draw.near(place.wall_colors[draw.below(len(place.wall_colors))], 0.06),
        draw,
    )
    roof = _coat(
        place.roofs[draw.below(len(place.roofs))],
        draw.near(place.roof_colors[draw.below(len(place.roof_colors))], 0.05),
        draw,
    )
    storey = draw.between(*place.storey)
    return House(
        center=center, half=half, eaves=draw.between(*place.eaves), rise=rise, ridge=2 - along if gable else along,
        front=front, wall=wall, roof=roof, trim=draw.near((0.90, 0.88, 0.82), 0.1), paint=draw.vivid(),
        storey=storey, bay=length / bays, window=(draw.between(0.5, 0.75), draw.between(0.5, 0.65)),
        hall=place.name == "works", shop=draw.chance(place.shops), sign=draw.chance(place.signs), door=draw.below(bays),
        salt=draw.below(1000),
    )  # fmt: skip


def _row(place: Place, side: int, line: float, reach: float, draw: Draw) -> list[House]:
    """Houses from one end of the street to the other; `side` is -1 or 1, `line` the distance of the building line."""
    out, z = [], -reach
    while z < reach - 2.0:
        width = draw.between(*place.width)
        if reach - z - width < place.width[0]:
            width = reach - z
        deep = draw.between(3.0, 4.5)
        x = side * (line + draw.between(*place.setback) + deep)
        out.append(_house(place, (x, z + width / 2), (deep, width / 2), FACE_XN if side > 0 else FACE_XP, draw))
        z += width + draw.between(*place.gap)
    return out


def _houses(place: Place, half: tuple[float, float], draw: Draw) -> tuple[House, ...]:
    out = _row(place, -1, half[0], half[1], draw) + _row(place, 1, half[0], half[1], draw)
    for side in (-1, 1):
        deep = draw.between(3.0, 5.0)
        front = FACE_ZN if side > 0 else FACE_ZP
        out.append(_house(place, (0.0, side * (half[1] + deep)), (half[0] + 4.0, deep), front, draw))
    return tuple(out)


def _sky(draw: Draw) -> Sky:
    horizon, zenith, cloud, cover, haze, sun_color, low_high = _SKIES[draw.below(len(_SKIES))]
    rise, around = draw.between(*low_high), draw.between(-math.pi, math.pi)
    flat = math.sqrt(1 - rise * rise)
    return Sky(
        draw.near(horizon, 0.05), draw.near(zenith, 0.05), cloud, draw.between(*cover), haze * draw.between(0.6, 1.4),
        draw.between(0.0, 0.08), draw.near((0.36, 0.40, 0.44), 0.1),
        (flat * math.sin(around), rise, flat * math.cos(around)), sun_color,
    )  # fmt: skip


# ---- camera and objects


@dataclass(frozen=True)
class _Ground:
    """Where things stand: on the pavements beyond `road`, and on the road unless it is water."""

    place: Place
    half: tuple[float, float]
    road: float
    kerb: float

    def height(self, x: float) -> float:
        """Of the ground at x, metres."""
        return self.kerb if abs(x) > self.road else 0.0

    def allows_eye(self, x: float, z: float) -> bool:
        """Whether the camera may stand here."""
        inside = abs(x) < self.half[0] - 0.5 and abs(z) < self.half[1] - 0.8
        return inside and (self.place.ground != WATER or abs(x) > self.road + 0.3)

    def spot(self, kind: int, reach: float, draw: Draw) -> tuple[float, float, float]:
        """(x, z, yaw) of an object: vehicles at the kerb and along it, people anywhere, others on pavements."""
        side = 1 if draw.chance(0.5) else -1
        name, wet = OBJECTS[kind], self.place.ground == WATER
        z = draw.between(-1.0, 1.0) * (self.half[1] - 1.5 - reach)
        wide = self.half[0] - self.road
        yaw = 0.0 if side > 0 else math.pi
        if name in ("car", "truck"):
            x = self.road + 0.5 * wide if wet else max(0.0, self.road - draw.between(1.15, 1.5))
            return side * x, z, yaw + draw.between(-0.06, 0.06)
        if name == "person":
            x = self.road + draw.between(0.2, 0.8) * wide
            if not wet and draw.chance(0.3):
                x = draw.between(0.0, 1.0) * self.road
            return side * x, z, draw.between(-math.pi, math.pi)
        x = self.road + draw.between(0.2, 0.5) * wide
        turned = draw.between(-math.pi, math.pi) if name == "tree" else -side * math.pi / 2 + draw.between(-0.2, 0.2)
        return side * x, z, turned


@dataclass(frozen=True)
class _View:
    eye: tuple[float, float, float]
    yaw: float
    pitch: float
    fov: float
    main: tuple[float, float, float]  # x, z, yaw
    away: float


def _view(ground: _Ground, main: Item, draw: Draw) -> _View:
    """The main object's place, and a camera at eye height that looks at it."""
    fov = draw.between(math.radians(50), math.radians(84))
    radius = 0.5 * math.hypot(main.height, 2 * main.reach * 0.8)
    # Outside the parts' bounding spheres: rays are first tested against those.
    far = max(radius / math.tan(fov / 2 * draw.between(0.42, 0.85)), main.reach + main.bound + 0.2)
    for _ in range(80):
        x, z, turned = ground.spot(main.kind, main.reach, draw)
        # Views along the street are as frequent as all others together.
        heading = draw.between(-math.pi, math.pi)
        if draw.chance(0.5):
            heading = (0.0 if draw.chance(0.5) else math.pi) + draw.between(-0.4, 0.4)
        ex, ez = x - math.sin(heading) * far, z - math.cos(heading) * far
        if ground.allows_eye(ex, ez):
            break
    else:  # along the street, from the same side
        heading, ex = (0.0, x) if z > 0 else (math.pi, x)
        far = min(far, abs(z) + ground.half[1] - 1.0)
        ez = z - math.cos(heading) * far
    stature = draw.between(1.35, 1.85) if draw.chance(0.8) else draw.between(0.8, 2.6)
    eye = (ex, ground.height(ex) + stature, ez)
    middle = ground.height(x) + main.height / 2
    pitch = math.atan2(middle - eye[1], far) + draw.between(-0.05, 0.12) * fov
    return _View(eye, heading + draw.between(-0.14, 0.14) * fov, pitch, fov, (x, z, turned), far)


def _hides(view: _View, x: float, z: float, reach: float) -> bool:
    """Whether something at (x, z) stands between the eye and the main object."""
    mx, mz, _ = view.main
    ax, az = (mx - view.eye[0]) / view.away, (mz - view.eye[2]) / view.away
    along = (x - view.eye[0]) * ax + (z - view.eye[2]) * az
    aside = abs((x - view.eye[0]) * az - (z - view.eye[2]) * ax)
    return 0 < along < view.away and aside < 0.6 * reach + 0.5


def _objects(ground: _Ground, view: _View, main: Item, draw: Draw) -> tuple[list[Primitive], tuple[int, ...]]:
    """Primitives and classes of the main object and of up to seven others."""
    x, z, turned = view.main
    primitives = main.place((x, ground.height(x), z), turned, 1, _materials(main.kind, draw))
    classes = [main.kind]
    placed = [(x, z, main.reach)]
    for _ in range(2 + draw.below(6)):
        kind = ground.place.others[draw.below(len(ground.place.others))]
        item = Item.of(kind, _SHAPES[kind](draw), draw.between(0.92, 1.12))
        for _ in range(6):
            x, z, turned = ground.spot(kind, item.reach, draw)
            clear = all(math.hypot(x - px, z - pz) > item.reach + r + 0.1 for px, pz, r in placed)
            off = math.hypot(x - view.eye[0], z - view.eye[2])
            toward = math.cos(math.atan2(x - view.eye[0], z - view.eye[2]) - view.yaw) > 0.5
            if clear and toward and off > item.reach + item.bound + 0.3 and not _hides(view, x, z, item.reach):
                classes.append(kind)
                placed.append((x, z, item.reach))
                at = (x, ground.height(x), z)
                primitives += item.place(at, turned, len(classes), _materials(kind, draw))
                break
    return primitives, tuple(classes)


def _coats(place: Place, draw: Draw) -> tuple[Coat, ...]:
    road = Coat(place.ground, draw.near(place.ground_color, 0.05), (0.80, 0.80, 0.78), draw.between(0.22, 0.34))
    if place.ground == WATER:
        road = Coat(WATER, road.color, (0.46, 0.56, 0.56), 0.4)
    paving_color = draw.near(place.paving_color, 0.05)
    second = (0.56, 0.54, 0.24) if place.paving == GRASS else _times(paving_color, 0.7)
    paving = Coat(place.paving, paving_color, second, draw.between(0.3, 0.5))
    stone = Coat(ASHLAR, draw.near((0.62, 0.60, 0.57), 0.06), (0.4, 0.39, 0.37), 0.5)
    return stone, stone, road, road, paving, paving


def _street(seed: int, index: int) -> Street:
    stream = (seed + _STREAM) % 2**64
    draw = Draw(stream, index)
    kind = draw.below(len(PLACES))
    place = PLACES[kind]
    road = draw.between(*place.road)
    half = (road + draw.between(*place.pavement), draw.between(*place.reach))
    ground = _Ground(place, half, road, draw.between(*place.kerb))
    coats, houses, sky = _coats(place, draw), _houses(place, half, draw), _sky(draw)
    main_kind = draw.below(len(OBJECTS))
    main = Item.of(main_kind, _SHAPES[main_kind](draw))
    view = _view(ground, main, draw)
    primitives, classes = _objects(ground, view, main, draw)
    crosses = draw.chance(0.3 * place.lines)
    return Street(
        seed=stream, index=index, place=kind, half=half, height=max(house.eaves + house.rise for house in houses),
        eye=view.eye, yaw=view.yaw, pitch=view.pitch, roll=draw.between(-0.04, 0.04), fov=view.fov, coats=coats,
        decals=(), lights=(), ambient=draw.between(0.44, 0.64), primitives=tuple(primitives), classes=classes,
        noise=draw.between(0.005, 0.03), road=road, kerb=ground.kerb, houses=houses, sky=sky,
        crossing=draw.between(-0.7, 0.7) * half[1] if crosses else None, lined=draw.chance(place.lines),
    )  # fmt: skip


def sample_scenes(first: int, count: int, seed: int) -> list[Street]:
    """Streets first .. first + count - 1 of the world with this seed.

    Street k does not depend on `first` or `count`: 100 streets are the first 100 of 200.

    Args:
        first: index of the first street, 0 or more.
        count: number of streets, 0 or more.
        seed: 0 <= seed < 2**64; another seed is another set of streets.

    Raises:
        UsageError: an argument is out of range.
    """
    check_range(first, count, seed)
    return [_street(seed, index) for index in range(first, first + count)]
