"""Embedded: a LiteRT program as an array of C, with a header that says what it takes and gives."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from budgetnet.exporting.arena import Program
from budgetnet.exporting.formats import FORMATS, KEYS, seal_of, sealed, with_words, words_behind
from budgetnet.process import VERSION

CHANGED = "it has been changed since budgetnet exported it"
_LINE = 16
_ARRAY = re.compile(r"const unsigned char (\w+)_data\[\w+\] = \{\n")
_BEGINS = re.compile(
    r"/\* [^\n]*\.h, by budgetnet |"
    r'#include "[^\n]*\.h"\n\n\w+_ALIGNED const unsigned char \w+_data\['
)
_WORDS = re.compile(r"^/\* (\w+) (\{.*\}) \*/$", re.MULTILINE)
_KEYWORDS = {"auto", "char", "const", "double", "float", "int", "long", "short", "static"}


def within(content: bytes, path: Path) -> tuple[bytes, Path]:
    """The file that runs: of one of C the .tflite file in it. Raises ValueError for a changed one."""
    if path.suffix != FORMATS["c"].suffix:
        return content, path
    return read_c(content.decode()), path.with_suffix(FORMATS["litert"].suffix)


def weight(content: bytes, path: Path) -> int:
    """The bytes that a file takes where it runs: of one of C those of its array."""
    return len(content if path.suffix != FORMATS["c"].suffix else program_of(read_c(content.decode())))


def program_of(content: bytes) -> bytes:
    """The program alone of a .tflite file: all that a microcontroller has to hold."""
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        return content[: min(each.header_offset for each in opened.infolist())]


def c_source(content: bytes, stem: str) -> str:
    """The array that NAME.c is, of a whole .tflite file, and as comments what that says of itself."""
    name, program = _identifier(stem), program_of(content)
    # Six characters a byte, as a whole: a loop over bytes takes minutes for a large network.
    numbers = "0x" + program.hex(",").replace(",", ", 0x")
    array = ",\n".join(f"  {numbers[at : at + 6 * _LINE - 2]}" for at in range(0, len(numbers), 6 * _LINE))
    words = words_behind(content)
    classes = ",\n".join(f"  {_string(each)}" for each in _classes(words))
    return "\n".join(
        [
            f'#include "{stem}.h"',
            "",
            f"{name.upper()}_ALIGNED const unsigned char {name}_data[{name.upper()}_BYTES] = {{",
            f"{array}\n}};",
            *([f"\nconst char *const {name}_classes[] = {{\n{classes}\n}};"] if classes else []),
            "",
            *(f"/* {key} {_commented(text)} */" for key, text in words.items()),
            f"/* sha256 {seal_of(content)} */",
            "",
        ]
    )


@lru_cache(maxsize=1)
def read_c(text: str) -> bytes:
    """The whole .tflite file that `c_source` was given. Raises ValueError where it gave another text.

    An export asks it again and again for one text, of which a large network's takes seconds.
    """
    found = _ARRAY.search(text)
    end = text.find("\n};", found.end()) if found is not None else -1
    if found is None or end < 0:
        raise ValueError("it has no array of a model")
    try:
        program = bytes.fromhex(text[found.end() : end].replace("0x", "").replace(",", ""))
    except ValueError:
        raise ValueError(CHANGED) from None
    said = dict(_WORDS.findall(text, end))
    words = {key: json.dumps(json.loads(each), separators=(",", ":")) for key, each in said.items()}
    content = sealed(with_words(program, {key: words[key] for key in KEYS}), FORMATS["litert"])
    included = re.match(r'#include "(.*)\.h"', text)
    if included is None or c_source(content, included[1]) != text:
        raise ValueError(CHANGED)
    return content


def is_ours(file: Path) -> bool:
    """Whether a file NAME.c or NAME.h begins as those that an export to C writes."""
    try:
        with file.open("rb") as opened:
            return _BEGINS.match(opened.read(1024).decode(errors="replace")) is not None
    except OSError:
        return False


def c_header(content: bytes, stem: str, steps: Mapping[str, Any], page: str) -> str:
    """The header NAME.h: sizes, the arena, scales of whole numbers in `steps`, and how the array is used."""
    name, program = _identifier(stem), Program(program_of(content))
    operators = program.operators
    classes = len(_classes(words_behind(content)))
    adds = "".join(f" *   resolver.Add{each}();\n" for each in operators)
    sizes = "\n".join(f"#define {name.upper()}_{what}" for what in _sizes(program, classes, steps))
    return f"""/* {stem}.h, by budgetnet {VERSION}: an image classifier for LiteRT for Microcontrollers.
 *
 * What becomes of a photo before it is the input, and what the output says, is in {page}.
 *
 *   {name.upper()}_ALIGNED static unsigned char arena[{name.upper()}_ARENA_BYTES];
 *   tflite::MicroMutableOpResolver<{len(operators)}> resolver;
{adds} *   tflite::MicroInterpreter interpreter(tflite::GetModel({name}_data), resolver, arena, sizeof arena);
 */
#ifndef {name.upper()}_H
#define {name.upper()}_H

{sizes}

#if defined(__cplusplus)
#define {name.upper()}_ALIGNED alignas(16)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define {name.upper()}_ALIGNED _Alignas(16)
#else
#define {name.upper()}_ALIGNED __attribute__((aligned(16)))
#endif

#ifdef __cplusplus
extern "C" {{
#endif

extern const unsigned char {name}_data[{name.upper()}_BYTES];
{f"extern const char *const {name}_classes[{name.upper()}_CLASSES];" if classes else ""}
#ifdef __cplusplus
}}
#endif

#endif
"""


def _sizes(program: Program, classes: int, steps: Mapping[str, Any]) -> Iterator[str]:
    """The constants of the header, each with what it is."""
    _, channels, height, width = steps["input"]["shape"]
    yield f"BYTES {len(program.content)} /* of flash: the array */"
    planned = f"of which {program.planned} hold activations"
    yield f"ARENA_BYTES {program.arena} /* of RAM, at most: {planned} */"
    yield f"CHANNELS {channels} /* the input is planes, each of rows */"
    yield f"HEIGHT {height}"
    yield f"WIDTH {width}"
    if classes:
        yield f"CLASSES {classes}"
    for end in ("input", "output"):
        if "scale" in steps[end]:
            scale, zero = float(steps[end]["scale"]), steps[end]["zero_point"]
            stands = "an int8 q stands for (q - ZERO_POINT) * SCALE"
            yield f"{end.upper()}_SCALE {scale:.9e}f /* {stands} */"
            yield f"{end.upper()}_ZERO_POINT ({zero})"


def _identifier(stem: str) -> str:
    """A name of C for what a file is called."""
    name = re.sub(r"\W", "_", stem, flags=re.ASCII)
    return f"model_{name}" if name[:1].isdigit() or name in _KEYWORDS else name


def _classes(words: Mapping[str, str]) -> list[str]:
    return list(json.loads(words["card"]).get("classes") or [])


def _string(text: str) -> str:
    """A string of C, other bytes than ASCII's as octal numbers."""
    plain = (
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
        for byte in text.encode("utf-8", "surrogatepass")
    )
    return f'"{"".join(plain)}"'


def _commented(text: str) -> str:
    """JSON that neither begins nor ends a comment."""
    return text.replace("*/", "*\\u002f").replace("/*", "\\u002f*")
