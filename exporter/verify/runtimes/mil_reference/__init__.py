"""The reference executor of saved .mlpackage files: reads the folder alone, runs its program with torch.

The way of the data: package.py (folder, manifest, specification) -> values.py, blobs.py (types, constants) ->
compile.py with the meanings of ops/ -> program.py (steps, run) -> executor.py (pictures, pipelines), suppression.py.
"""

from exporter.verify.runtimes.mil_reference.executor import NAME, MilReference

__all__ = ["NAME", "MilReference"]
