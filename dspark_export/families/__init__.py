"""Families of targets, a file each: found by name through `dspark_export.checkpoints.seams`."""
