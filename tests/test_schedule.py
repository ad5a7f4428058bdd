import pytest

from nas.recipes.phases import Phase
from nas.recipes.recipe import Recipe
from nas.training.schedule import DECAYS, Schedule


def make(**changes: object) -> Recipe:
    recipe = Recipe(space="digits", dataset="digits", epochs=10, lr=0.5, warmup_epochs=1)
    return Recipe.model_validate(recipe.model_dump() | changes)


def test_cosine_by_hand() -> None:
    schedule = Schedule(make(epochs=3), steps_per_epoch=4)
    # 4 warm-up steps to a peak that the fifth has; then half a cosine over 8 steps
    assert [schedule(step) for step in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert schedule(8) == pytest.approx(0.25)
    assert schedule(12) == pytest.approx(0.0)


def test_cosine_from_start_does_not_wait_for_the_warm_up() -> None:
    schedule = Schedule(make(schedule="cosine_from_start"), steps_per_epoch=2)
    assert schedule(10) == pytest.approx(0.25)  # half of 20 steps
    assert Schedule(make(), 2)(11) == pytest.approx(0.25)  # half of the 18 after the warm-up


def test_exponential_goes_down_in_stairs_to_a_floor() -> None:
    recipe = make(schedule="exponential", lr_decay=0.5, lr_decay_epochs=2, lr_floor=0.2)
    schedule = Schedule(recipe, steps_per_epoch=1)
    # a half every two epochs: 1/2 in epochs 2 and 3, 1/4 in 4 and 5, then 1/8, below the floor
    rates = [schedule(step) / recipe.lr for step in range(1, 10)]
    assert rates == pytest.approx([1, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2, 0.2])


def test_constant_stays_at_the_peak() -> None:
    schedule = Schedule(make(schedule="constant"), steps_per_epoch=3)
    assert {schedule(step) for step in range(3, 30)} == {0.5}


def test_each_phase_begins_anew() -> None:
    phases = (Phase(epochs=1), Phase(epochs=3, warmup_epochs=1, lr=0.5))
    # stretched from 4 epochs to 8, of 2 steps each: 4 steps and 12, of which 4 warm up
    schedule = Schedule(make(epochs=8, lr=1.0, phases=phases), steps_per_epoch=2)
    assert schedule(0) == pytest.approx(1.0)
    assert schedule(2) == pytest.approx(0.5)  # half of the first cosine
    assert [schedule(step) for step in range(4, 9)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert schedule(12) == pytest.approx(0.25)  # half of the second


@pytest.mark.parametrize("name", DECAYS)
def test_no_schedule_exceeds_the_peak(name: str) -> None:
    schedule = Schedule(make(schedule=name), steps_per_epoch=7)
    assert all(0 <= schedule(step) <= 0.5 for step in range(70))
