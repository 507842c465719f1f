"""Where files are run: this machine, an emulated ARM core, a Linux board over ssh, an Android device over adb.

Every device answers one small protocol (`protocol.py`): push files, run the runner, pull what it wrote. What the runner
does (`runner.py`) and what is made of it (`session.py`) is the same for all of them.
"""

from exporter.verify.devices.open import device
from exporter.verify.devices.protocol import Device, Workspace
from exporter.verify.devices.session import Job, Ran, run_job

__all__ = ["Device", "Job", "Ran", "Workspace", "device", "run_job"]
