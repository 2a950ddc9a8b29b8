"""``davy task check``: what it prints, and that what is wrong reaches the caller as an error."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from davy.cli.task import app
from davy.core.errors import InvalidInputError, NotFoundError

TASK_FILE = Path(__file__).parents[3] / "pipelines" / "tasks" / "next_basket.yaml"


def run(*arguments):
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


def test_a_valid_task_is_summed_up():
    result = run(TASK_FILE, "--set", "model.epochs=2")
    assert result.exit_code == 0, result.output
    assert "next_basket (ranking) is valid" in result.stdout
    assert "mlp 256-128, 2 epochs" in result.stdout
    assert "train 14-40, valid 41-44, test 45-48, replay 49-52" in result.stdout
    assert "days_since_basket  category  day" in result.stdout


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("model.epocs=2", InvalidInputError, "did you mean 'epochs'"),
        ("features.unit_price.name=unit_prise", InvalidInputError, "did you mean 'unit_price'"),
        ("data.source=file:///no/such/folder", NotFoundError, "/no/such/folder/transactions"),
    ],
)
def test_what_is_wrong_is_raised(change, error, message):
    result = run(TASK_FILE, "--set", change)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)
    assert result.stdout == ""


def test_no_such_file(tmp_path):
    assert isinstance(run(tmp_path / "none.yaml").exception, NotFoundError)


def test_help_names_the_option():
    result = run("--help")
    assert result.exit_code == 0
    assert "PLACE=VALUE" in result.stdout
