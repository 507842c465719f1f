"""Task metrics on a labelled set: top-1 and top-5, COCO's AP of boxes and keypoints, PCK, mIoU.

`labelled.open_labelled` opens a set for a model, `evaluate.evaluate` runs files on it.
"""
