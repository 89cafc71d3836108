"""Files from elsewhere, damaged or made to harm: nothing in them executes, and none gives a wrong number.

Each randomised test draws its trial from its number, so that one that fails can be tried alone. Everyday runs
try 300 files of each kind and `pytest -m slow` 3,000; BUDGETNET_TRIALS multiplies that: `BUDGETNET_TRIALS=7
pytest -m slow tests/test_hostile.py` tries 21,000.
"""

import ast
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from trials import trials

import budgetnet
from budgetnet import Budget, layers, models
from budgetnet.cli import main
from budgetnet.data.download import download
from budgetnet.files import checkpoint, seal
from budgetnet.guard.seen import SEEN, read_seen, write_seen
from budgetnet.modelfile import BadModelFile, card, read_card
from budgetnet.run import Run

PACKAGE = Path(budgetnet.__file__).parent
Result = TypeVar("Result")

# --- (a) damage


def small(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Budget("10k").build(models.convnet, classes=3, widths=(4, 8)).eval()


def mutated(content: bytes, other: bytes, draw: random.Random) -> bytes:
    """`content` damaged in one of the ways in which disks, networks and hands damage files."""
    changed, at = bytearray(content), draw.randrange(len(content))
    head = 8 + int.from_bytes(content[:8], "little")
    kind = draw.randrange(9)
    if kind == 0:  # a bit
        changed[at] ^= 1 << draw.randrange(8)
    elif kind == 1:  # a bit of the header, where the words and shapes are
        changed[draw.randrange(min(head, len(content)))] ^= 1 << draw.randrange(8)
    elif kind == 2:  # cut short
        del changed[at:]
    elif kind == 3:  # a block of zeros, as of a file that was never flushed
        length = draw.choice((1, 16, 512, 4096))
        changed[at : at + length] = bytes(len(changed[at : at + length]))
    elif kind == 4:  # longer
        changed += draw.randbytes(draw.choice((1, 8, 4096)))
    elif kind == 5:  # two blocks exchanged
        length, to = draw.choice((4, 64, 256)), draw.randrange(len(content))
        one, two = changed[at : at + length], changed[to : to + length]
        if len(one) == len(two) and abs(at - to) >= length:
            changed[at : at + length], changed[to : to + length] = two, one
    elif kind == 6:  # the head of one file before the tensors of another
        changed[head:] = other[head:]
    elif kind == 7:  # a digit of a shape, offset, length or digest
        digits = [index for index in range(min(head, len(content))) if chr(content[index]).isdigit()]
        changed[draw.choice(digits)] = ord(draw.choice("0123456789")) if digits else 0
    else:  # bytes of the tensors' own kind: the least significant ones of some weights
        for _ in range(draw.randrange(1, 4)):
            changed[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(changed)


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def attempt(call: Callable[[], Result]) -> tuple[Result | None, str]:
    """What a call answers, or the sentence of its refusal, a ValueError."""
    try:
        return call(), ""
    except ValueError as error:
        return None, f"{type(error).__name__} {error}"


def model_files(folder: Path, count: int) -> None:
    for seed in (0, 1):
        budgetnet.save(small(seed), folder / f"{seed}.safetensors", classes=("a", "b", "c"), resolution=8)
    good, other = ((folder / f"{seed}.safetensors").read_bytes() for seed in (0, 1))
    state, about = small(0).state_dict(), read_card(folder / "0.safetensors")
    path, refused = folder / "m.safetensors", 0
    for trial in range(count):
        content = mutated(good, other, random.Random(f"model {trial}"))
        if content == good:
            continue
        path.write_bytes(content)
        found, told = attempt(lambda: budgetnet.load(path))
        if found is None:
            assert told.startswith("BadModelFile "), (trial, told)
            assert str(path) in told, (trial, told)
            assert "\n" not in told, (trial, told)
            refused += 1
        else:
            assert same(found.state_dict(), state), f"trial {trial} loads wrong weights"
            assert card(found) == about, f"trial {trial} loads a wrong card"
    assert refused > 0.8 * count


def checkpoints(folder: Path, count: int) -> None:
    def tensors(seed: int) -> dict[str, Tensor]:
        return {
            "w": torch.randn(40, 3, generator=torch.Generator().manual_seed(seed)),
            "n": torch.tensor(seed),
        }

    paths = [checkpoint.save(folder, step, tensors(step), {"rate": 0.1, "step": step}) for step in (1, 2)]
    good = {name: (paths[1] / name).read_bytes() for name in (checkpoint.TENSORS, checkpoint.STATE)}
    older = {name: (paths[0] / name).read_bytes() for name in (checkpoint.TENSORS, checkpoint.STATE)}
    fallen = 0
    for trial in range(count):
        draw = random.Random(f"checkpoint {trial}")
        name = draw.choice((checkpoint.TENSORS, checkpoint.STATE))
        content = mutated(good[name], older[name], draw) if draw.random() < 0.9 else older[name]
        (paths[1] / name).write_bytes(content)
        found, bad = checkpoint.newest(folder)
        assert found is not None, f"trial {trial} hides the older checkpoint"
        assert same(dict(found.tensors), tensors(found.step)), f"trial {trial} reads wrong tensors"
        assert found.state == {"rate": 0.1, "step": found.step}, f"trial {trial} reads a wrong state"
        assert (found.step == 1) == bool(bad), trial
        assert all(str(paths[1]) in sentence for sentence in bad), trial
        fallen += found.step == 1
        (paths[1] / name).write_bytes(good[name])
    assert fallen > 0.8 * count
    assert checkpoint.newest(folder)[1] == []


def test_a_damaged_model_file_is_never_loaded_as_something_else(tmp_path: Path) -> None:
    model_files(tmp_path, trials(300))


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(tmp_path: Path) -> None:
    checkpoints(tmp_path, trials(300))


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_damage_of_many_kinds(tmp_path: Path) -> None:
    for name, fuzz in (("models", model_files), ("checkpoints", checkpoints)):
        (tmp_path / name).mkdir()
        fuzz(tmp_path / name, trials(3000))


@pytest.mark.parametrize("every", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_every_single_bit_of_a_model_file_counts(tmp_path: Path, every: int) -> None:
    path = tmp_path / "m.safetensors"
    budgetnet.save(nn.Linear(1, 1), path, classes=("a",))
    good = path.read_bytes()
    for bit in range(0, 8 * len(good), every):
        content = bytearray(good)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"m\.safetensors"):
            budgetnet.load(path, nn.Linear, 1, 1)


def test_files_of_a_checkpoint_under_anothers_name_are_refused(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, {"w": torch.zeros(1)}, {})
    path.rename(path.with_name("0000000009"))
    found, bad = checkpoint.newest(tmp_path)
    assert found is None
    assert "is that of step 1" in bad[0]


@pytest.mark.parametrize("state", [b"[" * 10**6, b"7", b"{}", b'{"body": 7, "sha256": 7}', b"\xff\xfe"])
def test_a_checkpoints_state_of_any_other_kind_is_refused(tmp_path: Path, state: bytes) -> None:
    path = checkpoint.save(tmp_path, 1, {"w": torch.zeros(1)}, {})
    (path / checkpoint.STATE).write_bytes(state)
    with pytest.raises(checkpoint.BadCheckpoint, match=str(path)):
        checkpoint.read(path)


def test_a_damaged_list_of_seen_images_is_refused(tmp_path: Path) -> None:
    hashes = torch.arange(50) * 10**15
    write_seen(tmp_path, hashes)
    good = (tmp_path / SEEN).read_bytes()
    for trial in range(trials(100)):
        content = mutated(good, good[::-1], random.Random(f"seen {trial}"))
        if content == good:
            continue
        (tmp_path / SEEN).write_bytes(content)
        found, told = attempt(lambda: read_seen(tmp_path))
        assert "delete it" in told or (found is not None and torch.equal(found, hashes)), (trial, told)


def test_a_list_of_seen_images_from_before_digests_is_read(tmp_path: Path) -> None:
    save_file({"train": torch.arange(5)}, tmp_path / SEEN)
    assert torch.equal(read_seen(tmp_path), torch.arange(5))  # type: ignore[arg-type]


# --- records of runs


def recorded(folder: Path, **entries: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"status": "finished", **entries}))
    return folder


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"result": {"val_accuracy": "high"}}, "its result's val_accuracy should be a number"),
        ({"result": {"val_accuracy": True}}, "should be a number"),
        ({"seed": {}}, "its seed should be a whole number"),
        ({"seed": 10**400}, "larger than any number here"),
        ({"status": ["finished"]}, "its status should be text"),
        ({"sessions": [7]}, "its sessions should be objects"),
        ({"sessions": [{"seconds": "long"}]}, "its sessions should be objects"),
        ({"notes": "note"}, "its notes should be a list"),
        ({"data": [1]}, "its data should be an object"),
        ({"recipe": json.loads("[" * 60 + "]" * 60)}, "its recipe should be an object"),
        ({"anything": json.loads("[" * 60 + "]" * 60)}, "nested deeper than 40 levels"),
        ({"anything": "a" * 3 * 2**20}, "at most 2,097,152 are read"),
    ],
)
def test_a_record_of_the_wrong_kind_is_one_sentence(
    tmp_path: Path, entries: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        Run.read(recorded(tmp_path / "run-1", **entries))
    assert str(tmp_path / "run-1" / "run.json") in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "change",
    [
        {"number": "1"},
        {"number": True},
        {"number": 1.5},
        {"epochs": 10**90},
        {"lr": "0.1"},
        {"name": ["learn"]},
        {"train_loss": {}},
        {"steps": None},
    ],
)
def test_a_line_of_metrics_of_the_wrong_kind_is_one_sentence(
    tmp_path: Path, change: dict[str, object]
) -> None:
    figures = dict.fromkeys(("number", "phase", "epoch", "epochs", "steps", "images", "resolution"), 1)
    line = {
        **figures,
        "name": "learn",
        "lr": 0.1,
        "train_loss": 1,
        "train_accuracy": None,
        "train_seconds": 2,
    }
    folder = recorded(tmp_path / "run-1")
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert Run.read(folder).history[0].train_loss == 1
    (folder / "metrics.jsonl").write_text(json.dumps({**line, **change}) + "\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl should hold a line of JSON an epoch"):
        Run.read(folder)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    recorded(tmp_path)
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match="no regular file"):
        Run.read(tmp_path)
    os.mkfifo(tmp_path / "m.safetensors")
    with pytest.raises(BadModelFile, match="no regular file"):
        budgetnet.load(tmp_path / "m.safetensors")


def test_a_link_beside_a_record_is_not_written_through(tmp_path: Path) -> None:
    run = Run.read(recorded(tmp_path / "run-1"))
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "run-1" / f".run.json.{os.getpid()}.part").symlink_to(victim)
    (tmp_path / "run-1" / "run.json").unlink()
    (tmp_path / "run-1" / "run.json").symlink_to(victim)
    run.note(test_uses=["once"])
    assert victim.read_text() == "precious"
    assert not (tmp_path / "run-1" / "run.json").is_symlink()


# --- (b) files made to harm, under audit hooks


def stored(folder: Path, name: str, words: dict[str, object] | str, tensors: dict[str, Tensor]) -> None:
    """A file with the right digests: whoever makes it can count them too."""
    if isinstance(words, str):
        save_file(tensors, folder / f"{name}.safetensors", {"budgetnet": words})
    else:
        (folder / f"{name}.safetensors").write_bytes(seal(tensors, words))


def cards() -> Iterator[tuple[str, dict[str, object]]]:
    """What hostile cards say, by a name for each."""

    def asks(**arguments: object) -> dict[str, object]:
        return {"arguments": [[], {"dict": {"classes": 3, **arguments}}]}

    nested: object = 1
    for _ in range(50):
        nested = {"partial": [{"layers": "basic"}, [nested], {"dict": {}}]}
    big = {"builder": "resnet"}
    identity = {"torch.nn": "Identity"}
    stacked = {"partial": [{"layers": "stage"}, [identity, 3, 3, 10**9], {"dict": {}}]}
    layered = {"partial": [{"layers": "stage"}, [identity], {"dict": {"blocks": 20}}]}
    for _ in range(6):
        layered = {"partial": [{"layers": "stage"}, [layered], {"dict": {"blocks": 20}}]}
    encoder = {"partial": [{"torch.nn": "TransformerEncoder"}, [identity, 10**9], {"dict": {}}]}
    recurrent = {"partial": [{"torch.nn": "LSTM"}, [3, 3, 10**9], {"dict": {}}]}
    yield "names a module of Python", {"builder": "os.system", "arguments": [["touch pwned"], {"dict": {}}]}
    yield "names a dunder", {"builder": "__init__"}
    yield "names no builder but inherit", {"builder": "inherit", "arguments": [[1, 2], {"dict": {}}]}
    yield "names a builder in a list", {"builder": ["convnet"]}
    yield "imports by its layers", asks(act={"layers": "torch"})
    yield "imports by torch.nn", asks(act={"torch.nn": "modules"})
    yield "imports by an unknown kind", asks(act={"os": "system"})
    yield "imports a module of its folder", {"builder": "evil", "origin": "evil.model"}
    yield "calls eval", asks(act={"partial": [{"layers": "eval"}, ["open('pwned','w')"], {"dict": {}}]})
    yield "a partial of text", asks(act={"partial": ["system", [], {"dict": {}}]})
    yield "ten thousand million classes", asks(classes=10**10)
    yield "channels that overflow", asks(channels=2**39, widths=[2**39])
    yield "channels past all numbers", asks(channels=10**30)
    yield "a million million blocks", big | asks(blocks=[10**12], widths=[8])
    yield "a million layers", big | asks(blocks=[10**6], widths=[1], stem=1)
    yield "thousands of widths", asks(widths=[1] * 5000)
    yield "more widths than values", asks(widths=[1] * 100_000)
    yield "a stage of a million nothings", asks(act=stacked)
    yield "stages within stages", asks(act={"partial": [layered, [3, 3], {"dict": {}}]})
    yield "an encoder of a million layers", asks(act=encoder)
    yield "a recurrent network as activation", asks(act=recurrent)
    yield "a lazy layer as activation", asks(act={"partial": [{"torch.nn": "LazyLinear"}, [3], {"dict": {}}]})
    yield (
        "rates without end",
        asks(act={"partial": [{"layers": "rising"}, [], {"dict": {"rate": 0.5, "blocks": [10**10]}}]}),
    )
    for name, asked in (("ReplicationPad2d", [3000]), ("AdaptiveAvgPool2d", [20_000])):
        yield f"a {name} without end", asks(act={"partial": [{"torch.nn": name}, asked, {"dict": {}}]})
    large = {"dict": {"scale_factor": 1000}}
    yield "an enlargement", asks(act={"partial": [{"torch.nn": "Upsample"}, [], large]}, widths=[4, 8])
    yield "a map without end", {"builder": "vgg"} | asks(resolution=2**40)
    yield "the largest of its kind", {"builder": "vgg"} | asks(configuration="E")
    yield "a head without end", {"builder": "mini_resnet"} | asks(blocks=30, resolution=2**40, width=2**30)
    yield "nested partials", asks(act=nested)
    yield "nested lists", asks(mean=json.loads("[" * 200 + "]" * 200))
    yield "a long text", {"builder": "efficientnet"} | asks(variant="b" * 500_000)
    yield "a network from the net", {"builder": "efficientnet"} | asks(weights="imagenet", variant="b7")
    yield "weights of another file", {"builder": "efficientnet"} | asks(weights="/etc/passwd")
    yield "a budget of a thousand million digits", {"budget": {"params": "9e999999999"}}
    yield "a budget of no such kind", {"budget": {"params": 100_000, "__class__": "x"}}
    yield "a budget in a list", {"budget": [1]}
    yield "pixels without end", {"crop": 10**9, "resize": 10**9}
    yield "pixels as text", {"crop": "large"}
    yield "classes that are no names", {"classes": [1, 2, 3]}
    yield "classes that are none", {"classes": {"a": 1}}
    yield "another format", {"format": 99}
    yield "an entry that cards do not have", {"__reduce__": ["os.system", "touch pwned"]}
    yield "arguments that are a number", {"arguments": 5}
    yield "arguments that are missing", {"arguments": None}
    yield "not a number among its arguments", asks(dropout=float("nan"))
    yield "an origin that takes over the terminal", {"builder": None, "origin": "\x1b]0;pwned\x07\x1b[2J\r"}


def hostile(folder: Path) -> list[Path]:
    """Model files made to harm."""
    model = Budget("100k").build(models.convnet, classes=3, widths=(4, 8))
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    good: dict[str, object] = {
        "format": 2,
        "version": "0",
        "classes": ["a", "b", "c"],
        "crop": 8,
        "resize": 8,
        "channels": 3,
        "builder": "convnet",
        "arguments": [[], {"dict": {"classes": 3, "widths": [4, 8]}}],
    }
    for name, words in cards():
        stored(folder, name, {**good, **words}, tensors)
    stored(folder, "deep words", "[" * 900_000, tensors)
    stored(folder, "words that are a list", "[1]", tensors)
    stored(folder, "long words", " " * 2**21 + "{}", tensors)
    stored(folder, "pickled words", "cos\nsystem\n(S'touch pwned'\ntR.", tensors)
    many = {f"t{number}": torch.zeros(0) for number in range(20_000)}
    stored(folder, "twenty thousand tensors", json.dumps(good), many)
    stored(folder, "nine thousand tensors", good, dict(list(many.items())[:9000]))
    stored(folder, "tensors of another network", good, {**tensors, "head.linear.weight": torch.zeros(1)})
    whole = {**tensors, "head.linear.bias": torch.zeros(3, dtype=torch.int64)}
    stored(folder, "whole numbers as weights", good, whole)
    stored(
        folder,
        "numbers of two parts",
        good,
        {**tensors, "head.linear.bias": torch.zeros(3, dtype=torch.cfloat)},
    )
    stored(folder, "digests that are missing", json.dumps(good), tensors)
    stored(folder, "digests of text", json.dumps({**good, "sha256": "0" * 64, "data_sha256": 7}), tensors)
    stored(
        folder,
        "digests of another file",
        json.dumps({**good, "sha256": "0" * 64, "data_sha256": "1" * 64}),
        tensors,
    )
    stored(
        folder,
        "the first format, unsealed",
        json.dumps({**good, "format": 1, "builder": "os.system"}),
        tensors,
    )
    torch.save({"weights": torch.zeros(3)}, folder / "a pickle.safetensors")
    (folder / "nothing.safetensors").write_bytes(b"")
    (folder / "a header without end.safetensors").write_bytes(b"\xff" * 8 + b"{}")
    (folder / "a long header.safetensors").write_bytes((50 * 2**20).to_bytes(8, "little") + b" " * 50 * 2**20)
    (folder / "a header of brackets.safetensors").write_bytes((2**21).to_bytes(8, "little") + b"[" * 2**21)
    offsets = b'{"a":{"dtype":"F32","shape":[9999999999999],"data_offsets":[0,39999999999996]}}'
    (folder / "a tensor without end.safetensors").write_bytes(len(offsets).to_bytes(8, "little") + offsets)
    with (folder / "a hole of 100 GB.safetensors").open("wb") as hole:
        hole.write((2**36).to_bytes(8, "little"))
        hole.truncate(100 * 2**30)
    return sorted(folder.glob("*.safetensors"))


def hostile_runs(folder: Path, model: Path) -> None:
    """Folders of runs made to harm, `folder` the one that they lie in; beside it lies what is precious."""
    record: dict[str, object] = {"status": "paused", "seed": 0, "result": {"val_accuracy": 0.5}}
    figures = dict.fromkeys(("number", "phase", "epoch", "epochs", "steps", "images", "resolution"), 1)
    line = {**figures, "name": "learn", "lr": 0.1, "train_loss": 1, "train_accuracy": 0.5, "train_seconds": 2}
    deep = '{"a":' * 100_000 + "1" + "}" * 100_000
    escapes = "\x1b]0;owned\x07\x1b[2J\u202e[bold red]x[/]\n\r\x9b"
    texts = ("status", "started", "external", "device", "error", "after")
    digits = json.dumps(line).replace('"lr": 0.1', '"lr": ' + "9" * 6000)
    records: dict[str, str] = {
        "deep": deep,
        "brackets": "[" * 500_000,
        "nothing": "",
        "null": "null",
        "list": "[]",
        "text": '"run"',
        "noise": "\x00\xff\x01" * 99,
        "long": json.dumps({**record, "anything": "x" * 3 * 2**20}),
        "twice": '{"status": "finished", "status": ["paused"], "status": "failed"}',
        "not a number": '{"status": "paused", "result": {"val_accuracy": NaN, "test_accuracy": -Infinity}}',
        "a large number": '{"status": "paused", "seed": ' + "9" * 4000 + "}",
        "a larger number": '{"status": "paused", "seed": ' + "9" * 9000 + "}",
        "1e999": '{"status": "paused", "result": {"val_accuracy": 1e999}, "scale": 1e999}',
        "escapes": json.dumps({**record, **dict.fromkeys(texts, escapes)}),
        "escaped keys": json.dumps({**record, "result": {escapes: 1}, "recipe": {escapes: escapes}}),
        "code": json.dumps(
            {**record, "recipe_file": "evil.py", "settings": ["data.x=__import__('evil')", "model.x=evil"]}
        ),
        "a setting without end": json.dumps({**record, "settings": ["recipe.clip=" + "-" * 5000 + "1"]}),
        "nested settings": json.dumps(
            {**record, "settings": ["recipe.clip=" + "(" * 900, "data.x=" + "[" * 150]}
        ),
        "settings of a recipe": json.dumps({**record, "settings": ["recipe.batch_size=10**9", 7, None]}),
        "links": json.dumps({**record, "after": "../../precious", "sessions": [{"seconds": 1e308}] * 900}),
        "half a character": '{"status": "\\udcff", "name": "\\ud800"}',
    }
    metrics: dict[str, bytes] = {
        "a line of 20 MB": b"x" * 20 * 2**20,
        "brackets in lines": (b"[" * 100_000 + b"\n") * 9,
        "ten thousand bad lines": b"{}\n" * 10_000,
        "figures without end": (json.dumps(line).replace("0.1", "1e999") + "\n").encode(),
        "names that steer": (json.dumps({**line, "name": escapes}) + "\n").encode(),
        "bytes": b"\xff\xfe\x00" * 999,
        "numbers of many digits": f"{digits}\n".encode(),
    }
    found = {name: recorded(folder / name, **record) for name in (*records, *metrics)}
    for name, text in records.items():
        (found[name] / "run.json").write_text(text)
    for name, content in metrics.items():
        (found[name] / "metrics.jsonl").write_bytes(content)
    away = folder.parent / "precious"
    for name in ("run.json", "metrics.jsonl", "seen.safetensors"):
        found[f"a pipe for {name}"] = recorded(folder / f"a pipe for {name}", **record)
        (folder / f"a pipe for {name}" / name).unlink(missing_ok=True)
        os.mkfifo(folder / f"a pipe for {name}" / name)
    from budgetnet.files import LOCK

    for name in ("metrics.jsonl", LOCK, "checkpoints", "seen.safetensors", "new.jsonl"):
        found[f"a link for {name}"] = recorded(folder / f"a link for {name}", **record)
        target = away if name == "checkpoints" else away / "missing" if name == "new.jsonl" else away / "file"
        (folder / f"a link for {name}" / name.replace("new", "metrics")).symlink_to(target)
    for name in ("points elsewhere", "is a link", "has a pipe", "has no end"):
        found[name] = recorded(folder / name, **record)
        path = checkpoint.save(found[name], 1, {"w": torch.zeros(1)}, {"contract": {}})
        if name == "points elsewhere":
            (path / checkpoint.STATE).unlink()
            (path / checkpoint.STATE).symlink_to(away / "file")
        elif name == "is a link":
            path.rename(away / "0000000001")
            path.symlink_to(away / "0000000001")
        else:
            (path / checkpoint.TENSORS).unlink()
            os.mkfifo(path / checkpoint.TENSORS) if name == "has a pipe" else (
                path / checkpoint.TENSORS
            ).symlink_to("/dev/zero")
    for run in found.values():
        (run / "model.safetensors").symlink_to(model)


WATCHED = """
import contextlib, io, json, os, resource, runpy, sys, time
folder, out = sys.argv[1], sys.argv[2]
os.chdir(folder)
sys.path.insert(0, folder)  # where evil.py lies
import torch, torchvision, matplotlib.figure
torch.set_num_threads(1)
from click.testing import CliRunner
import budgetnet
from budgetnet.cli import main
from budgetnet.plan import recipes_folder

def commands(path, run):
    yield "load", lambda: budgetnet.load(path)
    yield "predict", ["predict", path, "photo.png"]
    yield "evaluate", ["evaluate", path, "recipe.py"]
    yield "count", ["count", path, "--resolution", "8"]
    yield "evaluate a run", ["evaluate", run, "recipe.py"]
    yield "list", ["list", "--out", "runs"]
    yield "compare", ["compare", run, "--json"]
    yield "compare in words", ["compare", run, "runs/good", "--out", "runs/out"]

def of_runs(run):
    yield "resume", ["run", "recipe.py", "--resume", run, "-q"]
    yield "follow", ["run", "recipe.py", "--after", run, "-q", "--out", "runs/out"]
    yield "evaluate this", ["evaluate", run, "recipe.py"]
    yield "predict this", ["predict", run, "photo.png"]
    yield "count this", ["count", run, "--resolution", "8"]
    yield "compare this", ["compare", run, "runs/good", "--json"]

def told(command):
    if callable(command):
        try:
            command()
            return 0, ""
        except ValueError as error:
            return 2, str(error)
    found = CliRunner().invoke(main, command, terminal_width=200)
    return found.exit_code, found.output

for _ in range(2):  # whatever is imported late is imported now
    for path in ("good.safetensors", "refused.safetensors"):
        for _, command in [*commands(path, "runs/good"), *of_runs("runs/good")]:
            told(command)

found, at, watching = [], ["warm"], [False]
BANNED = ("import", "subprocess.", "socket.", "ctypes.", "pickle.", "marshal.", "urllib.", "shutil.",
          "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.putenv", "os.remove",
          "os.rename", "os.chmod", "os.symlink", "os.link", "os.truncate")
here = os.path.realpath(folder)
RUNS = (here + "/runs/", here + "/hostile-runs/")
recipe = os.path.join(here, "recipe.py")
SHELF = {path.read_bytes() for path in recipes_folder().glob("*.py")}
def seen(event, args):
    if not watching[0]:
        return
    if event.startswith(BANNED):
        name = str(args[:1])
        if event == "os.truncate" and isinstance(args[0], int):
            return  # a file that is open already, such as a run's lock
        if event in ("os.remove", "os.rename", "shutil.rmtree"):
            place = os.fsdecode(args[0])
            if event == "os.remove" and isinstance(args[1], int) and args[1] >= 0:
                place = os.path.join(os.readlink(f"/proc/self/fd/{args[1]}"), place)
            # Not the file that a link leads to, but the link.
            parent = os.path.realpath(os.path.dirname(place))
            if (os.path.join(parent, os.path.basename(place)) + "/").startswith(RUNS):
                return
        found.append([at[0], event, name[:200]])
    elif event == "open" and isinstance(args[0], (str, bytes)):
        mode, flags = str(args[1]), args[2] or 0
        writes = set(mode) & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        place = os.path.realpath(os.fsdecode(args[0]))
        if flags & os.O_NOFOLLOW:  # the link, and not what it leads to
            parent = os.path.realpath(os.path.dirname(os.fsdecode(args[0])))
            place = os.path.join(parent, os.path.basename(os.fsdecode(args[0])))
        if writes and not place.startswith(RUNS):
            if os.fsdecode(args[0]) != os.devnull:
                found.append([at[0], event, str(args)[:200]])
    elif event == "compile":
        # `list` reads the titles of the recipes that come along, as syntax.
        text = args[0].encode() if isinstance(args[0], str) else args[0]
        # Values of settings are read as literals, which is syntax too; nothing of it is executed.
        file = os.fsdecode(args[1] or "?")
        if text not in SHELF and file != "<unknown>" and os.path.realpath(file) != recipe:
            found.append([at[0], event, str(args)[:200]])
    elif event == "exec":
        if os.path.realpath(args[0].co_filename) != recipe:
            found.append([at[0], event, str(args)[:200]])
sys.addaudithook(seen)

def resident(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

told_all, worst = [], []
files = json.load(open("files.json"))
work = [(path, *each) for number, path in enumerate(files) for each in commands(path, f"runs/{number:03d}")]
work += [(run, *each) for run in json.load(open("runs.json")) for each in of_runs(run)]
work += [("all", "list", ["list", "--out", "hostile-runs"])]
for path, name, command in work:
    at[0] = f"{name}: {path}"
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    before = resident("VmRSS")
    watching[0] = True
    code, text = told(command)
    watching[0] = False
    worst.append([at[0], max(resident("VmHWM") - before, 0)])
    told_all.append([name, path, code, text])
json.dump({"found": found, "worst": worst, "told": told_all}, open(out, "w"))
"""

RECIPE_FILE = """
import torch
from budgetnet import Budget, Phase, Recipe, arrays, models
def model():
    return Budget("100k").build(models.convnet, 3, widths=(4, 8))
def data():
    labels, images = torch.arange(9) % 3, (torch.arange(9 * 3 * 8 * 8) * 7 % 251).byte().reshape(9, 3, 8, 8)
    return arrays(images, labels, classes=("a", "b", "c"), val=(255 - images, labels))
recipe = Recipe(phases=[Phase(epochs=1, resolution=8, lr=0.1)])
"""


@pytest.fixture(scope="module", params=[12, pytest.param(1, marks=pytest.mark.slow)])
def watched(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, list[list[object]]]:
    """What every command said of hostile files and runs, every twelfth everyday, and what audit hooks saw."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "evil.py").write_text("open('pwned', 'w')\n")
    (folder / "recipe.py").write_text(RECIPE_FILE)
    Image.new("RGB", (8, 8)).save(folder / "photo.png")
    model = Budget("100k").build(models.convnet, classes=3, widths=(4, 8))
    budgetnet.save(model, folder / "good.safetensors", classes=("a", "b", "c"), resolution=8)
    (folder / "refused.safetensors").write_bytes(b"refused")
    files = hostile(folder_of(folder))[:: request.param]
    record = {"status": "finished", "seed": 0, "result": {"val_accuracy": 0.5}, "recipe_file": "evil.py"}
    runs = {f"{number:03d}": path for number, path in enumerate(files)}
    for name, path in {"good": folder / "good.safetensors", **runs}.items():
        run = recorded(folder / "runs" / name, **record, notes=["\x1b[2Jfake\nline"])
        (run / "model.safetensors").symlink_to(path)
    away = folder / "precious"
    (away / ".hidden").mkdir(parents=True)
    for name in ("file", ".hidden/file"):
        (away / name).write_text("precious")
    hostile_runs(folder / "hostile-runs", folder / "good.safetensors")
    before = sorted(str(path) for path in away.rglob("*"))
    runs_made = [str(path) for path in sorted((folder / "hostile-runs").iterdir())][:: request.param]
    (folder / "runs.json").write_text(json.dumps(runs_made))
    (folder / "files.json").write_text(json.dumps([str(path) for path in files]))
    script, out = folder / "watched.py", folder / "watched.json"
    script.write_text(WATCHED)
    done = subprocess.run(
        [sys.executable, str(script), str(folder), str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not (folder / "pwned").exists()
    assert sorted(str(path) for path in away.rglob("*")) == before
    assert {(away / name).read_text() for name in ("file", ".hidden/file")} == {"precious"}
    found: dict[str, list[list[object]]] = json.loads(out.read_text())
    return found


def folder_of(folder: Path) -> Path:
    (folder / "files").mkdir()
    return folder / "files"


# Python and torch begin anew in the process that is watched, on machines that do other things too.
in_a_process_of_its_own = pytest.mark.timeout(1200)


@in_a_process_of_its_own
def test_hostile_files_and_runs_are_many(
    watched: dict[str, list[list[object]]], request: pytest.FixtureRequest
) -> None:
    every = request.node.callspec.params["watched"]
    assert len({path for name, path, _, _ in watched["told"] if name == "load"}) >= 60 // every
    assert len({path for name, path, _, _ in watched["told"] if name == "resume"}) >= 40 // every


@in_a_process_of_its_own
def test_nothing_in_a_hostile_file_is_imported_executed_or_written(
    watched: dict[str, list[list[object]]],
) -> None:
    assert watched["found"] == []


@in_a_process_of_its_own
def test_a_hostile_file_takes_no_memory(watched: dict[str, list[list[object]]]) -> None:
    assert [[where, more] for where, more in watched["worst"] if more > 64] == []  # type: ignore[operator]


@in_a_process_of_its_own
def test_a_hostile_file_is_refused_in_one_plain_sentence(watched: dict[str, list[list[object]]]) -> None:
    for name, path, code, text in watched["told"]:
        assert isinstance(text, str)
        assert "Traceback" not in text, (name, path)
        assert "bug" not in text, (name, path, text)
        assert code in (0, 1, 2), (name, path, code, text[:300])
        assert not set(text) & set(map(chr, [*range(9), *range(11, 32), 127])), (name, path, text)
        if name.startswith("evaluate") and "an origin" in path and code == 0:
            continue  # a model that the recipe, which the user named, builds
        if name in ("load", "predict", "count", "evaluate", "evaluate a run"):
            assert code == 2, (name, path, code, text[:300])
            assert len(text.strip().splitlines()) == 1, (name, path, text[:300])
            assert len(text) < 1500, (name, path)
        elif name in ("resume", "follow", "evaluate this", "predict this", "count this", "compare this"):
            last = text.strip().splitlines()[-1]
            assert len(last) < 2000, (name, path)
            assert code == 0 or last.startswith("Error: "), (name, path, code, text[:300])
            assert name != "resume" or code != 0, (name, path, code, text[:300])
        else:
            assert code == 0, (name, path, code, text[:300])


# --- what leaves the machine

SENT: list[str] = []
LISTENING = [False]


def heard(event: str, args: tuple[object, ...]) -> None:
    if (
        LISTENING
        and LISTENING[0]
        and event.startswith(("socket.", "urllib.", "http.", "ftplib.", "smtplib."))
    ):
        SENT.append(f"{event} {args!r:.100}")


sys.addaudithook(heard)


def test_a_training_and_all_that_follows_it_open_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.py").write_text(RECIPE_FILE)
    Image.new("RGB", (8, 8)).save("photo.png")
    commands = (
        ["run", "recipe.py", "-q"],
        ["evaluate", "runs/recipe-1", "recipe.py"],
        ["predict", "runs/recipe-1", "photo.png"],
        ["count", "runs/recipe-1"],
        ["compress", "runs/recipe-1", "recipe.py", "--epochs", "1"],
        ["compare", "runs/recipe-1"],
        ["preview", "recipe.py"],
        ["check", "recipe.py"],
        ["list"],
    )
    SENT.clear()
    LISTENING[0] = True
    try:
        for command in commands:
            done = CliRunner().invoke(main, command)
            assert done.exit_code == 0, (command, done.output)
        assert SENT == []
        with pytest.raises(ValueError, match="cannot be fetched"):
            download("http://127.0.0.1:9/set.tar.gz", "0" * 32, tmp_path, limit=1, attempts=1, pause=0.0)
        assert any(event.startswith("socket.connect") for event in SENT), "the hook hears nothing"
    finally:
        LISTENING[0] = False


# --- names that take over a terminal


def test_names_in_a_model_file_are_shown_and_not_obeyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from budgetnet.console import Display, say, table

    names = ("\x1b]0;owned\x07", "\x9b2J", "\u202egnp.exe", "bell\r\n\x08")
    budgetnet.save(small(0), tmp_path / "m", classes=names[:3])
    assert read_card(tmp_path / "m").classes == names[:3]
    table(names, [names], title=names[0])
    for name in names:
        say(name)
        Display().say(name)
    say("\udcff is half a character")
    shown = capsys.readouterr().out
    assert not any(character in shown for character in "\x1b\x07\x9b\u202e\r\x08\udcff")
    assert "\\x1b]0;owned\\x07" in shown
    assert "\\u202egnp.exe" in shown
    assert "bell\\r\\n\\x08" in shown


# --- (c) what the package does not contain

FORBIDDEN_MODULES = {
    *(
        "pickle",
        "cPickle",
        "_pickle",
        "pickletools",
        "dill",
        "cloudpickle",
        "joblib",
        "marshal",
        "shelve",
        "dbm",
    ),
    *("yaml", "ruamel", "jsonpickle", "code", "codeop", "cffi", "imp", "zipimport", "pty", "tarfile", "dbm"),
}
"""Those that execute what they read, or might; tarfile writes where it is told, and reads without bounds."""
UNPACKS = {"data/source.py"}
"""Where archives of a known digest are read, and what they hold is written by ourselves."""
NETWORK = {
    "urllib",
    "http",
    "socket",
    "ssl",
    "ftplib",
    "smtplib",
    "requests",
    "httpx",
    "aiohttp",
    "websockets",
}
DOWNLOADS = {"data/download.py", "data/source.py"}
"""The only files that know the network, the second of them no more than how an address is taken apart."""
RUNS_PYTHON = {"plan.py"}
"""Where a recipe, which is a Python program that the user names, is run."""
RUNS_PROCESSES = {"sweep/process.py", "sweep/spread.py", "identity/source.py", "exporting/footprint.py"}
"""Where a process is started: workers of ours, git, asked for a recipe's commit, and what is measured."""
HANDS_OVER = {"exporting/exporter.py", "exporting/footprint.py"}
"""Where a model in memory goes to a process of our own, by a file that only this user can write."""
ASKS_THE_SYSTEM = {"process/system.py"}
"""Where Windows is asked for its free memory."""
COMPILES = {"identity/code.py"}
"""Where a source is compiled, to see whether a function came from it; it is never executed."""
RUNNERS = {"runpy", "subprocess", "ctypes", "multiprocessing", "pkgutil", "webbrowser", "xmlrpc", "code"}
EXECUTES = {
    *("eval", "exec", "compile", "__import__", "execfile", "input", "breakpoint"),
    *("torch.load", "torch.jit.load", "torch.package", "torch.hub.load", "torch.save"),
    *("os.system", "os.popen", "os.startfile", "os.fork", "os.forkpty", "os.posix_spawn", "pty.spawn"),
    *(
        "builtins.eval",
        "builtins.exec",
        "types.FunctionType",
        "types.CodeType",
        "np.fromregex",
        "pd.read_pickle",
    ),
}


OWN_NAMES = ("__init__.py", "cli/commands/__init__.py", "exporting/formats.py", "text.py")
"""Those that import budgetnet's own files by their names, and packages by names that stand there."""


def called(node: ast.Call) -> str:
    """The dotted name of what is called, as far as it is one."""
    parts, target = [], node.func
    while isinstance(target, ast.Attribute):
        parts.append(target.attr)
        target = target.value
    return ".".join([*([target.id] if isinstance(target, ast.Name) else ["?"]), *reversed(parts)])


def complaints(tree: ast.AST, path: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            for name in names:
                top = name.split(".")[0]
                if (top == "tarfile" and path in UNPACKS) or (top == "pkgutil" and path in OWN_NAMES):
                    continue
                if top in FORBIDDEN_MODULES or (top in NETWORK and path not in DOWNLOADS):
                    yield f"imports {name}"
                allowed = {"runpy": RUNS_PYTHON, "subprocess": RUNS_PROCESSES, "ctypes": ASKS_THE_SYSTEM}
                if top in RUNNERS and path not in allowed.get(top, ()):
                    yield f"imports {name}"
        elif isinstance(node, ast.Call):
            name, keywords = called(node), {k.arg: k.value for k in node.keywords}
            own = (name == "compile" and path in COMPILES) or (
                name in ("torch.save", "torch.load") and path in HANDS_OVER
            )
            if name in EXECUTES and not own:
                yield f"calls {name}"
            if name.endswith(("extractall", ".unpack_archive", ".load_module", ".exec_module")):
                yield f"calls {name}"
            plain = (
                isinstance(pickles := keywords.get("allow_pickle"), ast.Constant) and pickles.value is False
            )
            if (name.endswith("np.load") or "allow_pickle" in keywords) and not plain:
                yield f"calls {name} with pickles"
            if "shell" in keywords or name.startswith(("os.exec", "os.spawn")):
                yield f"calls {name} with a shell"
            if name.endswith("import_module") and path not in OWN_NAMES:
                yield f"imports by name with {name}"


def test_the_package_holds_nothing_that_executes_a_file() -> None:
    found = [
        f"{path.relative_to(PACKAGE)} {complaint}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for complaint in complaints(ast.parse(path.read_text()), path.relative_to(PACKAGE).as_posix())
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from urllib.request import urlopen",
        "import yaml",
        "torch.load(path, weights_only=True)",
        "eval(text)",
        "archive.extractall(folder)",
        "subprocess.run(text, shell=True)",
        "numpy.load(path, allow_pickle=True)",
        "importlib.import_module(name)",
        "import subprocess",
        "import multiprocessing",
        "import ctypes",
        "from shelve import open",
        "import marshal",
        "import tarfile",
        "__import__(name)",
        "torch.jit.load(path)",
        "exec(text)",
        "os.posix_spawn(path, [], {})",
        "import socket",
        "import runpy",
    ],
)
def test_the_search_finds_what_it_looks_for(line: str) -> None:
    assert list(complaints(ast.parse(line), "modelfile/card.py"))


def test_a_pickle_under_a_models_name_is_not_unpickled(tmp_path: Path) -> None:
    torch.save(layers.basic(3, 3).state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(BadModelFile, match="should be a safetensors file"):
        budgetnet.load(tmp_path / "model.safetensors")
