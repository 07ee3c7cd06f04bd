"""Data sets: the annotation index, readers that make one, the dataset over it, and the transforms of its pipeline.

Nothing is imported here, so that the readers' worker processes start without torch.
"""
