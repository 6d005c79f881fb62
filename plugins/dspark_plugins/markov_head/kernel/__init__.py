"""Triton kernels of the Markov head's steps. Importing a module here imports triton."""
