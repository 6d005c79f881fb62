"""Training of small drafters for a Llama-type target; `train.py` is the command line."""
