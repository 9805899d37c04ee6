"""Writes the committed cases of the picture tests with Pillow: pip install pillow && python make_cases.py

resample.json: pictures of noise, and what Pillow's antialiased Lanczos makes of them.
cmyk.jpg, turned.jpg, progressive.jpg, palette.png: kinds of files that the tests cannot write themselves.

The noise is made again by the test: byte i of a picture is the top byte of state i of the generator
s -> 1664525 s + 1013904223 mod 2^32 from the case's seed. Results are hexadecimal, rows of RGB triples.
"""

import json
import pathlib

import PIL
from PIL import Image

HERE = pathlib.Path(__file__).parent
PICTURES = HERE.parents[3] / "assets" / "pictures"


def noise(seed, width, height):
    state, out = seed, bytearray()
    for _ in range(3 * width * height):
        state = (1664525 * state + 1013904223) % 2**32
        out.append(state >> 24)
    return Image.frombytes("RGB", (width, height), bytes(out))


def resize(picture, width, height):
    """Rows, then columns: newer versions of Pillow (13.0 does) take the columns first where the height shrinks far more."""
    return picture.resize((width, picture.height), Image.LANCZOS).resize((width, height), Image.LANCZOS)


def resize_crop(picture, size):
    short = min(picture.size)
    width, height = ((2 * side * size + short) // (2 * short) for side in picture.size)
    left, top = (width - size) // 2, (height - size) // 2
    return resize(picture, width, height).crop((left, top, left + size, top + size))


def case(kind, seed, width, height, made):
    return {"kind": kind, "seed": seed, "from": [width, height], "to": list(made.size), "hex": made.tobytes().hex()}


crops = [(40, 30, 16), (30, 40, 8), (7, 5, 16), (16, 16, 16), (1, 1, 8), (2, 1, 5), (100, 3, 4), (17, 9, 9),
         (3, 200, 7), (128, 96, 24), (33, 32, 31), (64, 64, 16)]
sizes = [(20, 10, 10, 20), (13, 17, 17, 13), (50, 50, 3, 50), (50, 50, 50, 3), (9, 9, 1, 1), (31, 7, 64, 2)]
cases = [case("crop", i, w, h, resize_crop(noise(i, w, h), s)) for i, (w, h, s) in enumerate(crops)]
cases += [case("resize", 100 + i, w, h, resize(noise(100 + i, w, h), a, b))
          for i, (w, h, a, b) in enumerate(sizes)]
photos = [{"file": p.name, "to": [24, 24], "hex": Image.open(p).convert("RGB").resize((24, 24), Image.LANCZOS).tobytes().hex()}
          for p in sorted(PICTURES.glob("*.jpg"))]
text = json.dumps({"pillow": PIL.__version__, "cases": cases, "photos": photos}, indent=0)
(HERE / "resample.json").write_text(text + "\n")

# An even orange by cyan, magenta, yellow and black; stored inverted, as Adobe's programs do.
Image.new("CMYK", (16, 16), (0, 128, 255, 0)).save(HERE / "cmyk.jpg", quality=95)

# Stored lying: red left, blue right; orientation 6 turns it a quarter clockwise, so red is on top.
turned = Image.new("RGB", (32, 16), (255, 0, 0))
turned.paste((0, 0, 255), (16, 0, 32, 16))
exif = Image.Exif()
exif[0x0112] = 6
turned.save(HERE / "turned.jpg", quality=95, subsampling=0, exif=exif)

Image.radial_gradient("L").resize((64, 64)).convert("RGB").save(HERE / "progressive.jpg", progressive=True)

# Colours by number, one of them transparent.
palette = Image.new("P", (24, 40))
palette.putpalette([200, 30, 30, 20, 200, 60, 40, 40, 220, 250, 240, 20])
palette.putdata([(x // 6 + y // 10) % 4 for y in range(40) for x in range(24)])
palette.save(HERE / "palette.png", transparency=3)
