"""Triton kernels of the steps of accepting. Importing a module here imports triton."""
