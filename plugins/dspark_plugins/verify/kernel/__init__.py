"""Triton kernels of the verification's steps. Importing a module here imports triton."""
