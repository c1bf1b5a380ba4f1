"""pyarrow, which everything that reads files needs, or a sentence that says how to get it."""

from gradual.errors import InputError

MISSING = "Reading files needs the package {package}, which is not installed: pip install 'gradual[files]'."

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
except ModuleNotFoundError:
    raise InputError(MISSING.format(package="pyarrow")) from None

__all__ = ["MISSING", "pa", "pc", "pq"]
