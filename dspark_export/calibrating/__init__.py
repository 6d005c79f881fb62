"""Calibrating a bundle: trace, fit, validate, write, report."""
