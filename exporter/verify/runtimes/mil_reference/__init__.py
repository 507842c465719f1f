"""The reference executor of saved .mlpackage files: reads the folder alone, runs its program with torch.

The way of the data: package.py (folder, manifest, specification) -> values.py and blobs.py (types, constants) ->
program.py (compiled steps) with the meanings of ops/ -> executor.py.
"""

from exporter.verify.runtimes.mil_reference.executor import NAME, MilReference

__all__ = ["NAME", "MilReference"]
