"""The goods of the embedded store: invented brands, readable titles, attributes as numbers."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from genrec.errors import DataError

SMALLEST = 20


@dataclass(frozen=True)
class Category:
    """A kind of goods: its name, what titles call it, what it is for and a middling price."""

    name: str
    nouns: tuple[str, str]
    purpose: str
    price: float


# Within a department each category leads to the next one, and the last to the first.
DEPARTMENTS: tuple[tuple[str, tuple[Category, ...]], ...] = (
    ("Photography", (
        Category("Cameras", ("Mirrorless Camera", "Compact Camera"), "takes sharp photos", 640),
        Category("Lenses", ("Prime Lens", "Zoom Lens"), "brings the subject close", 380),
        Category("Tripods", ("Travel Tripod", "Studio Tripod"), "holds long exposures steady", 110),
        Category("Camera Bags", ("Camera Backpack", "Camera Sling"), "carries fragile gear", 85),
        Category("Lens Filters", ("Polarising Filter", "Grey Filter"), "tames glare and sky", 45),
    )),
    ("Running", (
        Category("Running Shoes", ("Trail Running Shoe", "Road Running Shoe"), "grips paths", 120),
        Category("Running Socks", ("Running Sock", "Ankle Sock"), "keeps blisters away", 14),
        Category("Hydration Vests", ("Hydration Vest", "Water Vest"), "brings water along", 95),
        Category("Headlamps", ("Headlamp", "Clip Headlamp"), "lights early miles", 50),
        Category("Wind Jackets", ("Wind Jacket", "Wind Shell"), "stops cold gusts", 105),
    )),
    ("Camping", (
        Category("Tents", ("Dome Tent", "Tunnel Tent"), "shelters from rain", 290),
        Category("Sleeping Bags", ("Down Sleeping Bag", "Light Sleeping Bag"), "warms nights", 170),
        Category("Sleeping Mats", ("Inflatable Mat", "Foam Mat"), "softens hard ground", 75),
        Category("Camp Stoves", ("Gas Stove", "Folding Stove"), "boils water outdoors", 65),
        Category("Lanterns", ("Table Lantern", "Hanging Lantern"), "glows in the evening", 38),
    )),
    ("Kitchen", (
        Category("Kitchen Knives", ("Chef Knife", "Paring Knife"), "slices cleanly", 80),
        Category("Chopping Boards", ("Chopping Board", "Carving Board"), "spares the worktop", 35),
        Category("Frying Pans", ("Frying Pan", "Grill Pan"), "sears and browns", 60),
        Category("Saucepans", ("Saucepan", "Milk Pan"), "simmers sauces", 55),
        Category("Ladles", ("Soup Ladle", "Pouring Ladle"), "serves without drips", 18),
    )),
    ("Cycling", (
        Category("Bicycle Helmets", ("City Helmet", "Gravel Helmet"), "guards the head", 90),
        Category("Bicycle Lights", ("Front Light", "Rear Light"), "is seen in traffic", 42),
        Category("Pedals", ("Flat Pedal", "Clip Pedal"), "keeps the foot in place", 68),
        Category("Saddles", ("Touring Saddle", "Race Saddle"), "eases long rides", 78),
        Category("Cycling Gloves", ("Cycling Glove", "Winter Glove"), "cushions the grip", 30),
    )),
    ("Home Office", (
        Category("Desks", ("Standing Desk", "Writing Desk"), "gives room to work", 360),
        Category("Office Chairs", ("Swivel Chair", "Mesh Chair"), "supports the back", 240),
        Category("Desk Lamps", ("Desk Lamp", "Reading Lamp"), "brightens the page", 58),
        Category("Monitor Stands", ("Monitor Stand", "Monitor Arm"), "lifts the screen", 72),
        Category("Keyboards", ("Mechanical Keyboard", "Quiet Keyboard"), "types all day", 98),
    )),
)  # fmt: skip

RING = 5
CATEGORIES = tuple(
    (department, category) for department, members in DEPARTMENTS for category in members
)
BRANDS = (
    "Halden", "Vorrin", "Tesmar", "Okuvi", "Brenlow", "Sarquat", "Mirholt", "Delphane", "Jorvack",
    "Lunesta", "Pellwick", "Quorran", "Rimsund", "Astovar", "Corvanna", "Dunmarrow", "Eskelin",
    "Fennotto", "Galvora", "Hestrom", "Ilvanto", "Kestova", "Lorimund", "Marrovik", "Nordqvell",
    "Orbelia", "Pravonne", "Rundhalt", "Silvarro", "Torvanen", "Ulmstead", "Valkenor", "Wendrup",
    "Xandrel", "Yarrowin", "Zelmonde", "Ambrekt", "Bolvane", "Cindrosa", "Drovelle",
)  # fmt: skip
TIERS = (
    ("Essential", "entry level, simple and light", 0.5),
    ("Classic", "proven everyday quality", 0.8),
    ("Plus", "extra features for regulars", 1.0),
    ("Pro", "professional grade, hard wearing", 1.6),
    ("Elite", "luxury finish, limited series", 2.4),
)
COLOURS = (
    "Slate", "Sand", "Moss", "Coral", "Ivory", "Indigo", "Amber", "Graphite", "Teal", "Rust",
    "Plum", "Olive", "Pearl", "Cobalt", "Ochre", "Crimson", "Mint", "Umber", "Lilac", "Charcoal",
    "Saffron", "Azure", "Cream", "Pine",
)  # fmt: skip


@dataclass(frozen=True)
class ItemAttributes:
    """What the items are, as numbers; the rules of the store read only these.

    Attributes:
        category: int32[n], position in ``CATEGORIES``.
        brand: int32[n], position in ``BRANDS``.
        tier: int32[n], position in ``TIERS``.
        popularity: float64[n], how often it is bought out of the blue; sums to 1.
        sizes: Number of categories, brands and tiers in use.
    """

    category: NDArray[np.int32]
    brand: NDArray[np.int32]
    tier: NDArray[np.int32]
    popularity: NDArray[np.float64]
    sizes: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.category)


def grid_sizes(items: int) -> tuple[int, int, int]:
    """Return how many categories, brands and tiers a catalogue of this size has.

    About five items share a category and a brand, one of each tier; 1,500 items make 30
    categories, 10 brands and 5 tiers. Every combination occurs.

    Raises:
        DataError: With fewer than 20 items.
    """
    if items < SMALLEST:
        raise DataError(f"a store of {items} items was asked for; it needs at least {SMALLEST}.")
    categories = RING * min(len(DEPARTMENTS), max(1, items // 100))
    brands = min(len(BRANDS), max(2, items // (RING * categories)))
    tiers = min(len(TIERS), items // (categories * brands))
    return categories, brands, tiers


def generate_catalog(
    items: int, generator: np.random.Generator
) -> tuple[pl.DataFrame, ItemAttributes]:
    """Generate goods with distinct titles, in an order that says nothing about them.

    Args:
        items: How many; at least 20.
        generator: Source of chance.

    Returns:
        The table (see ``Store.items``) and the same attributes as numbers.
    """
    categories, brands, tiers = grid_sizes(items)
    slot = generator.permutation(items)
    category = slot % categories
    brand = slot // categories % brands
    tier = slot // (categories * brands) % tiers
    combination = slot % (categories * brands * tiers)
    copy = slot // (categories * brands * tiers)
    colour = generator.integers(len(COLOURS), size=categories * brands * tiers)[combination] + copy
    noun = generator.integers(2, size=items)
    brand_factor = 0.7 + 0.6 * generator.random(brands)
    popularity = brand_factor[brand] * (0.6 + 0.8 * generator.random(items))
    price_noise = 0.9 + 0.2 * generator.random(items)
    rows = [
        _describe(
            row,
            int(category[row]),
            int(noun[row]),
            int(brand[row]),
            int(tier[row]),
            int(colour[row]),
            int(copy[row]) // len(COLOURS),
            float(brand_factor[brand[row]] * price_noise[row]),
        )
        for row in range(items)
    ]
    attributes = ItemAttributes(
        category=category.astype(np.int32),
        brand=brand.astype(np.int32),
        tier=tier.astype(np.int32),
        popularity=popularity / popularity.sum(),
        sizes=(categories, brands, tiers),
    )
    return pl.DataFrame(rows), attributes


def _describe(
    row: int,
    category: int,
    noun: int,
    brand: int,
    tier: int,
    colour: int,
    series: int,
    price_factor: float,
) -> dict[str, str | float]:
    """Put one item into words."""
    department, kind = CATEGORIES[category]
    tier_name, tier_text, tier_price = TIERS[tier]
    name = f"{BRANDS[brand]} {tier_name} {kind.nouns[noun]}"
    if series:
        name += f" Series {series + 1}"
    colour_name = COLOURS[colour % len(COLOURS)]
    return {
        "item_id": f"I{row:05d}",
        "title": f"{name}, {colour_name}",
        "text": (
            f"{name}, {colour_name}. {kind.name} by {BRANDS[brand]}, {tier_text}: "
            f"{kind.purpose}. {department}, {kind.name}."
        ),
        "brand": BRANDS[brand],
        "department": department,
        "category": f"{department} > {kind.name}",
        "tier": tier_name,
        "colour": colour_name,
        "price": round(kind.price * tier_price * price_factor) - 0.05,
    }
