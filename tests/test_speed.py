"""What runs a training step: eagerly, compiled, or given up on compiling, and whether it waits."""

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from budgetnet import Cosine, Phase, Ramp, Recipe, Trainer, arrays, models
from budgetnet.augment import Crop, Erase, Flip, Jitter, Mixup, Rotate
from budgetnet.data import Data
from budgetnet.engine.speed import PAYS, STATIC, choose
from budgetnet.run import Run


def photos(count: int = 48, side: int = 16) -> Data:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)
    labels = torch.arange(count) % 4
    return arrays(images, labels, val=(images[:10], labels[:10]))


def network() -> nn.Module:
    torch.manual_seed(0)
    return models.convnet(classes=4, widths=(8, 16))


def smallest() -> nn.Module:
    """Little to compile."""
    torch.manual_seed(0)
    features = (nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*features, nn.Linear(8, 4))


def recipe(**changes: Any) -> Recipe:
    phase = Phase(epochs=2, resolution=16, lr=Cosine(0.05), augment=[Flip()])
    return Recipe(**{"phases": [phase], "batch_size": 16, **changes})


def trained(speed: Any, made: Recipe | None = None, model: nn.Module | None = None) -> Run:
    trainer = Trainer("cpu", speed=speed, out=None, show=False)
    return trainer.fit(model or smallest(), photos(), made or recipe())


# --- The choice ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", ["fast", "", None, 3])
def test_an_unknown_speed_is_refused(speed: Any) -> None:
    with pytest.raises(ValueError, match="speed should be one of 'auto', 'eager'"):
        Trainer("cpu", speed=speed)


def test_graphs_are_refused_where_there_is_no_cuda() -> None:
    with pytest.raises(ValueError, match=r"'graphs' records CUDA graphs, and the device is cpu; use 'auto'"):
        Trainer("cpu", speed="graphs")


def test_a_cpu_runs_eagerly_and_the_run_says_why() -> None:
    found = trained("auto").record["speed"]
    assert found["chosen"] == "eager"
    assert "CPU" in found["why"]


def test_a_long_training_on_cuda_is_compiled_and_a_short_one_is_not() -> None:
    model, images = network(), photos(1000).train
    cuda = torch.device("cuda")
    short = choose("auto", cuda, model, recipe(), images)
    assert short.chosen == "eager"
    each = 3 * 1000 * _macs(model)
    epochs = int(PAYS / each)
    phase = Phase(epochs=epochs, resolution=16, lr=0.1)
    assert choose("auto", cuda, model, recipe(phases=[phase]), images).chosen == "eager"
    phase = Phase(epochs=epochs + 1, resolution=16, lr=0.1)
    way = choose("auto", cuda, model, recipe(phases=[phase]), images)
    assert way.chosen == "compile"
    assert "1.0e+16" in way.why


def _macs(model: nn.Module) -> int:
    from budgetnet import macs

    return macs(model, 16)


def test_what_is_asked_for_is_chosen() -> None:
    images = photos(10).train
    for speed in ("eager", "compile", "graphs"):
        assert choose(speed, torch.device("cuda"), network(), recipe(), images).chosen == speed


def test_graphs_of_many_resolutions_are_compiled_steps_and_that_is_said() -> None:
    few, many = (
        recipe(phases=[Phase(epochs=9, resolution=Ramp(8, last, multiple=1), lr=0.01)]) for last in (11, 12)
    )
    images = photos(10).train
    assert choose("graphs", torch.device("cuda"), network(), few, images).chosen == "graphs"
    found = choose("graphs", torch.device("cuda"), network(), many, images)
    assert found.chosen == "compile"
    assert found.why == "graphs are recorded for up to 4 resolutions, and the recipe has 5"


def test_a_run_is_not_resumed_at_another_speed(tmp_path: Path) -> None:
    trainer = Trainer("cpu", out=tmp_path, show=False)
    assert trainer.fit(network(), photos(), recipe(), name="r", max_time=1e-3).status == "paused"
    with pytest.raises(ValueError, match="speed"):
        Trainer("cpu", speed="compile", show=False).fit(
            network(), photos(), recipe(), resume=tmp_path / "r-1"
        )


# --- Compiled steps -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_compiled_training_agrees_with_an_eager_one() -> None:
    eager, compiled = trained("eager"), trained("compile")
    assert compiled.record["speed"]["chosen"] == "compile"
    assert eager.model is not None
    assert compiled.model is not None
    for name, tensor in eager.model.state_dict().items():
        torch.testing.assert_close(compiled.model.state_dict()[name], tensor, atol=1e-4, rtol=1e-3)
    for one, other in zip(eager.history, compiled.history, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, abs=1e-4)


@pytest.mark.slow
def test_a_compiled_training_drops_what_an_eager_one_drops() -> None:
    torch._dynamo.reset()
    model = smallest().append(nn.Dropout(0.5))
    eager, compiled = (trained(speed, model=copy.deepcopy(model)) for speed in ("eager", "compile"))
    assert compiled.record["speed"]["chosen"] == "compile"
    for one, other in zip(eager.history, compiled.history, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, abs=1e-4)


@pytest.mark.slow
def test_a_resolution_ramp_compiles_a_few_times_and_not_at_every_size() -> None:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    ramp = Phase(epochs=9, resolution=Ramp(8, 16, multiple=1), lr=0.01)
    assert len({ramp.resolution_at(k / 9) for k in range(9)}) > STATIC
    run = trained("compile", recipe(phases=[ramp]))
    assert run.status == "finished"
    assert len({epoch.resolution for epoch in run.history}) > STATIC
    assert 1 <= counters["stats"]["unique_graphs"] <= 2


@pytest.mark.slow
def test_a_failure_to_compile_is_a_note_and_the_training_that_eager_gives(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from torch._inductor import config

    torch._dynamo.reset()
    with config.patch({"cpp.cxx": ("/nowhere/a-compiler",), "force_disable_caches": True}):
        run = Trainer("cpu", speed="compile", out=None).fit(smallest(), photos(), recipe())
    assert run.status == "finished"
    assert capsys.readouterr().out.count("could not be compiled and runs eagerly") == 1
    eager = trained("eager")
    assert [e.train_loss for e in run.history] == [e.train_loss for e in eager.history]


class Broken(nn.Module):
    """A model that works until it has been called a few times."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = smallest()
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        if self.training and self.calls > 6:
            raise RuntimeError("the model's own trouble")
        logits: Tensor = self.inner(images)
        return logits


@pytest.mark.slow
def test_an_error_of_the_models_own_is_not_hidden_by_compiling() -> None:
    torch._dynamo.reset()
    with pytest.raises(RuntimeError, match="the model's own trouble"):
        trained("compile", model=Broken())


# --- Nothing waits ------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_cuda_an_epoch_waits_no_more_often_for_having_more_steps() -> None:
    steps = [Rotate(30), Crop(), Jitter(0.3, 0.3, 0.3, 0.1), Flip(), Erase(), Mixup(0.2)]
    found = []
    for views in (1, 8):
        phase = Phase(epochs=3, resolution=16, lr=Cosine(0.05), augment=steps, views=views)
        epochs = Trainer("cuda", out=None, show=False).epochs(network(), photos(), recipe(phases=[phase]))
        next(epochs)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                next(epochs)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        found.append(sum("synchronizing" in str(warning.message) for warning in caught))
    assert found[0] == found[1]
