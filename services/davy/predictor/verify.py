"""What can be verified before a process that serves is started.

Belongs here: the package's integrity, and settings that must fit its contract.
Not here: executing the model.

Kept light: the process that supervises the serving one runs this and stays in memory.
"""

from __future__ import annotations

from collections.abc import Collection

from davy.core.errors import ConfigurationError
from davy.packaging.contract import Contract
from davy.packaging.package import Package, read_package
from davy.predictor.settings import PredictorSettings


def check(settings: PredictorSettings) -> Package:
    """Verify the package, and that the settings fit it.

    Raises
    ------
    NotFoundError, IntegrityError, InvalidInputError, ConfigurationError
        The package cannot be served, or the settings do not fit it.
    """
    package = read_package(settings.model_dir, public_key=settings.public_key)
    check_columns(settings.pseudonymise, package.contract)
    return package


def check_columns(columns: Collection[str], contract: Contract) -> None:
    """Hold the configured columns against a contract.

    Raises
    ------
    ConfigurationError
        A column is not a tensor of the model, or not of datatype BYTES.
    """
    datatypes = {spec.name: spec.datatype for spec in (*contract.inputs, *contract.outputs)}
    for column in sorted(columns):
        if datatypes.get(column) != "BYTES":
            found = datatypes.get(column, "no tensor of the model")
            raise ConfigurationError(
                f"'{column}' is {found}; only BYTES can be pseudonymised",
                where="DAVY_PREDICTOR_PSEUDONYMISE",
                fix="Name tensors of datatype BYTES of the model's contract",
            )
