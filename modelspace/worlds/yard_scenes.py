"""Parameters of the rendered yards: geometry, materials, sky and camera.

Sampled like the rooms (`modelspace.worlds.room_scenes`), but with other keys of the generator, so that yard k and room
k of the same seed are independent. Same world frame: metres, y up, ground at y = 0, the yard centred in x and z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from modelspace.worlds.room_scenes import (
    BOX,
    BRICKS,
    CHECKER,
    CONCRETE,
    DOOR,
    FRUSTUM,
    PICTURE,
    PLAIN,
    SPHERE,
    WALL_XN,
    WALL_XP,
    WALL_ZN,
    WALL_ZP,
    WINDOW,
    Coat,
    Color,
    Decal,
    Draw,
    Part,
    Primitive,
    Scene,
    check_range,
)

#: To be raised when the same (seed, index, size) gives another image than before.
YARDS_VERSION = 1

#: Classes of the main object, in label order.
OBJECTS = ("tree", "tower", "column", "fountain", "gate", "dome", "steps", "tank")

#: Textures of the yards, in addition to those of the rooms; painted by `modelspace.worlds.yard_surfaces`.
ASHLAR, COBBLES, GRASS, LEAVES, METAL, STUCCO, SAND, ASPHALT, MARBLE, TIMBER, SCALES, BARK, WATER = range(20, 33)

#: Profiles of the top of a wall, computed by `modelspace.worlds.yards.wall_top`.
FLAT, CRENEL, RUIN, GABLE, ROUND = range(5)

#: Radius of the sky, a sphere about the eye, metres. Nothing farther is visible.
SKY_DISTANCE = 90.0

#: The walls in the order of `Yard.tops`.
WALLS = (WALL_XN, WALL_XP, WALL_ZN, WALL_ZP)

_STREAM = 0x7961726473 << 16  # added to the seed ("yards")


@dataclass(frozen=True)
class Top:
    """Upper edge of a wall: `base` metres high, varying by `rise` metres along elements of `period` metres."""

    kind: int
    base: float
    rise: float
    period: float
    salt: int


@dataclass(frozen=True)
class Sky:
    """Colours are radiances before exposure; `cover` is the share of clouds, `haze` the share lost over 100 metres."""

    horizon: Color
    zenith: Color
    cloud: Color
    cover: float
    haze: float
    hills: float
    hill_color: Color
    sun: tuple[float, float, float]  # unit direction towards it
    sun_color: Color


@dataclass(frozen=True)
class Yard(Scene):
    """One yard with its camera. `seed` is the key of its stream, `lights` is empty, `height` that of the highest wall.

    Attributes:
        tops: of the walls `WALLS`.
        sky: including the sun, the only light.
        field: the ground outside the walls.
        coping: colour of the walls' upper edge.
    """

    tops: tuple[Top, ...]
    sky: Sky
    field: Coat
    coping: Color


@dataclass(frozen=True)
class Place:
    """The parameters of a class of yards. Ranges are (low, high), metres."""

    name: str
    width: tuple[float, float]
    depth: tuple[float, float]
    height: tuple[float, float]
    tops: tuple[int, ...]
    wall_textures: tuple[int, ...]
    wall_colors: tuple[Color, ...]
    wall_scale: tuple[float, float]
    ground_textures: tuple[int, ...]
    ground_colors: tuple[Color, ...]
    ground_scale: tuple[float, float]
    field: Color
    windows: int
    doors: int
    banners: int


#: Classes of yards, in label order.
PLACES = (
    Place("courtyard", (11.0, 18.0), (11.0, 18.0), (3.2, 5.5), (FLAT, CRENEL), (ASHLAR,),
          ((0.80, 0.66, 0.46), (0.72, 0.62, 0.50), (0.62, 0.60, 0.58)), (0.45, 0.8),
          (COBBLES,), ((0.52, 0.48, 0.44), (0.44, 0.42, 0.46)), (0.22, 0.4), (0.42, 0.45, 0.24), 3, 3, 2),
    Place("street", (6.5, 9.5), (26.0, 40.0), (4.6, 8.0), (GABLE, GABLE, FLAT), (STUCCO, TIMBER, BRICKS),
          ((0.84, 0.50, 0.36), (0.90, 0.76, 0.44), (0.50, 0.62, 0.66), (0.86, 0.80, 0.70)), (0.45, 0.7),
          (COBBLES, ASPHALT), ((0.46, 0.43, 0.40), (0.34, 0.34, 0.36)), (0.2, 0.34), (0.45, 0.42, 0.34), 12, 5, 3),
    Place("garden", (11.0, 20.0), (11.0, 20.0), (1.7, 3.0), (ROUND, FLAT), (LEAVES,),
          ((0.20, 0.42, 0.13), (0.26, 0.40, 0.10), (0.13, 0.34, 0.20)), (0.14, 0.26),
          (GRASS, GRASS, SAND), ((0.32, 0.54, 0.16), (0.40, 0.52, 0.18)), (0.3, 0.6), (0.34, 0.50, 0.18), 0, 1, 0),
    Place("ruins", (12.0, 22.0), (12.0, 22.0), (2.4, 5.0), (RUIN,), (BRICKS, ASHLAR),
          ((0.66, 0.36, 0.26), (0.78, 0.68, 0.50)), (0.4, 0.7),
          (SAND, GRASS), ((0.80, 0.64, 0.40), (0.74, 0.60, 0.36)), (0.5, 0.9), (0.76, 0.62, 0.40), 2, 2, 0),
    Place("depot", (13.0, 24.0), (13.0, 24.0), (2.4, 4.2), (FLAT,), (METAL,),
          ((0.36, 0.48, 0.58), (0.68, 0.30, 0.22), (0.56, 0.58, 0.56), (0.30, 0.50, 0.40)), (0.18, 0.36),
          (ASPHALT, CONCRETE), ((0.30, 0.31, 0.33), (0.48, 0.48, 0.46)), (0.6, 1.1), (0.40, 0.38, 0.34), 2, 3, 3),
    Place("terrace", (10.0, 17.0), (10.0, 17.0), (0.8, 1.5), (CRENEL, FLAT), (MARBLE, STUCCO),
          ((0.92, 0.90, 0.86), (0.94, 0.84, 0.76)), (0.6, 1.0),
          (CHECKER, MARBLE), ((0.90, 0.88, 0.82), (0.84, 0.74, 0.66)), (0.6, 1.1), (0.20, 0.42, 0.56), 0, 0, 0),
)  # fmt: skip

PLACE_NAMES = tuple(place.name for place in PLACES)

#: Horizon, zenith, cloud, share of clouds (low, high), haze, sun, sine of its elevation (low, high).
_SKIES: tuple[tuple[Color, Color, Color, tuple[float, float], float, Color, tuple[float, float]], ...] = (
    ((0.74, 0.86, 0.96), (0.16, 0.36, 0.76), (1.0, 1.0, 1.0), (0.2, 0.55), 0.15, (1.30, 1.22, 1.05), (0.55, 0.9)),
    ((0.95, 0.82, 0.58), (0.36, 0.52, 0.74), (1.0, 0.92, 0.8), (0.1, 0.5), 0.35, (1.35, 1.08, 0.68), (0.32, 0.6)),
    ((0.98, 0.52, 0.28), (0.22, 0.20, 0.46), (0.9, 0.46, 0.44), (0.3, 0.6), 0.30, (1.40, 0.72, 0.36), (0.2, 0.4)),
    ((0.72, 0.74, 0.76), (0.56, 0.60, 0.66), (0.86, 0.87, 0.9), (0.6, 0.9), 0.28, (0.50, 0.50, 0.50), (0.5, 0.9)),
    ((0.50, 0.62, 0.64), (0.12, 0.20, 0.28), (0.3, 0.36, 0.4), (0.4, 0.8), 0.20, (1.30, 1.16, 0.90), (0.3, 0.6)),
)


def _times(color: Color, factor: float) -> Color:
    return color[0] * factor, color[1] * factor, color[2] * factor


def _legs(reach: float, height: float, thick: float) -> list[Part]:
    return [
        (BOX, (sx * reach, height / 2, sz * reach), (thick, height / 2, thick), 1) for sx in (-1, 1) for sz in (-1, 1)
    ]


def _parts(kind: int, draw: Draw) -> list[Part]:
    """Primitives of an object on the ground at the origin: shape, centre, size, material."""
    name, between = OBJECTS[kind], draw.between
    if name == "tree":
        trunk, thick = between(0.5, 0.9), between(0.1, 0.18)
        parts: list[Part] = [(FRUSTUM, (0, trunk, 0), (thick, trunk, thick * 0.7), 1)]
        if draw.chance(0.4):  # a conifer
            wide, step = between(0.7, 1.1), between(0.5, 0.7)
            for k in range(3):
                radius = wide * (1 - 0.27 * k)
                parts.append((FRUSTUM, (0, trunk + step * (1 + 1.1 * k), 0), (radius, step, 0.04), 0))
            return parts
        for k in range(4):
            ball, up = between(0.5, 0.8), 2 * trunk + between(0.0, 0.7)
            aside = 0.5 if k else 0.1
            parts.append((SPHERE, (between(-aside, aside), up + 0.3, between(-aside, aside)), (ball, 0, 0), 0))
        return parts
    if name == "tower":
        wide, half, roof = between(0.7, 1.1), between(1.1, 1.7), between(0.45, 0.8)
        return [
            (FRUSTUM, (0, half, 0), (wide, half, wide * 0.9), 0),
            (FRUSTUM, (0, 2 * half + 0.12, 0), (wide * 0.9, 0.12, wide * 1.15), 1),
            (FRUSTUM, (0, 2 * half + 0.24 + roof, 0), (wide * 1.2, roof, 0.03), 2),
        ]
    if name == "column":
        wide, half = between(0.2, 0.32), between(0.8, 1.4)
        parts = [
            (BOX, (0, 0.12, 0), (wide * 1.6, 0.12, wide * 1.6), 1),
            (FRUSTUM, (0, 0.24 + half, 0), (wide, half, wide * 0.82), 0),
        ]
        top = 0.24 + 2 * half
        parts.append((FRUSTUM, (0, top + 0.1, 0), (wide * 0.85, 0.1, wide * 1.4), 1))
        if draw.chance(0.7):
            parts.append((BOX, (0, top + 0.27, 0), (wide * 1.5, 0.07, wide * 1.5), 1))
        return parts
    if name == "fountain":
        wide, rim, stem = between(0.9, 1.3), between(0.2, 0.32), between(0.3, 0.5)
        return [
            (FRUSTUM, (0, rim, 0), (wide, rim, wide * 1.05), 0),
            (FRUSTUM, (0, 2 * rim + 0.01, 0), (wide * 0.88, 0.01, wide * 0.88), 3),
            (FRUSTUM, (0, 2 * rim + stem, 0), (0.16, stem, 0.1), 1),
            (FRUSTUM, (0, 2 * rim + 2 * stem + 0.1, 0), (0.12, 0.12, wide * 0.55), 0),
            (SPHERE, (0, 2 * rim + 2 * stem + 0.4, 0), (0.2, 0, 0), 1),
        ]
    if name == "gate":
        apart, thick, half = between(0.8, 1.2), between(0.2, 0.32), between(0.9, 1.25)
        parts = [(BOX, (side * apart, half, 0), (thick, half, thick), 0) for side in (-1, 1)]
        parts.append((BOX, (0, 2 * half + 0.2, 0), (apart + thick * 1.3, 0.2, thick * 1.2), 1))
        parts += [(SPHERE, (side * apart, 2 * half + 0.4 + thick, 0), (thick, 0, 0), 2) for side in (-1, 1)]
        return parts
    if name == "dome":
        wide, half = between(1.0, 1.4), between(0.3, 0.6)
        return [
            (FRUSTUM, (0, half, 0), (wide * 1.1, half, wide * 1.05), 0),
            (SPHERE, (0, 2 * half, 0), (wide, 0, 0), 2),
            (FRUSTUM, (0, 2 * half + wide + 0.2, 0), (0.12, 0.25, 0.02), 1),
        ]
    if name == "steps":
        wide, rise = between(1.1, 1.5), between(0.14, 0.24)
        level = [(BOX, (0, rise * (2 * k + 1), 0), (wide * (1 - 0.2 * k), rise, wide * (1 - 0.2 * k)), k % 2)
                 for k in range(4)]  # fmt: skip
        if draw.chance(0.5):
            tall = between(0.5, 0.9)
            level.append((BOX, (0, 8 * rise + tall, 0), (0.16, tall, 0.16), 0))
        return [*level]
    wide, half, leg = between(0.6, 0.9), between(0.5, 0.8), between(0.6, 1.2)
    parts = [*_legs(wide * 0.6, leg, 0.06), (FRUSTUM, (0, leg + half, 0), (wide, half, wide), 0)]
    if draw.chance(0.5):
        parts.append((SPHERE, (0, leg + 2 * half - wide * 0.25, 0), (wide * 0.97, 0, 0), 2))
    else:
        parts.append((FRUSTUM, (0, leg + 2 * half + 0.2, 0), (wide * 1.08, 0.2, 0.05), 2))
    return parts


Material = tuple[Color, Color, int, float]  # colour, second colour, texture, scale


def _materials(kind: int, draw: Draw) -> tuple[Material, ...]:
    """Materials 0 to 3 of an object: body, trim, roof, water."""
    name = OBJECTS[kind]
    warm = draw.near(((0.80, 0.68, 0.48), (0.66, 0.62, 0.58), (0.74, 0.44, 0.32))[draw.below(3)], 0.08)
    pale, vivid = draw.near((0.90, 0.87, 0.82), 0.06), draw.vivid()
    dark = _times(warm, 0.55)
    trim: Material = (pale, _times(pale, 0.6), PLAIN, 0.4)
    roof: Material = (vivid, _times(vivid, 0.6), SCALES, draw.between(0.16, 0.26))
    if name == "tree":
        leaf = draw.near(((0.20, 0.44, 0.12), (0.34, 0.46, 0.12), (0.62, 0.36, 0.10))[draw.below(3)], 0.07)
        body: Material = (leaf, _times(leaf, 0.45), LEAVES, draw.between(0.1, 0.16))
        trim = (draw.near((0.36, 0.25, 0.17), 0.06), (0.16, 0.11, 0.08), BARK, 0.12)
    elif name == "tank":
        body = (vivid, (0.42, 0.22, 0.12), METAL, draw.between(0.12, 0.3))
        trim = ((0.22, 0.22, 0.24), (0.1, 0.1, 0.1), PLAIN, 0.3)
        roof = (_times(vivid, 0.8), (0.42, 0.22, 0.12), METAL, 0.2)
    elif name == "column":
        body = ((pale, warm)[draw.below(2)], dark, MARBLE, draw.between(0.4, 0.8))
    elif name == "dome":
        gold = draw.chance(0.4)
        body = (warm, dark, (ASHLAR, STUCCO)[draw.below(2)], 0.4)
        roof = ((0.86, 0.66, 0.22), (0.5, 0.34, 0.1), METAL, 0.4) if gold else roof
    elif name == "gate":
        body = (vivid, vivid, PLAIN, 0.4) if draw.chance(0.3) else (warm, dark, (ASHLAR, BRICKS)[draw.below(2)], 0.4)
        roof = trim
    else:
        body = (warm, dark, (ASHLAR, BRICKS, MARBLE)[draw.below(3)], draw.between(0.3, 0.5))
        if name == "steps":
            trim = (_times(warm, 0.8), dark, body[2], body[3])
    water: Material = (draw.near((0.12, 0.40, 0.50), 0.06), (0.5, 0.72, 0.78), WATER, 0.3)
    return body, trim, roof, water


@dataclass(frozen=True)
class Item:
    """An object of several primitives, on the ground at the origin until it is placed.

    Attributes:
        kind: class of the object.
        parts: its primitives.
        reach: horizontal radius, metres.
        height: metres.
        bound: largest radius of a sphere about one of its parts, metres.
    """

    kind: int
    parts: list[Part]
    reach: float
    height: float
    bound: float

    @classmethod
    def of(cls, kind: int, parts: list[Part], scale: float = 1.0) -> Item:
        """Measure an object of these parts, scaled."""
        scaled: list[Part] = []
        reach = height = bound = 0.0
        for shape, (x, y, z), (a, b, c), material in parts:
            center, size = (x * scale, y * scale, z * scale), (a * scale, b * scale, c * scale)
            scaled.append((shape, center, size, material))
            wide = size[0] if shape == SPHERE else math.hypot(size[0], size[2])
            if shape == FRUSTUM:
                wide = max(size[0], size[2])
            reach = max(reach, math.hypot(center[0], center[2]) + wide)
            height = max(height, center[1] + (size[0] if shape == SPHERE else size[1]))
            bound = max(bound, Primitive(shape, center, size, 0, 0, (0, 0, 0), (0, 0, 0), 0, 1).bound)
        return cls(kind, scaled, reach, height, bound)

    def place(
        self, at: tuple[float, float, float], yaw: float, number: int, materials: tuple[Material, ...]
    ) -> list[Primitive]:
        """Its primitives with the origin at `at`, turned by `yaw`, as object `number` of a scene."""
        c, s = math.cos(yaw), math.sin(yaw)
        x, y, z = at
        out = []
        for shape, (px, py, pz), size, material in self.parts:
            color, second, texture, scale = materials[material]
            center = (x + c * px + s * pz, y + py, z - s * px + c * pz)
            out.append(Primitive(shape, center, size, yaw, number, color, second, texture, scale))
        return out


def _item(kind: int, draw: Draw, scale: float = 1.0) -> Item:
    return Item.of(kind, _parts(kind, draw), scale)


def _coats(place: Place, draw: Draw) -> tuple[Coat, ...]:
    ground_texture = place.ground_textures[draw.below(len(place.ground_textures))]
    ground = draw.near(place.ground_colors[draw.below(len(place.ground_colors))], 0.06)
    second = _times(ground, 0.5)
    if ground_texture == CHECKER:
        second = draw.near(((0.42, 0.24, 0.22), (0.24, 0.28, 0.32), (0.66, 0.52, 0.40))[draw.below(3)], 0.05)
    elif ground_texture == ASPHALT:
        second = (0.88, 0.80, 0.42)
    elif ground_texture == GRASS:
        second = draw.near((0.56, 0.54, 0.22), 0.06)
    below = Coat(ground_texture, ground, second, draw.between(*place.ground_scale))
    texture = place.wall_textures[draw.below(len(place.wall_textures))]

    def wall() -> Coat:
        color = draw.near(place.wall_colors[draw.below(len(place.wall_colors))], 0.07)
        other = _times(color, 0.55)
        wall_texture = texture
        if place.name == "street":  # every house front is different
            wall_texture = place.wall_textures[draw.below(len(place.wall_textures))]
        if wall_texture == TIMBER:
            color, other = draw.near((0.90, 0.84, 0.72), 0.06), draw.near((0.26, 0.16, 0.10), 0.04)
        elif wall_texture == BRICKS:
            other = (0.74, 0.70, 0.64)
        elif wall_texture == METAL:
            other = draw.near((0.44, 0.22, 0.12), 0.05)
        return Coat(wall_texture, color, other, draw.between(*place.wall_scale))

    first = wall()
    mixed = place.name in ("street", "depot")
    coats = {WALL_XN: first}
    for number in (WALL_XP, WALL_ZN, WALL_ZP):
        coats[number] = wall() if mixed else first
    return tuple(coats.get(k, below) for k in range(6))


def _tops(place: Place, draw: Draw) -> tuple[Top, ...]:
    height, kind = draw.between(*place.height), place.tops[draw.below(len(place.tops))]
    out = []
    for _ in WALLS:
        base = height * draw.between(0.9, 1.1)
        if place.name == "street":
            base = draw.between(*place.height)
            kind = place.tops[draw.below(len(place.tops))]
        rise = {FLAT: 0.0, CRENEL: 0.45, RUIN: 0.6, GABLE: 1.6, ROUND: 0.35}[kind] * draw.between(0.7, 1.3)
        if kind == CRENEL:
            rise = min(rise, 0.3 * base)
        period = {FLAT: 1.0, CRENEL: 1.1, RUIN: 2.6, GABLE: 5.0, ROUND: 1.8}[kind] * draw.between(0.8, 1.25)
        out.append(Top(kind, base, rise, period, draw.below(1000)))
    return tuple(out)


def _decals(place: Place, half: tuple[float, float], tops: tuple[Top, ...], draw: Draw) -> tuple[Decal, ...]:
    taken: dict[int, list[tuple[float, float, float, float]]] = {wall: [] for wall in WALLS}
    out = []
    trim = draw.vivid()
    for kind, count in ((DOOR, place.doors), (WINDOW, place.windows), (PICTURE, place.banners)):
        for _ in range(count):
            number = draw.below(4)
            if place.name == "street":
                number = draw.below(2)
            wall, limit = WALLS[number], tops[number].base
            length = 2 * (half[1] if wall in (WALL_XN, WALL_XP) else half[0])
            if kind == DOOR:
                wide, v0 = draw.between(1.3, 2.2), 0.0
                v1 = min(draw.between(2.2, 3.0), limit - 0.3)
                color = draw.near((0.40, 0.26, 0.16), 0.1) if draw.chance(0.6) else trim
            elif kind == WINDOW:
                wide, v0 = draw.between(0.8, 1.2), draw.between(0.9, 1.3)
                if limit > 4.5 and draw.chance(0.6):
                    v0 = draw.between(3.2, 3.5)
                v1 = min(v0 + draw.between(1.1, 1.6), limit - 0.3)
                color = draw.near((0.9, 0.88, 0.84), 0.05)
            else:
                wide, v0 = draw.between(0.9, 1.8), draw.between(1.0, 1.8)
                v1, color = min(v0 + draw.between(1.2, 2.0), limit - 0.15), draw.vivid()
            second = draw.vivid() if kind == PICTURE else trim
            for _ in range(4):
                u0 = draw.between(0.3, max(0.4, length - wide - 0.3))
                free = all(u0 > b + 0.25 or u0 + wide < a - 0.25 or v0 > d or v1 < c for a, b, c, d in taken[wall])
                if free and v1 - v0 > 0.7:
                    taken[wall].append((u0, u0 + wide, v0, v1))
                    out.append(Decal(wall, u0, v0, u0 + wide, v1, kind, color, second))
                    break
    return tuple(out)


def _sky(draw: Draw) -> Sky:
    horizon, zenith, cloud, cover, haze, sun_color, low_high = _SKIES[draw.below(len(_SKIES))]
    rise, around = draw.between(*low_high), draw.between(-math.pi, math.pi)
    flat = math.sqrt(1 - rise * rise)
    return Sky(
        draw.near(horizon, 0.05), draw.near(zenith, 0.05), cloud, draw.between(*cover), haze * draw.between(0.6, 1.4),
        draw.between(0.02, 0.16), draw.near((0.34, 0.42, 0.40), 0.12),
        (flat * math.sin(around), rise, flat * math.cos(around)), sun_color,
    )  # fmt: skip


def _camera_and_things(
    place: Place, half: tuple[float, float], draw: Draw
) -> tuple[tuple[float, float, float], tuple[float, float, float], float, list[Primitive], tuple[int, ...]]:
    main = _item(draw.below(len(OBJECTS)), draw)
    fov = draw.between(math.radians(48), math.radians(92))
    radius = 0.5 * math.hypot(main.height, 2 * main.reach * 0.8)
    # Outside the parts' bounding spheres: rays are first tested against those.
    far = max(radius / math.tan(fov / 2 * draw.between(0.42, 0.8)), main.reach + main.bound + 0.2)
    x = z = ex = ez = heading = 0.0
    for _ in range(60):
        x = draw.between(-0.8, 0.8) * max(0.0, half[0] - main.reach - 0.1)
        z = draw.between(-0.8, 0.8) * max(0.0, half[1] - main.reach - 0.1)
        heading = draw.between(-math.pi, math.pi)
        ex, ez = x - math.sin(heading) * far, z - math.cos(heading) * far
        if abs(ex) < half[0] - 0.4 and abs(ez) < half[1] - 0.4:
            break
    else:  # a narrow yard: look along its longer axis
        heading = 0.0 if half[1] > half[0] else math.pi / 2
        along = max(half)
        ex, ez = -math.sin(heading) * (along - 0.4), -math.cos(heading) * (along - 0.4)
        away = min(far, 2 * along - 0.8 - main.reach)
        x, z = ex + math.sin(heading) * away, ez + math.cos(heading) * away
    away = math.hypot(x - ex, z - ez)
    eye_height = draw.between(0.4, 2.2) if draw.chance(0.75) else draw.between(2.2, 4.5)
    eye = (ex, eye_height, ez)
    yaw = heading + draw.between(-0.13, 0.13) * fov
    pitch = math.atan2(main.height / 2 - eye_height, away) + draw.between(-0.04, 0.14) * fov
    roll = draw.between(-0.05, 0.05)

    primitives = main.place((x, 0.0, z), draw.between(-math.pi, math.pi), 1, _materials(main.kind, draw))
    classes = [main.kind]
    placed = [(x, z, main.reach), (ex, ez, 1.2)]
    for _ in range(draw.below(5)):
        # Half of the other objects are behind the walls, larger, so that they show above them.
        outside = draw.chance(0.5)
        item = _item(draw.below(len(OBJECTS)), draw, draw.between(1.6, 3.0) if outside else draw.between(0.8, 1.2))
        for _ in range(6):
            angle = yaw + draw.between(-0.6, 0.6) * fov
            reach = draw.between(12.0, 45.0) if outside else away * draw.between(1.3, 3.0)
            tx, tz = ex + math.sin(angle) * reach, ez + math.cos(angle) * reach
            gap_x, gap_z = abs(tx) - half[0], abs(tz) - half[1]
            inside = max(gap_x, gap_z) < -item.reach - 0.1
            beyond = max(gap_x, gap_z) > item.reach + 0.1
            clear = all(math.hypot(tx - px, tz - pz) > item.reach + r + 0.1 for px, pz, r in placed)
            if (beyond if outside else inside) and clear and reach > item.reach + item.bound:
                classes.append(item.kind)
                placed.append((tx, tz, item.reach))
                turned, materials = draw.between(-math.pi, math.pi), _materials(item.kind, draw)
                primitives += item.place((tx, 0.0, tz), turned, len(classes), materials)
                break
    return eye, (yaw, pitch, roll), fov, primitives, tuple(classes)


def _yard(seed: int, index: int) -> Yard:
    stream = (seed + _STREAM) % 2**64
    draw = Draw(stream, index)
    kind = draw.below(len(PLACES))
    place = PLACES[kind]
    half = (draw.between(*place.width) / 2, draw.between(*place.depth) / 2)
    coats, tops = _coats(place, draw), _tops(place, draw)
    decals, sky = _decals(place, half, tops, draw), _sky(draw)
    eye, (yaw, pitch, roll), fov, primitives, classes = _camera_and_things(place, half, draw)
    field = Coat(WATER if place.name == "terrace" else GRASS, draw.near(place.field, 0.05), (0.52, 0.50, 0.30), 1.6)
    return Yard(
        seed=stream, index=index, place=kind, half=half, height=max(top.base + top.rise for top in tops), eye=eye,
        yaw=yaw, pitch=pitch, roll=roll, fov=fov, coats=coats, decals=decals, lights=(),
        ambient=draw.between(0.42, 0.62), primitives=tuple(primitives), classes=classes,
        noise=draw.between(0.005, 0.03), tops=tops, sky=sky, field=field, coping=draw.near((0.72, 0.68, 0.62), 0.1),
    )  # fmt: skip


def sample_scenes(first: int, count: int, seed: int) -> list[Yard]:
    """Yards first .. first + count - 1 of the world with this seed.

    Yard k does not depend on `first` or `count`: 100 yards are the first 100 of 200.

    Args:
        first: index of the first yard, 0 or more.
        count: number of yards, 0 or more.
        seed: 0 <= seed < 2**64; another seed is another set of yards.

    Raises:
        UsageError: an argument is out of range.
    """
    check_range(first, count, seed)
    return [_yard(seed, index) for index in range(first, first + count)]
