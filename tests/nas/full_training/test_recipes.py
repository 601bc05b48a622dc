from pathlib import Path

import pytest

from nas.errors import RecipeError
from nas.full_training.recipe import FullRecipe
from nas.full_training.recipes import RECIPES, find_recipe

PUBLISHED = {
    # Tan and Le, ICML 2019, section 5.2, and google/automl's hparams.py: RMSProp with momentum 0.9, epsilon
    # 1e-3, 0.016 for 256 images, warm-up 5, 0.97 every 2.4 epochs, survival 0.8. RandAugment is that of timm.
    "efficientnet": {
        "epochs": 350,
        "largest_batch": 256,
        "optimizer": "rmsproptf",
        "momentum": 0.9,
        "optimizer_eps": 1e-3,
        "learning_rate": 0.016,
        "reference_batch": 256,
        "rate_rule": "linear",
        "schedule": "step",
        "warmup_epochs": 5,
        "decay_epochs": 2.4,
        "decay_rate": 0.97,
        "weight_decay": 1e-5,
        "ema_decay": 0.9999,
        "ema_warmup": True,
        "label_smoothing": 0.1,
        "drop_path": 0.2,
        "dropout": None,
        "auto_augment": "rand-m9-mstd0.5",
    },
    # torchvision's references for MobileNetV3: 8 GPUs with 128 images each, 0.064, 0.973 every 2 epochs,
    # AutoAugment, erasing 0.2.
    "mobilenet_v3": {
        "epochs": 600,
        "optimizer": "rmsprop",
        "momentum": 0.9,
        "optimizer_eps": 0.0316,
        "learning_rate": 0.064,
        "reference_batch": 8 * 128,
        "schedule": "step",
        "warmup_epochs": 0,
        "decay_epochs": 2,
        "decay_rate": 0.973,
        "weight_decay": 1e-5,
        "auto_augment": "original",
        "random_erase": 0.2,
    },
    # torchvision's references for EfficientNetV2: 8 GPUs with 128 images each. Its `sgd` is not Nesterov's.
    "modern": {
        "epochs": 600,
        "optimizer": "momentum",
        "momentum": 0.9,
        "learning_rate": 0.5,
        "reference_batch": 8 * 128,
        "schedule": "cosine",
        "warmup_epochs": 5,
        "weight_decay": 2e-5,
        "label_smoothing": 0.1,
        "auto_augment": "ta_wide",
        "random_erase": 0.1,
        "mixup": 0.2,
        "cutmix": 1.0,
        "repeats": 4,
        "ema_decay": pytest.approx(1 - (1 - 0.99998) * 1024 * 32 / 600, abs=1e-5),
        "ema_every": 32,
    },
    # Wightman, Touvron and Jegou, 2021, table 2.
    "strikes_back_a1": {
        "epochs": 600,
        "largest_batch": 2048,
        "optimizer": "lamb",
        "learning_rate": 5e-3,
        "reference_batch": 2048,
        "schedule": "cosine",
        "warmup_epochs": 5,
        "final_rate": pytest.approx(1e-6 / 5e-3),
        "weight_decay": 0.01,
        "loss": "binary_cross_entropy",
        "label_smoothing": 0.1,
        "drop_path": 0.05,
        "repeats": 3,
        "auto_augment": "rand-m7-mstd0.5-inc1",
        "mixup": 0.2,
        "cutmix": 1.0,
        "random_erase": 0.0,
        "train_size": 1.0,
        "ema_decay": 0.0,
    },
    "strikes_back_a2": {
        "epochs": 300,
        "learning_rate": 5e-3,
        "final_rate": pytest.approx(1e-6 / 5e-3),
        "warmup_epochs": 5,
        "weight_decay": 0.02,
        "label_smoothing": 0.0,
        "drop_path": 0.05,
        "repeats": 3,
        "auto_augment": "rand-m7-mstd0.5-inc1",
        "mixup": 0.1,
        "cutmix": 1.0,
        "loss": "binary_cross_entropy",
        "optimizer": "lamb",
    },
    "strikes_back_a3": {
        "epochs": 100,
        "learning_rate": 8e-3,
        "final_rate": pytest.approx(1e-6 / 8e-3),
        "warmup_epochs": 5,
        "weight_decay": 0.02,
        "label_smoothing": 0.0,
        "drop_path": 0.0,
        "repeats": 1,
        "auto_augment": "rand-m6-mstd0.5-inc1",
        "mixup": 0.1,
        "cutmix": 1.0,
        "train_size": pytest.approx(160 / 224),
        "loss": "binary_cross_entropy",
        "optimizer": "lamb",
    },
    # Tan and Le, ICML 2021, algorithm 1 and table 6.
    "progressive": {
        "epochs": 350,
        "optimizer": "rmsproptf",
        "stages": 4,
        "train_size": pytest.approx(300 / 384),
        "first_size": pytest.approx(128 / 300),
        "auto_augment": "rand-m15-mstd0.5-mmax20",
        "first_magnitude": 5,
        "mixup": 0.2,
        "first_mixup": 0,
        "dropout": 0.3,
        "first_dropout": 0.1,
        "drop_path": 0.2,
        "ema_decay": 0.9999,
    },
    # Touvron et al., NeurIPS 2019, and its code: 8 times 1e-3 for 512 images, steps of 0.1 every 30 epochs.
    "fixres": {
        "starts_from": "weights",
        "trains": "classifier_and_last_norm",
        "optimizer": "momentum",
        "momentum": 0.9,
        "learning_rate": 8e-3,
        "reference_batch": 512,
        "weight_decay": 1e-4,
        "schedule": "step",
        "decay_epochs": 30,
        "decay_rate": 0.1,
        "crop": "none",
        "auto_augment": "",
    },
    # K. Jordan's airbench94: label smoothing 0.2, shifts by 2 pixels of 32.
    "small": {"label_smoothing": 0.2, "crop": "shifted", "shift": 2 / 32, "optimizer": "muon", "mixup": 0.0},
    # Tan and Le, ICML 2021, section 5.2, and google/automl's datasets.py: 0.0005 for 256 images, EMA 0.9996.
    "finetune": {
        "starts_from": "weights",
        "trains": "all",
        "optimizer": "rmsproptf",
        "learning_rate": 5e-4,
        "reference_batch": 256,
        "warmup_epochs": 1,
        "ema_decay": 0.9996,
        "weight_decay": 1e-5,
        "label_smoothing": 0.1,
        "drop_path": 0.2,
    },
    "linear_probe": {"starts_from": "weights", "trains": "classifier", "weight_decay": 0.0, "ema_decay": 0.0},
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_the_values_that_were_published(name):
    recipe = RECIPES[name]
    assert recipe.name == name
    for field, value in PUBLISHED[name].items():
        assert getattr(recipe, field) == value, field


def test_the_rates_of_published_batches_are_the_published_rates():
    assert RECIPES["efficientnet"].changed(largest_batch=4096).peak_rate(10**6) == pytest.approx(0.256)
    assert RECIPES["modern"].changed(largest_batch=1024).peak_rate(10**6) == pytest.approx(0.5)
    assert RECIPES["strikes_back_a2"].changed(largest_batch=512).peak_rate(10**6) == pytest.approx(2.5e-3)


def test_the_field_s_sizes_follow_from_the_network_s():
    assert RECIPES["strikes_back_a3"].side(0, 224) == 160
    assert RECIPES["modern"].side(0, 224) == 176
    assert RECIPES["fixres"].side(0, 320) == 320


def test_recipes_that_start_from_weights_are_those_that_adapt_a_network():
    assert {name for name, one in RECIPES.items() if one.starts_from == "weights"} == {
        "fixres",
        "finetune",
        "linear_probe",
    }


@pytest.mark.parametrize(
    ("word", "near"), [("smal", "small"), ("strikes_back", "strikes_back_a1"), ("Modern", "modern")]
)
def test_a_name_that_no_recipe_has_is_answered_with_a_near_one(word, near):
    with pytest.raises(RecipeError, match=near) as error:
        find_recipe(word)
    assert error.value.field == "recipe"


def test_a_recipe_itself_is_found_as_it_is():
    recipe = FullRecipe(epochs=6)
    assert find_recipe(recipe) is recipe


def test_a_file_is_a_recipe_with_the_file_s_name(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "small"\nepochs = 3\n', encoding="utf-8")
    assert find_recipe(path) == find_recipe(str(path)) == RECIPES["small"].changed(epochs=3, name="mine")


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"epochs = ", b"epoch = 3"])
def test_a_file_that_is_no_recipe_is_refused(tmp_path, content):
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError):
        find_recipe(path)


def test_a_folder_is_no_recipe(tmp_path):
    with pytest.raises(RecipeError) as error:
        find_recipe(tmp_path)
    assert error.value.field == "recipe"
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(RecipeError, match="cannot be read"):
        find_recipe(tmp_path / "folder.toml")


def test_a_file_in_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.toml").write_text("epochs = 7", encoding="utf-8")
    assert find_recipe(Path("~/mine.toml")).epochs == 7
