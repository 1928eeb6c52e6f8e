import json
from pathlib import Path

import pytest
from miniature import TINY

import model
from model.config import Config
from model.training.config import ConfigError, read_training
from model.weights import SHIPPED, load_manifest

RECIPES = Path(model.__file__).parent / "recipes"


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "train.toml"
    file.write_text(TINY)
    return file


def test_relative_paths_start_at_the_file(file):
    training = read_training(file)

    assert training.out == file.parent / "weights"
    assert training.run_folder == file.parent / "weights" / "training"
    assert training.data[0].open == str(file.parent / "phrases.jsonl")


@pytest.mark.parametrize("address", ["s3://bucket/set", "twin:0-20", "gs://bucket/phrases.jsonl"])
def test_an_address_stays_as_it_is(file, address):
    assert read_training(file, [f"data.0.open={address}"]).data[0].open == address


def test_a_key_is_set_from_the_command_line(file):
    training = read_training(file, ["recipe.steps=7", "data.0.weight=0.5", "seed=3", 'name="mine"', "out=elsewhere"])

    assert (training.recipe.steps, training.data[0].weight, training.seed, training.name) == (7, 0.5, 3, "mine")
    assert training.out == file.parent / "elsewhere"


def test_the_network_takes_the_measures_that_are_given_and_keeps_the_others(file):
    measures = read_training(file).measures()

    assert (measures.size, measures.widths) == (64, (8, 16, 16, 16, 16))
    assert read_training(file, ["network={}"]).measures() == Config()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("recipe.batch=0", "recipe.batch: Input should be greater than 0, not 0"),
        ("recipe.steps=many", "recipe.steps: Input should be a valid integer, not 'many'"),
        ("recipe.stepps=3", "recipe.stepps: Unexpected keyword argument"),
        ("recipe.epochs=3", "recipe: give either steps or epochs"),
        ("recipe.schedule=linear", "recipe.schedule: Input should be 'cosine' or 'constant', not 'linear'"),
        ("data.0.kind=movies", "data.0: Input tag 'movies'"),
        ("data.0.faults=ignore", "data.0.phrases.faults: Input should be 'stop' or 'skip'"),
        ("data=[]", "data: Tuple should have at least 1 item"),
        ("network.size=65", "network: size is a multiple of 32"),
        ("network.sise=64", "network has no sise; known are size, stride"),
        ("machine.device=tpu", "machine.device: Input should be 'auto', 'cpu' or 'cuda', not 'tpu'"),
        ("split.validation=1", "split.validation: Input should be less than 1"),
        ("split.folds=1", "split: there are no folds, or 2 or more"),
        ("split.fold=0", "split: there are no folds, or 2 or more"),
        ("split.folds=3", 'folds need keep = "last"'),
        ("loss.alpha=2", "loss.alpha: Input should be less than or equal to 1"),
        ("tracking.to=cloud", "tracking.to: Input should be 'local', 'wandb' or 'mlflow'"),
        ("distil.temperature=0", "distil.temperature: Input should be greater than 0"),
        ("data.5.weight=1", "5 is not one of 0 to 1"),
        ("seed.more=1", "seed is a value, not a table"),
        ("seed", "--set takes key=value"),
    ],
)
def test_a_wrong_key_is_named_with_what_was_expected(file, override, said):
    with pytest.raises(ConfigError) as refused:
        read_training(file, ["seed=1", override])

    assert said in str(refused.value)


def test_data_without_weight_is_refused(file):
    with pytest.raises(ConfigError, match="no data has a weight"):
        read_training(file, ["data.0.weight=0", "data.1.weight=0"])


def test_a_file_that_is_missing_or_not_toml_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml cannot be read"):
        read_training(tmp_path / "absent.toml")
    (tmp_path / "odd.toml").write_text("steps: 3")
    with pytest.raises(ConfigError, match=r"odd\.toml is not TOML"):
        read_training(tmp_path / "odd.toml")


def test_where_results_go_and_on_which_machine_is_no_part_of_the_recipe(file):
    one = read_training(file).recipe_of()
    other = read_training(file, ["out=there", "machine.workers=3", "tracking.to=mlflow"]).recipe_of()

    assert one == other
    assert one != read_training(file, ["recipe.batch=5"]).recipe_of()


def test_the_recipes_are_of_the_network_that_is_shipped():
    shipped, start = (read_training(RECIPES / name) for name in ("shipped.toml", "start.toml"))
    config = json.loads(shipped.measures().to_json())

    assert json.loads(json.dumps(load_manifest(SHIPPED).config)) == config
    assert load_manifest(shipped.start).config == config
    assert start.measures() == shipped.measures()
    assert load_manifest(SHIPPED).recipe["start"] == load_manifest(shipped.start).sha256


def test_a_start_from_nothing_sees_no_other_data_than_what_goes_on_from_it_and_no_patient_of_its_folds():
    shipped, start = (read_training(RECIPES / name) for name in ("shipped.toml", "start.toml"))
    goes_on, begins = ({each.kind: each for each in training.data} for training in (shipped, start))

    assert start.start is None
    assert shipped.split.crossed
    assert set(begins) == set(goes_on) - {"phrases"}
    assert begins["labels"].without == goes_on["phrases"].open
    assert begins["twin"].training == goes_on["twin"].training
