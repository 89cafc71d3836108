"""The errors of the data room."""


class DataError(ValueError):
    """What is wrong with the data in one sentence: what was expected, what was found, the way out."""


class Unavailable(DataError):
    """Data that are not there and were not to be had: nothing that was asked for is wrong."""
