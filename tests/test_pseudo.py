"""Pseudo-labels: what is kept and why, how it joins the training images, its list, and FixMatch's loss."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import v2

import budgetnet
from budgetnet import Cutmix, FixMatch, Flip, Mixup, PseudoLabels, Split
from budgetnet.augment import view
from budgetnet.pseudo import Kept, apart, fixmatch_loss, join, keep, read_csv, sharpen, write_csv

CLASSES = ("cat", "dog", "red, hot", 'the "best"')


def drawn(seed: int, count: int = 40, classes: int = 4, spread: float = 3.0) -> Tensor:
    """Probabilities (count, classes) of all degrees of confidence."""
    generator = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(count, classes, generator=generator)).softmax(dim=1)


def pictures(count: int, *, first: int = 0, names: tuple[str, ...] | None = None, side: int = 4) -> Split:
    """A split of images that all differ, the first one filled with `first`, with no labels."""
    values = torch.arange(first, first + count)
    images = values.view(-1, 1, 1, 1).expand(-1, 3, side, side).to(torch.uint8).contiguous()
    return Split(images, torch.full((count,), -1), values.clone(), names)


def kept_at(positions: list[int], labels: list[int], confidence: float = 0.9) -> Kept:
    where, called = (torch.tensor(values, dtype=torch.int64) for values in (positions, labels))
    return Kept(where, called, torch.full((len(positions),), confidence), 0.8, 1.0)


# Sharpening.

seeds = st.integers(0, 10**6)
temperatures = st.floats(1e-3, 1e3)


@given(seeds, temperatures, st.integers(1, 7))
def test_sharpened_rows_sum_to_one_and_keep_their_order(seed: int, temperature: float, classes: int) -> None:
    found = drawn(seed, 5, classes)
    sharpened = sharpen(found, temperature)
    assert sharpened.dtype == torch.float64
    torch.testing.assert_close(sharpened.sum(dim=1), torch.ones(5, dtype=torch.float64))
    order = found.argsort(dim=1)
    assert bool((sharpened.gather(1, order).diff(dim=1) >= 0).all())


@given(seeds, st.floats(0.2, 5))
def test_sharpening_is_the_power_normalised_and_undone_by_its_inverse(seed: int, temperature: float) -> None:
    found = drawn(seed).double()
    power = found ** (1 / temperature)
    torch.testing.assert_close(sharpen(found, temperature), power / power.sum(dim=1, keepdim=True))
    torch.testing.assert_close(sharpen(sharpen(found, temperature), 1 / temperature), found)


@given(seeds, st.floats(0.05, 1), st.floats(0.05, 1))
def test_a_lower_temperature_is_never_less_confident(seed: int, one: float, other: float) -> None:
    found = drawn(seed)
    colder, warmer = (sharpen(found, value).amax(dim=1) for value in sorted((one, other)))
    assert bool((colder >= warmer - 1e-12).all())


def test_extremes_do_not_overflow() -> None:
    found = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [1e-30, 1.0, 0.0]])
    for temperature in (1e-300, 1e-3, 1.0, 1e300):
        sharpened = sharpen(found, temperature)
        assert bool(sharpened.isfinite().all())
        assert sharpened[0].tolist() == [1, 0, 0]
        assert sharpened[1].tolist() == [0.5, 0.5, 0]


@pytest.mark.parametrize(
    "found",
    [
        torch.tensor([[2.0, -1.0]]),  # sums to one, and is none
        torch.tensor([[1.0, 3.0]]),
        torch.tensor([[math.nan, 1.0]]),
        torch.tensor([[1, 0]]),
        torch.tensor(1.0),
        torch.zeros(3, 0),
    ],
)
def test_logits_are_not_taken_for_probabilities(found: Tensor) -> None:
    with pytest.raises(ValueError, match=r"sharpen takes probabilities, .* apply softmax to logits"):
        sharpen(found, 0.5)


# Keeping.


def test_kept_is_what_is_strictly_above_the_threshold() -> None:
    found = torch.tensor([[0.8, 0.2], [0.9, 0.1], [0.3, 0.7], [0.1, 0.9], [0.5, 0.5]])
    kept = keep(found, 0.8)
    assert kept.positions.tolist() == [1, 3]
    assert kept.labels.tolist() == [0, 1]
    assert kept.confidence.dtype == torch.float32
    assert kept.confidence.tolist() == pytest.approx([0.9, 0.9])
    assert (kept.threshold, kept.temperature) == (0.8, 1.0)
    assert len(kept) == 2
    assert kept.counts(3) == (1, 1, 0)
    assert repr(kept) == "Kept(2 images above 0.8 at temperature 1)"


@given(seeds, st.floats(0, 0.999), st.floats(0, 0.999), st.none() | st.integers(1, 5))
def test_a_higher_threshold_keeps_a_part(seed: int, one: float, other: float, per_class: int | None) -> None:
    found = drawn(seed)
    low, high = (keep(found, value, 0.7, per_class) for value in sorted((one, other)))
    assert set(high.positions.tolist()) <= set(low.positions.tolist())
    assert bool((low.confidence > torch.tensor(min(one, other))).all())
    assert torch.equal(low.labels, found.argmax(dim=1)[low.positions])


@given(st.floats(0.5, 0.99), st.floats(0.2, 3))
def test_of_two_classes_a_temperature_is_another_threshold(threshold: float, temperature: float) -> None:
    share = torch.linspace(0, 1, 401, dtype=torch.float64)
    found = torch.stack([share, 1 - share], dim=1)
    same = threshold**temperature / (threshold**temperature + (1 - threshold) ** temperature)
    # A hair's breadth away from the line both may round either way.
    clear = ((found.amax(dim=1) - same).abs() > 1e-5).nonzero().flatten()
    kept = keep(found[clear], threshold, temperature)
    assert kept.positions.tolist() == keep(found[clear], same).positions.tolist()


def test_the_number_in_keeps_docstring_is_right() -> None:
    found = torch.tensor([[0.66, 0.34], [0.67, 0.33]])
    assert keep(found, 0.8, 0.5).positions.tolist() == [1]
    # With the rest spread over more classes less is enough, as is said there.
    assert len(keep(torch.tensor([[0.6, 0.2, 0.2]]), 0.8, 0.5)) == 1
    assert len(keep(torch.tensor([[0.6, 0.4, 0.0]]), 0.8, 0.5)) == 0


@given(seeds, st.floats(0, 0.9), st.integers(1, 8))
def test_per_class_keeps_the_most_confident_of_each(seed: int, threshold: float, per_class: int) -> None:
    found = drawn(seed, 60)
    everything, few = keep(found, threshold), keep(found, threshold, per_class=per_class)
    for label in range(4):
        of_class = everything.labels == label
        ranked = everything.positions[of_class][
            everything.confidence[of_class].argsort(descending=True, stable=True)
        ]
        assert few.positions[few.labels == label].tolist() == sorted(ranked[:per_class].tolist())


def test_the_first_among_equals_is_kept() -> None:
    found = torch.tensor([[0.1, 0.9]]).repeat(5, 1)
    assert keep(found, 0.5, per_class=2).positions.tolist() == [0, 1]


def test_no_images_keep_nothing() -> None:
    for found in (torch.empty(0, 0), torch.empty(0, 3)):
        kept = keep(found, 0.8, 0.5)
        assert len(kept) == 0
        assert kept.counts(2) == (0, 0)
    assert len(keep(drawn(0), 0.9999999, 5.0, 3)) == 0


@pytest.mark.parametrize("call", [PseudoLabels, lambda **given: keep(drawn(0), **given)])
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"threshold": 1.0}, "threshold should be a number from 0 to below 1, not 1.0"),
        ({"threshold": -0.1}, "threshold should be"),
        ({"threshold": math.nan}, "threshold should be"),
        ({"threshold": "high"}, "threshold should be"),
        ({"threshold": True}, "threshold should be"),
        ({"threshold": 0.8, "temperature": 0.0}, "temperature should be a number above 0, not 0.0"),
        ({"threshold": 0.8, "temperature": math.inf}, "temperature should be"),
        ({"threshold": 0.8, "per_class": 0}, "per_class should be a whole number of 1 or more, not 0"),
        ({"threshold": 0.8, "per_class": 1.5}, "per_class should be"),
    ],
)
def test_settings_by_which_nothing_can_be_kept_are_refused(
    call: Callable[..., object], settings: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        call(**settings)


def test_keep_wants_a_row_for_each_image() -> None:
    with pytest.raises(ValueError, match=r"keep takes probabilities \(N, K\), found \(4,\)"):
        keep(torch.full((4,), 0.25), 0.5)
    with pytest.raises(ValueError, match="apply softmax to logits"):
        keep(torch.randn(3, 4), 0.5)
    with pytest.raises(ValueError, match=r"one for each of the 3 images, not int64 \(4,\)"):
        keep(torch.full((3, 2), 0.5), 0.4, labels=torch.zeros(4, dtype=torch.int64))


def test_a_kept_that_does_not_fit_together_is_refused() -> None:
    good = kept_at([0, 2], [1, 1])
    for wrong, words in (
        ({"labels": torch.tensor([1])}, r"labels should be int64 \(2,\), not int64 \(1,\)"),
        ({"confidence": good.confidence.double()}, "confidence should be float32"),
        ({"positions": torch.tensor([2, 0])}, "should rise"),
        ({"positions": torch.tensor([2, 2])}, "each image once"),
        ({"positions": torch.tensor([-1, 2])}, "should rise from 0"),
    ):
        with pytest.raises(ValueError, match=words):
            replace(good, **wrong)


# Joining.


def test_what_is_kept_comes_after_the_training_images_with_its_labels() -> None:
    train = replace(pictures(3), labels=torch.tensor([0, 1, 2]))
    pool = pictures(5, first=100)
    both = join(train, pool, kept_at([1, 4], [2, 0]))
    assert both.images[:, 0, 0, 0].tolist() == [0, 1, 2, 101, 104]
    assert both.labels.tolist() == [0, 1, 2, 2, 0]
    assert both.indices.tolist() == [0, 1, 2, 101, 104]
    assert both.names is None
    assert torch.equal(both.images[3:], pool.images[[1, 4]])
    assert train.images[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert pool.labels.tolist() == [-1] * 5


def test_names_are_carried_and_indices_stand_in_for_missing_ones() -> None:
    named, nameless = pictures(2, names=("a.png", "b.png")), pictures(2, first=7)
    assert join(named, named, kept_at([1], [0])).names == ("a.png", "b.png", "b.png")
    assert join(named, nameless, kept_at([1], [0])).names == ("a.png", "b.png", "8")
    assert join(nameless, named, kept_at([0], [0])).names == ("7", "8", "a.png")


def test_nothing_kept_gives_the_training_images_themselves() -> None:
    train = pictures(3)
    assert join(train, pictures(2), kept_at([], [])) is train


def test_channels_last_and_sliced_images_join_too() -> None:
    train, pool = pictures(3), pictures(5, first=100)
    layout = replace(train, images=train.images.to(memory_format=torch.channels_last))
    sliced = replace(pool, images=pool.images[:, :, :, :].flip(0)[::1].flip(0))
    expected = join(train, pool, kept_at([0, 3], [1, 1]))
    assert join(layout, sliced, kept_at([0, 3], [1, 1])).fingerprint() == expected.fingerprint()


def test_splits_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="unlabelled images are 3x8x8 and the training images 3x4x4"):
        join(pictures(2), pictures(2, side=8), kept_at([0], [0]))
    with pytest.raises(ValueError, match="image 2 was kept, and the unlabelled images are 2"):
        join(pictures(2), pictures(2), kept_at([2], [0]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_is_kept_moves_to_where_the_training_images_are() -> None:
    train, pool = pictures(3), pictures(5, first=100)
    there = join(train.to("cuda"), pool, kept_at([1, 4], [2, 0]))
    assert there.images.device.type == there.labels.device.type == "cuda"
    assert there.fingerprint() == join(train, pool, kept_at([1, 4], [2, 0])).fingerprint()


def test_what_is_held_out_is_taken_from_the_unlabelled() -> None:
    pool = pictures(6, first=10)
    val, test = pictures(3, first=8), pictures(2, first=14)
    clear = apart(pool, val, None, test)
    assert clear.indices.tolist() == [11, 12, 13]
    assert apart(pool, None) is pool
    assert apart(pool, pictures(3)) is pool


# Lists.

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=12)
awkward = st.sampled_from(
    [
        "a,b.png",
        ' "quoted".png',
        "new\nline",
        "cr\rlf\r\n",
        "'",
        '"',
        "\ufeffbom",
        "dir/ü.png",
        "bad\udcff.png",
    ]
)


@settings(max_examples=60)
@given(
    st.lists(texts | awkward, min_size=1, max_size=8, unique=True),
    st.lists(texts | awkward, min_size=1, max_size=4, unique=True),
    st.data(),
    st.floats(0, 0.99),
    st.floats(1e-3, 100),
)
def test_a_list_reads_back_whatever_files_and_classes_are_called(
    tmp_path_factory: pytest.TempPathFactory,
    names: list[str],
    classes: list[str],
    data: st.DataObject,
    threshold: float,
    temperature: float,
) -> None:
    path = tmp_path_factory.mktemp("lists") / "kept.csv"
    pool = pictures(len(names), names=tuple(names))
    positions = sorted(data.draw(st.sets(st.integers(0, len(names) - 1), min_size=1)))
    draw = st.tuples(st.integers(0, len(classes) - 1), st.floats(0, 1, width=32))
    rows = [data.draw(draw) for _ in positions]
    confidence = torch.tensor([row[1] for row in rows], dtype=torch.float32)
    kept = Kept(
        torch.tensor(positions), torch.tensor([row[0] for row in rows]), confidence, threshold, temperature
    )
    write_csv(path, kept, pool, classes)
    again = read_csv(path, pool, classes)
    for name in ("positions", "labels", "confidence"):
        assert torch.equal(getattr(again, name), getattr(kept, name))
    assert (again.threshold, again.temperature) == (threshold, temperature)


def test_a_list_is_plain_for_people_and_names_images_by_index_without_files(tmp_path: Path) -> None:
    pool = pictures(5, first=100)
    write_csv(tmp_path / "k.csv", keep(drawn(1, 5), 0.9, 0.5), pool, CLASSES)
    lines = (tmp_path / "k.csv").read_text().splitlines()
    assert lines[0] == "index,label,confidence,threshold,temperature"
    write_csv(tmp_path / "k.csv", kept_at([1, 4], [0, 2], 0.9), pool, CLASSES)
    assert (tmp_path / "k.csv").read_text().splitlines()[1:] == [
        "101,cat,0.9,0.8,1.0",
        '104,"red, hot",0.9,0.8,1.0',
    ]


def test_an_empty_list_reads_back_empty(tmp_path: Path) -> None:
    write_csv(tmp_path / "k.csv", kept_at([], []), pictures(2), CLASSES)
    again = read_csv(tmp_path / "k.csv", pictures(2), CLASSES)
    assert len(again) == 0
    assert math.isnan(again.threshold)


def test_a_list_made_elsewhere_needs_three_columns_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "k.csv"
    path.write_text("\ufeffconfidence,label,file,remark\r\n0.5,dog,b,x\r\n\r\n0.25,cat,a,y\r\n", newline="")
    found = read_csv(path, pictures(2, names=("a", "b")), CLASSES)
    assert (found.positions.tolist(), found.labels.tolist()) == ([0, 1], [0, 1])
    assert found.confidence.tolist() == [0.25, 0.5]
    assert math.isnan(found.threshold)
    assert math.isnan(found.temperature)


HEAD = "index,label,confidence"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("file,label,confidence\na,cat,1\n", "should begin with the columns index,label,confidence"),
        (f"{HEAD}\n7,cat,0.9\n", r"line 2 of .* names the index '7', which is none of the 3 unlabelled"),
        (f"{HEAD}\n0,cat,0.9\n0,dog,0.9\n", "line 3 of .* a second time"),
        (f"{HEAD}\n0,cow,0.9\n", "has the label 'cow', which is none of the classes cat, dog"),
        (f"{HEAD}\n0,cat,sure\n", r"should have a number in \[0, 1\] as confidence, not 'sure'"),
        (f"{HEAD}\n0,cat,1.5\n", r"a number in \[0, 1\]"),
        (f"{HEAD}\n0,cat,nan\n", r"a number in \[0, 1\]"),
        (f"{HEAD}\n0,cat\n", "line 2 of .* has 2 columns and the first line 3"),
        (f'{HEAD}\n0,"cat"s,0.9\n', "line 2 of .* is no CSV"),
        (f"{HEAD},threshold,temperature\n0,cat,0.9,0.8,1\n1,cat,0.9,0.7,1\n", "mixes several thresholds"),
        (f"{HEAD},threshold\n0,cat,0.9,high\n", "should have a number as threshold, not 'high'"),
    ],
)
def test_a_list_that_does_not_fit_is_refused_by_line(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "k.csv").write_text(text)
    with pytest.raises(ValueError, match=words) as refusal:
        read_csv(tmp_path / "k.csv", pictures(3), CLASSES)
    assert "\n" not in str(refusal.value)


def test_lists_that_cannot_be_written_or_read_leave_nothing_behind(tmp_path: Path) -> None:
    kept, pool = kept_at([1], [3]), pictures(2)
    with pytest.raises(ValueError, match=r"cannot be written: .*; choose another path"):
        write_csv(tmp_path / "absent" / "k.csv", kept, pool, CLASSES)
    with pytest.raises(ValueError, match=r"cannot be read: No such file .*; write one with"):
        read_csv(tmp_path / "k.csv", pool, CLASSES)
    with pytest.raises(ValueError, match="a kept label is 3, and 2 classes are named"):
        write_csv(tmp_path / "k.csv", kept, pool, CLASSES[:2])
    with pytest.raises(ValueError, match="image 1 was kept"):
        write_csv(tmp_path / "k.csv", kept, pictures(1), CLASSES)
    with pytest.raises(ValueError, match="two of the unlabelled images have the file 'a'"):
        write_csv(tmp_path / "k.csv", kept, pictures(2, names=("a", "a")), CLASSES)
    assert list(tmp_path.iterdir()) == []


# FixMatch.


def test_the_loss_is_that_of_the_sure_over_all() -> None:
    weak = torch.tensor([[9.0, 0.0], [0.1, 0.0], [0.0, 9.0], [0.0, 9.0]])
    strong = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    loss, share = fixmatch_loss(weak, strong, 0.95)
    sure = F.cross_entropy(strong[[0, 2, 3]], torch.tensor([0, 1, 1]), reduction="sum") / 4
    torch.testing.assert_close(loss, sure)
    assert share.item() == 0.75
    assert loss.shape == share.shape == ()


def test_at_the_threshold_an_image_counts_as_in_the_paper() -> None:
    even = torch.zeros(3, 4)  # probabilities of exactly 0.25
    assert fixmatch_loss(even, even, 0.25)[1].item() == 1
    assert fixmatch_loss(even, even, 0.2500001)[1].item() == 0


def test_gradients_flow_through_the_sure_strong_views_alone() -> None:
    weak = torch.tensor([[9.0, 0.0], [0.1, 0.0]], requires_grad=True)
    strong = torch.zeros(2, 2, requires_grad=True)
    loss, share = fixmatch_loss(weak, strong, 0.95)
    loss.backward()
    assert weak.grad is None
    assert not share.requires_grad
    assert strong.grad is not None
    torch.testing.assert_close(strong.grad, torch.tensor([[-0.25, 0.25], [0.0, 0.0]]))


def test_nobody_sure_is_no_loss_even_of_infinite_logits() -> None:
    strong = torch.tensor([[math.inf, 0.0]], requires_grad=True)
    loss, share = fixmatch_loss(torch.zeros(1, 2), strong, 0.9)
    assert (loss.item(), share.item()) == (0.0, 0.0)


def test_half_precision_logits_give_a_float32_loss() -> None:
    logits = torch.randn(8, 5).bfloat16()
    loss, _ = fixmatch_loss(logits, logits, 0.0)
    assert loss.dtype == torch.float32
    reference = F.cross_entropy(logits.float(), logits.float().argmax(dim=1))
    torch.testing.assert_close(loss, reference)


def test_nothing_in_the_loss_reads_a_value() -> None:
    # Meta tensors have none: what would wait for a device fails here.
    with torch.device("meta"):
        loss, share = fixmatch_loss(torch.zeros(4, 3), torch.zeros(4, 3), 0.9)
    assert loss.is_meta
    assert share.is_meta


def test_logits_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"found \(4, 3\) and \(2, 3\)"):
        fixmatch_loss(torch.zeros(4, 3), torch.zeros(2, 3), 0.9)


def test_a_recipes_values_are_their_own_repr() -> None:
    for value in (PseudoLabels(0.9, 0.5, per_class=10), FixMatch(ratio=3)):
        assert value == eval(repr(value), {name: getattr(budgetnet, name) for name in budgetnet.__all__})


def test_fixmatchs_views_are_images_of_unchanged_labels() -> None:
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
    labels, how = torch.arange(16) % 4, FixMatch()
    generator = torch.Generator().manual_seed(0)
    for steps in (how.weak, how.strong):
        seen, same = view(images, labels, steps, resolution=32, classes=4, generator=generator)
        assert seen.shape == (16, 3, 32, 32)
        assert torch.equal(same, labels)
    # Of a white image the last step leaves at least three quarters white.
    white = torch.full((16, 3, 32, 32), 255, dtype=torch.uint8)
    strong, _ = view(white, labels, [how.strong[-1]], resolution=32, classes=4, generator=generator)
    erased = (strong < 0.75).any(dim=1).float().mean(dim=(1, 2))
    assert bool((erased > 0).all())
    assert bool((erased <= 0.26).all())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"threshold": 1}, "FixMatch's threshold should be"),
        ({"weight": 0}, "FixMatch's weight should be a number above 0"),
        ({"ratio": 0}, "FixMatch's ratio should be a whole number of 1 or more"),
        ({"weak": "Flip"}, "FixMatch's weak should be a list of steps"),
        ({"weak": [Flip]}, r"holds the class Flip; call it: Flip\(\.\.\.\)"),
        ({"strong": [3]}, "should hold steps"),
        ({"strong": [Flip(), Mixup(0.2)]}, r"strong holds Mixup\(alpha=0.2, p=1.0\), after which no image"),
        ({"weak": [Cutmix(1.0)]}, "weak holds Cutmix"),
        ({"strong": [v2.MixUp(num_classes=3)]}, "strong holds MixUp"),
    ],
)
def test_settings_of_fixmatch_that_cannot_work_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FixMatch(**settings)  # type: ignore[arg-type]


def test_steps_are_kept_as_a_tuple_and_torchvisions_are_welcome() -> None:
    blur = v2.GaussianBlur(3)
    assert FixMatch(weak=[Flip()], strong=[blur]).strong == (blur,)
    assert FixMatch(weak=[Flip()]) == FixMatch(weak=(Flip(),))
