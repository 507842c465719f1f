"""One file per runtime: load an artifact, run codes through it, time it."""
