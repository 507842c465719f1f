"""Stage verify: run the files on runtimes, compare with PyTorch and with the integer interpreter, judge by gates."""
