from dataclasses import fields

import pytest

from cadlib.training.config import TrainConfig


def test_crops_grow_from_first_to_last_in_steps_of_32():
    config = TrainConfig(first_px=128, last_px=192, epochs=5)
    sides = [config.side_px(epoch) for epoch in range(5)]
    assert sides[0] == 128
    assert sides[-1] == 192
    assert sides == sorted(sides)
    assert {side % 32 for side in sides} == {0}


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero():
    config = TrainConfig(learning_rate=0.1, warmup=0.1)
    rates = [config.learning_rate_at(step, 100) for step in range(100)]
    assert max(rates) == 0.1
    assert rates.index(0.1) == 9
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1 * config.last_rate, rel=0.01)


def test_the_recipe_leaves_the_machine_out():
    assert TrainConfig(devices=4, workers=8).recipe() == TrainConfig().recipe()
    assert TrainConfig(seed=1).recipe() != TrainConfig().recipe()


def test_every_setting_has_a_help_text():
    assert all(setting.metadata["help"] for setting in fields(TrainConfig))


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"learning_rate": -1.0},
        {"drop_rate": 1.0},
        {"validation": 0.0},
        {"test": 0.9},
        {"teacher_weight": 1.5},
        {"teacher_temperature": 0.5},
    ],
)
def test_refuses_settings_that_cannot_be(wrong):
    with pytest.raises(ValueError, match="Expected `"):
        TrainConfig(**wrong)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folds": 5}, "`split_of` together with `folds`"),
        ({"split_of": "isic2019", "folds": 1}, "at least 2"),
        ({"split_of": "isic2019", "folds": 5, "fold": 5}, "`fold` below it"),
        ({"split_of": "isic2019", "fold": 1}, "`fold` below it"),
        ({"split_of": "three", "teacher": "three", "folds": 5}, "`folds` to be 0"),
        ({"teacher": "three", "leave_out": "MSK"}, "no archive to leave out"),
    ],
)
def test_refuses_folds_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)
