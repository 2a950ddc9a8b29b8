"""Reading task files: good ones, misspelt ones, overrides, and the rules between fields."""

from pathlib import Path

import pytest
import yaml

from davy.core.errors import InvalidInputError, NotFoundError
from davy.core.files import read_document
from davy.data.table_task import is_table_task, load_table_task, parse_table_task
from davy.data.task import Range, Task, load_task, parse_task, task_text

TASKS = sorted((Path(__file__).parents[3] / "pipelines" / "tasks").glob("*.yaml"))
NEXT_BASKET = next(path for path in TASKS if path.stem == "next_basket")


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(NEXT_BASKET)


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_every_task_of_the_repository_is_valid_and_survives_its_text_form(path):
    if is_table_task(read_document(path)):
        table = load_table_task(path)
        assert table.name == path.stem
        assert parse_table_task(table.model_dump(mode="json"), where="again") == table
        return
    task = load_task(path)
    assert task.name == path.stem
    assert parse_task(task_text(task)) == task


def test_what_others_read(task):
    assert task.objective.cutoff == 10
    assert task.features[0].categories == 61
    assert task.features[0].range == Range(low=0, high=60)
    assert task.split.parts()["replay"] == (49, 52)


def test_a_number_has_no_codes(task):
    with pytest.raises(InvalidInputError, match="'baskets_90d'"):
        _ = task.features[1].categories


def test_overrides_address_fields_and_items_by_name(task):
    changed = load_task(
        NEXT_BASKET,
        [
            "model.epochs=2",
            "features.days_since_basket.unit=week",
            "features.days_since_basket.range=[0, 8]",
            "rollout.indicators.slow.allowance=0.02",
            "segments=[]",
        ],
    )
    assert changed.model.epochs == 2
    assert changed.features[0].unit == "week"
    assert changed.features[0].categories == 9
    assert changed.rollout.indicators[1].allowance == 0.02
    assert changed.segments == ()
    assert changed.features[1:] == task.features[1:]


def test_the_later_override_wins():
    assert load_task(NEXT_BASKET, ["model.seed=1", "model.seed=2"]).model.seed == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.epocs=2", "unknown field 'model.epocs'; did you mean 'epochs'?"),
        ("modle.epochs=2", "unknown field 'modle'; did you mean 'model'?"),
        ("features.unit_prise.unit=cent", "no item named 'unit_prise'; did you mean 'unit_price'?"),
        ("features.0.unit=cent", "no item named '0'"),
        ("model.epochs", "not of the form place=value"),
        ("model..epochs=2", "not of the form place=value"),
        ("model.hidden=[1, 2", "the value is not YAML"),
        ("name.first=x", "'first' is inside a single value"),
        ("kind=classification", "kind: Input should be 'ranking'"),
        ("data.source=s3://bucket", "sources are 'completejourney:' and 'file://FOLDER'"),
        ("data.source='file://'", "'file://' cannot be read"),
        ("data.timezone=America/NewYork", "no time zone 'America/NewYork'"),
        ("split.valid=[40, 44]", "valid starts in week 40 but the part before it ends in week 40"),
        ("split.test=[48, 45]", "test starts in week 48, after its end in week 45"),
        ("split.train=[0, 40]", "train starts in week 0"),
        ("features.department.range=[0, 1.5]", "'department' needs a range of whole numbers"),
        ("features.department.range=null", "'department' needs a range [low, high]"),
        ("features.department.missing=allow", "'department' cannot be missing"),
        ("features.unit_price.range=[5, 1]", "low 5 is above high 1"),
        ("features.unit_price.range=[5]", "needs two values [low, high], has 1"),
        ("features.unit_price.range=[0, .inf]", "finite"),
        ("features.unit_price.name=baskets_90d", "features names 'baskets_90d' twice"),
        ("features.unit_price.name=label", "'label' is the name of another column"),
        ("features.unit_price.name=segment_x", "'segment_x' is the name of another column"),
        ("features.unit_price.name=Unit Price", "String should match pattern"),
        ("features=[]", "features: Tuple should have at least 1 item"),
        ("segments=[lapse, lapse]", "segments names 'lapse' twice"),
        ("candidates.per_basket=5", "below the 10 that objective.metric looks at"),
        ("objective.metric=auc", "objective.metric"),
        ("compression.candidates=[int8]", "must include fp32"),
        ("compression.candidates=[fp32, fp32]", "names one twice"),
        ("compression.candidates=[fp32, int4]", "compression.candidates.1"),
        ("rollout.indicators.slow.name=slo", "rollout.indicators.1.name"),
        ("rollout.indicators.slow.name=errors", "rollout.indicators names 'errors' twice"),
        ("rollout.indicators.slow.name=sloth", "rollout.indicators.1.name"),
        ("rollout.indicators.slow.ratio=0.9", "greater than or equal to 1"),
        ("rollout.indicators.slow.ratio=100", "less than 100"),
        ("rollout.indicators.slow.allowance=1", "less than 1"),
        ("monitoring.floors.ks=1.5", "less than or equal to 1"),
    ],
)
def test_what_does_not_fit_is_named(override, message):
    with pytest.raises(InvalidInputError) as caught:
        load_task(NEXT_BASKET, [override])
    assert message in str(caught.value)
    assert "next_basket.yaml" in str(caught.value) or override in str(caught.value)


def test_a_misspelt_key_in_the_file_names_the_file_and_the_nearest_match(tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text(NEXT_BASKET.read_text().replace("\nsegments:", "\nsegmnts:"))
    with pytest.raises(InvalidInputError) as caught:
        load_task(path)
    assert str(caught.value).startswith(f"{path}: unknown field 'segmnts'; did you mean 'segments'")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words"])
def test_not_a_mapping(text):
    with pytest.raises(InvalidInputError, match="a task is a mapping"):
        parse_task(text)


def test_not_yaml():
    with pytest.raises(InvalidInputError, match="task text: cannot be parsed"):
        parse_task("name: [")


def test_no_such_file(tmp_path):
    with pytest.raises(NotFoundError, match="no such file"):
        load_task(tmp_path / "none.yaml")


def test_a_task_needs_only_what_has_no_default(task):
    needed = {
        name: value
        for name, value in yaml.safe_load(task_text(task)).items()
        if name in ("name", "kind", "data", "label", "features", "split", "objective")
    }
    short = parse_task(yaml.safe_dump(needed))
    assert short.features == task.features
    assert short.compression.candidates == ("fp32", "int8")


def test_a_task_cannot_be_changed(task):
    with pytest.raises(ValueError, match="frozen"):
        task.model.epochs = 9


def test_the_published_schema_knows_a_range_as_it_is_written():
    written = Task.model_json_schema()["$defs"]["Range"]
    assert (written["type"], written["minItems"], written["maxItems"]) == ("array", 2, 2)
    assert "properties" not in written
