"""The tree of mistakes a user can make; the command line prints these without a traceback."""


class NasError(Exception):
    """A mistake that the user can correct.

    Args:
        message: The rule, the value and the remedy.
        field: Name of the argument, option or field that is wrong, as Python spells it; empty where the
            mistake is not in one of them.
    """

    def __init__(self, message: str = "", *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class DataError(NasError):
    """The images cannot be used as given."""


class RecipeError(NasError):
    """A training recipe is not well formed."""


class ObjectiveError(NasError):
    """The objective or a constraint is not well formed."""


class MetricError(NasError):
    """A measured value, or what an evaluator gives in place of one, cannot be used."""


class SpaceArgumentError(NasError):
    """The search space asked for cannot be found, loaded or satisfied."""


class StudyError(NasError):
    """The study folder or its journal cannot be used as asked."""


class ExecutorError(NasError):
    """The machines asked for cannot be had."""


class ContractError(NasError):
    """An object or a class of the user's own lacks something that a search needs of it."""


class SearchStoppedError(NasError):
    """The search ended early because continuing would only waste the budget."""


class ExportError(NasError):
    """The bundle cannot be written, or does not reproduce the trained network."""


class BenchmarkError(NasError):
    """The table of a benchmark cannot be read, or is not what it is said to be."""


class LatencyError(NasError):
    """Latency cannot be measured, read or compared as asked."""


class UsageError(NasError):
    """A command, one of its options, or an argument of a function cannot be understood."""


class ControllerFailedError(NasError):
    """A controller of the user's own raised an error, or returned what cannot be used."""


class TrainingError(NasError):
    """A full training cannot be begun, continued or finished."""


class SupernetError(NasError):
    """A supernet cannot be made, trained, read or searched as asked."""
