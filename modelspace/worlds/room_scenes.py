"""Parameters of the rendered rooms: geometry, materials, lights and camera.

Every scene is sampled from its own counter-based generator, the raw stream of Philox keyed with (seed, index) (Salmon
et al., SC 2011), so scene k does not depend on the other scenes. NumPy guarantees the same raw stream in all versions.

World frame: metres, y up, floor at y = 0, the room centred in x and z. Angles in radians.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modelspace.errors import UsageError

Color = tuple[float, float, float]

#: To be raised when the same (seed, index, size) gives another image than before.
RENDERER_VERSION = 1

#: Classes of the main object, in label order.
OBJECTS = ("ball", "crate", "barrel", "cone", "table", "lamp", "plant", "chair")

#: Shapes of a primitive, and the meaning of its `size`.
SPHERE, BOX, FRUSTUM = 0, 1, 2  # (radius, -, -), (half x, half y, half z), (bottom radius, half height, top radius)

#: Surfaces of the room: index = 2 * axis + (1 on the positive side).
WALL_XN, WALL_XP, FLOOR, CEILING, WALL_ZN, WALL_ZP = range(6)

#: Textures, painted by `modelspace.worlds.surfaces`.
PLAIN, PLANKS, TILES, STRIPES, BRICKS, BOOKS, CONCRETE, CARPET, CHECKER = range(9)

#: Rectangles painted on walls.
WINDOW, DOOR, PICTURE = range(3)


@dataclass(frozen=True)
class Place:
    """The parameters of a class of rooms. Ranges are (low, high), metres."""

    name: str
    width: tuple[float, float]
    depth: tuple[float, float]
    height: tuple[float, float]
    wall_textures: tuple[int, ...]
    wall_colors: tuple[Color, ...]
    wall_scale: tuple[float, float]
    floor_textures: tuple[int, ...]
    floor_colors: tuple[Color, ...]
    floor_scale: tuple[float, float]
    ceiling_texture: int
    ceiling_color: Color
    windows: int
    doors: int
    pictures: int
    light: Color


#: Classes of rooms, in label order.
PLACES = (
    Place("living_room", (3.6, 5.0), (3.6, 5.5), (2.5, 3.0), (PLAIN, STRIPES),
          ((0.86, 0.72, 0.52), (0.80, 0.55, 0.42), (0.66, 0.70, 0.48)), (0.25, 0.5),
          (PLANKS,), ((0.50, 0.31, 0.16), (0.62, 0.42, 0.24)), (0.14, 0.24),
          PLAIN, (0.90, 0.87, 0.80), 1, 1, 3, (1.0, 0.86, 0.66)),
    Place("bathroom", (2.5, 3.3), (2.5, 3.4), (2.3, 2.7), (TILES,),
          ((0.82, 0.90, 0.93), (0.56, 0.78, 0.84), (0.90, 0.90, 0.90)), (0.22, 0.38),
          (TILES, CHECKER), ((0.72, 0.80, 0.84), (0.45, 0.55, 0.62)), (0.3, 0.5),
          PLAIN, (0.95, 0.96, 0.97), 0, 1, 1, (0.94, 0.98, 1.0)),
    Place("corridor", (1.9, 2.4), (7.0, 12.0), (2.4, 2.9), (PLAIN,),
          ((0.80, 0.79, 0.72), (0.62, 0.70, 0.66), (0.74, 0.66, 0.62)), (0.3, 0.5),
          (CHECKER, CARPET), ((0.52, 0.22, 0.20), (0.36, 0.38, 0.44)), (0.4, 0.6),
          PLAIN, (0.86, 0.86, 0.84), 0, 5, 1, (1.0, 0.95, 0.82)),
    Place("warehouse", (7.0, 11.0), (8.0, 13.0), (4.2, 6.0), (BRICKS, CONCRETE),
          ((0.58, 0.33, 0.25), (0.52, 0.52, 0.50)), (0.5, 0.8),
          (CONCRETE,), ((0.46, 0.46, 0.44), (0.56, 0.53, 0.48)), (0.7, 1.2),
          CONCRETE, (0.34, 0.35, 0.37), 3, 2, 0, (0.96, 0.98, 1.0)),
    Place("library", (3.6, 5.5), (4.0, 6.5), (2.8, 3.6), (BOOKS,),
          ((0.36, 0.20, 0.11), (0.28, 0.17, 0.12)), (0.36, 0.5),
          (CARPET, PLANKS), ((0.34, 0.10, 0.12), (0.13, 0.26, 0.20)), (0.18, 0.28),
          PLANKS, (0.48, 0.33, 0.20), 1, 1, 0, (1.0, 0.80, 0.56)),
    Place("office", (4.0, 6.5), (4.0, 6.5), (2.5, 2.9), (PLAIN,),
          ((0.88, 0.89, 0.90), (0.72, 0.79, 0.88)), (0.4, 0.6),
          (CARPET,), ((0.40, 0.44, 0.52), (0.32, 0.36, 0.38)), (0.12, 0.2),
          TILES, (0.92, 0.93, 0.93), 4, 1, 1, (0.97, 1.0, 1.0)),
)  # fmt: skip

PLACE_NAMES = tuple(place.name for place in PLACES)


@dataclass(frozen=True)
class Primitive:
    """A sphere, box or frustum, rotated by `yaw` about the vertical axis through its centre."""

    shape: int
    center: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float
    object_number: int  # number of its object in the scene, from 1
    color: Color
    second: Color
    texture: int
    scale: float
    glow: float = 0.0

    @property
    def bound(self) -> float:
        """Radius of the bounding sphere about `center`, metres."""
        if self.shape == SPHERE:
            return self.size[0]
        if self.shape == BOX:
            return math.hypot(*self.size)
        return math.hypot(self.size[1], max(self.size[0], self.size[2]))


@dataclass(frozen=True)
class Decal:
    """A rectangle painted on a wall: u along the wall, v up, metres from the wall's lower left corner."""

    wall: int
    u0: float
    v0: float
    u1: float
    v1: float
    kind: int
    color: Color
    second: Color


@dataclass(frozen=True)
class Coat:
    """The paint of a surface; `scale` is the size of the pattern's element in metres."""

    texture: int
    color: Color
    second: Color
    scale: float


@dataclass(frozen=True)
class Light:
    """A point light."""

    position: tuple[float, float, float]
    color: Color  # radiance at one metre


@dataclass(frozen=True)
class Scene:
    """One room with its camera.

    Attributes:
        half: (x, z) half extents of the room, metres; the walls are at plus and minus these values.
        height: of the ceiling, metres.
        eye: camera position.
        yaw, pitch, roll: camera rotation about y, then x, then its viewing axis; yaw 0 looks along +z, pitch > 0 up.
        fov: full angle of view, the same horizontally and vertically.
        classes: class (index into `OBJECTS`) of object 1, 2, ...; object 1 is the main one.
        noise: amplitude of the triangular sensor noise, in units of the rgb range.
    """

    seed: int
    index: int
    place: int
    half: tuple[float, float]
    height: float
    eye: tuple[float, float, float]
    yaw: float
    pitch: float
    roll: float
    fov: float
    coats: tuple[Coat, ...]
    decals: tuple[Decal, ...]
    lights: tuple[Light, ...]
    ambient: float
    primitives: tuple[Primitive, ...]
    classes: tuple[int, ...]
    noise: float

    @property
    def rotation(self) -> np.ndarray:
        """(3, 3) float64, camera to world: its columns are the camera's right, up and forward."""
        (cy, sy), (cp, sp), (cr, sr) = ((math.cos(a), math.sin(a)) for a in (self.yaw, self.pitch, self.roll))
        about_y = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
        about_x = np.array([[1.0, 0.0, 0.0], [0.0, cp, sp], [0.0, -sp, cp]])
        about_z = np.array([[cr, -sr, 0.0], [sr, cr, 0.0], [0.0, 0.0, 1.0]])
        rotation: np.ndarray = about_y @ about_x @ about_z
        return rotation


Scenes = Sequence[Scene]


def raw_stream(seed: int, index: int, count: int) -> np.ndarray:
    """(count,) uint64: the first values of the stream of scene `index`."""
    words: np.ndarray = np.random.Philox(key=np.array([seed, index], dtype=np.uint64)).random_raw(count)
    return words


class Draw:
    """Successive uniform draws from one scene's stream."""

    def __init__(self, seed: int, index: int) -> None:
        self._bits = np.random.Philox(key=np.array([seed, index], dtype=np.uint64))
        self._values: list[float] = []

    def unit(self) -> float:
        """Uniform in [0, 1)."""
        if not self._values:
            self._values = ((self._bits.random_raw(128) >> np.uint64(11)) * 2.0**-53).tolist()[::-1]
        return self._values.pop()

    def between(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * self.unit()

    def below(self, n: int) -> int:
        """Uniform in 0..n - 1."""
        return int(self.unit() * n)

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.unit() < probability

    def near(self, color: Color, spread: float) -> Color:
        """A colour whose channels differ from those of `color` by at most `spread`."""
        red, green, blue = (min(1.0, max(0.02, c + self.between(-spread, spread))) for c in color)
        return red, green, blue

    def vivid(self) -> Color:
        """A saturated colour of any hue."""
        hue, low, high = 6 * self.unit(), self.between(0.08, 0.35), self.between(0.6, 0.95)
        red, green, blue = (
            low + (high - low) * min(1.0, max(0.0, abs((hue + shift) % 6 - 3) - 1)) for shift in (0.0, 4.0, 2.0)
        )
        return red, green, blue


Part = tuple[int, tuple[float, float, float], tuple[float, float, float], int]  # shape, centre, size, material


def _box_legs(half_x: float, half_z: float, height: float, thick: float, material: int) -> list[Part]:
    return [
        (BOX, (sx * (half_x - thick), height / 2, sz * (half_z - thick)), (thick, height / 2, thick), material)
        for sx in (-1, 1)
        for sz in (-1, 1)
    ]


def _parts(kind: int, draw: Draw) -> list[Part]:
    """Primitives of an object on the floor at the origin."""
    name, between = OBJECTS[kind], draw.between
    if name == "ball":
        r = between(0.3, 0.5)
        return [(SPHERE, (0, r, 0), (r, 0, 0), 0)]
    if name == "crate":
        x, y, z = between(0.3, 0.5), between(0.25, 0.45), between(0.3, 0.5)
        return [(BOX, (0, y, 0), (x, y, z), 0)]
    if name == "barrel":
        r, h = between(0.26, 0.38), between(0.38, 0.55)
        return [(FRUSTUM, (0, h, 0), (r, h, r), 0)]
    if name == "cone":
        r, h = between(0.3, 0.45), between(0.45, 0.65)
        return [(FRUSTUM, (0, h + 0.04, 0), (r * 0.85, h, 0.03), 0), (BOX, (0, 0.02, 0), (r, 0.02, r), 1)]
    if name == "table":
        x, z, h = between(0.5, 0.75), between(0.35, 0.5), between(0.55, 0.75)
        return [(BOX, (0, h, 0), (x, 0.035, z), 0), *_box_legs(x, z, h - 0.03, 0.04, 1)]
    if name == "lamp":
        h, r = between(1.1, 1.5), between(0.24, 0.34)
        return [
            (FRUSTUM, (0, 0.03, 0), (0.2, 0.03, 0.18), 1),
            (FRUSTUM, (0, h / 2, 0), (0.03, h / 2, 0.03), 1),
            (FRUSTUM, (0, h, 0), (r, 0.17, r * 0.55), 2),
        ]
    if name == "plant":
        r, h = between(0.2, 0.28), between(0.16, 0.24)
        parts: list[Part] = [(FRUSTUM, (0, h, 0), (r * 0.7, h, r), 1)]
        for _ in range(3):
            b = between(0.2, 0.3)
            parts.append(
                (SPHERE, (between(-0.2, 0.2), 2 * h + b * 0.7 + between(0.0, 0.3), between(-0.2, 0.2)), (b, 0, 0), 0)
            )
        return parts
    x, z, h, back = between(0.24, 0.3), between(0.24, 0.3), between(0.4, 0.48), between(0.26, 0.36)
    return [
        (BOX, (0, h, 0), (x, 0.035, z), 0),
        (BOX, (0, h + back, -z + 0.03), (x, back, 0.03), 0),
        *_box_legs(x, z, h - 0.03, 0.03, 1),
    ]


def _materials(kind: int, draw: Draw) -> list[tuple[Color, Color, int, float, float]]:
    """(colour, second colour, texture, scale, glow) for materials 0, 1, 2 of an object."""
    name = OBJECTS[kind]
    vivid, dark = draw.vivid(), draw.near((0.25, 0.22, 0.2), 0.12)
    other = draw.near((0.9, 0.88, 0.82), 0.1) if draw.chance(0.6) else draw.vivid()
    texture = (PLAIN, STRIPES, CHECKER)[draw.below(3)]
    wood = draw.near((0.58, 0.38, 0.2), 0.12)
    wood_dark: Color = (wood[0] * 0.45, wood[1] * 0.45, wood[2] * 0.45)
    if name == "crate":
        body = (wood, wood_dark, PLANKS, 0.2, 0.0) if draw.chance(0.5) else (vivid, other, texture, 0.25, 0.0)
    elif name == "cone":
        body = (vivid, other, STRIPES, draw.between(0.2, 0.3), 0.0)
    elif name in ("table", "chair"):
        body = (wood, wood_dark, PLANKS, 0.25, 0.0) if draw.chance(0.5) else (vivid, vivid, PLAIN, 0.3, 0.0)
    elif name == "plant":
        leaf = draw.near((0.18, 0.46, 0.15), 0.1)
        body = (leaf, (leaf[0] * 0.5, leaf[1] * 0.55, leaf[2] * 0.5), CARPET, 0.06, 0.0)
    else:
        body = (vivid, other, texture, draw.between(0.15, 0.3), 0.0)
    shade = draw.near((0.98, 0.86, 0.6), 0.06)
    return [body, (dark if name != "plant" else vivid, dark, PLAIN, 0.3, 0.0), (shade, shade, PLAIN, 0.3, 0.75)]


@dataclass(frozen=True)
class _Item:
    kind: int
    parts: list[Part]
    reach: float  # horizontal radius
    height: float

    @classmethod
    def draw(cls, kind: int, draw: Draw) -> _Item:
        parts = _parts(kind, draw)
        reach = height = 0.0
        for shape, (x, y, z), (a, b, c), _ in parts:
            wide = a if shape == SPHERE else math.hypot(a, c) if shape == BOX else max(a, c)
            reach = max(reach, math.hypot(x, z) + wide)
            height = max(height, y + (a if shape == SPHERE else b))
        return cls(kind, parts, reach, height)

    def place(self, x: float, z: float, yaw: float, number: int, draw: Draw) -> list[Primitive]:
        materials = _materials(self.kind, draw)
        c, s = math.cos(yaw), math.sin(yaw)
        out = []
        for shape, (px, py, pz), size, material in self.parts:
            color, second, texture, scale, glow = materials[material]
            center = (x + c * px + s * pz, py, z - s * px + c * pz)
            out.append(Primitive(shape, center, size, yaw, number, color, second, texture, scale, glow))
        return out


def _coats(place: Place, draw: Draw) -> tuple[Coat, ...]:
    wall = draw.near(place.wall_colors[draw.below(len(place.wall_colors))], 0.07)
    texture = place.wall_textures[draw.below(len(place.wall_textures))]
    floor = draw.near(place.floor_colors[draw.below(len(place.floor_colors))], 0.07)
    floor_texture = place.floor_textures[draw.below(len(place.floor_textures))]
    ceiling = draw.near(place.ceiling_color, 0.03)
    wall_second: Color = (wall[0] * 0.78, wall[1] * 0.78, wall[2] * 0.78)
    floor_second: Color = (floor[0] * 0.5, floor[1] * 0.5, floor[2] * 0.5)
    if texture == BRICKS:
        wall_second = (0.72, 0.70, 0.66)
    if floor_texture == CHECKER and draw.chance(0.6):
        floor_second = draw.near((0.88, 0.86, 0.8), 0.05)
    walls = Coat(texture, wall, wall_second, draw.between(*place.wall_scale))
    ground = Coat(floor_texture, floor, floor_second, draw.between(*place.floor_scale))
    top: Color = (ceiling[0] * 0.8, ceiling[1] * 0.8, ceiling[2] * 0.8)
    above = Coat(place.ceiling_texture, ceiling, top, 0.6)
    feature = walls
    if place.name in ("library", "living_room", "office"):  # one wall is different
        feature = Coat(PLAIN, draw.near((0.6, 0.5, 0.42), 0.15), wall_second, 0.5)
    feature_wall = (WALL_XN, WALL_XP, WALL_ZN, WALL_ZP)[draw.below(4)]
    return tuple(
        ground if k == FLOOR else above if k == CEILING else feature if k == feature_wall else walls for k in range(6)
    )  # fmt: skip


def _decals(place: Place, half: tuple[float, float], height: float, draw: Draw) -> tuple[Decal, ...]:
    taken: dict[int, list[tuple[float, float]]] = {WALL_XN: [], WALL_XP: [], WALL_ZN: [], WALL_ZP: []}
    out = []
    for kind, count in ((DOOR, place.doors), (WINDOW, place.windows), (PICTURE, place.pictures)):
        for _ in range(count):
            wall = tuple(taken)[draw.below(4)]
            if place.name == "corridor" and kind == DOOR:
                wall = (WALL_XN, WALL_XP)[draw.below(2)]
            length = 2 * (half[1] if wall in (WALL_XN, WALL_XP) else half[0])
            if kind == DOOR:
                wide, v0, v1 = draw.between(0.8, 1.0), 0.0, 2.05
                color = draw.near((0.45, 0.29, 0.17), 0.12)
            elif kind == WINDOW:
                tall = place.name == "warehouse"
                wide, v0 = draw.between(1.0, 1.8), (2.0 if tall else draw.between(0.8, 1.0))
                v1 = min(height - 0.25, v0 + draw.between(1.0, 1.5))
                color = draw.near((0.92, 0.92, 0.9), 0.05)
            else:
                wide, v0 = draw.between(0.5, 1.1), draw.between(1.1, 1.4)
                v1, color = v0 + draw.between(0.45, 0.8), draw.near((0.2, 0.15, 0.1), 0.08)
            second = draw.vivid()
            for _ in range(4):
                u0 = draw.between(0.15, max(0.2, length - wide - 0.15))
                if all(u0 > b + 0.1 or u0 + wide < a - 0.1 for a, b in taken[wall]):
                    taken[wall].append((u0, u0 + wide))
                    out.append(Decal(wall, u0, v0, u0 + wide, v1, kind, color, second))
                    break
    return tuple(out)


def _lights(
    place: Place, half: tuple[float, float], height: float, decals: Sequence[Decal], draw: Draw
) -> tuple[Light, ...]:
    tint = draw.near(place.light, 0.04)
    power = draw.between(0.85, 1.25) * (height - 0.6) ** 1.2

    def lamp(x: float, y: float, z: float, strength: float, color: Color) -> Light:
        return Light((x, y, z), (color[0] * strength, color[1] * strength, color[2] * strength))

    x, z = draw.between(-0.4, 0.4) * half[0], draw.between(-0.5, 0.5) * half[1]
    lights = [lamp(x, height - 0.2, z, power, tint)]
    window = next((d for d in decals if d.kind == WINDOW), None)
    if window is not None:
        along, up = (window.u0 + window.u1) / 2, (window.v0 + window.v1) / 2
        inside = 0.3
        if window.wall in (WALL_XN, WALL_XP):
            side = half[0] - inside
            spot = (side if window.wall == WALL_XP else -side, along - half[1])
        else:
            side = half[1] - inside
            spot = (along - half[0], side if window.wall == WALL_ZP else -side)
        lights.append(lamp(spot[0], up, spot[1], power * 0.7, (0.85, 0.93, 1.0)))
    else:
        lights.append(lamp(-x, height - 0.25, -z, power * 0.6, tint))
    return tuple(lights)


def _camera_and_things(
    place: Place, half: tuple[float, float], height: float, draw: Draw
) -> tuple[tuple[float, float, float], tuple[float, float, float], float, list[Primitive], tuple[int, ...]]:
    main = _Item.draw(draw.below(len(OBJECTS)), draw)
    fov = draw.between(math.radians(58), math.radians(78))
    radius = 0.5 * math.hypot(main.height, 2 * main.reach * 0.8)
    far = radius / math.tan(fov / 2 * draw.between(0.5, 0.78))
    x = z = ex = ez = heading = 0.0
    for attempt in range(60):
        reach = far * (1.0 if attempt < 40 else 0.75)
        x = draw.between(-1, 1) * max(0.0, half[0] - main.reach - 0.08)
        z = draw.between(-1, 1) * max(0.0, half[1] - main.reach - 0.08)
        heading = draw.between(-math.pi, math.pi)
        ex, ez = x - math.sin(heading) * reach, z - math.cos(heading) * reach
        if abs(ex) < half[0] - 0.2 and abs(ez) < half[1] - 0.2:
            break
    else:  # a narrow room: look along its longer axis
        heading = 0.0 if half[1] > half[0] else math.pi / 2
        along = max(half)
        ex, ez = -math.sin(heading) * (along - 0.2), -math.cos(heading) * (along - 0.2)
        away = min(far, 2 * along - 0.4 - main.reach)
        x, z = ex + math.sin(heading) * away, ez + math.cos(heading) * away
    away = math.hypot(x - ex, z - ez)
    eye_height = min(draw.between(0.7, 1.75), height - 0.3)
    eye = (ex, eye_height, ez)
    yaw = heading + draw.between(-0.13, 0.13) * fov
    pitch = math.atan2(main.height / 2 - eye_height, away) + draw.between(-0.04, 0.14) * fov
    roll = draw.between(-0.09, 0.09)

    primitives = main.place(x, z, draw.between(-math.pi, math.pi), 1, draw)
    classes = [main.kind]
    placed = [(x, z, main.reach)]
    for _ in range(draw.below(4)):
        item = _Item.draw(draw.below(len(OBJECTS)), draw)
        for _ in range(6):
            angle, reach = yaw + draw.between(-0.55, 0.55) * fov, away * draw.between(1.3, 3.0)
            tx, tz = ex + math.sin(angle) * reach, ez + math.cos(angle) * reach
            inside = abs(tx) < half[0] - item.reach - 0.05 and abs(tz) < half[1] - item.reach - 0.05
            if inside and all(math.hypot(tx - px, tz - pz) > item.reach + r + 0.05 for px, pz, r in placed):
                classes.append(item.kind)
                placed.append((tx, tz, item.reach))
                primitives += item.place(tx, tz, draw.between(-math.pi, math.pi), len(classes), draw)
                break
    return eye, (yaw, pitch, roll), fov, primitives, tuple(classes)


def _scene(seed: int, index: int) -> Scene:
    draw = Draw(seed, index)
    kind = draw.below(len(PLACES))
    place = PLACES[kind]
    half = (draw.between(*place.width) / 2, draw.between(*place.depth) / 2)
    height = draw.between(*place.height)
    coats = _coats(place, draw)
    decals = _decals(place, half, height, draw)
    lights = _lights(place, half, height, decals, draw)
    eye, (yaw, pitch, roll), fov, primitives, classes = _camera_and_things(place, half, height, draw)
    return Scene(
        seed, index, kind, half, height, eye, yaw, pitch, roll, fov, coats, decals, lights,
        draw.between(0.22, 0.34), tuple(primitives), classes, draw.between(0.01, 0.035),
    )  # fmt: skip


def check_range(first: int, count: int, seed: int) -> None:
    """Refuse scenes that no world has.

    Raises:
        UsageError: a number is negative, or the seed is 2**64 or more.
    """
    if first < 0 or count < 0 or not 0 <= seed < 2**64:
        raise UsageError(f"scenes {first}..{first + count} of seed {seed} don't exist", "use numbers from 0 up")


def sample_scenes(first: int, count: int, seed: int) -> list[Scene]:
    """Scenes first .. first + count - 1 of the world with this seed.

    Scene k does not depend on `first` or `count`: 100 scenes are the first 100 of 200.

    Args:
        first: index of the first scene, 0 or more.
        count: number of scenes, 0 or more.
        seed: 0 <= seed < 2**64; another seed is another set of rooms.

    Raises:
        UsageError: an argument is out of range.
    """
    check_range(first, count, seed)
    return [_scene(seed, index) for index in range(first, first + count)]
