"""Families of targets, a folder each: found by name through `dspark_export.checkpoints.seams`."""
