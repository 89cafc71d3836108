"""What all four do: type commands, outside of the repository, on small photos of three kinds of places."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import budgetnet

PLACES = {  # the colours of sky and ground
    "beach": ((120, 170, 225), (215, 190, 140)),
    "forest": ((50, 90, 50), (40, 60, 30)),
    "meadow": ((135, 180, 235), (95, 160, 60)),
}


def command(*words: object, code: int = 0) -> str:
    """What `budgetnet WORDS` prints, and prints here too; it has to end with `code`."""
    program = Path(sys.executable).with_name("budgetnet")
    print("$ budgetnet", *words, flush=True)
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr, sep="", flush=True)
    assert done.returncode == code, f"budgetnet {words} ended with {done.returncode}"
    return done.stdout


def photo(place: str, draw: np.random.Generator) -> Image.Image:
    """A small photo: a sky and a ground with a horizon between, light, noise, and trunks in the forest."""
    height, width = (int(n) for n in draw.integers(40, 72, 2))
    sky, ground = (np.array(colour, float) for colour in PLACES[place])
    pixels = np.tile(sky, (height, width, 1))
    pixels[int(height * draw.uniform(0.3, 0.6)) :] = ground
    if place == "forest":
        for left in draw.integers(0, width - 4, 5):
            pixels[:, left : left + 4] *= 0.5
    pixels = pixels * draw.uniform(0.7, 1.2) + draw.normal(0, 18, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def photos(root: str, each: int, *, seed: int = 0) -> Path:
    """A folder with a subfolder of `each` photos for every place."""
    draw = np.random.default_rng(seed)
    for place in PLACES:
        folder = Path(root, place)
        folder.mkdir(parents=True)
        for number in range(each):
            photo(place, draw).save(folder / f"{number:03}.jpg", quality=90)
    return Path(root)


def has(path: str | Path, *texts: str) -> str:
    """The text of a file that must be there and not be empty, and must have these texts in it."""
    found = Path(path).read_text(encoding="utf-8")
    assert found, path
    for text in texts:
        assert text in found, f"{path} has no {text!r}"
    return found


assert "site-packages" in budgetnet.__file__, "not the installed package"
