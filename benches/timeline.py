"""A step with communication as a picture: for each rank a row for its step and a row for its wire, in SVG."""

from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, TOP = 1100, 110, 20, 64
ROW, GAP = 26, 10
COLOURS = {
    "computes": "#4c78a8",
    "waits for sums": "#e45756",
    "submitted, waits for the wire": "#bab0ac",
    "entered, waits for the other rank": "#f2cf5b",
    "sums move": "#54a24b",
}


def draw(ranks, title):
    """`ranks`: each rank's report of `sirocco-train bench --overlap`. Returns the text of the picture."""
    end = max(span["done"] for rank in ranks for span in rank["timeline"])
    scale = (WIDTH - LEFT - RIGHT) / end
    height = TOP + len(ranks) * (2 * ROW + 2 * GAP) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="18" font-size="14" font-weight="bold">{escape(title)}</text>',
    ]
    x = LEFT
    for word, colour in COLOURS.items():
        parts.append(f'<rect x="{x}" y="30" width="12" height="12" fill="{colour}"/><text x="{x + 16}" y="41">{escape(word)}</text>')
        x += 30 + 7 * len(word)
    y = TOP
    for number, rank in enumerate(ranks):
        parts += [f'<text x="10" y="{y + 17}">rank {number}, step</text>', *step_row(rank["timeline"], y, scale)]
        y += ROW + GAP / 2
        parts += [f'<text x="10" y="{y + 17}">rank {number}, wire</text>', *wire_row(rank["timeline"], y, scale)]
        y += ROW + GAP * 1.5
    return "\n".join([*parts, *axis(end, y, scale), "</svg>", ""])


def bar(span, y, scale, colour, title, height=ROW):
    """One box from `span[0]` to `span[1]` seconds; what is shorter than a hair is still seen."""
    x, width = LEFT + span[0] * scale, max((span[1] - span[0]) * scale, 0.6)
    box = f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" fill="{colour}">'
    return f"{box}<title>{escape(title)}</title></rect>"


def step_row(timeline, y, scale):
    """Computing until the last sums are asked for, then waiting until this rank has them all."""
    sums = [span for span in timeline if span["name"] != "end"]
    finish = next((span["submitted"] for span in timeline if span["name"] == "end"), max(span["done"] for span in timeline))
    last = max((span["submitted"] for span in sums), default=finish)
    return [
        bar((0, last), y, scale, COLOURS["computes"], f"computes {last:.3f} s"),
        bar((last, finish), y, scale, COLOURS["waits for sums"], f"waits {finish - last:.3f} s"),
    ]


def wire_row(timeline, y, scale):
    """Each collective: a thin line from when it was submitted, then a box from when the wire came to it."""
    parts = []
    for span in timeline:
        if span["name"] == "end" or span["done"] is None:
            continue
        entered = span["entered"] if span["entered"] is not None else span["done"]
        together = span["together"] if span["together"] is not None else entered
        about = f"{span['name']}, {span['bytes'] / 2**20:.1f} MiB: submitted {span['submitted']:.3f}, entered {entered:.3f}, "
        about += f"together {together:.3f}, done {span['done']:.3f} s"
        parts.append(bar((span["submitted"], entered), y + ROW / 2 - 2, scale, COLOURS["submitted, waits for the wire"], about, 4))
        parts.append(bar((entered, together), y + 4, scale, COLOURS["entered, waits for the other rank"], about, ROW - 8))
        parts.append(bar((together, span["done"]), y, scale, COLOURS["sums move"], about))
    return parts


def axis(end, y, scale):
    """Seconds."""
    tick = next(step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if end / step <= 12)
    parts = [f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="black"/>']
    for index in range(int(end / tick) + 1):
        x = LEFT + index * tick * scale
        parts.append(f'<line x1="{x:.1f}" y1="{y}" x2="{x:.1f}" y2="{y + 5}" stroke="black"/>')
        parts.append(f'<text x="{x:.1f}" y="{y + 18}" text-anchor="middle">{index * tick:g}</text>')
    return [*parts, f'<text x="{WIDTH - RIGHT}" y="{y + 32}" text-anchor="end">seconds since all ranks began the step</text>']
